/*
 * The matrix product: output tiles fixed by shape, each one the work of one thread; the sum over K
 * is never shared, so no thread count changes a bit.
 *
 * Letters: c[M, N] (+)= a[M, K] b[K, N], all row-major views.
 *
 * A tile is one single-threaded product of the library, and best tall: the library copies b's part
 * of a tile for itself, and that is paid for by the rows. Where `a` is transposed (the gradient of
 * weights), all threads first transpose it into a panel, PANEL_M rows and PANEL_K columns of it at
 * a time; those parts of the sum over K are added up one after the other.
 */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "trainer/ops/cpu/internal.h"

enum {
    PANEL_M = 3072,
    PANEL_K = 1024,
    PANEL_PAD = 16,   /* keeps the panel's own rows off multiples of 4 KiB */
    PACK_STRIPE = 64, /* rows of the panel that a thread fills at a time */
    TILES_WANTED = 8, /* for threads to share; twice as many would cost 5 % on small products */
    TILE_N_STEP = 48, /* columns of the library's innermost block with AVX-512 */
};

/* Tile sizes from the fastest to the finest. */
static const struct tile_size {
    int64_t m, n;
} tile_sizes[] = {{512, 384}, {256, 384}, {256, 192}, {128, 192}, {128, 96}};

enum { TILE_SIZES = sizeof(tile_sizes) / sizeof(tile_sizes[0]) };

/* An operand as the library takes it: a row-major matrix, perhaps to be read transposed. */
struct operand {
    const float *data;
    int64_t stride;
    bool transposed;
};

/* Rows [row, row + rows) of c and the part [first, first + count) of the sum over K. */
struct job {
    const struct trm_cpu_product *product;
    struct operand a, b; /* from row `row` and from K index `first` on */
    int64_t row, rows, columns, first, count;
    bool last; /* the part of the sum that completes c */
    int64_t tile_m, tile_n, tiles_m;
    float *panel; /* a, transposed back; NULL when `a` is used as it is */
    bool failed;
};

/* A side of a product, cut into panels of equal size. */
static int64_t panel_side(int64_t side, int64_t most, int64_t multiple)
{
    int64_t parts = trm_cpu_parts(side, most);
    return trm_cpu_round_up(trm_cpu_parts(side, parts), multiple);
}

size_t trm_cpu_product_bytes(int64_t side)
{
    int64_t m = trm_cpu_min(PANEL_M, trm_cpu_round_up(side, PACK_STRIPE));
    int64_t k = trm_cpu_min(PANEL_K, trm_cpu_round_up(side, PANEL_PAD));
    return (size_t)(m * (k + PANEL_PAD)) * sizeof(float);
}

bool trm_cpu_sgemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                   float beta, float *c, int64_t c_stride)
{
    return dnnl_sgemm(a_transposed ? 'T' : 'N', b_transposed ? 'T' : 'N', m, n, k, alpha, a,
                      a_stride, b, b_stride, beta, c, c_stride) == dnnl_success;
}

static struct operand operand(struct trm_tensor t)
{
    bool transposed = t.stride[1] != 1 && t.shape[1] > 1;
    TRM_ASSERT(!transposed || t.stride[0] == 1 || t.shape[0] == 1);
    /* The stride of a single row may be anything; the library wants one that fits. */
    int64_t least = transposed ? t.shape[0] : t.shape[1];
    int64_t stride = transposed ? t.stride[1] : t.stride[0];
    return (struct operand){t.data, stride < least ? least : stride, transposed};
}

/* From element [row, column] of the matrix that the operand stands for. */
static struct operand operand_from(struct operand o, int64_t row, int64_t column)
{
    o.data += o.transposed ? column * o.stride + row : row * o.stride + column;
    return o;
}

/* The largest tile of which there are enough, evened out. */
static void choose_tiles(struct job *job)
{
    int size = 0;
    while (size < TILE_SIZES - 1 && trm_cpu_parts(job->rows, tile_sizes[size].m) *
                                            trm_cpu_parts(job->columns, tile_sizes[size].n) <
                                        TILES_WANTED)
        size++;
    job->tile_m = panel_side(job->rows, tile_sizes[size].m, 8);
    job->tiles_m = trm_cpu_parts(job->rows, job->tile_m);
    job->tile_n = panel_side(job->columns, tile_sizes[size].n, TILE_N_STEP);
}

static void multiply_tiles(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    struct job *job = context;
    const struct trm_cpu_product *product = job->product;
    float beta = product->accumulate || job->first > 0 ? 1.0f : 0.0f;
    for (int64_t index = first; index < last; index++) {
        int64_t row = index % job->tiles_m * job->tile_m;
        int64_t column = index / job->tiles_m * job->tile_n;
        struct trm_cpu_tile tile = {job->row + row, trm_cpu_min(job->tile_m, job->rows - row),
                                    column, trm_cpu_min(job->tile_n, job->columns - column)};
        struct operand a = operand_from(job->a, row, 0), b = operand_from(job->b, 0, column);
        if (!trm_cpu_sgemm(a.transposed, b.transposed, tile.rows, tile.columns, job->count, 1.0f,
                           a.data, a.stride, b.data, b.stride, beta,
                           trm_cpu_row(product->c, tile.row) + column, product->c.stride[0]))
            __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
        if (job->last && product->finish != NULL)
            product->finish(product->finish_context, &tile);
    }
}

