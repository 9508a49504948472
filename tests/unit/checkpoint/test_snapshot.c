/* A copy of a shard, laid out as the file will be, and the file that comes of it. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/shard.h"
#include "checkpoint/skeleton.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/stream.h"

/* One rank's shard of the fixture's model, live and as a snapshot. */
struct shard {
    struct fixture_pieces pieces;
    struct trm_slice_set live;
    void *memory;
    struct trm_snapshot snapshot;
};

static void open_shard(struct shard *shard)
{
    struct trm_error err = {0};
    shard->pieces = fixture_pieces_of(1, 1, 0, 7);
    assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, shard->pieces.pieces,
                                shard->pieces.count, &shard->live, &err),
              err);
    shard->memory = malloc(trm_snapshot_bytes(shard->pieces.elements, TRM_KIND_COUNT, TRM_F32));
    assert_ok(trm_snapshot_create(&shard->live, TRM_F32, shard->memory, &shard->snapshot, &err),
              err);
}

static void close_shard(struct shard *shard)
{
    trm_snapshot_destroy(&shard->snapshot);
    trm_slice_set_destroy(&shard->live);
    fixture_pieces_free(&shard->pieces);
    free(shard->memory);
}

static void a_snapshot_is_the_state_at_the_time_whatever_happens_to_it_later(void **state)
{
    (void)state;
    struct shard shard;
    open_shard(&shard);
    for (int threads = 1; threads <= 5; threads += 2) {
        struct fixture_pieces expected = fixture_pieces_of(1, 1, 0, 7);
        memset(shard.memory, 0xee,
               trm_snapshot_bytes(shard.pieces.elements, TRM_KIND_COUNT, TRM_F32));
        memcpy(shard.pieces.memory, expected.memory, (size_t)expected.elements * sizeof(float));
        trm_snapshot_take(&shard.snapshot, threads);
        memset(shard.pieces.memory, 0, (size_t)shard.pieces.elements * sizeof(float));
        const char *base = (const char *)shard.pieces.memory;
        for (int64_t i = 0; i < shard.live.count; i++) {
            size_t bytes = (size_t)trm_slice_bytes(&shard.live.slices[i], TRM_F32);
            size_t place = (size_t)((const char *)shard.live.data[i] - base);
            assert_memory_equal(shard.snapshot.set.data[i], (char *)expected.memory + place, bytes);
        }
        fixture_pieces_free(&expected);
    }
    close_shard(&shard);
}

static void each_kind_is_one_aligned_block_without_gaps(void **state)
{
    (void)state;
    struct shard shard;
    open_shard(&shard);
    const struct trm_slice_set *set = &shard.snapshot.set;
    for (int64_t i = 0; i < set->count; i++) {
        const char *block = (const char *)set->data[i] - set->slices[i].offset * 4;
        assert_int_equal((uintptr_t)block % 4096, 0);
        assert_true((const char *)set->data[i] >= (const char *)shard.memory);
        assert_true((const char *)set->data[i] + trm_slice_bytes(&set->slices[i], TRM_F32) <=
                    (const char *)shard.memory +
                        trm_snapshot_bytes(shard.pieces.elements, TRM_KIND_COUNT, TRM_F32));
    }
    close_shard(&shard);
}

/* Bytes of a file that a skeleton, or HDF5 itself, has begun. */
static char *write_shard(const char *directory, const char *name, bool from_skeleton,
                         struct trm_slice_set *set, struct trm_ckpt_file *file)
{
    char path[TRM_PATH_BYTES], *data = NULL;
    size_t bytes = 0;
    struct trm_error err = {0};
    struct trm_ckpt_state training = fixture_state(7);
    struct trm_shard_identity identity = trm_shard_identity_of(&training, 99, 0, 1);
    assert_ok(trm_file_path(path, &err, "%s/%s", directory, name), err);
    if (from_skeleton) {
        struct trm_skeleton skeleton = {-1};
        assert_ok(trm_skeleton_make(&identity, TRM_F32, set, file, &skeleton, &err), err);
        assert_ok(trm_skeleton_write(&skeleton, path, file->bytes, &err), err);
        assert_int_equal(trm_skeleton_write(&skeleton, path, file->bytes, &err), TRM_ERR_IO);
        trm_skeleton_destroy(&skeleton);
    } else {
        assert_ok(trm_shard_create(path, &identity, TRM_F32, set, file, &err), err);
    }
    assert_ok(trm_shard_write(path, &identity, TRM_F32, set, file, &err), err);
    assert_ok(trm_file_read_all(path, (size_t)1 << 30, &data, &bytes, &err), err);
    assert_int_equal(bytes, file->bytes);
    return data;
}

