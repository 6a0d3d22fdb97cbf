/* Gather, blend and finalise on the device: what runtime/backends/host.py does with numpy, bit for bit.
 *
 * Scene rows live in a ring of `ring_rows` rows per channel: scene row y lies in row y % ring_rows.
 * Every kernel walks its pixels in strides of the whole grid, so any grid and block size gives the same answer; each
 * pixel is written by one thread, so there are no atomics and the same bytes come out on every run. Products and sums
 * must not be fused (-fmad=false), or they would be rounded once where numpy rounds twice.
 */
#ifndef __CUDACC__
#include "host.h"
#endif

enum { BLANK_INVALID = 1, BLANK_NODATA = 2, HAS_NODATA = 4 };

/* One window of the network along the scene's width: it reads from `start` and answers for [lo, hi). */
struct Column {
    int start, lo, hi;
};

static __device__ size_t ring_pixel(int y, int x, int ring_rows, int width)
{
    return (size_t)(y % ring_rows) * width + x;
}

/* Mirrored at the edges without repeating them, however far south or east; as tiling.reflect_indices. */
static __device__ int reflected(int position, int length)
{
    if (position < length) {
        return position;
    }
    if (length == 1) {
        return 0;
    }
    int period = 2 * (length - 1);
    position %= period;
    return position < length ? position : period - position;
}

/* valid: one bit per pixel, lowest first, rows of whole bytes, in a ring as the pixels; null where nodata decides. */
template <typename Pixel>
static __device__ bool is_valid(const Pixel *ring, const unsigned char *valid, int y, int x, int channels,
                                int ring_rows, int width, int rules, float nodata)
{
    if (valid) {
        return valid[(size_t)(y % ring_rows) * ((width + 7) / 8) + x / 8] >> (x % 8) & 1;
    }
    if (!(rules & HAS_NODATA)) {
        return true;
    }
    for (int channel = 0; channel < channels; channel++) {
        size_t plane = (size_t)channel * ring_rows * width;
        if ((float)ring[plane + ring_pixel(y, x, ring_rows, width)] != nodata) {
            return true;
        }
    }
    return false;
}

/* tiles: (count, channels, tile_px, tile_px) float32, of the windows `columns` of the tile row that starts at
 * scene row `start`. A float32 pixel holds every value of the other types exactly. */
template <typename Pixel>
static __device__ void gather(float *tiles, const Pixel *ring, const unsigned char *valid, const Column *columns,
                              int count, int tile_px, int start, int channels, int ring_rows, int height, int width,
                              int rules, float nodata)
{
    int planes = count * channels;
    for (int plane = blockIdx.z; plane < planes; plane += gridDim.z) {
        int channel = plane % channels;
        int left = columns[plane / channels].start;
        const Pixel *pixels = ring + (size_t)channel * ring_rows * width;
        for (int row = blockIdx.y; row < tile_px; row += gridDim.y) {
            int y = reflected(start + row, height);
            for (int column = blockIdx.x * blockDim.x + threadIdx.x; column < tile_px;
                 column += blockDim.x * gridDim.x) {
                int x = reflected(left + column, width);
                float value = (float)pixels[ring_pixel(y, x, ring_rows, width)];
                bool blank = (rules & BLANK_NODATA) && value == nodata;
                if ((rules & BLANK_INVALID) &&
                    !is_valid(ring, valid, y, x, channels, ring_rows, width, rules, nodata)) {
                    blank = true;
                }
                tiles[((size_t)plane * tile_px + row) * tile_px + column] = blank ? 0.0f : value;
            }
        }
    }
}

/* Blend weight at `position` of a window that answers for [lo, hi); as TilePlan.weights. */
static __device__ float weight(const float *ramp, int overlap_px, int position, int lo, int hi, int length)
{
    if (hi < length && hi - position <= overlap_px) {
        return 1.0f - ramp[overlap_px - (hi - position)];
    }
    if (lo > 0 && position - lo < overlap_px) {
        return ramp[position - lo];
    }
    return 1.0f;
}

