/* Gather, blend and finalise on the device: what runtime/backends/cpu/host.py and sarwater/blending.py do with numpy, bit
 * for bit.
 *
 * Scene rows live in a ring of `ring_rows` rows per channel: scene row y lies in row y % ring_rows.
 * Every kernel walks its pixels in strides of the whole grid, so any number of blocks gives the same answer; threads of
 * a block lie along x alone. Each pixel is written by one thread, and what several threads sum up is
 * integers, so the same bytes come out on every run. Products and sums must not be fused (-fmad=false), or they would be
 * rounded once where numpy rounds twice.
 */
#ifndef __CUDACC__
#include "host.h"
#endif

enum { BLANK_INVALID = 1, BLANK_NODATA = 2, HAS_NODATA = 4 };

/* As in sarwater/blending.py. */
enum { BLOCK_PX = 96, ONE = 1024 };
#define MOST 8.0f
#define LEAST 1.02f

typedef unsigned long long Sum;

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
 * scene row `start`, times the gain of each channel. A float32 pixel holds every value of the other types exactly. */
template <typename Pixel>
static __device__ void gather(float *tiles, const Pixel *ring, const unsigned char *valid, const Column *columns,
                              int count, int tile_px, int start, int height, float gain_0, float gain_1,
                              float gain_2, int channels, int ring_rows, int width, int rules, float nodata)
{
    int planes = count * channels;
    for (int plane = blockIdx.z; plane < planes; plane += gridDim.z) {
        int channel = plane % channels;
        float gain = channel == 0 ? gain_0 : channel == 1 ? gain_1 : gain_2;
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
                tiles[((size_t)plane * tile_px + row) * tile_px + column] = blank ? 0.0f : value * gain;
            }
        }
    }
}

/* answers: (hi - lo, width) float32 of the tile row that reads from scene row `start` and answers for [lo, hi): of two
 * windows, the eastern one's. ends: (count, hi - lo, overlap_px) what each window says of its last columns.
 * The windows `columns` are ordered from west to east; batches follow each other in the same order. */
extern "C" __global__ void place(float *answers, float *ends, const float *probability, const Column *columns, int count,
                                 int tile_px, int overlap_px, int start, int lo, int hi, int width)
{
    int west = columns[0].lo, east = columns[count - 1].hi;
    for (int row = blockIdx.y; row < hi - lo; row += gridDim.y) {
        for (int x = west + blockIdx.x * blockDim.x + threadIdx.x; x < east; x += blockDim.x * gridDim.x) {
            for (int tile = 0; tile < count; tile++) {
                Column column = columns[tile];
                if (x < column.lo || x >= column.hi) {
                    continue;
                }
                float answer = probability[((size_t)tile * tile_px + lo + row - start) * tile_px + x - column.start];
                answers[(size_t)row * width + x] = answer;
                int along_end = x - (column.hi - overlap_px);
                if (along_end >= 0) {
                    ends[((size_t)tile * (hi - lo) + row) * overlap_px + along_end] = answer;
                }
            }
        }
    }
}

/* 0..ONE; what is no number counts as 0. */
static __device__ int fixed_point(float probability)
{
    if (!(probability > 0.0f)) {
        return 0;
    }
    return probability < 1.0f ? (int)(probability * (float)ONE + 0.5f) : ONE;
}

/* The two sums of an odds ratio: of the second of two answers over the first. */
struct Odds {
    Sum more, less;
};

static __device__ void compare(Odds *odds, float first, float second)
{
    int p = fixed_point(first), q = fixed_point(second);
    odds->more += q * (ONE - p);
    odds->less += p * (ONE - q);
}

static __device__ void add(Odds *sums, Odds odds)
{
    atomicAdd(&sums->more, odds.more);
    atomicAdd(&sums->less, odds.less);
}

static __device__ bool meet(Column west, Column east, int overlap_px)
{
    return west.hi == east.lo + overlap_px;
}