static void a_shard_from_memory_is_byte_for_byte_the_one_hdf5_makes(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES];
    struct shard shard;
    struct trm_ckpt_file from_live = {.name = "a"}, from_snapshot = {.name = "b"};
    fixture_directory(directory);
    open_shard(&shard);
    trm_snapshot_take(&shard.snapshot, 2);
    char *a = write_shard(directory, "a", false, &shard.live, &from_live);
    char *b = write_shard(directory, "b", true, &shard.snapshot.set, &from_snapshot);
    assert_int_equal(from_live.bytes, from_snapshot.bytes);
    assert_memory_equal(a, b, (size_t)from_live.bytes);
    assert_int_equal(from_live.table_digest, from_snapshot.table_digest);
    free(a);
    free(b);
    close_shard(&shard);
    fixture_directory_free(directory);
}

/* Ranges of all sorts of sizes and places, against a copy of the file in memory. */
static void a_stream_writes_and_reads_back_ranges_of_any_alignment(void **state)
{
    (void)state;
    enum { FILE_BYTES = 40 << 20 };
    static const struct {
        size_t from, bytes;
        int64_t offset;
    } ranges[] = {
        {0, 1, 3},
        {1, 4095, 4},
        {4096, 20 << 20, 1 << 20},
        {4096 + (20 << 20), 12345, (21 << 20)},
        {100, 3 << 20, 22 << 20},
        {7, 9 << 20, (25 << 20) + 5},
        {8192, 5000, 36 << 20},
    };
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], *found = NULL;
    size_t bytes = 0;
    struct trm_error err = {0};
    struct trm_stream stream;
    char *memory = aligned_alloc(4096, FILE_BYTES), *expected = calloc(1, FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        memory[i] = (char)(i * 2654435761u >> 13);
    fixture_directory(directory);
    assert_ok(trm_file_path(path, &err, "%s/stream", directory), err);
    assert_ok(trm_file_write_all(path, expected, FILE_BYTES, false, &err), err);
    assert_ok(trm_stream_open(path, &stream, &err), err);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        memcpy(expected + ranges[i].offset, memory + ranges[i].from, ranges[i].bytes);
        assert_ok(trm_stream_put(&stream, memory + ranges[i].from, ranges[i].bytes,
                                 ranges[i].offset, &err),
                  err);
    }
    assert_ok(trm_stream_flush(&stream, &err), err);
    assert_ok(trm_file_sync(stream.fd, path, &err), err);
    assert_ok(trm_stream_close(&stream, &err), err);
    assert_ok(trm_file_read_all(path, FILE_BYTES, &found, &bytes, &err), err);
    assert_int_equal(bytes, FILE_BYTES);
    assert_memory_equal(found, expected, FILE_BYTES);
    assert_ok(trm_stream_open_read(path, true, &stream, &err), err);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        const void *data = NULL;
        size_t part =
            ranges[i].bytes < TRM_STREAM_BUFFER_BYTES ? ranges[i].bytes : TRM_STREAM_BUFFER_BYTES;
        assert_ok(trm_stream_read(&stream, part, ranges[i].offset, &data, &err), err);
        assert_memory_equal(data, expected + ranges[i].offset, part);
    }
    const void *data = NULL;
    assert_int_equal(trm_stream_read(&stream, 100, FILE_BYTES - 50, &data, &err), TRM_ERR_CORRUPT);
    assert_ok(trm_stream_close(&stream, &err), err);
    free(found);
    free(memory);
    free(expected);
    fixture_directory_free(directory);
}

