#include <hdf5.h>

#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"
#include "checkpoint/stored.h"
#include "checkpoint/view.h"

#define STEP 12

/* Saves with a view, `group` ranks to a shard; `path` is the checkpoint. */
static void save_grouped(const char *directory, int tensor_size, int data_size, int group,
                         char path[TRM_PATH_BYTES])
{
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    struct trm_ckpt_state state = fixture_state(STEP);
    fixture_save_grouped(directory, &state, tensor_size, data_size, group);
    assert_ok(trm_store_step_path(directory, STEP, path, &err), err);
    assert_ok(trm_stored_open(path, &stored, &err), err);
    assert_ok(trm_view_write(&stored->catalog, stored->slices, path, &err), err);
    trm_stored_close(stored);
}

static void save_with_view(const char *directory, int tensor_size, int data_size,
                           char path[TRM_PATH_BYTES])
{
    save_grouped(directory, tensor_size, data_size, 1, path);
}

static hid_t open_view(const char *path)
{
    char view[TRM_PATH_BYTES];
    struct trm_error err = {0};
    assert_ok(trm_file_path(view, &err, "%s/" TRM_CKPT_VIEW, path), err);
    hid_t file = H5Fopen(view, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static hid_t open_tensor(hid_t file, enum trm_ckpt_kind kind, const char *name)
{
    char place[256];
    snprintf(place, sizeof(place), "/%s/%.95s", trm_ckpt_kind_name(kind), name);
    hid_t dataset = H5Dopen2(file, place, H5P_DEFAULT);
    assert_true(dataset >= 0);
    return dataset;
}

/* Elements of a tensor that are NaN; all others must be right. */
static int64_t check_tensor(hid_t file, int t, enum trm_ckpt_kind kind)
{
    const struct trm_ckpt_tensor *tensor = &fixture_tensors[t];
    hid_t dataset = open_tensor(file, kind, tensor->name);
    hid_t space = H5Dget_space(dataset);
    hsize_t sides[2] = {0, 1};
    assert_int_equal(H5Sget_simple_extent_ndims(space), tensor->dims);
    H5Sget_simple_extent_dims(space, sides, NULL);
    assert_int_equal(sides[0], tensor->rows);
    assert_int_equal(sides[1], tensor->columns);
    int64_t elements = tensor->rows * tensor->columns, missing = 0;
    float *data = calloc((size_t)elements, sizeof(*data));
    assert_true(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    for (int64_t i = 0; i < elements; i++) {
        float right = fixture_value(STEP, t, kind, i / tensor->columns, i % tensor->columns);
        if (isnan(data[i]))
            missing++;
        else if (memcmp(&data[i], &right, sizeof(right)) != 0)
            fail_msg("element %lld of \"%s\" is %g, not %g", (long long)i, tensor->name,
                     (double)data[i], (double)right);
    }
    free(data);
    H5Sclose(space);
    H5Dclose(dataset);
    return missing;
}

static int64_t check_view(const char *path)
{
    int64_t missing = 0;
    hid_t file = open_view(path);
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        for (int t = 0; t < FIXTURE_TENSORS; t++)
            missing += check_tensor(file, t, (enum trm_ckpt_kind)kind);
    H5Fclose(file);
    return missing;
}

static const struct layout {
    int tensor_size, data_size, group;
} layouts[] = {{1, 1, 1},  {2, 1, 1}, {1, 3, 1},  {2, 3, 1},  {3, 5, 1},
               {1, 40, 1}, {2, 1, 2}, {1, 3, 3},  {2, 3, 6},  {2, 3, 4},
               {3, 5, 15}, {3, 5, 6}, {1, 40, 8}, {1, 40, 7}, {1, 40, 40}};

#define LAYOUTS (sizeof(layouts) / sizeof(*layouts))

static void view_shows_every_tensor_whole_in_any_layout(void **state)
{
    (void)state;
    for (size_t i = 0; i < LAYOUTS; i++) {
        char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
        fixture_directory(directory);
        save_grouped(directory, layouts[i].tensor_size, layouts[i].data_size, layouts[i].group,
                     path);
        assert_int_equal(check_view(path), 0);
        fixture_directory_free(directory);
    }
}

/* A tensor is cut into bands of columns or of rows (fixture.c); bands of rows follow each other.
 * Where a part is less than a row, its band cannot be told. */
static int most_mappings(const struct layout *layout, int t)
{
    int ranks = layout->tensor_size * layout->data_size;
    int shards = (ranks + layout->group - 1) / layout->group;
    if (layout->tensor_size > 1 && t == 3)
        return ranks;
    bool has_columns = fixture_tensors[t].dims == 2 && t % 2 != 0;
    int bands = has_columns && layout->group > 1 ? layout->tensor_size : 1;
    return shards * bands < ranks ? shards * bands : ranks;
}

static void view_has_one_mapping_for_each_shard_and_band_of_a_tensor(void **state)
{
    (void)state;
    for (size_t i = 0; i < LAYOUTS; i++) {
        char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
        fixture_directory(directory);
        save_grouped(directory, layouts[i].tensor_size, layouts[i].data_size, layouts[i].group,
                     path);
        hid_t file = open_view(path);
        for (int t = 0; t < FIXTURE_TENSORS; t++) {
            size_t mappings = 0;
            hid_t dataset = open_tensor(file, TRM_KIND_EXP_AVG, fixture_tensors[t].name);
            hid_t plan = H5Dget_create_plist(dataset);
            assert_true(H5Pget_virtual_count(plan, &mappings) >= 0);
            assert_in_range(mappings, 1, most_mappings(&layouts[i], t));
            H5Pclose(plan);
            H5Dclose(dataset);
        }
        H5Fclose(file);
        fixture_directory_free(directory);
    }
}

static void view_moves_with_its_directory(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], moved[TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    save_with_view(directory, 2, 3, path);
    assert_ok(trm_file_path(moved, &err, "%s/elsewhere", directory), err);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(check_view(moved), 0);
    fixture_directory_free(directory);
}

static void view_reads_nan_where_a_shard_is_missing(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], shard[TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    save_with_view(directory, 2, 3, path);
    assert_ok(trm_file_path(shard, &err, "%s/shard-00003.h5", path), err);
    assert_int_equal(unlink(shard), 0);
    struct fixture_pieces lost = fixture_pieces_of(2, 3, 3, STEP);
    assert_true(lost.elements > 0);
    assert_int_equal(check_view(path), lost.elements);
    fixture_pieces_free(&lost);
    fixture_directory_free(directory);
}

static void view_says_step_run_and_names(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    char run_id[TRM_CKPT_RUN_ID_BYTES] = "", names[FIXTURE_TENSORS][TRM_CKPT_NAME_BYTES];
    int64_t step = 0;
    fixture_directory(directory);
    save_with_view(directory, 1, 2, path);
    hid_t file = open_view(path);
    hid_t attribute = H5Aopen(file, "step", H5P_DEFAULT);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &step) >= 0);
    assert_int_equal(step, STEP);
    H5Aclose(attribute);
    attribute = H5Aopen(file, "run_id", H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    assert_true(H5Aread(attribute, type, run_id) >= 0);
    assert_string_equal(run_id, "run-a1b2");
    H5Tclose(type);
    H5Aclose(attribute);
    attribute = H5Aopen(file, "names", H5P_DEFAULT);
    type = H5Aget_type(attribute);
    assert_int_equal(H5Aget_storage_size(attribute), sizeof(names));
    assert_true(H5Aread(attribute, type, names) >= 0);
    for (int t = 0; t < FIXTURE_TENSORS; t++)
        assert_string_equal(names[t], fixture_tensors[t].name);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
    fixture_directory_free(directory);
}

/* A catalog of one tensor, all of it in one shard that need not be there. */
struct single {
    struct trm_ckpt_tensor tensor;
    struct trm_ckpt_file file;
    struct trm_catalog catalog;
};

static void make_single(struct single *single, enum trm_type type, int64_t rows, int64_t columns)
{
    *single = (struct single){
        .tensor = {.name = "one", .type = type, .dims = 2, .rows = rows, .columns = columns},
        .file = {.name = "shard-00000.h5", .slice_count = 1}};
    single->file.data[TRM_KIND_PARAMETER].bytes = rows * columns * (int64_t)trm_type_bytes(type);
    single->catalog = (struct trm_catalog){.state = fixture_state(STEP),
                                           .tensor_count = 1,
                                           .tensors = &single->tensor,
                                           .shard_count = 1,
                                           .file_count = 1,
                                           .files = &single->file,
                                           .kinds = {true},
                                           .nonce = 7,
                                           .written_at = "2026-03-01T12:04:31Z"};
}

static void view_is_right_where_a_file_runs_otherwise_than_the_tensor(void **state)
{
    (void)state;
    /* A 4 x 6 matrix in pieces that follow each other in the file, but not in the matrix. */
    static const struct trm_rect orders[][4] = {
        {{2, 0, 2, 6}, {0, 0, 2, 6}},
        {{0, 3, 4, 3}, {0, 0, 4, 3}},
        {{0, 0, 4, 3}, {0, 3, 4, 3}},
        {{3, 0, 1, 6}, {0, 4, 3, 2}, {0, 0, 1, 4}, {1, 0, 2, 4}},
        {{0, 3, 1, 3}, {0, 0, 1, 3}, {1, 0, 3, 6}},
    };
    for (size_t c = 0; c < sizeof(orders) / sizeof(*orders); c++) {
        char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
        struct trm_error err = {0};
        struct single single;
        struct trm_slice_set set;
        struct trm_ckpt_piece pieces[4];
        float stored[24], *next = stored, read[24];
        int count = 0;
        fixture_directory(directory);
        make_single(&single, TRM_F32, 4, 6);
        for (; count < 4 && orders[c][count].rows > 0; count++) {
            struct trm_rect r = orders[c][count];
            pieces[count] = (struct trm_ckpt_piece){.rect = r, .data = next};
            for (int64_t i = 0; i < trm_rect_elements(r); i++)
                *next++ = (float)((r.row + i / r.columns) * 6 + r.column + i % r.columns);
        }
        assert_ok(trm_slice_set_cut(&single.tensor, 1, pieces, count, &set, &err), err);
        struct trm_shard_identity identity = trm_shard_identity_of(&single.catalog.state, 7, 0, 1);
        assert_ok(trm_file_path(path, &err, "%s/%s", directory, single.file.name), err);
        assert_ok(trm_shard_create(path, &identity, TRM_F32, &set, &single.file, &err), err);
        assert_ok(trm_shard_write(path, &identity, TRM_F32, &set, &single.file, &err), err);
        assert_ok(trm_view_write(&single.catalog, set.slices, directory, &err), err);
        hid_t file = open_view(directory);
        hid_t dataset = open_tensor(file, TRM_KIND_PARAMETER, "one");
        assert_true(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) >= 0);
        for (int i = 0; i < 24; i++)
            if (!(read[i] == (float)i))
                fail_msg("order %zu: element %d is %g", c, i, (double)read[i]);
        H5Dclose(dataset);
        H5Fclose(file);
        trm_slice_set_destroy(&set);
        fixture_directory_free(directory);
    }
}

static void view_fills_each_type_with_what_no_tensor_holds(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    for (int type = 0; type < TRM_TYPE_COUNT; type++) {
        struct single single;
        double data[6];
        make_single(&single, (enum trm_type)type, 2, 3);
        const struct trm_slice slice = {.rect = {0, 0, 2, 3}};
        assert_ok(trm_view_write(&single.catalog, &slice, directory, &err), err);
        hid_t file = open_view(directory);
        hid_t dataset = open_tensor(file, TRM_KIND_PARAMETER, "one");
        assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
        for (int i = 0; i < 6; i++)
            assert_true(type == TRM_I32 ? data[i] == (double)INT32_MIN : isnan(data[i]));
        H5Dclose(dataset);
        H5Fclose(file);
    }
    fixture_directory_free(directory);
}

static void view_that_cannot_be_written_leaves_no_file(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], view[TRM_PATH_BYTES];
    struct trm_error err = {0};
    struct single single;
    const struct trm_slice slice = {.rect = {0, 0, 2, 3}};
    fixture_directory(directory);
    make_single(&single, TRM_F32, 2, 3);
    assert_ok(trm_file_path(path, &err, "%s/nowhere", directory), err);
    assert_int_not_equal(trm_view_write(&single.catalog, &slice, path, &err), TRM_OK);
    assert_non_null(strstr(err.text, "nowhere/checkpoint.h5"));

    assert_ok(trm_file_path(view, &err, "%s/" TRM_CKPT_VIEW, directory), err);
    assert_int_equal(symlink("/dev/full", view), 0);
    enum trm_status status = trm_view_write(&single.catalog, &slice, directory, &err);
    assert_int_equal(status, TRM_ERR_IO);
    assert_non_null(strstr(err.text, view));
    assert_false(trm_file_exists(view));
    assert_ok(trm_view_write(&single.catalog, &slice, directory, &err), err);
    fixture_directory_free(directory);
}

