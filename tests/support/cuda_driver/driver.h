/* What the files of the driver share. One lock guards all of it. */
#pragma once
#include <cuda.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

/* Whether an event has happened, and when on the clock of the device, in seconds. */
struct Mark {
    bool happened = false;
    double at_s = 0;
};

struct Bytes {
    char *start;
    size_t count;
    bool touches(const Bytes &other) const { return start < other.start + other.count && other.start < start + count; }
};

/* One piece of work in a stream. */
struct Work {
    std::string name;
    std::function<void()> run;
    std::shared_ptr<Mark> waits_for, records;
    std::vector<Bytes> uses;
};

struct CUstream_st {
    int number;
    std::deque<Work> queue;
    bool capturing = false, spoiled = false;
    std::vector<Work> captured;
};
struct CUevent_st {
    std::shared_ptr<Mark> mark;
    bool in_capture = false;
};
struct CUgraph_st {
    std::vector<Work> work;
};
struct CUgraphExec_st {
    std::vector<Work> work;
};
struct CUfunc_st {
    const struct Kernel *kernel;
    std::string name;
};
struct CUmod_st {
    std::map<std::string, CUfunc_st> functions;
};
struct CUctx_st {
    int retained = 0;
};

/* What a test set. */
struct Settings {
    int prompt_streams = 7;       /* bit n: streams n, n + 3, ... run at once; all others when something waits */
    bool random = false;          /* in place of that: any stream, any time */
    std::mt19937 dice;
    bool shuffle_blocks = false;  /* of a kernel's grid */
    size_t memory_bytes = (size_t)1 << 30;
    std::string failing;          /* this entry point fails, from its first to its last such call */
    long first_failure = 0, last_failure = -1;
    CUresult failure = CUDA_ERROR_OUT_OF_MEMORY;
    long lost_at = 0;             /* the GPU is lost with this piece of work; 0: never */
    bool stack_fails = false;     /* once it is lost, contexts cannot be pushed and popped, either */
};

struct Driver {
    Settings settings;
    std::vector<CUstream> streams;
    std::set<CUevent> events;
    std::set<CUmodule> modules;
    std::set<CUgraphExec> graphs;
    std::map<char *, size_t> device_memory, pinned_memory;
    std::vector<Bytes> freed;     /* kept, and watched, until the next reset */
    CUctx_st primary;
    size_t used_bytes = 0;
    std::map<std::string, long> calls;
    long work_put = 0;
    int streams_made = 0;
    bool lost = false;
    std::vector<std::string> problems;
};
extern Driver driver;

/* Held within every entry point. */
struct Locked {
    Locked();
    ~Locked();
};

void problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Counts a call; what it has to return before it does anything. */
CUresult refusal(const char *entry_point);
/* The same, for those that need a current context, and must not be called while this thread captures. */
CUresult refusal_in_context(const char *entry_point, bool forbidden_in_capture = false);

bool has_context();
bool forbidden_by_capture();

void put(CUstream stream, Work work);
void run_until(std::shared_ptr<Mark> mark);
void run_all(CUstream only = nullptr);
CUresult refusal_of(CUstream stream);

/* What is queued and uses these bytes; empty if nothing. */
std::string user_of(Bytes bytes);
bool is_within(const std::map<char *, size_t> &memory, const void *start, size_t count);
void check_freed();
void forget_memory();
