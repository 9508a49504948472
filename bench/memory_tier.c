/*
 * mpirun -np N bench_memory_tier [MIB_PER_RANK]
 *
 * What a copy in memory costs, in parts, against what the machine's memory does in the same run:
 * memcpy from the state to a slot, the same with checksums, and the whole copy with its exchange
 * between ranks that play nodes of their own. Rank 0 prints a line for each; times are those of the
 * slowest rank, the best of several tries.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "checkpoint/parallel/partner.h"
#include "collectives/mpi/mpi.h"

#define TRIES            7
#define COLUMNS          1024
#define TENSOR_ROW_BYTES ((int64_t)sizeof(float) * COLUMNS)
#define MIB              ((int64_t)1 << 20)
#define DEFAULT_MIB      64

/* Slots of this process alone. */
static enum trm_status take(void *context, int64_t bytes, int count, int *fds,
                            struct trm_error *err)
{
    (void)context;
    for (int i = 0; i < count; i++) {
        fds[i] = memfd_create("slot", MFD_CLOEXEC);
        if (fds[i] < 0 || ftruncate(fds[i], bytes) != 0)
            return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a slot");
    }
    return TRM_OK;
}

static int64_t slowest(struct trm_comm *world, int64_t ns)
{
    trm_comm_all_reduce(world, &ns, 1, TRM_MAX_I64, NULL, NULL);
    return ns;
}

static void tell(struct trm_comm *world, const char *what, int64_t bytes, int64_t ns,
                 int64_t base_ns)
{
    if (world->rank == 0)
        printf("%-46s %9.3f ms  %6.2f GB/s per rank  %5.2f x memcpy\n", what, (double)ns / 1e6,
               (double)bytes / (double)ns, (double)ns / (double)base_ns);
}

/* What is measured: a rank's state, and where the copies go. */
struct bench {
    struct trm_comm *world;
    int64_t bytes;
    char *live, *copy;
    struct trm_ckpt_tensor tensor;
    struct trm_ckpt_piece pieces[TRM_KIND_COUNT];
    int64_t memcpy_ns;
};

static bool prepare(struct bench *bench, int64_t mib)
{
    int64_t rows = mib * MIB / TENSOR_ROW_BYTES / TRM_KIND_COUNT;
    bench->bytes = TRM_KIND_COUNT * rows * TENSOR_ROW_BYTES;
    bench->live = malloc((size_t)bench->bytes + 1);
    bench->copy = malloc((size_t)bench->bytes + 1);
    if (rows < 1 || bench->live == NULL || bench->copy == NULL)
        return false;
    for (int64_t i = 0; i < bench->bytes; i++)
        bench->live[i] = (char)(i * 31 + i / 7);
    memset(bench->copy, 1, (size_t)bench->bytes);
    bench->tensor =
        (struct trm_ckpt_tensor){"weight", TRM_F32, 2, rows * bench->world->size, COLUMNS};
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        bench->pieces[kind] = (struct trm_ckpt_piece){0,
                                                      (enum trm_ckpt_kind)kind,
                                                      {rows * bench->world->rank, 0, rows, COLUMNS},
                                                      bench->live + kind * rows * TENSOR_ROW_BYTES};
    return true;
}

/* memcpy, and the same with checksums. */
static void bench_copies(struct bench *bench)
{
    int64_t best[2] = {INT64_MAX, INT64_MAX};
    uint64_t sum = 0;
    for (int i = 0; i < 2 * TRIES; i++) {
        int hashed = i % 2;
        trm_comm_barrier(bench->world, NULL, NULL);
        int64_t begin = trm_clock_now_ns();
        if (!hashed)
            memcpy(bench->copy, bench->live, (size_t)bench->bytes);
        for (int64_t at = 0; hashed && at < bench->bytes; at += TRM_CKPT_SLICE_BYTES) {
            int64_t left = bench->bytes - at;
            size_t part = (size_t)(left < TRM_CKPT_SLICE_BYTES ? left : TRM_CKPT_SLICE_BYTES);
            sum += trm_hash64_copy(bench->copy + at, bench->live + at, part);
        }
        int64_t ns = slowest(bench->world, trm_clock_now_ns() - begin);
        best[hashed] = ns < best[hashed] ? ns : best[hashed];
    }
    bench->memcpy_ns = best[0];
    if (bench->world->rank == 0)
        printf("%d ranks, %lld MiB each (checksum %016llx)\n", bench->world->size,
               (long long)(bench->bytes / MIB), (unsigned long long)sum);
    tell(bench->world, "memcpy", bench->bytes, best[0], best[0]);
    tell(bench->world, "copy with checksums", bench->bytes, best[1], best[0]);
}

/* Whole copies, with nothing to hide behind: in one place, or in two. */
static enum trm_status bench_partner(struct bench *bench, bool alone, struct trm_error *err)
{
    char node[32];
    struct trm_ckpt_state state = {.run_id = "bench",
                                   .config_yaml = (char[]){"a: 1\n"},
                                   .fingerprint = (char[]){""},
                                   .data_parallel_size = 1,
                                   .tensor_model_parallel_size = 1};
    struct trm_partner_settings settings = {
        .world = bench->world,
        .keeper = {.take = take},
        .node = node,
        .domain = alone ? "one" : node,
        .interval = 1,
        .state = &state,
        .tensors = &bench->tensor,
        .tensor_count = 1,
        .pieces = bench->pieces,
        .piece_count = TRM_KIND_COUNT,
    };
    struct trm_partner *partner = NULL;
    int64_t least = INT64_MAX;
    snprintf(node, sizeof(node), "n%d", bench->world->rank);
    enum trm_status status = trm_partner_create(&settings, &partner, err);
    if (status == TRM_OK)
        status = trm_partner_double(partner, err);
    for (int i = 0; status == TRM_OK && i < TRIES; i++) {
        state.step++;
        trm_comm_barrier(bench->world, NULL, NULL);
        int64_t begin = trm_clock_now_ns();
        status = trm_partner_start(partner, &state, err);
        int64_t ns = slowest(bench->world, trm_clock_now_ns() - begin);
        least = ns < least ? ns : least;
    }
    if (status == TRM_OK)
        tell(bench->world, alone ? "a copy in one place, unhidden" : "a copy in two, unhidden",
             bench->bytes, least, bench->memcpy_ns);
    trm_partner_destroy(partner);
    return status;
}

int main(int argc, char **argv)
{
    struct trm_error err = {0};
    struct bench bench = {0};
    if (trm_mpi_start(&argc, &argv, &bench.world, &err) != TRM_OK ||
        !prepare(&bench, argc > 1 ? strtoll(argv[1], NULL, 10) : DEFAULT_MIB)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    bench_copies(&bench);
    for (int alone = 1; alone >= 0; alone--)
        if (bench_partner(&bench, alone == 1, &err) != TRM_OK)
            fprintf(stderr, "%s\n", err.text);
    free(bench.live);
    free(bench.copy);
    trm_mpi_finish(bench.world);
    return 0;
}
