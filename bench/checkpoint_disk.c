/*
 * Saving and loading one shard of 1.2 GB against plain writes and reads of as many bytes, on the
 * same disk, in turns:
 *   bench_checkpoint_disk DIRECTORY [ROUNDS]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoint/parallel/load.h"
#include "checkpoint/parallel/saver.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/store.h"

#define TENSORS     6
#define SIDE        4096 /* rows and columns of each */
#define PIECES      (TENSORS * TRM_KIND_COUNT)
#define ELEMENTS    ((int64_t)PIECES * SIDE * SIDE)
#define DATA_BYTES  ((size_t)ELEMENTS * sizeof(float))
#define CHUNK_BYTES ((size_t)8 << 20)
#define ROUNDS_MAX  100

struct bench {
    const char *directory;
    struct trm_comm *comm;
    float *memory, *snapshots[TRM_SAVER_SNAPSHOTS], *back;
    struct trm_ckpt_tensor tensors[TENSORS];
    struct trm_ckpt_piece pieces[PIECES];
    double save_seconds;
};

static void stop(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double since(int64_t begin_ns)
{
    return (double)(trm_clock_now_ns() - begin_ns) / 1e9;
}

static void on_event(void *context, const struct trm_save_event *event)
{
    struct bench *bench = context;
    if (event->kind == TRM_SAVE_FAILED)
        stop("save", event->error->text);
    if (event->kind == TRM_SAVE_DONE)
        bench->save_seconds = event->seconds - event->held_seconds;
}

static void set_up(struct bench *bench)
{
    struct trm_error err = {0};
    if (trm_comm_self(&bench->comm, &err) != TRM_OK)
        stop("set-up", err.text);
    float **blocks[] = {&bench->memory, &bench->snapshots[0], &bench->back};
    for (size_t b = 0; b < sizeof(blocks) / sizeof(*blocks); b++) {
        *blocks[b] = aligned_alloc(2 << 20, DATA_BYTES + (2 << 20));
        if (*blocks[b] == NULL)
            stop("set-up", "out of memory");
        memset(*blocks[b], 0, DATA_BYTES + (2 << 20));
    }
    bench->snapshots[1] = bench->snapshots[0]; /* one save at a time here */
    for (int64_t i = 0; i < ELEMENTS; i++)
        bench->memory[i] = (float)(i % 1000003);
    for (int t = 0; t < TENSORS; t++) {
        bench->tensors[t] =
            (struct trm_ckpt_tensor){.type = TRM_F32, .dims = 2, .rows = SIDE, .columns = SIDE};
        snprintf(bench->tensors[t].name, sizeof(bench->tensors[t].name), "t%d", t);
    }
    for (int p = 0; p < PIECES; p++)
        bench->pieces[p] = (struct trm_ckpt_piece){p % TENSORS,
                                                   (enum trm_ckpt_kind)(p / TENSORS),
                                                   {0, 0, SIDE, SIDE},
                                                   bench->memory + (size_t)p * SIDE * SIDE};
}

/* Seconds from the end of the copy until the checkpoint is durable. */
static double save(struct bench *bench, int64_t step)
{
    struct trm_error err = {0};
    struct trm_saver *saver = NULL;
    struct trm_ckpt_state state = {.run_id = "bench",
                                   .step = step,
                                   .config_yaml = (char[]){""},
                                   .fingerprint = (char[]){""},
                                   .data_parallel_size = 1,
                                   .tensor_model_parallel_size = 1};
    const struct trm_saver_settings settings = {
        .comm = bench->comm,
        .directory = bench->directory,
        .tensors = bench->tensors,
        .tensor_count = TENSORS,
        .pieces = bench->pieces,
        .piece_count = PIECES,
        .snapshots = {bench->snapshots[0], bench->snapshots[1]},
        .copy_threads = 2,
        .event = on_event,
        .context = bench,
    };
    if (trm_saver_create(&settings, &saver, &err) != TRM_OK ||
        trm_saver_begin(saver, &state, &err) != TRM_OK || trm_saver_wait(saver, &err) != TRM_OK)
        stop("save", err.text);
    trm_saver_destroy(saver);
    return bench->save_seconds;
}

static int open_or_stop(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd < 0)
        stop(path, strerror(errno));
    return fd;
}

static double plain_write(const struct bench *bench, const char *path)
{
    int64_t begin_ns = trm_clock_now_ns();
    int fd = open_or_stop(path, O_WRONLY | O_CREAT | O_EXCL);
    for (size_t at = 0; at < DATA_BYTES; at += CHUNK_BYTES) {
        size_t part = DATA_BYTES - at < CHUNK_BYTES ? DATA_BYTES - at : CHUNK_BYTES;
        if (pwrite(fd, (char *)bench->snapshots[0] + at, part, (off_t)at) != (ssize_t)part)
            stop(path, strerror(errno));
    }
    if (fsync(fd) != 0 || close(fd) != 0)
        stop(path, strerror(errno));
    return since(begin_ns);
}

