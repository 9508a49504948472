/*
 * How the view of a checkpoint behaves as ranks grow in number: the time to write it, to open a
 * tensor and to read it whole, its size, and that of the manifest.
 *
 * usage: checkpoint_view DIRECTORY [RUNS [RANKS[/GROUP] ...]]
 *
 * Each checkpoint is synthetic: every rank holds an equal flat range, which neither begins nor ends
 * with a row, of each of TENSORS tensors in every kind; GROUP ranks (1) share a shard. Files are in
 * the page cache.
 */
#include <hdf5.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "checkpoint/manifest.h"
#include "checkpoint/placement.h"
#include "checkpoint/shard.h"
#include "checkpoint/view.h"

#define TENSORS       4
#define COLUMNS       96
#define RANK_ELEMENTS 1008 /* of a tensor: ten and a half rows */
#define GROUP_MAX     64
#define PIECES_MAX    (TENSORS * TRM_KIND_COUNT * TRM_RECT_SPLIT_MAX)
#define MAX_RUNS      100

enum measure { WRITE, OPEN, READ, ROW, MEASURES };

struct checkpoint {
    char directory[TRM_PATH_BYTES];
    struct trm_catalog catalog;
    struct trm_ckpt_tensor tensors[TENSORS];
    struct trm_slice *slices;
    int64_t slice_count;
};

/* A benchmark has nobody to report to. */
static void need(bool done, const char *what, const struct trm_error *err)
{
    if (done)
        return;
    fprintf(stderr, "checkpoint_view: %s: %s\n", what, err != NULL ? err->text : "failed");
    exit(1);
}

static int pieces_of(const struct checkpoint *checkpoint, int rank, const float *data,
                     struct trm_ckpt_piece *pieces)
{
    int count = 0;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        for (int t = 0; t < TENSORS; t++) {
            struct trm_rect split[TRM_RECT_SPLIT_MAX];
            int parts = trm_rect_split(trm_ckpt_tensor_rect(&checkpoint->tensors[t]),
                                       (int64_t)rank * RANK_ELEMENTS,
                                       (int64_t)(rank + 1) * RANK_ELEMENTS, split);
            for (int i = 0; i < parts; i++)
                pieces[count++] = (struct trm_ckpt_piece){t, (enum trm_ckpt_kind)kind, split[i],
                                                          (void *)(uintptr_t)data};
        }
    return count;
}

/* What the ranks of a shard hold, placed as they would place it. */
static void cut_shard(struct checkpoint *checkpoint, int shard, int group, const float *data,
                      struct trm_slice_set *set)
{
    static int64_t origins[GROUP_MAX * PIECES_MAX];
    struct trm_ckpt_piece pieces[PIECES_MAX];
    struct trm_error err = {0};
    int64_t counts[GROUP_MAX];
    *set =
        (struct trm_slice_set){.slices = malloc((size_t)group * PIECES_MAX * sizeof(*set->slices)),
                               .data = malloc((size_t)group * PIECES_MAX * sizeof(*set->data))};
    need(set->slices != NULL && set->data != NULL, "memory", NULL);
    for (int i = 0; i < group; i++) {
        struct trm_slice_set mine;
        int count = pieces_of(checkpoint, shard * group + i, data, pieces);
        need(trm_slice_set_cut(checkpoint->tensors, TENSORS, pieces, count, &mine, &err) == TRM_OK,
             "slices", &err);
        for (int64_t k = 0; k < mine.count; k++) {
            set->slices[set->count] = mine.slices[k];
            set->data[set->count++] = data; /* all ranges are alike */
        }
        counts[i] = mine.count;
        trm_slice_set_destroy(&mine);
    }
    need(trm_placement_make(set->slices, counts, group, origins, set->elements, &err) == TRM_OK,
         "places", &err);
}

