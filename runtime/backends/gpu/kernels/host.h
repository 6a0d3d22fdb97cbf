/* What CUDA supplies to scene.cu, for a C++ compiler: `c++ -x c++ -shared -fPIC -ffp-contract=off scene.cu`.
 *
 * A kernel is then an ordinary function that does the work of one thread; whoever calls it sets where in the grid that
 * thread is. With the values below one call does the work of all. Threads come one after the other, so that
 * adding is atomic.
 */
#pragma once
#include <math.h>
#include <stddef.h>

#define __global__ __attribute__((visibility("default")))
#define __device__

struct Dim3 {
    unsigned x, y, z;
};
extern "C" {
Dim3 blockIdx = {0, 0, 0}, threadIdx = {0, 0, 0}, blockDim = {1, 1, 1}, gridDim = {1, 1, 1};
}

static inline void atomicAdd(unsigned long long *sum, unsigned long long value)
{
    *sum += value;
}
