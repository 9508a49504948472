/* What a rank reads of a checkpoint that another layout wrote: no slice twice, none in vain. */
#include "fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "checkpoint/restore.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"

/* 24 MiB in a kind: three slices of 2,048 rows. */
enum { ROWS = 6144, COLUMNS = 1024 };

static const struct trm_ckpt_tensor tensor = {"weight", TRM_F32, 2, ROWS, COLUMNS};

/* A source in memory that counts how often each slice is read. */
struct counted {
    struct trm_source base;
    struct trm_slice_set set;
    int reads[64];
};

static enum trm_status counted_read(struct trm_source *source, int64_t number, void *data,
                                    size_t bytes, struct trm_error *err)
{
    (void)err;
    struct counted *counted = (struct counted *)source;
    counted->reads[number]++;
    memcpy(data, counted->set.data[number], bytes);
    return TRM_OK;
}

static void counted_idle(struct trm_source *source)
{
    (void)source;
}

static void counted_destroy(struct trm_source *source)
{
    trm_slice_set_destroy(&((struct counted *)source)->set);
}

static const struct trm_source_operations counted_operations = {counted_read, counted_idle,
                                                                counted_destroy, NULL};

/* The shard of rank `rank` of `size`, which share the tensor as flat ranges. */
static void make_source(struct counted *counted, const float *data, int rank, int size)
{
    struct trm_error err = {0};
    struct trm_rect split[TRM_RECT_SPLIT_MAX];
    struct trm_ckpt_piece pieces[TRM_RECT_SPLIT_MAX];
    int64_t elements = (int64_t)ROWS * COLUMNS;
    int64_t begin = elements * rank / size, end = elements * (rank + 1) / size;
    int count = trm_rect_split(trm_ckpt_tensor_rect(&tensor), begin, end, split);
    for (int i = 0; i < count; i++)
        pieces[i] = (struct trm_ckpt_piece){
            .rect = split[i],
            .data = (void *)(uintptr_t)(data + split[i].row * COLUMNS + split[i].column)};
    *counted = (struct counted){.base = {.operations = &counted_operations, .name = "memory"}};
    assert_ok(trm_slice_set_cut(&tensor, 1, pieces, count, &counted->set, &err), err);
    assert_in_range(counted->set.count, 1, 64);
    for (int64_t i = 0; i < counted->set.count; i++)
        counted->set.slices[i].checksum = trm_hash64(
            counted->set.data[i], (size_t)trm_slice_bytes(&counted->set.slices[i], TRM_F32));
    counted->base.slices = counted->set.slices;
    counted->base.slice_count = counted->set.count;
}

static const struct over_read {
    const char *what;
    int writers;
    struct trm_rect wanted;
    int64_t slices_over; /* at most so many slices beyond what is wanted */
} cases[] = {
    {"the whole", 1, {0, 0, ROWS, COLUMNS}, 0},
    {"the whole of seven writers", 7, {0, 0, ROWS, COLUMNS}, 0},
    {"a slice and no more", 1, {2048, 0, 2048, COLUMNS}, 0},
    {"an element", 1, {5000, 3, 1, 1}, 1},
    {"rows that begin and end within slices", 1, {1000, 0, 4000, COLUMNS}, 2},
    {"the same of seven writers", 7, {1000, 0, 4000, COLUMNS}, 2},
    {"half of the columns, of each row of slices", 1, {0, 512, ROWS, 512}, 3},
};

static void a_rank_reads_each_slice_that_it_needs_once_and_no_other(void **state)
{
    (void)state;
    static struct counted sources[7];
    struct trm_source *pointers[7];
    float *data = malloc(sizeof(*data) * ROWS * COLUMNS);
    float *into = malloc(sizeof(*into) * ROWS * COLUMNS);
    assert_non_null(data);
    assert_non_null(into);
    for (int64_t i = 0; i < (int64_t)ROWS * COLUMNS; i++)
        data[i] = (float)i;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        const struct over_read *test = &cases[c];
        struct trm_error err = {0};
        struct trm_restore *restore = NULL;
        struct trm_rect common;
        int64_t bytes_read = 0, expected = 0;
        for (int i = 0; i < test->writers; i++) {
            make_source(&sources[i], data, i, test->writers);
            pointers[i] = &sources[i].base;
        }
        /* The parameter, asked for twice: as a trainer does that keeps a copy. */
        const struct trm_ckpt_piece pieces[2] = {{.rect = test->wanted, .data = into},
                                                 {.rect = test->wanted, .data = into}};
        assert_ok(
            trm_restore_create(&tensor, 1, pointers, test->writers, NULL, NULL, &restore, &err),
            err);
        assert_ok(trm_restore_run(restore, pieces, 2, &bytes_read, &err), err);
        for (int i = 0; i < test->writers; i++)
            for (int64_t s = 0; s < sources[i].set.count; s++) {
                const struct trm_slice *slice = &sources[i].set.slices[s];
                bool needed = trm_rect_intersect(slice->rect, test->wanted, &common);
                assert_int_equal(sources[i].reads[s], needed);
                expected += needed ? trm_slice_bytes(slice, TRM_F32) : 0;
            }
        if (bytes_read != expected)
            fail_msg("%s: %lld bytes read, not %lld", test->what, (long long)bytes_read,
                     (long long)expected);
        int64_t over = bytes_read - trm_rect_elements(test->wanted) * 4;
        if (over < 0 || over > test->slices_over * TRM_CKPT_SLICE_BYTES)
            fail_msg("%s: %lld bytes more than wanted", test->what, (long long)over);
        assert_true(into[0] == data[test->wanted.row * COLUMNS + test->wanted.column]);
        trm_restore_destroy(restore);
        for (int i = 0; i < test->writers; i++)
            trm_source_destroy(pointers[i]);
    }
    free(data);
    free(into);
}