static void write_shard(struct checkpoint *checkpoint, int shard, int group, const float *data)
{
    struct trm_ckpt_file *file = &checkpoint->catalog.files[shard];
    struct trm_slice_set set;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    struct trm_shard_identity identity = trm_shard_identity_of(&checkpoint->catalog.state, 1, shard,
                                                               checkpoint->catalog.shard_count);
    cut_shard(checkpoint, shard, group, data, &set);
    snprintf(file->name, sizeof(file->name), "shard-%05d.h5", shard);
    need(trm_file_path(path, &err, "%s/%s", checkpoint->directory, file->name) == TRM_OK, "path",
         &err);
    need(trm_shard_create(path, &identity, TRM_F32, &set, file, &err) == TRM_OK, "create", &err);
    need(trm_shard_write(path, &identity, TRM_F32, &set, file, &err) == TRM_OK, "write", &err);
    memcpy(checkpoint->slices + checkpoint->slice_count, set.slices,
           (size_t)set.count * sizeof(*set.slices));
    checkpoint->slice_count += set.count;
    trm_slice_set_destroy(&set);
}

static void make(struct checkpoint *checkpoint, const char *parent, int ranks, int group)
{
    int shards = ranks / group;
    struct trm_error err = {0};
    static float data[RANK_ELEMENTS];
    static char words[] = "";
    struct trm_catalog *catalog = &checkpoint->catalog;
    for (int i = 0; i < RANK_ELEMENTS; i++)
        data[i] = 1.0f + (float)i;
    need(trm_file_path(checkpoint->directory, &err, "%s/view-%d", parent, ranks) == TRM_OK, "path",
         &err);
    need(trm_file_make_directories(checkpoint->directory, &err) == TRM_OK, "directory", &err);
    for (int t = 0; t < TENSORS; t++) {
        checkpoint->tensors[t] =
            (struct trm_ckpt_tensor){.type = TRM_F32, .dims = 2, .columns = COLUMNS};
        checkpoint->tensors[t].rows = ((int64_t)ranks * RANK_ELEMENTS + COLUMNS - 1) / COLUMNS;
        snprintf(checkpoint->tensors[t].name, TRM_CKPT_NAME_BYTES, "layers.%d.weight", t);
    }
    *catalog = (struct trm_catalog){.tensor_count = TENSORS,
                                    .tensors = checkpoint->tensors,
                                    .shard_count = shards,
                                    .file_count = shards,
                                    .kinds = {true, true, true},
                                    .nonce = 1,
                                    .written_at = "2026-01-01T00:00:00Z"};
    catalog->state = (struct trm_ckpt_state){.run_id = "bench",
                                             .step = 1,
                                             .config_yaml = words,
                                             .fingerprint = words,
                                             .data_parallel_size = ranks,
                                             .tensor_model_parallel_size = 1};
    catalog->files = calloc((size_t)shards, sizeof(*catalog->files));
    checkpoint->slice_count = 0;
    checkpoint->slices = calloc((size_t)ranks * PIECES_MAX, sizeof(*checkpoint->slices));
    need(catalog->files != NULL && checkpoint->slices != NULL, "memory", NULL);
    for (int shard = 0; shard < shards; shard++)
        write_shard(checkpoint, shard, group, data);
}

