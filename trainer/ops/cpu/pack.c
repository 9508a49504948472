/*
 * Blocks of a matrix copied into a panel of their own, contiguous or transposed: the matrix library
 * is slower on transposed operands, and far slower where rows lie a multiple of 4 KiB apart and so
 * share few sets of the first-level cache.
 */
#include <string.h>

#include "trainer/ops/cpu/internal.h"
#include "trainer/ops/cpu/vector.h"

typedef float v4 __attribute__((vector_size(16)));

TRM_VECTOR v4 v4_load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

TRM_VECTOR void v4_store(float *p, v4 v)
{
    memcpy(p, &v, sizeof(v));
}

/* Four rows of four: to[i][k] = row_k[i]. */
TRM_VECTOR void transpose_4(float *to, int64_t to_stride, v4 r0, v4 r1, v4 r2, v4 r3)
{
    v4 a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
    v4 b = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
    v4 c = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    v4 d = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    v4_store(to, __builtin_shufflevector(a, b, 0, 1, 4, 5));
    v4_store(to + to_stride, __builtin_shufflevector(a, b, 2, 3, 6, 7));
    v4_store(to + 2 * to_stride, __builtin_shufflevector(c, d, 0, 1, 4, 5));
    v4_store(to + 3 * to_stride, __builtin_shufflevector(c, d, 2, 3, 6, 7));
}

/* Columns of a block: whole cache lines on the reading side, several of them. */
enum { BLOCK_COLUMNS = 64, BLOCK_ROWS = 16 };

/* BLOCK_ROWS rows of BLOCK_COLUMNS columns. The panel's rows get whole lines, too. */
TRM_VECTOR void transpose_block(float *to, int64_t to_stride, const float *a, int64_t a_stride)
{
    for (int m = 0; m < BLOCK_COLUMNS; m += 4)
        for (int k = 0; k < BLOCK_ROWS; k += 4) {
            const float *r = a + k * a_stride + m;
            transpose_4(to + m * to_stride + k, to_stride, v4_load(r), v4_load(r + a_stride),
                        v4_load(r + 2 * a_stride), v4_load(r + 3 * a_stride));
        }
}

/* sums[m] += four rows at a time, then their sum. */
TRM_VECTOR void sum_block(float *sums, const float *a, int64_t a_stride)
{
    for (int m = 0; m < BLOCK_COLUMNS; m += TRM_LANES) {
        v16 sum = v16_set(0.0f);
        for (int k = 0; k < BLOCK_ROWS; k += 4) {
            const float *r = a + k * a_stride + m;
            sum += (v16_load(r) + v16_load(r + a_stride)) +
                   (v16_load(r + 2 * a_stride) + v16_load(r + 3 * a_stride));
        }
        v16_store(sums + m, v16_load(sums + m) + sum);
    }
}

static void transpose_rest(float *panel, int64_t panel_stride, const float *a, int64_t a_stride,
                           int64_t rows, int64_t columns, float *sums)
{
    for (int64_t m = 0; m < columns; m++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < rows; k++) {
            panel[m * panel_stride + k] = a[k * a_stride + m];
            sum += a[k * a_stride + m];
        }
        if (sums != NULL)
            sums[m] += sum;
    }
}

TRM_VECTOR_CLONES
void trm_cpu_pack_transposed(float *panel, int64_t panel_stride, const float *a, int64_t a_stride,
                             int64_t rows, int64_t columns, float *sums)
{
    int64_t whole = rows / BLOCK_ROWS * BLOCK_ROWS, m = 0;
    for (; m + BLOCK_COLUMNS <= columns; m += BLOCK_COLUMNS) {
        float *to = panel + m * panel_stride;
        for (int64_t k = 0; k < whole; k += BLOCK_ROWS) {
            transpose_block(to + k, panel_stride, a + k * a_stride + m, a_stride);
            if (sums != NULL)
                sum_block(sums + m, a + k * a_stride + m, a_stride);
        }
        transpose_rest(to + whole, panel_stride, a + whole * a_stride + m, a_stride, rows - whole,
                       BLOCK_COLUMNS, sums == NULL ? NULL : sums + m);
    }
    transpose_rest(panel + m * panel_stride, panel_stride, a + m, a_stride, rows, columns - m,
                   sums == NULL ? NULL : sums + m);
}
