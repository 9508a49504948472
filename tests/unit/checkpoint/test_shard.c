/* Slices and shards: cut, written, read back; and by another program. */
#include "fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "checkpoint/shard.h"
#include "checkpoint/skeleton.h"
#include "checkpoint/verify.h"

static void long_pieces_are_cut_into_contiguous_slices_of_at_most_8_mib(void **state)
{
    (void)state;
    const struct trm_ckpt_tensor tensors[] = {
        {"tall", TRM_F32, 2, 1 << 15, 100}, /* 83 rows too many for a slice */
        {"wide", TRM_F64, 2, 2, 2500000},   /* a row of 20 MB */
        {"long", TRM_BF16, 1, 1 << 23, 1},
        {"empty", TRM_F32, 2, 5, 5},
    };
    const struct trm_ckpt_piece pieces[] = {
        {0, TRM_KIND_EXP_AVG, {0, 0, 1 << 15, 100}, (void *)0x1000},
        {1, TRM_KIND_PARAMETER, {0, 0, 2, 2500000}, (void *)0x2000},
        {2, TRM_KIND_PARAMETER, {5, 0, (1 << 23) - 5, 1}, (void *)0x3000},
        {3, TRM_KIND_PARAMETER, {5, 5, 0, 0}, (void *)0x4000},
    };
    struct trm_error err = {0};
    struct trm_slice_set set;
    assert_ok(trm_slice_set_cut(tensors, 4, pieces, 4, &set, &err), err);
    assert_int_equal(set.count, 2 + 6 + 2);
    assert_int_equal(set.elements[TRM_KIND_PARAMETER], 5000000 + (1 << 23) - 5);
    assert_int_equal(set.elements[TRM_KIND_EXP_AVG], 100 << 15);
    int64_t next[TRM_KIND_COUNT] = {0};
    struct trm_cover covers[4] = {{0}};
    for (int64_t i = 0; i < set.count; i++) {
        const struct trm_slice *slice = &set.slices[i];
        const struct trm_ckpt_piece *piece = &pieces[slice->tensor];
        enum trm_type type = tensors[slice->tensor].type;
        int64_t bytes = trm_slice_bytes(slice, type);
        assert_in_range(bytes, 1, TRM_CKPT_SLICE_BYTES);
        assert_int_equal(slice->offset, next[slice->kind]);
        next[slice->kind] += trm_rect_elements(slice->rect);
        /* Contiguous in the piece: whole rows, or part of one; and it lies where data[] says. */
        assert_true(slice->rect.columns == piece->rect.columns || slice->rect.rows == 1);
        int64_t flat = (slice->rect.row - piece->rect.row) * piece->rect.columns +
                       slice->rect.column - piece->rect.column;
        assert_ptr_equal(set.data[i],
                         (const char *)piece->data + flat * (int64_t)trm_type_bytes(type));
        trm_cover_add(&covers[slice->tensor], tensors[slice->tensor].columns, slice->rect);
    }
    for (int t = 0; t < 3; t++) {
        struct trm_cover whole = {0};
        trm_cover_add(&whole, tensors[t].columns, pieces[t].rect);
        assert_true(trm_cover_equal(covers[t], whole));
    }
    trm_slice_set_destroy(&set);
}

static void a_piece_outside_its_tensor_is_refused(void **state)
{
    (void)state;
    struct trm_error err;
    struct trm_slice_set set;
    struct trm_ckpt_piece piece = {0, TRM_KIND_PARAMETER, {300, 0, 2, 17}, NULL};
    assert_int_equal(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, &piece, 1, &set, &err),
                     TRM_ERR_INTERNAL);
    assert_string_equal(err.text, "piece 0, 2 x 17 at (300, 0), lies outside tensor \"tok_embed\" "
                                  "of 301 x 17");
    piece = (struct trm_ckpt_piece){FIXTURE_TENSORS, TRM_KIND_PARAMETER, {0, 0, 1, 1}, NULL};
    assert_int_equal(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, &piece, 1, &set, &err),
                     TRM_ERR_INTERNAL);
}