/* A checkpoint of that tensor on disk, in one shard, with nothing of it in the page cache. */
static void store(const char *directory, float *data, char shard[TRM_PATH_BYTES])
{
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    struct trm_ckpt_file file = {.name = "shard-00000.h5"};
    struct trm_catalog catalog = {.state = fixture_state(1),
                                  .tensor_count = 1,
                                  .tensors = (struct trm_ckpt_tensor *)&tensor,
                                  .shard_count = 1,
                                  .file_count = 1,
                                  .files = &file,
                                  .kinds = {true},
                                  .nonce = 5,
                                  .written_at = "2026-03-01T12:04:31Z"};
    struct trm_slice_set set;
    const struct trm_ckpt_piece piece = {.rect = {0, 0, ROWS, COLUMNS}, .data = data};
    assert_ok(trm_slice_set_cut(&tensor, 1, &piece, 1, &set, &err), err);
    assert_ok(trm_store_stage(directory, 1, catalog.state.attempt, &err), err);
    assert_ok(trm_store_stage_path(directory, 1, catalog.state.attempt, path, &err), err);
    assert_ok(trm_file_path(shard, &err, "%s/%s", path, file.name), err);
    struct trm_shard_identity identity = trm_shard_identity_of(&catalog.state, 5, 0, 1);
    assert_ok(trm_shard_create(shard, &identity, TRM_F32, &set, &file, &err), err);
    assert_ok(trm_shard_write(shard, &identity, TRM_F32, &set, &file, &err), err);
    assert_ok(trm_store_commit(directory, &catalog, &err), err);
    assert_ok(trm_store_step_path(directory, 1, path, &err), err);
    assert_ok(trm_file_path(shard, &err, "%s/%s", path, file.name), err);
    trm_slice_set_destroy(&set);
}

static void forget(const char *shard)
{
    int fd = open(shard, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

/* The part of a file that lies in the page cache. */
static double cached(const char *shard)
{
    struct stat info;
    int fd = open(shard, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = ((size_t)info.st_size + page - 1) / page, there = 0;
    unsigned char *resident = malloc(pages);
    void *mapped = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(mapped != MAP_FAILED && mincore(mapped, (size_t)info.st_size, resident) == 0);
    for (size_t i = 0; i < pages; i++)
        there += resident[i] & 1;
    munmap(mapped, (size_t)info.st_size);
    free(resident);
    close(fd);
    return (double)there / (double)pages;
}

static void read_part(const char *directory, struct trm_rect wanted, float *into)
{
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    struct trm_source **sources = NULL;
    struct trm_restore *restore = NULL;
    const struct trm_ckpt_piece piece = {.rect = wanted, .data = into};
    assert_ok(trm_stored_open_newest(directory, 1, NULL, NULL, &stored, &err), err);
    assert_ok(trm_sources_of_stored(stored, &sources, &err), err);
    assert_ok(
        trm_restore_create(stored->catalog.tensors, 1, sources, 1, NULL, NULL, &restore, &err),
        err);
    assert_ok(trm_restore_run(restore, &piece, 1, NULL, &err), err);
    trm_restore_destroy(restore);
    trm_sources_destroy(sources, 1);
    trm_stored_close(stored);
}

static void what_ranks_share_is_left_in_the_page_cache_and_what_is_one_ranks_is_not(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], shard[TRM_PATH_BYTES];
    float *data = calloc((size_t)ROWS * COLUMNS, sizeof(*data));
    fixture_directory(directory);
    store(directory, data, shard);
    forget(shard);
    bool can_forget = cached(shard) < 0.1;
    int direct = open(shard, O_RDONLY | O_DIRECT);
    read_part(directory, (struct trm_rect){0, 0, ROWS, COLUMNS / 2}, data);
    double shared = cached(shard);
    forget(shard);
    read_part(directory, (struct trm_rect){0, 0, ROWS, COLUMNS}, data);
    double alone = cached(shard);
    if (direct >= 0)
        close(direct);
    free(data);
    fixture_directory_free(directory);
    if (!can_forget || direct < 0) {
        print_message("not to be seen on this file system\n");
        skip();
    }
    print_message("in the page cache: %.2f of what was read in halves, %.2f of what was whole\n",
                  shared, alone);
    assert_true(shared > 0.9);
    /* The first of three slices, and what the kernel reads ahead of it. */
    assert_true(alone < 0.6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_reads_each_slice_that_it_needs_once_and_no_other),
        cmocka_unit_test(what_ranks_share_is_left_in_the_page_cache_and_what_is_one_ranks_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
