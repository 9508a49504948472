/*
 * Saving 1.2 GB from several processes of one machine: into a file of each, or into one together;
 * against a plain write of as many bytes by one process. In turns, on the same disk:
 *   bench_checkpoint_writers DIRECTORY [ROUNDS [WRITERS]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoint/parallel/saver.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/store.h"
#include "tests/crash/siblings.h"

#define TENSORS     6
#define SIDE        4096 /* rows and columns of each; a rank has as many rows as the next */
#define PIECES      (TENSORS * TRM_KIND_COUNT)
#define ALL_BYTES   ((size_t)PIECES * SIDE * SIDE * sizeof(float))
#define CHUNK_BYTES ((size_t)8 << 20)
#define ROUNDS_MAX  100

enum way { APART, TOGETHER, WAYS };

struct bench {
    const char *directory;
    struct trm_comm *comm;
    int64_t elements; /* of this rank */
    float *memory, *snapshot;
    struct trm_ckpt_tensor tensors[TENSORS];
    struct trm_ckpt_piece pieces[PIECES];
    double save_seconds;
};

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    _exit(1);
}

static void on_event(void *context, const struct trm_save_event *event)
{
    struct bench *bench = context;
    if (event->kind == TRM_SAVE_FAILED)
        stop("save", event->error->text);
    if (event->kind == TRM_SAVE_DONE)
        bench->save_seconds = event->seconds - event->held_seconds;
}

static void *touched(size_t bytes)
{
    void *memory = aligned_alloc(2 << 20, (bytes + (2 << 20) - 1) / (2 << 20) * (2 << 20));
    if (memory == NULL)
        stop("set-up", "out of memory");
    memset(memory, 0, bytes);
    return memory;
}

static void set_up(struct bench *bench)
{
    int64_t rows = SIDE / bench->comm->size;
    bench->elements = PIECES * rows * SIDE;
    bench->memory = touched((size_t)bench->elements * sizeof(float));
    bench->snapshot = touched(trm_snapshot_bytes(bench->elements, PIECES, TRM_F32));
    for (int64_t i = 0; i < bench->elements; i++)
        bench->memory[i] = (float)(i % 1000003);
    for (int t = 0; t < TENSORS; t++) {
        bench->tensors[t] =
            (struct trm_ckpt_tensor){.type = TRM_F32, .dims = 2, .rows = SIDE, .columns = SIDE};
        snprintf(bench->tensors[t].name, sizeof(bench->tensors[t].name), "t%d", t);
    }
    for (int p = 0; p < PIECES; p++)
        bench->pieces[p] = (struct trm_ckpt_piece){p % TENSORS,
                                                   (enum trm_ckpt_kind)(p / TENSORS),
                                                   {bench->comm->rank * rows, 0, rows, SIDE},
                                                   bench->memory + (size_t)(p * rows * SIDE)};
}

/* Seconds from the end of the copy until the checkpoint is durable. */
static double save(struct bench *bench, int64_t step, enum way way)
{
    struct trm_error err = {0};
    struct trm_saver *saver = NULL;
    char path[TRM_PATH_BYTES];
    struct trm_ckpt_state state = {.run_id = "bench",
                                   .step = step,
                                   .config_yaml = (char[]){""},
                                   .fingerprint = (char[]){""},
                                   .data_parallel_size = bench->comm->size,
                                   .tensor_model_parallel_size = 1};
    const struct trm_saver_settings settings = {
        .comm = bench->comm,
        .directory = bench->directory,
        .tensors = bench->tensors,
        .tensor_count = TENSORS,
        .pieces = bench->pieces,
        .piece_count = PIECES,
        .snapshots = {bench->snapshot, bench->snapshot}, /* one save at a time here */
        .copy_threads = 1,
        .shard_group_size = way == TOGETHER ? bench->comm->size : 1,
        .event = on_event,
        .context = bench,
    };
    if (trm_saver_create(&settings, &saver, &err) != TRM_OK ||
        trm_saver_begin(saver, &state, &err) != TRM_OK || trm_saver_wait(saver, &err) != TRM_OK)
        stop("save", err.text);
    trm_saver_destroy(saver);
    if (bench->comm->rank == 0 && trm_store_step_path(bench->directory, step, path, NULL) == TRM_OK)
        (void)trm_file_remove_tree(path, NULL);
    (void)trm_comm_barrier(bench->comm, NULL, NULL);
    return bench->save_seconds;
}