/* sums: (borders, blocks of BLOCK_PX rows), zero before; `answers` and `ends` as of `place`. */
template <typename Pixel>
static __device__ void compare_columns(Odds *sums, const float *answers, const float *ends, const Pixel *ring,
                                       const unsigned char *valid, const Column *columns, int borders, int overlap_px,
                                       int lo, int hi, int channels, int ring_rows, int width, int rules, float nodata)
{
    int rows = hi - lo, blocks = (rows + BLOCK_PX - 1) / BLOCK_PX;
    for (int border = blockIdx.z; border < borders && !blockIdx.y; border += gridDim.z) {
        Column east = columns[border + 1];
        if (!meet(columns[border], east, overlap_px)) {
            continue;
        }
        for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < rows; row += blockDim.x * gridDim.x) {
            const float *end = ends + ((size_t)border * rows + row) * overlap_px;
            const float *fade = answers + (size_t)row * width + east.lo;
            Odds odds = {0, 0};
            for (int step = 0; step < overlap_px; step++) {
                if (is_valid(ring, valid, lo + row, east.lo + step, channels, ring_rows, width, rules, nodata)) {
                    compare(&odds, end[step], fade[step]);
                }
            }
            add(sums + (size_t)border * blocks + row / BLOCK_PX, odds);
        }
    }
}

/* sums: (blocks of BLOCK_PX columns), zero before. `end` and `fade`: (overlap_px, width) what two tile rows say of the
 * scene rows from `first` on. */
template <typename Pixel>
static __device__ void compare_rows(Odds *sums, const float *end, const float *fade, const Pixel *ring,
                                    const unsigned char *valid, int overlap_px, int first, int channels, int ring_rows,
                                    int width, int rules, float nodata)
{
    for (int x = blockIdx.x * blockDim.x + threadIdx.x; x < width && !blockIdx.y; x += blockDim.x * gridDim.x) {
        Odds odds = {0, 0};
        for (int step = 0; step < overlap_px; step++) {
            if (is_valid(ring, valid, first + step, x, channels, ring_rows, width, rules, nodata)) {
                compare(&odds, end[(size_t)step * width + x], fade[(size_t)step * width + x]);
            }
        }
        add(sums + x / BLOCK_PX, odds);
    }
}

static __device__ float odds_factor(Odds sums, int prior)
{
    float factor = sqrtf((float)(sums.more + prior) / (float)(sums.less + prior));
    if (factor > MOST) {
        return MOST;
    }
    if (factor < 1.0f / MOST) {
        return 1.0f / MOST;
    }
    return factor < LEAST && factor > 1.0f / LEAST ? 1.0f : factor;
}

/* Linear between the middles of the blocks. */
static __device__ float factor_at(const Odds *sums, int along, int length, int prior)
{
    int last = (length + BLOCK_PX - 1) / BLOCK_PX - 1;
    float position = ((float)along + 0.5f) / (float)BLOCK_PX - 0.5f;
    position = position < 0.0f ? 0.0f : position > (float)last ? (float)last : position;
    int block = (int)position;
    float here = odds_factor(sums[block], prior);
    float there = odds_factor(sums[block < last ? block + 1 : last], prior);
    return here + (position - (float)block) * (there - here);
}

/* The probability whose odds are `factor` times as large. */
static __device__ float multiplied(float probability, float factor)
{
    return probability * factor / (1.0f + probability * (factor - 1.0f));
}

static __device__ float approached(float probability, float factor, float share)
{
    return probability + share * (multiplied(probability, factor) - probability);
}

static __device__ float faded(float first, float second, float factor, float ramp)
{
    return multiplied(second, 1.0f / factor) * ramp + multiplied(first, factor) * (1.0f - ramp);
}

/* Balance the windows at each border where two meet, `reach_px` to either side, and fade the western into the eastern. */
extern "C" __global__ void join_columns(float *answers, const float *ends, const Odds *sums, const Column *columns,
                                        const float *ramp, const float *decline, int borders, int overlap_px,
                                        int reach_px, int prior, int rows, int width)
{
    int blocks = (rows + BLOCK_PX - 1) / BLOCK_PX;
    for (int border = blockIdx.z; border < borders; border += gridDim.z) {
        Column west = columns[border], east = columns[border + 1];
        if (!meet(west, east, overlap_px)) {
            continue;
        }
        for (int row = blockIdx.y; row < rows; row += gridDim.y) {
            float factor = reach_px ? factor_at(sums + (size_t)border * blocks, row, rows, prior) : 1.0f;
            for (int place = blockIdx.x * blockDim.x + threadIdx.x; place < overlap_px + 2 * reach_px;
                 place += blockDim.x * gridDim.x) {
                int step = place - reach_px, x = east.lo + step;
                if (x < west.lo || x >= east.hi) {
                    continue;
                }
                float *answer = answers + (size_t)row * width + x;
                if (step < 0) {
                    *answer = approached(*answer, factor, decline[-step - 1]);
                } else if (step < overlap_px) {
                    float end = ends[((size_t)border * rows + row) * overlap_px + step];
                    *answer = faded(end, *answer, factor, ramp[step]);
                } else {
                    *answer = approached(*answer, 1.0f / factor, decline[step - overlap_px]);
                }
            }
        }
    }
}