/* Rows [first, last) of the panel, and of a's row sums. */
static void pack_stripe(void *context, int64_t first, int64_t last, int thread)
{
    (void)thread;
    struct job *job = context;
    float part[PACK_STRIPE] = {0.0f};
    float *sums = job->product->a_row_sums;
    int64_t stride = job->count + PANEL_PAD;
    TRM_ASSERT(last - first <= PACK_STRIPE);
    trm_cpu_pack_transposed(job->panel + first * stride, stride, job->a.data + first, job->a.stride,
                            job->count, last - first, sums == NULL ? NULL : part);
    bool add = job->product->accumulate || job->first > 0;
    for (int64_t m = 0; sums != NULL && m < last - first; m++) {
        float *sum = sums + job->row + first + m;
        *sum = add ? *sum + part[m] : part[m];
    }
}

static void multiply(struct trm_device *dev, struct job *job)
{
    if (job->panel != NULL) {
        trm_cpu_for(dev, job->rows, PACK_STRIPE, pack_stripe, job);
        job->a = (struct operand){job->panel, job->count + PANEL_PAD, false};
    }
    choose_tiles(job);
    trm_cpu_for(dev, job->tiles_m * trm_cpu_parts(job->columns, job->tile_n), 1, multiply_tiles,
                job);
    if (job->failed)
        trm_cpu_fail(dev, TRM_ERR_INTERNAL,
                     "the matrix library refused a product of %lld x %lld x %lld",
                     (long long)job->rows, (long long)job->columns, (long long)job->count);
}

void trm_cpu_product(struct trm_device *dev, const struct trm_cpu_product *product)
{
    const struct trm_tensor c = product->c, a = product->a, b = product->b;
    const int64_t m = c.shape[0], n = c.shape[1], k = a.shape[1];
    TRM_ASSERT(c.dims == 2 && a.dims == 2 && b.dims == 2 && trm_cpu_is2(c, m, n));
    TRM_ASSERT(a.shape[0] == m && b.shape[0] == k && b.shape[1] == n && k > 0);
    if (m == 0 || n == 0)
        return;
    const struct operand whole_a = operand(a), whole_b = operand(b);
    float *panel = NULL;
    int64_t part_m = m, part_k = k;
    if (whole_a.transposed && m > 1) {
        part_m = panel_side(m, PANEL_M, PACK_STRIPE);
        part_k = panel_side(k, PANEL_K, PANEL_PAD);
        panel = trm_cpu_workspace(dev, "a matrix product", trm_cpu_product_bytes(m > k ? m : k));
        if (panel == NULL)
            return;
    }
    TRM_ASSERT(product->a_row_sums == NULL || panel != NULL);
    for (int64_t row = 0; row < m; row += part_m) {
        for (int64_t first = 0; first < k; first += part_k) {
            struct job job = {.product = product,
                              .a = operand_from(whole_a, row, first),
                              .b = operand_from(whole_b, first, 0),
                              .row = row,
                              .rows = trm_cpu_min(part_m, m - row),
                              .columns = n,
                              .first = first,
                              .count = trm_cpu_min(part_k, k - first),
                              .last = first + part_k >= k,
                              .panel = panel};
            multiply(dev, &job);
        }
    }
}

void trm_cpu_matmul(struct trm_device *dev, struct trm_tensor c, struct trm_tensor a,
                    struct trm_tensor b, bool accumulate)
{
    if (TRM_CPU_TAKES(dev, "matmul", c, a, b))
        trm_cpu_product(
            dev, &(struct trm_cpu_product){.c = c, .a = a, .b = b, .accumulate = accumulate});
}

double trm_cpu_peak_gflops(struct trm_device *dev, int repeats)
{
    const int64_t size = 2048;
    float *memory = aligned_alloc(64, 3 * (size_t)(size * size) * sizeof(float));
    if (memory == NULL)
        return 0.0;
    for (int64_t i = 0; i < 3 * size * size; i++)
        memory[i] = (float)(i % 7) * 0.01f;
    const float *a = memory, *b = memory + size * size;
    float *c = memory + 2 * size * size;
    int threads = omp_get_max_threads();
    omp_set_num_threads(trm_cpu_threads(dev));
    double best = 0.0;
    for (int i = 0; i < repeats; i++) {
        int64_t start_ns = trm_clock_now_ns();
        trm_cpu_sgemm(false, true, size, size, size, 1.0f, a, size, b, size, 0.0f, c, size);
        double gflops =
            2.0 * (double)(size * size * size) / (double)(trm_clock_now_ns() - start_ns);
        best = gflops > best ? gflops : best;
    }
    omp_set_num_threads(threads);
    free(memory);
    return best;
}