/* One shard with one tensor of `type`, of a size that no alignment divides. */
static void round_trip(const char *directory, enum trm_type type)
{
    const int64_t rows = 77, columns = 1001;
    struct trm_error err = {0};
    struct trm_ckpt_tensor tensor = {"x", type, 2, rows, columns};
    struct trm_rect whole = {0, 0, rows, columns};
    size_t bytes = (size_t)(rows * columns) * trm_type_bytes(type);
    unsigned char *memory = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        memory[i] = (unsigned char)(i * 131 >> 3);
    const struct trm_ckpt_piece pieces[] = {{0, TRM_KIND_PARAMETER, whole, memory},
                                            {0, TRM_KIND_EXP_AVG_SQ, whole, memory}};
    struct trm_slice_set set;
    assert_ok(trm_slice_set_cut(&tensor, 1, pieces, 2, &set, &err), err);
    struct trm_ckpt_state training = fixture_state(20);
    struct trm_shard_identity identity = trm_shard_identity_of(&training, 0xabc, 0, 1);
    struct trm_ckpt_file file = {.name = "shard-00000.h5"};
    char path[TRM_PATH_BYTES];
    assert_ok(trm_file_path(path, &err, "%s/%s.h5", directory, trm_type_name(type)), err);
    assert_ok(trm_shard_create(path, &identity, type, &set, &file, &err), err);
    assert_int_equal(file.data[TRM_KIND_PARAMETER].offset % (1 << 20), 0);
    assert_int_equal(file.data[TRM_KIND_PARAMETER].bytes, bytes);
    assert_int_equal(file.data[TRM_KIND_EXP_AVG].bytes, 0);
    assert_ok(trm_shard_write(path, &identity, type, &set, &file, &err), err);
    assert_int_equal(set.slices[0].checksum, trm_hash64(memory, bytes));

    struct trm_catalog catalog = {.state = training,
                                  .tensor_count = 1,
                                  .tensors = &tensor,
                                  .file_count = 1,
                                  .shard_count = 1,
                                  .files = &file,
                                  .kinds = {true, false, true},
                                  .nonce = 0xabc};
    struct trm_slice slices[2];
    assert_ok(trm_shard_read_table(path, &catalog, &file, slices, &err), err);
    assert_memory_equal(slices, set.slices, sizeof(slices));
    assert_ok(trm_shard_inspect(path, &catalog, &file, &err), err);
    char *back = NULL;
    size_t back_bytes = 0;
    assert_ok(trm_file_read_all(path, 1 << 24, &back, &back_bytes, &err), err);
    assert_int_equal(back_bytes, file.bytes);
    assert_memory_equal(back + file.data[TRM_KIND_PARAMETER].offset, memory, bytes);
    assert_memory_equal(back + file.data[TRM_KIND_EXP_AVG_SQ].offset, memory, bytes);
    free(back);
    free(memory);
    trm_slice_set_destroy(&set);
}

static void a_shard_comes_back_in_every_type(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES];
    fixture_directory(directory);
    for (int type = 0; type < TRM_TYPE_COUNT; type++)
        round_trip(directory, (enum trm_type)type);
    fixture_directory_free(directory);
}

static void creation_does_not_overwrite_a_file_and_says_why(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    float memory[4] = {0};
    struct trm_ckpt_tensor tensor = {"x", TRM_F32, 1, 4, 1};
    struct trm_ckpt_piece piece = {0, TRM_KIND_PARAMETER, {0, 0, 4, 1}, memory};
    struct trm_slice_set set;
    assert_ok(trm_slice_set_cut(&tensor, 1, &piece, 1, &set, &err), err);
    struct trm_ckpt_state training = fixture_state(1);
    struct trm_shard_identity identity = trm_shard_identity_of(&training, 1, 0, 1);
    struct trm_ckpt_file file = {.name = "shard-00000.h5"};
    assert_ok(trm_file_path(path, &err, "%s/a.h5", directory), err);
    assert_ok(trm_file_write_all(path, "precious", 8, false, &err), err);
    assert_int_equal(trm_shard_create(path, &identity, TRM_F32, &set, &file, &err), TRM_ERR_IO);
    assert_non_null(strstr(err.text, "could not create \""));
    assert_non_null(strstr(err.text, "exist"));
    trm_slice_set_destroy(&set);
    fixture_directory_free(directory);
}