/* The durable pages of a file, out of the page cache. */
static void forget(const char *path)
{
    int fd = open_or_stop(path, O_RDONLY);
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        stop(path, "could not be dropped from the page cache");
    close(fd);
}

static double plain_read(const struct bench *bench, const char *path)
{
    forget(path);
    int64_t begin_ns = trm_clock_now_ns();
    int fd = open_or_stop(path, O_RDONLY);
    for (size_t at = 0; at < DATA_BYTES;) {
        ssize_t got = pread(fd, (char *)bench->back + at, CHUNK_BYTES, (off_t)at);
        if (got <= 0)
            stop(path, "ends early");
        at += (size_t)got;
    }
    close(fd);
    return since(begin_ns);
}

static double load(struct bench *bench, const char *shard, int64_t step)
{
    struct trm_error err = {0};
    struct trm_checkpoint *checkpoint = NULL;
    struct trm_ckpt_piece pieces[PIECES];
    memcpy(pieces, bench->pieces, sizeof(pieces));
    for (int p = 0; p < PIECES; p++)
        pieces[p].data = bench->back + (size_t)p * SIDE * SIDE;
    forget(shard);
    int64_t begin_ns = trm_clock_now_ns();
    if (trm_checkpoint_open(bench->comm, bench->directory, step, NULL, NULL, &checkpoint, &err) !=
            TRM_OK ||
        trm_checkpoint_load(bench->comm, checkpoint, pieces, PIECES, NULL, &err) != TRM_OK)
        stop("load", err.text);
    double seconds = since(begin_ns);
    trm_checkpoint_close(checkpoint);
    if (memcmp(bench->back, bench->memory, DATA_BYTES) != 0)
        stop("load", "other bytes came back");
    return seconds;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void tell(const char *name, const double *ours, const double *plain, int rounds)
{
    double ratios[ROUNDS_MAX], a[ROUNDS_MAX], b[ROUNDS_MAX];
    for (int i = 0; i < rounds; i++) {
        ratios[i] = plain[i] / ours[i];
        a[i] = (double)DATA_BYTES / ours[i] / 1e9;
        b[i] = (double)DATA_BYTES / plain[i] / 1e9;
    }
    qsort(ratios, (size_t)rounds, sizeof(*ratios), ascending);
    qsort(a, (size_t)rounds, sizeof(*a), ascending);
    qsort(b, (size_t)rounds, sizeof(*b), ascending);
    printf("%s: %.2f GB/s (%.2f to %.2f), plain %.2f GB/s (%.2f to %.2f): ratio %.2f (%.2f to "
           "%.2f)\n",
           name, a[rounds / 2], a[0], a[rounds - 1], b[rounds / 2], b[0], b[rounds - 1],
           ratios[rounds / 2], ratios[0], ratios[rounds - 1]);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    double ours[2][ROUNDS_MAX], plain[2][ROUNDS_MAX];
    char path[TRM_PATH_BYTES], step[TRM_PATH_BYTES], shard[TRM_PATH_BYTES];
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX)
        stop("usage", "bench_checkpoint_disk DIRECTORY [ROUNDS, 1 to 100]");
    bench.directory = argv[1];
    set_up(&bench);
    if (trm_file_path(path, NULL, "%s/plain", bench.directory) != TRM_OK)
        stop("path", "too long");
    for (int i = 0; i < rounds; i++) {
        /* Each goes first as often as the other. */
        if (i % 2 == 0)
            plain[0][i] = plain_write(&bench, path);
        ours[0][i] = save(&bench, i);
        if (i % 2 != 0)
            plain[0][i] = plain_write(&bench, path);
        if (trm_store_step_path(bench.directory, i, step, NULL) != TRM_OK ||
            trm_file_path(shard, NULL, "%s/shard-00000.h5", step) != TRM_OK)
            stop("path", "too long");
        if (i % 2 == 0)
            plain[1][i] = plain_read(&bench, path);
        ours[1][i] = load(&bench, shard, i);
        if (i % 2 != 0)
            plain[1][i] = plain_read(&bench, path);
        unlink(path);
        trm_file_remove_tree(step, NULL);
    }
    tell("save", ours[0], plain[0], rounds);
    tell("load", ours[1], plain[1], rounds);
    trm_comm_destroy(bench.comm);
    return 0;
}
