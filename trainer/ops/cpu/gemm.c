/*
 * The matrix product: output tiles fixed by shape, each one the work of one thread; the sum over K
 * is never shared, so no thread count changes a bit.
 *
 * Letters: c[M, N] (+)= a[M, K] b[K, N], all row-major views; tiles are [tile_m, tile_n].
 *
 * A tile is one single-threaded product of the library, except where an operand is laid out badly
 * for it: a transposed `a` (the gradient of weights), or a `b` whose rows lie a multiple of 4 KiB
 * apart. Those are copied block by block into panels of the thread, K_BLOCK of the sum at a time,
 * one after the other.
 */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "trainer/ops/cpu/internal.h"

enum {
    TILE_M = 384,
    TILE_N = 384,
    TILE_M_SMALLEST = 128,
    TILE_N_SMALLEST = 192,
    TILES_WANTED = 16, /* for as many threads to share */
    K_BLOCK = 1024,
    PANEL_PAD = 16, /* keeps the panel's own rows off multiples of 4 KiB */
};

/* An operand as the library takes it: a row-major matrix, perhaps to be read transposed. */
struct operand {
    const float *data;
    int64_t stride;
    bool transposed;
};

struct job {
    const struct trm_cpu_product *product;
    struct operand a, b;
    bool pack_a, pack_b;
    int64_t m, n, k, tile_m, tile_n, tiles_m, k_block;
    float *scratch;
    bool failed;
};

/* One thread's scratch, in floats: a's panel, b's panel, sums of a's rows. */
enum {
    PANEL_A = TILE_M * (K_BLOCK + PANEL_PAD),
    PANEL_B = K_BLOCK * (TILE_N + PANEL_PAD),
    SCRATCH = PANEL_A + PANEL_B + TILE_M,
};