/* Tensors as h5py sees them are those that were written; by Debian's h5py, where it is there. */
static void h5py_reads_what_the_format_page_promises(void **state)
{
    (void)state;
    if (system("/usr/bin/python3 -c 'import h5py' 2>/dev/null") != 0) {
        print_message("skipped: /usr/bin/python3 has no h5py\n");
        skip();
    }
    static const char script[] =
        "import h5py, json, numpy, sys\n"
        "manifest = json.load(open(sys.argv[1] + '/manifest.json'))\n"
        "names = [t['name'] for t in manifest['tensors']]\n"
        "kinds = ['parameter', 'exp_avg', 'exp_avg_sq']\n"
        "seen = 0\n"
        "for entry in manifest['files']:\n"
        "    with h5py.File(sys.argv[1] + '/' + entry['name'], 'r') as f:\n"
        "        assert f.attrs['step'] == 20 and f.attrs['format_version'] == 1\n"
        "        assert f.attrs['run_id'].decode() == 'run-a1b2', f.attrs['run_id']\n"
        "        assert f['identity'][0].startswith(b'trireme shard')\n"
        "        assert len(f['slices']) == len(f['checksums']) == entry['slice_count']\n"
        "        for t, k, r, c, h, w, o in f['slices'][:]:\n"
        "            got = f[kinds[k]][o:o + h * w].reshape(h, w)\n"
        "            width = (manifest['tensors'][t]['shape'] + [1])[1]\n"
        "            flat = (r + numpy.arange(h))[:, None] * width + c + numpy.arange(w)[None, :]\n"
        "            want = (flat + 0.25 * k + 100000.0 * t - 2.5).astype('float32')\n"
        "            assert (got == want).all(), (names[t], k)\n"
        "            seen += h * w\n"
        "assert seen == 3 * (301 * 17 + 24 * 40 + 29 + 15000 + 1), seen\n";
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], command[3 * TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    struct trm_ckpt_state training = fixture_state(20);
    fixture_save(directory, &training, 2, 3);
    assert_ok(trm_file_path(path, &err, "%s/read.py", directory), err);
    assert_ok(trm_file_write_all(path, script, sizeof(script) - 1, false, &err), err);
    snprintf(command, sizeof(command), "/usr/bin/python3 %s %s/step-00000020", path, directory);
    assert_int_equal(system(command), 0);
    fixture_directory_free(directory);
}

/* HDF5 can't close a file that has no room, and would stumble over it when the process ends. */
static void a_process_ends_well_after_a_shard_had_no_room(void **state)
{
    (void)state;
    int ended = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {4096, 4096};
        const struct trm_shard_identity identity = {.run_id = "run", .shard_count = 1};
        struct trm_slice slice = {.rect = {0, 0, 1000, 1000}};
        struct trm_slice_set set = {.count = 1, .slices = &slice, .elements = {1000000}};
        struct trm_ckpt_file file = {.name = "shard-00000.h5"};
        struct trm_skeleton skeleton;
        (void)signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
            trm_skeleton_make(&identity, TRM_F32, &set, &file, &skeleton, NULL) != TRM_ERR_IO)
            _exit(2);
        exit(0);
    }
    assert_true(child > 0 && waitpid(child, &ended, 0) == child);
    assert_int_equal(ended, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: in a process that has not used HDF5 yet. */
        cmocka_unit_test(a_process_ends_well_after_a_shard_had_no_room),
        cmocka_unit_test(long_pieces_are_cut_into_contiguous_slices_of_at_most_8_mib),
        cmocka_unit_test(a_piece_outside_its_tensor_is_refused),
        cmocka_unit_test(a_shard_comes_back_in_every_type),
        cmocka_unit_test(creation_does_not_overwrite_a_file_and_says_why),
        cmocka_unit_test(h5py_reads_what_the_format_page_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