enum { WRITERS = 4, RANGES = 60 };

/* Range `i` of all: of an odd size, some over what goes past the page cache; dealt out in turn. */
static size_t range_bytes(int i)
{
    return i % 3 == 0 ? 100u + (unsigned)i * 37u : (300u << 10) + (unsigned)i * 1237u;
}

static unsigned char byte_of(int64_t offset)
{
    return (unsigned char)((uint64_t)offset * 2654435761u >> 11);
}

/* In a child: every fourth range; from memory that lies like the file, or not. */
static int write_ranges(const char *path, int writer)
{
    struct trm_stream stream;
    struct trm_error err = {0};
    char *memory[RANGES] = {NULL};
    int64_t offset = 0;
    enum trm_status status = trm_stream_open(path, &stream, &err);
    for (int i = 0; status == TRM_OK && i < RANGES; offset += (int64_t)range_bytes(i++)) {
        if (i % WRITERS != writer)
            continue;
        char *data = memory[i] = aligned_alloc(4096, (range_bytes(i) + 2 * 4096) / 4096 * 4096);
        data += i % 2 == 0 ? offset % 4096 : 1;
        for (size_t k = 0; k < range_bytes(i); k++)
            data[k] = (char)byte_of(offset + (int64_t)k);
        status = trm_stream_put(&stream, data, range_bytes(i), offset, &err);
    }
    if (status == TRM_OK)
        status = trm_stream_flush(&stream, &err);
    if (status == TRM_OK)
        status = trm_file_sync(stream.fd, path, &err);
    if (status == TRM_OK)
        status = trm_stream_close(&stream, &err);
    for (int i = 0; i < RANGES; i++)
        free(memory[i]);
    return status != TRM_OK;
}

static void processes_write_neighbouring_ranges_of_one_file(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    struct trm_stream stream;
    int64_t total = 0;
    for (int i = 0; i < RANGES; i++)
        total += (int64_t)range_bytes(i);
    fixture_directory(directory);
    assert_ok(trm_file_path(path, &err, "%s/shared", directory), err);
    for (int round = 0; round < 5; round++) {
        int failed = 0, status = 0;
        (void)unlink(path);
        assert_ok(trm_file_write_all(path, "", 0, false, &err), err);
        assert_int_equal(truncate(path, total), 0);
        fflush(NULL);
        for (int writer = 0; writer < WRITERS; writer++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0)
                _exit(write_ranges(path, writer));
        }
        for (int writer = 0; writer < WRITERS; writer++)
            failed += wait(&status) < 0 || status != 0;
        assert_int_equal(failed, 0);
        /* From the disk, and whatever the page cache had. */
        assert_ok(trm_stream_open_read(path, round % 2 == 0, &stream, &err), err);
        for (int64_t at = 0; at < total; at += 1 << 20) {
            const void *data = NULL;
            size_t part = total - at < 1 << 20 ? (size_t)(total - at) : (size_t)1 << 20;
            assert_ok(trm_stream_read(&stream, part, at, &data, &err), err);
            for (size_t k = 0; k < part; k++)
                if (((const unsigned char *)data)[k] != byte_of(at + (int64_t)k))
                    fail_msg("round %d: byte %lld is another", round, (long long)at + (long long)k);
        }
        assert_ok(trm_stream_close(&stream, &err), err);
    }
    fixture_directory_free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_is_the_state_at_the_time_whatever_happens_to_it_later),
        cmocka_unit_test(each_kind_is_one_aligned_block_without_gaps),
        cmocka_unit_test(a_shard_from_memory_is_byte_for_byte_the_one_hdf5_makes),
        cmocka_unit_test(a_stream_writes_and_reads_back_ranges_of_any_alignment),
        cmocka_unit_test(processes_write_neighbouring_ranges_of_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