/* total: (hi - lo, width) float32 sums of the tile row that reads from scene row `start` and answers for [lo, hi).
 * Adds the windows `columns`, ordered from west to east; batches follow each other in the same order. */
extern "C" __global__ void blend(float *total, const float *probability, const Column *columns, const float *ramp,
                                 int count, int tile_px, int overlap_px, int start, int lo, int hi, int height,
                                 int width)
{
    int west = columns[0].lo, east = columns[count - 1].hi;
    for (int y = lo + blockIdx.y; y < hi; y += gridDim.y) {
        float down = weight(ramp, overlap_px, y, lo, hi, height);
        for (int x = west + blockIdx.x * blockDim.x + threadIdx.x; x < east; x += blockDim.x * gridDim.x) {
            float *pixel = total + (size_t)(y - lo) * width + x;
            float sum = *pixel;
            for (int tile = 0; tile < count; tile++) {
                Column column = columns[tile];
                if (column.lo <= x && x < column.hi) {
                    size_t answer = ((size_t)tile * tile_px + y - start) * tile_px + x - column.start;
                    sum += probability[answer] * weight(ramp, overlap_px, x, column.lo, column.hi, width) * down;
                }
            }
            *pixel = sum;
        }
    }
}

/* Rows [lo, hi): mask and confidence, (hi - lo, width) uint8, from the sums of the tile row (`total`) and, for the
 * first `carried` rows, from what the tile row to the north left over (`carry`). `unsound` becomes 1 where a
 * sum is no number. */
template <typename Pixel>
static __device__ void finalise(unsigned char *mask, unsigned char *confidence, int *unsound, const float *total,
                                const float *carry, const Pixel *ring, const unsigned char *valid, int lo, int hi,
                                int carried, int channels, int ring_rows, int width, float threshold, int rules,
                                float nodata)
{
    for (int row = blockIdx.y; row < hi - lo; row += gridDim.y) {
        for (int x = blockIdx.x * blockDim.x + threadIdx.x; x < width; x += blockDim.x * gridDim.x) {
            size_t pixel = (size_t)row * width + x;
            float probability = total[pixel];
            if (row < carried) {
                probability += carry[pixel];
            }
            bool sound = probability - probability == 0.0f;
            if (!sound) {
                *unsound = 1;
            }
            if (is_valid(ring, valid, lo + row, x, channels, ring_rows, width, rules, nodata)) {
                mask[pixel] = probability >= threshold;
                confidence[pixel] = sound ? (unsigned char)(int)(probability * 100.0f + 0.5f) : 0;
            } else {
                mask[pixel] = confidence[pixel] = 255;
            }
        }
    }
}

#define FOR_PIXELS(Pixel, name)                                                                                        \
    extern "C" __global__ void gather_##name(float *tiles, const Pixel *ring, const unsigned char *valid,              \
                                             const Column *columns, int count, int tile_px, int start, int channels,   \
                                             int ring_rows, int height, int width, int rules, float nodata)            \
    {                                                                                                                  \
        gather(tiles, ring, valid, columns, count, tile_px, start, channels, ring_rows, height, width, rules, nodata); \
    }                                                                                                                  \
    extern "C" __global__ void finalise_##name(                                                                        \
        unsigned char *mask, unsigned char *confidence, int *unsound, const float *total, const float *carry,          \
        const Pixel *ring, const unsigned char *valid, int lo, int hi, int carried, int channels, int ring_rows,       \
        int width, float threshold, int rules, float nodata)                                                           \
    {                                                                                                                  \
        finalise(mask, confidence, unsound, total, carry, ring, valid, lo, hi, carried, channels, ring_rows, width,    \
                 threshold, rules, nodata);                                                                            \
    }

FOR_PIXELS(unsigned char, uint8)
FOR_PIXELS(unsigned short, uint16)
FOR_PIXELS(short, int16)
FOR_PIXELS(float, float32)
