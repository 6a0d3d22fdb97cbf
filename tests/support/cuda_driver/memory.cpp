/* Memory and copies. What is allocated begins as noise, with guards around it; what was freed is watched. */
#include "driver.h"
#include <cstdlib>
#include <cstring>

enum { GUARD_BYTES = 256, GUARD = 0xC3, FRESH = 0xFF, FRESH_PINNED = 0x5A, FREED = 0xDD };

bool is_within(const std::map<char *, size_t> &memory, const void *start, size_t count)
{
    auto after = memory.upper_bound((char *)start);
    if (after == memory.begin()) {
        return false;
    }
    --after;
    return (char *)start + count <= after->first + after->second;
}

static bool is_all(const char *start, size_t count, int value)
{
    for (size_t n = 0; n < count; n++) {
        if ((unsigned char)start[n] != value) {
            return false;
        }
    }
    return true;
}

void check_freed()
{
    for (Bytes &bytes : driver.freed) {
        if (!is_all(bytes.start, bytes.count, FREED)) {
            problem("%zu bytes were written after they were freed", bytes.count);
            memset(bytes.start, FREED, bytes.count);
        }
    }
}

void forget_memory()
{
    for (auto &allocation : driver.device_memory) {
        free(allocation.first - GUARD_BYTES);
    }
    for (auto &allocation : driver.pinned_memory) {
        free(allocation.first);
    }
    for (Bytes &bytes : driver.freed) {
        free(bytes.start);
    }
}

/* Takes it out of use; the bytes are not given to anybody else. */
static void retire(char *start, size_t count)
{
    memset(start, FREED, count);
    driver.freed.push_back({start, count});
}

static void report_use(Bytes bytes)
{
    std::string user = user_of(bytes);
    if (!user.empty()) {
        problem("memory is freed that a %s still uses", user.c_str());
        run_all();
    }
}

EXPORT CUresult cuMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemGetInfo")) {
        return refused;
    }
    *free_bytes = driver.settings.memory_bytes - driver.used_bytes;
    *total_bytes = driver.settings.memory_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t count)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemAlloc", true)) {
        return refused;
    }
    if (!count) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    void *start;
    if (count > driver.settings.memory_bytes - driver.used_bytes ||
        posix_memalign(&start, 256, count + 2 * GUARD_BYTES)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memset(start, GUARD, count + 2 * GUARD_BYTES);
    char *bytes = (char *)start + GUARD_BYTES;
    memset(bytes, FRESH, count);
    driver.device_memory[bytes] = count;
    driver.used_bytes += count;
    *address = (CUdeviceptr)bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree(CUdeviceptr address)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemFree", true)) {
        return refused;
    }
    auto found = driver.device_memory.find((char *)address);
    if (found == driver.device_memory.end()) {
        problem("memory is freed that is not allocated");
        return CUDA_ERROR_INVALID_VALUE;
    }
    char *bytes = found->first;
    size_t count = found->second;
    report_use({bytes, count});
    if (!is_all(bytes - GUARD_BYTES, GUARD_BYTES, GUARD) || !is_all(bytes + count, GUARD_BYTES, GUARD)) {
        problem("something was written beside an allocation of %zu bytes", count);
    }
    driver.device_memory.erase(found);
    driver.used_bytes -= count;
    retire(bytes - GUARD_BYTES, count + 2 * GUARD_BYTES);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostAlloc(void **start, size_t count, unsigned)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__, true)) {
        return refused;
    }
    if (posix_memalign(start, 4096, count ? count : 1)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memset(*start, FRESH_PINNED, count);
    driver.pinned_memory[(char *)*start] = count;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFreeHost(void *start)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__, true)) {
        return refused;
    }
    auto found = driver.pinned_memory.find((char *)start);
    if (found == driver.pinned_memory.end()) {
        problem("pinned memory is freed that is not allocated");
        return CUDA_ERROR_INVALID_VALUE;
    }
    size_t count = found->second;
    report_use({found->first, count});
    driver.pinned_memory.erase(found);
    retire((char *)start, count);
    return CUDA_SUCCESS;
}

static CUresult put_copy(const char *name, CUdeviceptr device, const void *host, size_t count, CUstream stream,
                         std::function<void()> copy)
{
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    if (!is_within(driver.device_memory, (void *)device, count)) {
        problem("%s of %zu bytes outside an allocation", name, count);
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::vector<Bytes> uses = {{(char *)device, count}};
    if (host) {
        if (!is_within(driver.pinned_memory, host, count)) {
            problem("%s of %zu bytes with memory that is not pinned", name, count);
        }
        uses.push_back({(char *)host, count});
    }
    put(stream, {name, copy, nullptr, nullptr, uses});
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t count, CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemcpyHtoDAsync")) {
        return refused;
    }
    return put_copy("upload", target, source, count, stream, [=] { memcpy((void *)target, source, count); });
}

EXPORT CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t count, CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemcpyDtoHAsync")) {
        return refused;
    }
    return put_copy("download", source, target, count, stream, [=] { memcpy(target, (void *)source, count); });
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuMemsetD8Async")) {
        return refused;
    }
    return put_copy("fill", target, nullptr, count, stream, [=] { memset((void *)target, value, count); });
}