/* Opens a tensor and reads `rows` rows from its middle; true when no shard was passed over. */
static bool read_rows(const char *path, int64_t rows, double *open_ms, double *read_ms)
{
    hsize_t sides[2];
    int64_t begin = trm_clock_now_ns();
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "parameter/layers.1.weight", H5P_DEFAULT);
    hid_t space = H5Dget_space(dataset);
    need(space >= 0, path, NULL);
    *open_ms = (double)(trm_clock_now_ns() - begin) * 1e-6;
    H5Sget_simple_extent_dims(space, sides, NULL);
    const hsize_t count[2] = {rows > 0 ? (hsize_t)rows : sides[0], sides[1]};
    const hsize_t start[2] = {(sides[0] - count[0]) / 2, 0};
    hid_t memory = H5Screate_simple(2, count, NULL);
    float *data = malloc(count[0] * count[1] * sizeof(*data));
    begin = trm_clock_now_ns();
    need(data != NULL &&
             H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
             H5Dread(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, data) >= 0,
         "read", NULL);
    *read_ms = (double)(trm_clock_now_ns() - begin) * 1e-6;
    int64_t missing = 0;
    for (hsize_t i = 0; i < count[0] * count[1]; i++)
        missing += !(data[i] > 0);
    free(data);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    return missing < COLUMNS; /* the last row may be cut short */
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void print_row(const struct checkpoint *checkpoint, double (*ms)[MAX_RUNS], int runs,
                      bool whole)
{
    struct trm_error err = {0};
    struct stat info = {0};
    char path[TRM_PATH_BYTES];
    char *manifest = NULL;
    size_t bytes = 0;
    struct trm_catalog catalog = checkpoint->catalog;
    need(trm_manifest_format(&catalog, &manifest, &bytes, &err) == TRM_OK, "manifest", &err);
    free(manifest);
    snprintf(path, sizeof(path), "%.900s/" TRM_CKPT_VIEW, checkpoint->directory);
    stat(path, &info);
    printf("%7d %7d %9lld %9lld %9zu", catalog.state.data_parallel_size, catalog.file_count,
           (long long)checkpoint->slice_count, (long long)info.st_size, bytes);
    for (int m = 0; m < MEASURES; m++) {
        qsort(ms[m], (size_t)runs, sizeof(double), ascending);
        printf("  %7.2f (%.2f-%.2f)", ms[m][runs / 2], ms[m][0], ms[m][runs - 1]);
    }
    printf("  %s\n", whole ? "whole" : "PARTS MISSING");
}

static void measure(const char *parent, int ranks, int group, int runs)
{
    static struct checkpoint checkpoint;
    static double ms[MEASURES][MAX_RUNS];
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    bool whole = true;
    double ignored;
    need(ranks >= 1 && group >= 1 && group <= GROUP_MAX && ranks % group == 0, "ranks/group", NULL);
    make(&checkpoint, parent, ranks, group);
    snprintf(path, sizeof(path), "%.900s/" TRM_CKPT_VIEW, checkpoint.directory);
    for (int run = 0; run < runs; run++) {
        int64_t begin = trm_clock_now_ns();
        need(trm_view_write(&checkpoint.catalog, checkpoint.slices, checkpoint.directory, &err) ==
                 TRM_OK,
             "view", &err);
        ms[WRITE][run] = (double)(trm_clock_now_ns() - begin) * 1e-6;
        whole = read_rows(path, 0, &ms[OPEN][run], &ms[READ][run]) && whole;
        whole = read_rows(path, 1, &ignored, &ms[ROW][run]) && whole;
    }
    print_row(&checkpoint, ms, runs, whole);
    free(checkpoint.slices);
    free(checkpoint.catalog.files);
    trm_file_remove_tree(checkpoint.directory, &err);
}

int main(int argc, char **argv)
{
    static const int usual[][2] = {{1, 1},  {64, 1},  {512, 1},  {2048, 1},
                                   {64, 8}, {512, 8}, {2048, 8}, {2048, 16}};
    struct rlimit limit;
    if (argc < 2) {
        fprintf(stderr, "usage: checkpoint_view DIRECTORY [RUNS [RANKS[/GROUP] ...]]\n");
        return 64;
    }
    int runs = argc > 2 ? atoi(argv[2]) : 5;
    need(runs >= 1 && runs <= MAX_RUNS, "1 to 100 runs", NULL);
    /* A tensor keeps open all the shards that it was read from. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    printf("median (least-most) of %d, ms; bytes\n", runs);
    printf(
        "  ranks  shards    slices view_size  manifest  write, open, read a tensor, read a row\n");
    for (int i = 3; i < argc; i++) {
        const char *group = strchr(argv[i], '/');
        measure(argv[1], atoi(argv[i]), group != NULL ? atoi(group + 1) : 1, runs);
    }
    for (size_t i = 0; argc <= 3 && i < sizeof(usual) / sizeof(*usual); i++)
        measure(argv[1], usual[i][0], usual[i][1], runs);
    return 0;
}