/* The manifest of a shard that holds one tensor in pieces of `rows` rows. */
static size_t manifest_bytes_for(const char *directory, int64_t rows, int64_t *slice_count)
{
    enum { SIDE = 3000 };
    static float data[SIDE * 4];
    static struct trm_ckpt_piece pieces[SIDE];
    struct single single;
    struct trm_slice_set set;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    int count = 0;
    make_single(&single, TRM_F32, SIDE, 4);
    for (int64_t row = 0; row < SIDE; row += rows)
        pieces[count++] = (struct trm_ckpt_piece){.rect = {row, 0, rows, 4}, .data = data};
    assert_ok(trm_slice_set_cut(&single.tensor, 1, pieces, count, &set, &err), err);
    struct trm_shard_identity identity = trm_shard_identity_of(&single.catalog.state, 7, 0, 1);
    assert_ok(trm_file_path(path, &err, "%s/by-%lld.h5", directory, (long long)rows), err);
    assert_ok(trm_shard_create(path, &identity, TRM_F32, &set, &single.file, &err), err);
    assert_ok(trm_shard_write(path, &identity, TRM_F32, &set, &single.file, &err), err);
    assert_ok(trm_manifest_format(&single.catalog, &text, &bytes, &err), err);
    *slice_count = set.count;
    trm_slice_set_destroy(&set);
    free(text);
    return bytes;
}

static void manifest_does_not_grow_with_slices(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES];
    int64_t few = 0, many = 0;
    fixture_directory(directory);
    size_t small = manifest_bytes_for(directory, 3000, &few);
    size_t large = manifest_bytes_for(directory, 1, &many);
    assert_int_equal(few, 1);
    assert_int_equal(many, 3000);
    /* A few numbers have more digits. */
    assert_in_range(large, small, small + 32);
    fixture_directory_free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(view_shows_every_tensor_whole_in_any_layout),
        cmocka_unit_test(view_has_one_mapping_for_each_shard_and_band_of_a_tensor),
        cmocka_unit_test(view_moves_with_its_directory),
        cmocka_unit_test(view_reads_nan_where_a_shard_is_missing),
        cmocka_unit_test(view_says_step_run_and_names),
        cmocka_unit_test(view_is_right_where_a_file_runs_otherwise_than_the_tensor),
        cmocka_unit_test(view_fills_each_type_with_what_no_tensor_holds),
        cmocka_unit_test(view_that_cannot_be_written_leaves_no_file),
        cmocka_unit_test(manifest_does_not_grow_with_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