/* The same for two tile rows. north: (reach_px + overlap_px, width) the last rows of the one; south: (rows, width) of the
 * other, from where the fade begins. */
extern "C" __global__ void join_rows(float *north, float *south, const Odds *sums, const float *ramp,
                                     const float *decline, int overlap_px, int reach_px, int prior, int rows, int width)
{
    for (int y = blockIdx.y; y < reach_px + rows && y < overlap_px + 2 * reach_px; y += gridDim.y) {
        int step = y - reach_px;
        for (int x = blockIdx.x * blockDim.x + threadIdx.x; x < width; x += blockDim.x * gridDim.x) {
            float factor = reach_px ? factor_at(sums, x, width, prior) : 1.0f;
            float *before = north + (size_t)y * width + x;
            if (step < 0) {
                *before = approached(*before, factor, decline[-step - 1]);
                continue;
            }
            float *after = south + (size_t)step * width + x;
            if (step < overlap_px) {
                *after = faded(*before, *after, factor, ramp[step]);
            } else {
                *after = approached(*after, 1.0f / factor, decline[step - overlap_px]);
            }
        }
    }
}

/* Rows [lo, hi): mask and confidence, (hi - lo, width) uint8; the first `left` rows from what the tile row to the north
 * left over (`north`), all others from the tile row's own (`answers`). `unsound` becomes 1 where one is no number. */
template <typename Pixel>
static __device__ void finalise(unsigned char *mask, unsigned char *confidence, int *unsound, const float *answers,
                                const float *north, const Pixel *ring, const unsigned char *valid, float threshold,
                                int lo, int hi, int left, int channels, int ring_rows, int width, int rules,
                                float nodata)
{
    for (int row = blockIdx.y; row < hi - lo; row += gridDim.y) {
        for (int x = blockIdx.x * blockDim.x + threadIdx.x; x < width; x += blockDim.x * gridDim.x) {
            size_t pixel = (size_t)row * width + x;
            float probability = row < left ? north[pixel] : answers[pixel - (size_t)left * width];
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
                                             const Column *columns, int count, int tile_px, int start, int height,     \
                                             float gain_0, float gain_1, float gain_2, int channels, int ring_rows,    \
                                             int width, int rules, float nodata)                                       \
    {                                                                                                                  \
        gather(tiles, ring, valid, columns, count, tile_px, start, height, gain_0, gain_1, gain_2, channels,           \
               ring_rows, width, rules, nodata);                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void compare_columns_##name(                                                                 \
        Odds *sums, const float *answers, const float *ends, const Pixel *ring, const unsigned char *valid,            \
        const Column *columns, int borders, int overlap_px, int lo, int hi, int channels, int ring_rows, int width,    \
        int rules, float nodata)                                                                                       \
    {                                                                                                                  \
        compare_columns(sums, answers, ends, ring, valid, columns, borders, overlap_px, lo, hi, channels, ring_rows,   \
                        width, rules, nodata);                                                                         \
    }                                                                                                                  \
    extern "C" __global__ void compare_rows_##name(                                                                    \
        Odds *sums, const float *end, const float *fade, const Pixel *ring, const unsigned char *valid,                \
        int overlap_px, int first, int channels, int ring_rows, int width, int rules, float nodata)                    \
    {                                                                                                                  \
        compare_rows(sums, end, fade, ring, valid, overlap_px, first, channels, ring_rows, width, rules, nodata);      \
    }                                                                                                                  \
    extern "C" __global__ void finalise_##name(                                                                        \
        unsigned char *mask, unsigned char *confidence, int *unsound, const float *answers, const float *north,        \
        const Pixel *ring, const unsigned char *valid, float threshold, int lo, int hi, int left, int channels,        \
        int ring_rows, int width, int rules, float nodata)                                                             \
    {                                                                                                                  \
        finalise(mask, confidence, unsound, answers, north, ring, valid, threshold, lo, hi, left, channels, ring_rows, \
                 width, rules, nodata);                                                                                \
    }

FOR_PIXELS(unsigned char, uint8)
FOR_PIXELS(unsigned short, uint16)
FOR_PIXELS(short, int16)
FOR_PIXELS(float, float32)