/* By rank 0; the others wait. Writes its own share again and again. */
static double plain_write(const struct bench *bench)
{
    char path[TRM_PATH_BYTES];
    const size_t share = (size_t)bench->elements * sizeof(float);
    int64_t begin_ns = trm_clock_now_ns();
    if (bench->comm->rank == 0 &&
        trm_file_path(path, NULL, "%s/plain", bench->directory) == TRM_OK) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        for (size_t at = 0; at < ALL_BYTES; at += CHUNK_BYTES)
            if (pwrite(fd, (char *)bench->memory + at % share / CHUNK_BYTES * CHUNK_BYTES,
                       CHUNK_BYTES, (off_t)at) != (ssize_t)CHUNK_BYTES)
                stop(path, strerror(errno));
        if (fsync(fd) != 0 || close(fd) != 0)
            stop(path, strerror(errno));
    }
    double seconds = (double)(trm_clock_now_ns() - begin_ns) / 1e9;
    if (bench->comm->rank == 0)
        (void)unlink(path);
    (void)trm_comm_barrier(bench->comm, NULL, NULL);
    return seconds;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void tell(const char *name, const double *seconds, const char *over, const double *others,
                 int rounds)
{
    double rates[ROUNDS_MAX], ratios[ROUNDS_MAX];
    for (int i = 0; i < rounds; i++) {
        rates[i] = (double)ALL_BYTES / seconds[i] / 1e9;
        ratios[i] = others[i] / seconds[i];
    }
    qsort(rates, (size_t)rounds, sizeof(*rates), ascending);
    qsort(ratios, (size_t)rounds, sizeof(*ratios), ascending);
    printf("%s: %.2f GB/s (%.2f to %.2f), %.2f of %s (%.2f to %.2f)\n", name, rates[rounds / 2],
           rates[0], rates[rounds - 1], ratios[rounds / 2], over, ratios[0], ratios[rounds - 1]);
}

static int run(struct siblings *siblings, int rank, const char *directory, int rounds)
{
    static double seconds[WAYS][ROUNDS_MAX], plain[ROUNDS_MAX];
    struct bench bench = {.directory = directory};
    struct trm_error err = {0};
    if (siblings_join(siblings, rank, &bench.comm, &err) != TRM_OK)
        stop("set-up", err.text);
    set_up(&bench);
    for (int i = 0; i < rounds; i++)
        for (int turn = 0; turn <= WAYS; turn++) {
            /* Each comes first as often as the others. */
            int what = (turn + i) % (WAYS + 1);
            if (what == WAYS)
                plain[i] = plain_write(&bench);
            else
                seconds[what][i] = save(&bench, i * WAYS + what, (enum way)what);
        }
    if (rank == 0) {
        char name[64];
        snprintf(name, sizeof(name), "save by %d ranks, a file each", bench.comm->size);
        tell(name, seconds[APART], "a plain write", plain, rounds);
        snprintf(name, sizeof(name), "save by %d ranks, one file", bench.comm->size);
        tell(name, seconds[TOGETHER], "a plain write", plain, rounds);
        tell(name, seconds[TOGETHER], "a file each", seconds[APART], rounds);
    }
    trm_comm_destroy(bench.comm);
    return 0;
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 5, writers = argc > 3 ? atoi(argv[3]) : 2, failed = 0;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || writers < 1 || writers > SIBLINGS_MAX)
        stop("usage", "bench_checkpoint_writers DIRECTORY [ROUNDS, 1 to 100 [WRITERS, 1 to 4]]");
    struct siblings *siblings = siblings_create(writers);
    if (siblings == NULL)
        stop("set-up", strerror(errno));
    for (int rank = 1; rank < writers; rank++)
        if (fork() == 0)
            _exit(run(siblings, rank, argv[1], rounds));
    run(siblings, 0, argv[1], rounds);
    for (int status = 0; wait(&status) > 0;)
        failed += status != 0;
    return failed;
}
