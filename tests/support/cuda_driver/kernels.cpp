/* Modules, launches, and the kernels of scene.cu for the processor. */
#include SCENE

#include "driver.h"
#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>
#include <utility>

/* A kernel, and how its arguments lie in the buffer of a launch: the compiler knows from its signature. */
struct Kernel {
    size_t argument_bytes;
    void (*call)(const char *arguments, void *function);
    void *function;
};

template <class Value> static Value next_argument(const char *arguments, size_t *at)
{
    *at = (*at + alignof(Value) - 1) / alignof(Value) * alignof(Value);
    Value value;
    memcpy(&value, arguments + *at, sizeof(Value));
    *at += sizeof(Value);
    return value;
}

template <class... Values> static void call(const char *arguments, void *function)
{
    size_t at = 0;
    std::tuple<Values...> values{next_argument<Values>(arguments, &at)...};  /* braces: from left to right */
    std::apply(reinterpret_cast<void (*)(Values...)>(function), values);
}

template <class... Values> static Kernel kernel(void (*function)(Values...))
{
    size_t bytes = 0;
    ((bytes = (bytes + alignof(Values) - 1) / alignof(Values) * alignof(Values) + sizeof(Values)), ...);
    return {bytes, call<Values...>, (void *)function};
}

#define ONE_KERNEL(name) {#name, kernel(name)}
#define FOR_EVERY_PIXEL(name)                                                                                          \
    ONE_KERNEL(name##_uint8), ONE_KERNEL(name##_uint16), ONE_KERNEL(name##_int16), ONE_KERNEL(name##_float32)
static const std::map<std::string, Kernel> KERNELS = {
    ONE_KERNEL(place),        ONE_KERNEL(join_columns),         ONE_KERNEL(join_rows),
    FOR_EVERY_PIXEL(gather),  FOR_EVERY_PIXEL(compare_columns), FOR_EVERY_PIXEL(compare_rows),
    FOR_EVERY_PIXEL(finalise)};

struct Grid {
    unsigned x, y, z;
};

/* One thread after the other; `seed` shuffles the blocks, and may turn the threads of each around. */
static void run_kernel(const Kernel *kernel, const std::string &arguments, Grid grid, Grid block, unsigned seed)
{
    std::vector<unsigned> blocks((size_t)grid.x * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), 0u);
    if (seed) {
        std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
    }
    gridDim = {grid.x, grid.y, grid.z};
    blockDim = {block.x, block.y, block.z};
    for (unsigned number : blocks) {
        blockIdx = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
        for (unsigned n = 0; n < block.x; n++) {
            threadIdx = {seed % 2 ? block.x - 1 - n : n, 0, 0};
            kernel->call(arguments.data(), kernel->function);
        }
    }
}

EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned, CUjit_option *, void **)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (memcmp(image, "\x7f"
                      "ELF",
               4)) {
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *module = new CUmod_st;
    driver.modules.insert(*module);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(CUmodule module)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (!driver.modules.erase(module)) {
        problem("a module that does not exist is unloaded");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    delete module;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    auto found = KERNELS.find(name);
    if (found == KERNELS.end()) {
        return CUDA_ERROR_NOT_FOUND;
    }
    *function = &(module->functions[name] = {&found->second, name});
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetBlockShape(CUfunction, int, int, int)
{
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                               unsigned block_y, unsigned block_z, unsigned, CUstream stream, void **, void **extra)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    const char *name = function->name.c_str();
    if (!grid_x || !grid_y || !grid_z || grid_y > 65535 || grid_z > 65535 || !block_x || block_x > 1024 ||
        block_y != 1 || block_z != 1) {
        problem("%s: grid (%u, %u, %u) of blocks (%u, %u, %u)", name, grid_x, grid_y, grid_z, block_x, block_y,
                block_z);
        return CUDA_ERROR_INVALID_VALUE;
    }
    const char *buffer = nullptr;
    size_t count = 0;
    for (int n = 0; extra && extra[n] != CU_LAUNCH_PARAM_END; n += 2) {
        if (extra[n] == CU_LAUNCH_PARAM_BUFFER_POINTER) {
            buffer = (const char *)extra[n + 1];
        } else if (extra[n] == CU_LAUNCH_PARAM_BUFFER_SIZE) {
            count = *(size_t *)extra[n + 1];
        }
    }
    const Kernel *kernel = function->kernel;
    if (count != kernel->argument_bytes) {
        problem("%s: %zu bytes of arguments, it takes %zu", name, count, kernel->argument_bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    std::string arguments(buffer, count);
    unsigned seed = driver.settings.shuffle_blocks ? driver.settings.dice() | 1u << 31 : 0;
    Grid grid = {grid_x, grid_y, grid_z}, block = {block_x, 1, 1};
    put(stream, {name, [=] { run_kernel(kernel, arguments, grid, block, seed); }, nullptr, nullptr, {}});
    return CUDA_SUCCESS;
}
