/* What a test sets and asks; and the lock, the failures and the problems behind it. */
#include "driver.h"
#include <cstdarg>
#include <cstdio>
#include <cstring>

Driver driver;
static std::recursive_mutex mutex;

/* Python, where it is in this process. A network of the tests is a function of Python that runs under the lock, so
 * nobody may wait for the lock while holding the interpreter. */
extern "C" {
__attribute__((weak)) int PyGILState_Check(void);
__attribute__((weak)) void *PyEval_SaveThread(void);
__attribute__((weak)) void PyEval_RestoreThread(void *);
}

Locked::Locked()
{
    while (!mutex.try_lock()) {
        void *thread = PyGILState_Check && PyGILState_Check() ? PyEval_SaveThread() : nullptr;
        mutex.lock();
        if (!thread) {
            return;
        }
        mutex.unlock();
        PyEval_RestoreThread(thread);
    }
}

Locked::~Locked()
{
    mutex.unlock();
}

void problem(const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    driver.problems.push_back(text);
}

CUresult refusal(const char *entry_point)
{
    const Settings &settings = driver.settings;
    long call = ++driver.calls[entry_point];
    if (driver.lost) {
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    if (settings.failing == entry_point && settings.first_failure <= call && call <= settings.last_failure) {
        return settings.failure;
    }
    return CUDA_SUCCESS;
}

CUresult refusal_in_context(const char *entry_point, bool forbidden_in_capture)
{
    if (CUresult refused = refusal(entry_point)) {
        return refused;
    }
    if (!has_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!driver.primary.retained) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    return forbidden_in_capture && forbidden_by_capture() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

EXPORT void driver_forget_stack();

/* As if the machine had just started. */
EXPORT void driver_reset()
{
    Locked locked;
    forget_memory();
    driver_forget_stack();
    driver = Driver();
}

EXPORT void driver_order(int prompt_streams, int random, int shuffle_blocks, unsigned seed)
{
    Locked locked;
    driver.settings.prompt_streams = prompt_streams;
    driver.settings.random = random;
    driver.settings.shuffle_blocks = shuffle_blocks;
    driver.settings.dice.seed(seed);
}

EXPORT void driver_memory(size_t bytes)
{
    Locked locked;
    driver.settings.memory_bytes = bytes;
}

/* Counted from now on. */
EXPORT void driver_fail(const char *entry_point, long first, long last, int error)
{
    Locked locked;
    driver.settings.failing = entry_point;
    driver.settings.first_failure = driver.calls[entry_point] + first;
    driver.settings.last_failure = driver.calls[entry_point] + last;
    driver.settings.failure = (CUresult)error;
}

EXPORT void driver_lose(long work, int stack_fails)
{
    Locked locked;
    driver.settings.lost_at = driver.work_put + work;
    driver.settings.stack_fails = stack_fails;
}

EXPORT long driver_calls(const char *entry_point)
{
    Locked locked;
    return driver.calls[entry_point];
}

EXPORT long driver_work()
{
    Locked locked;
    return driver.work_put;
}

EXPORT int driver_retained()
{
    Locked locked;
    return driver.primary.retained;
}

/* One a line, and forgotten. */
EXPORT void driver_problems(char *text, size_t size)
{
    Locked locked;
    check_freed();
    size_t used = 0;
    text[0] = 0;
    for (const std::string &line : driver.problems) {
        if (used + line.size() + 2 > size) {
            break;
        }
        used += snprintf(text + used, size - used, "%s\n", line.c_str());
    }
    driver.problems.clear();
}

/* Work of somebody else's in a stream: that of a network. */
EXPORT int driver_call(CUstream stream, void (*function)(void *, void *), void *input, void *output)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    put(stream, {"network", [=] { function(input, output); }, nullptr, nullptr, {}});
    return CUDA_SUCCESS;
}
