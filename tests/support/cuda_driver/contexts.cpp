/* One device, and its primary context on the stack of each thread. */
#include "driver.h"
#include <cstdio>
#include <cstring>

static const int MAJOR = 8, MINOR = 9, DRIVER_VERSION = 13000;
static thread_local std::vector<CUcontext> stack;

bool has_context()
{
    return !stack.empty();
}

static CUresult stack_refusal(const char *entry_point)
{
    CUresult refused = refusal(entry_point);
    return driver.lost && !driver.settings.stack_fails ? CUDA_SUCCESS : refused;
}

static const std::map<CUresult, const char *> NAMES = {
    {CUDA_SUCCESS, "CUDA_SUCCESS"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
};

EXPORT CUresult cuGetErrorName(CUresult error, const char **name)
{
    auto found = NAMES.find(error);
    *name = found == NAMES.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **text)
{
    return cuGetErrorName(error, text);
}

EXPORT CUresult cuInit(unsigned)
{
    Locked locked;
    return refusal(__func__);
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
    *version = DRIVER_VERSION;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int number)
{
    Locked locked;
    *device = 0;
    CUresult refused = refusal(__func__);
    return refused ? refused : number ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count)
{
    *count = 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int size, CUdevice)
{
    snprintf(name, size, "GPU of the tests");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetPCIBusId(char *name, int size, CUdevice)
{
    snprintf(name, size, "0000:00:00.0");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice)
{
    *major = MAJOR;
    *minor = MINOR;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice)
{
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? MAJOR
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? MINOR
                                                                         : 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem(size_t *count, CUdevice)
{
    *count = driver.settings.memory_bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice)
{
    Locked locked;
    if (CUresult refused = refusal(__func__)) {
        return refused;
    }
    driver.primary.retained++;
    *context = &driver.primary;
    return CUDA_SUCCESS;
}

static void report_left(size_t count, const char *what)
{
    if (count) {
        problem("the context ends with %zu %s left in it", count, what);
    }
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice)
{
    Locked locked;
    if (CUresult refused = refusal("cuDevicePrimaryCtxRelease")) {
        return refused;
    }
    if (!driver.primary.retained) {
        problem("the context is released once too often");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!--driver.primary.retained) {
        report_left(driver.device_memory.size(), "pieces of device memory");
        report_left(driver.pinned_memory.size(), "pieces of pinned memory");
        report_left(driver.streams.size(), "streams");
        report_left(driver.events.size(), "events");
        report_left(driver.graphs.size(), "graphs");
        report_left(driver.modules.size(), "modules");
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent(CUcontext context)
{
    Locked locked;
    if (CUresult refused = stack_refusal("cuCtxPushCurrent")) {
        return refused;
    }
    stack.push_back(context);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent(CUcontext *context)
{
    Locked locked;
    if (CUresult refused = stack_refusal("cuCtxPopCurrent")) {
        return refused;
    }
    if (stack.empty()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (context) {
        *context = stack.back();
    }
    stack.pop_back();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = stack.empty() ? nullptr : stack.back();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context)
{
    Locked locked;
    if (CUresult refused = stack_refusal(__func__)) {
        return refused;
    }
    if (!stack.empty()) {
        stack.pop_back();
    }
    if (context) {
        stack.push_back(context);
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device)
{
    Locked locked;
    *device = 0;
    return refusal_in_context(__func__);
}

EXPORT CUresult cuCtxSynchronize()
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__, true)) {
        return refused;
    }
    run_all();
    return driver.lost ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
}

/* How many contexts are on the stack of this thread. */
EXPORT int driver_depth()
{
    return (int)stack.size();
}

EXPORT void driver_forget_stack()
{
    stack.clear();
}