size_t trm_cpu_product_bytes(void)
{
    return SCRATCH * sizeof(float);
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

/* Halves the tile, the longer side first, until there are tiles enough; then evens the tiles out.
 */
static void choose_tiles(struct job *job)
{
    int64_t tile_m = TILE_M, tile_n = TILE_N;
    while (trm_cpu_parts(job->m, tile_m) * trm_cpu_parts(job->n, tile_n) < TILES_WANTED) {
        if (tile_m > TILE_M_SMALLEST && (tile_m >= tile_n || tile_n <= TILE_N_SMALLEST))
            tile_m = tile_m == 384 ? 256 : 128;
        else if (tile_n > TILE_N_SMALLEST)
            tile_n = TILE_N_SMALLEST;
        else
            break;
    }
    job->tiles_m = trm_cpu_parts(job->m, tile_m);
    job->tile_m = trm_cpu_round_up(trm_cpu_parts(job->m, job->tiles_m), 8);
    job->tiles_m = trm_cpu_parts(job->m, job->tile_m);
    int64_t tiles_n = trm_cpu_parts(job->n, tile_n);
    job->tile_n = trm_cpu_round_up(trm_cpu_parts(job->n, tiles_n), 48);
    TRM_ASSERT(job->tile_m <= TILE_M && job->tile_n <= TILE_N);
}

static void choose_panels(struct job *job)
{
    job->pack_a = job->a.transposed && job->m > 1;
    job->pack_b = !job->b.transposed && job->b.stride % 1024 == 0 && job->n > 1 && job->m >= 64;
    job->k_block = job->k;
    if (job->pack_a || job->pack_b) {
        int64_t blocks = trm_cpu_parts(job->k, K_BLOCK);
        job->k_block = trm_cpu_round_up(trm_cpu_parts(job->k, blocks), 16);
    }
}

/* The sum over k of [first, first + count) for one tile. */
static bool multiply_block(const struct job *job, const struct trm_cpu_tile *tile, int64_t first,
                           int64_t count, float *scratch)
{
    const struct trm_tensor c = job->product->c;
    struct operand a = job->a, b = job->b;
    if (job->pack_a) {
        float *sums = job->product->a_row_sums != NULL && tile->column == 0
                          ? scratch + PANEL_A + PANEL_B
                          : NULL;
        trm_cpu_pack_transposed(scratch, count + PANEL_PAD, a.data + first * a.stride + tile->row,
                                a.stride, count, tile->rows, sums);
        a = (struct operand){scratch, count + PANEL_PAD, false};
    } else {
        a.data += a.transposed ? first * a.stride + tile->row : tile->row * a.stride + first;
    }
    if (job->pack_b) {
        float *panel = scratch + PANEL_A;
        trm_cpu_pack_rows(panel, tile->columns + PANEL_PAD,
                          b.data + first * b.stride + tile->column, b.stride, count, tile->columns);
        b = (struct operand){panel, tile->columns + PANEL_PAD, false};
    } else {
        b.data += b.transposed ? tile->column * b.stride + first : first * b.stride + tile->column;
    }
    float beta = job->product->accumulate || first > 0 ? 1.0f : 0.0f;
    return trm_cpu_sgemm(a.transposed, b.transposed, tile->rows, tile->columns, count, 1.0f, a.data,
                         a.stride, b.data, b.stride, beta, trm_cpu_row(c, tile->row) + tile->column,
                         c.stride[0]);
}

static void store_sums(const struct job *job, const struct trm_cpu_tile *tile, const float *sums)
{
    float *out = job->product->a_row_sums + tile->row;
    for (int64_t m = 0; m < tile->rows; m++)
        out[m] = job->product->accumulate ? out[m] + sums[m] : sums[m];
}

static void multiply_tiles(void *context, int64_t first, int64_t last, int thread)
{
    struct job *job = context;
    float *scratch = job->scratch == NULL ? NULL : job->scratch + (int64_t)thread * SCRATCH;
    for (int64_t index = first; index < last; index++) {
        /* Down the columns first: neighbours share b, the operand that is dearer to read. */
        int64_t row = index % job->tiles_m * job->tile_m;
        int64_t column = index / job->tiles_m * job->tile_n;
        struct trm_cpu_tile tile = {row, trm_cpu_min(job->tile_m, job->m - row), column,
                                    trm_cpu_min(job->tile_n, job->n - column)};
        bool sums = job->product->a_row_sums != NULL && column == 0;
        for (int64_t m = 0; sums && m < tile.rows; m++)
            scratch[PANEL_A + PANEL_B + m] = 0.0f;
        for (int64_t k = 0; k < job->k; k += job->k_block)
            if (!multiply_block(job, &tile, k, trm_cpu_min(job->k_block, job->k - k), scratch))
                __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
        if (sums)
            store_sums(job, &tile, scratch + PANEL_A + PANEL_B);
        if (job->product->finish != NULL)
            job->product->finish(job->product->finish_context, &tile);
    }
}

void trm_cpu_product(struct trm_device *dev, const struct trm_cpu_product *product)
{
    const struct trm_tensor c = product->c, a = product->a, b = product->b;
    struct job job = {.product = product, .m = c.shape[0], .n = c.shape[1], .k = a.shape[1]};
    TRM_ASSERT(c.dims == 2 && a.dims == 2 && b.dims == 2 && trm_cpu_is2(c, job.m, job.n));
    TRM_ASSERT(a.shape[0] == job.m && b.shape[0] == job.k && b.shape[1] == job.n && job.k > 0);
    if (job.m == 0 || job.n == 0)
        return;
    job.a = operand(a);
    job.b = operand(b);
    choose_tiles(&job);
    choose_panels(&job);
    TRM_ASSERT(product->a_row_sums == NULL || job.pack_a);
    if (job.pack_a || job.pack_b) {
        size_t bytes = (size_t)trm_cpu_threads(dev) * trm_cpu_product_bytes();
        job.scratch = trm_cpu_workspace(dev, "a matrix product", bytes);
        if (job.scratch == NULL)
            return;
    }
    int64_t tiles = job.tiles_m * trm_cpu_parts(job.n, job.tile_n);
    trm_cpu_for(dev, tiles, 1, multiply_tiles, &job);
    if (job.failed)
        trm_cpu_fail(dev, TRM_ERR_INTERNAL,
                     "the matrix library refused a product of %lld x %lld x %lld", (long long)job.m,
                     (long long)job.n, (long long)job.k);
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
