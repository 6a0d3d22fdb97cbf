/* When work runs: as early or as late as the rules of CUDA allow. */
#include "driver.h"
#include <ctime>

static double now_s()
{
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static bool can_run(CUstream stream)
{
    return !stream->queue.empty() && (!stream->queue.front().waits_for || stream->queue.front().waits_for->happened);
}

static void run_next(CUstream stream)
{
    Work work = stream->queue.front();
    stream->queue.pop_front();
    if (work.run) {
        work.run();
    }
    if (work.records) {
        work.records->happened = true;
        work.records->at_s = now_s();
    }
}

static bool run_any()
{
    std::vector<CUstream> ready;
    for (CUstream stream : driver.streams) {
        if (can_run(stream)) {
            ready.push_back(stream);
        }
    }
    if (ready.empty()) {
        return false;
    }
    run_next(ready[driver.settings.dice() % ready.size()]);
    return true;
}

static void run_prompt_streams()
{
    bool ran = true;
    while (ran) {
        ran = false;
        for (CUstream stream : driver.streams) {
            bool prompt = driver.settings.prompt_streams >> (stream->number % 3) & 1;
            while (prompt && can_run(stream)) {
                run_next(stream);
                ran = true;
            }
        }
    }
}

void put(CUstream stream, Work work)
{
    if (work.run && ++driver.work_put == driver.settings.lost_at) {
        driver.lost = true;
    }
    if (stream->capturing) {
        stream->captured.push_back(work);
        return;
    }
    stream->queue.push_back(work);
    if (driver.lost) {
        return;
    }
    if (!driver.settings.random) {
        run_prompt_streams();
        return;
    }
    for (unsigned pieces = driver.settings.dice() % 4; pieces && run_any(); pieces--) {
    }
}

static CUstream stream_that_records(const std::shared_ptr<Mark> &mark)
{
    for (CUstream stream : driver.streams) {
        for (const Work &work : stream->queue) {
            if (work.records == mark) {
                return stream;
            }
        }
    }
    return nullptr;
}

/* No more than what makes it happen. */
void run_until(std::shared_ptr<Mark> mark)
{
    while (!mark->happened) {
        if (driver.settings.random) {
            if (run_any()) {
                continue;
            }
            problem("a wait that never ends");
            return;
        }
        CUstream stream = stream_that_records(mark);
        if (!stream) {
            problem("a wait for an event that nobody records");
            return;
        }
        if (stream->queue.front().waits_for) {
            run_until(stream->queue.front().waits_for);
        }
        run_next(stream);
    }
}

void run_all(CUstream only)
{
    for (CUstream stream : std::vector<CUstream>(driver.streams)) {
        while ((!only || stream == only) && !stream->queue.empty()) {
            if (stream->queue.front().waits_for) {
                run_until(stream->queue.front().waits_for);
            }
            run_next(stream);
        }
    }
}

std::string user_of(Bytes bytes)
{
    for (CUstream stream : driver.streams) {
        for (const Work &work : stream->queue) {
            for (const Bytes &used : work.uses) {
                if (used.touches(bytes)) {
                    return work.name;
                }
            }
        }
    }
    return "";
}
