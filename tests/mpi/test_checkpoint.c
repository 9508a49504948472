/* Saving and loading from all ranks: any layout into any other, one verdict for all. */
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/parallel/load.h"
#include "checkpoint/parallel/save.h"
#include "checkpoint/store.h"
#include "checkpoint/verify.h"

/* The model and its cuts are those of the unit tests. */
#include "tests/unit/checkpoint/fixture.c"

static void shared_directory(struct trm_comm *world, char path[TRM_PATH_BYTES])
{
    memset(path, 0, TRM_PATH_BYTES);
    if (world->rank == 0)
        fixture_directory(path);
    trm_comm_broadcast(world, path, TRM_PATH_BYTES, 0, NULL, NULL);
}

static void remove_shared_directory(struct trm_comm *world, const char *path)
{
    trm_comm_barrier(world, NULL, NULL);
    if (world->rank == 0)
        fixture_directory_free(path);
}

/* Saves `step` as tensor_size x (world / tensor_size), `group` ranks to a shard. */
static enum trm_status save(struct trm_comm *world, const char *directory, int64_t step,
                            int tensor_size, int group, int64_t *bytes, struct trm_error *err)
{
    struct trm_ckpt_state training = fixture_state(step);
    struct fixture_pieces mine =
        fixture_pieces_of(tensor_size, world->size / tensor_size, world->rank, step);
    enum trm_status status =
        trm_checkpoint_save(world, directory, group, &training, fixture_tensors, FIXTURE_TENSORS,
                            mine.pieces, mine.count, bytes, err);
    fixture_pieces_free(&mine);
    return status;
}

/* Loads into this rank's pieces of a layout; true when every element is that of `step`. */
static bool load(struct trm_comm *world, const char *directory, int64_t step, int tensor_size,
                 int data_size, struct trm_error *err)
{
    char text[128];
    struct trm_checkpoint *checkpoint = NULL;
    int64_t bytes = 0;
    /* With more places than ranks, rank r plays place r, then the others read theirs alike. */
    struct fixture_pieces mine =
        fixture_pieces_of(tensor_size, data_size, world->rank % (tensor_size * data_size), -1);
    enum trm_status status =
        trm_checkpoint_open(world, directory, -1, NULL, NULL, &checkpoint, err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(world, checkpoint, mine.pieces, mine.count, &bytes, err);
    bool ok = status == TRM_OK && bytes >= mine.elements * 4 &&
              trm_checkpoint_catalog(checkpoint)->state.step == step &&
              fixture_wrong(&mine, step, text) == NULL;
    trm_checkpoint_close(checkpoint);
    fixture_pieces_free(&mine);
    return ok;
}

/* So many files, and every byte of them is as the manifest and their HDF5 structure say. */
static bool is_sound(const char *directory, int64_t step, int files)
{
    char path[TRM_PATH_BYTES];
    struct trm_stored *stored = NULL;
    struct trm_error err = {0};
    enum trm_status status = trm_store_step_path(directory, step, path, &err);
    if (status == TRM_OK)
        status = trm_stored_open(path, &stored, &err);
    if (status == TRM_OK)
        status = trm_verify(stored, NULL, &err);
    bool sound = status == TRM_OK && stored->catalog.file_count == files &&
                 stored->catalog.shard_count == files;
    trm_stored_close(stored);
    return sound;
}

static void what_is_saved_in_one_layout_loads_in_any_other(void **state)
{
    struct trm_comm *world = *state;
    static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}, {3, 1}, {1, 4}};
    /* A file for each rank, for two of them, for all; by every tensor-parallel size. */
    for (int i = 0; i < 3 * world->size; i++) {
        const int groups[] = {1, 2, world->size};
        int tensor_size = i / 3 + 1, group = groups[i % 3];
        if (world->size % tensor_size != 0)
            continue;
        char directory[TRM_PATH_BYTES];
        struct trm_error err = {0};
        int64_t bytes = 0;
        shared_directory(world, directory);
        enum trm_status status = save(world, directory, 20, tensor_size, group, &bytes, &err);
        assert_on_all_ranks(world, status == TRM_OK && bytes > 0);
        assert_on_all_ranks(world, is_sound(directory, 20, (world->size + group - 1) / group));
        for (size_t l = 0; l < sizeof(layouts) / sizeof(layouts[0]); l++) {
            bool ok = load(world, directory, 20, layouts[l][0], layouts[l][1], &err);
            assert_on_all_ranks(world, ok);
        }
        remove_shared_directory(world, directory);
    }
}

static void a_rank_without_pieces_writes_nothing(void **state)
{
    struct trm_comm *world = *state;
    char directory[TRM_PATH_BYTES];
    struct trm_error err = {0};
    int64_t bytes = -1;
    shared_directory(world, directory);
    struct trm_ckpt_state training = fixture_state(5);
    struct fixture_pieces all = fixture_pieces_of(1, 1, 0, 5);
    int last = world->size - 1;
    enum trm_status status =
        trm_checkpoint_save(world, directory, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                            all.pieces, world->rank == last ? all.count : 0, &bytes, &err);
    assert_on_all_ranks(world, status == TRM_OK && (bytes > 0) == (world->rank == last));
    assert_on_all_ranks(world, load(world, directory, 5, 1, 2, &err));
    fixture_pieces_free(&all);
    remove_shared_directory(world, directory);
}

static void a_step_that_is_there_is_left_alone_and_another_state_replaces_it(void **state)
{
    struct trm_comm *world = *state;
    char directory[TRM_PATH_BYTES];
    struct trm_error err = {0};
    int64_t bytes = -1;
    shared_directory(world, directory);
    enum trm_status status = save(world, directory, 20, 1, 2, &bytes, &err);
    assert_on_all_ranks(world, status == TRM_OK && bytes > 0);
    status = save(world, directory, 20, 1, 2, &bytes, &err);
    assert_on_all_ranks(world, status == TRM_OK && bytes == 0);

    struct trm_ckpt_state training = fixture_state(20);
    struct fixture_pieces mine = fixture_pieces_of(1, world->size, world->rank, 40);
    training.config_yaml = (char[]){"lr: 3\n"};
    status = trm_checkpoint_save(world, directory, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                                 mine.pieces, mine.count, &bytes, &err);
    assert_on_all_ranks(world, status == TRM_OK && bytes > 0);
    fixture_pieces_free(&mine);
    mine = fixture_pieces_of(1, 1, 0, -1);
    char text[128];
    struct trm_checkpoint *checkpoint = NULL;
    status = trm_checkpoint_open(world, directory, 20, NULL, NULL, &checkpoint, &err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(world, checkpoint, mine.pieces, mine.count, NULL, &err);
    assert_on_all_ranks(world, status == TRM_OK && fixture_wrong(&mine, 40, text) == NULL);
    trm_checkpoint_close(checkpoint);
    fixture_pieces_free(&mine);

    strcpy(training.run_id, "another");
    mine = fixture_pieces_of(1, world->size, world->rank, 20);
    status = trm_checkpoint_save(world, directory, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                                 mine.pieces, mine.count, &bytes, &err);
    assert_on_all_ranks(world, status == TRM_ERR_MISMATCH &&
                                   strstr(err.text, "belongs to run run-a1b2") != NULL &&
                                   strncmp(err.text, "saving step 20: ", 16) == 0);
    fixture_pieces_free(&mine);
    remove_shared_directory(world, directory);
}

/* Found before training begins, and not by its first save. */
static void more_slices_than_a_checkpoint_may_have_are_refused(void **state)
{
    struct trm_comm *world = *state;
    char directory[TRM_PATH_BYTES];
    struct trm_error err = {0};
    /* Each row is a slice of 8 MiB; nobody looks at the data. */
    const int64_t rows = TRM_CKPT_MAX_SLICES / world->size + 1;
    const struct trm_ckpt_tensor tensor = {
        .name = "huge", .type = TRM_F32, .dims = 2, .rows = rows * world->size, .columns = 1 << 21};
    const struct trm_ckpt_piece piece = {
        0, TRM_KIND_PARAMETER, {rows * world->rank, 0, rows, tensor.columns}, &err};
    struct trm_ckpt_state training = fixture_state(5);
    shared_directory(world, directory);
    enum trm_status status =
        trm_checkpoint_save(world, directory, 1, &training, &tensor, 1, &piece, 1, NULL, &err);
    assert_on_all_ranks(world, status == TRM_ERR_UNSUPPORTED);
    assert_on_all_ranks(world, world->size == 1 || strstr(err.text, "slices, and") != NULL);
    remove_shared_directory(world, directory);
}

/* What a rank may do wrong; all must hear of it, and an older checkpoint stays. */
static void one_ranks_failure_is_everybodys_and_leaves_no_trace(void **state)
{
    struct trm_comm *world = *state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    const int last = world->size - 1;
    shared_directory(world, directory);
    assert_on_all_ranks(world, save(world, directory, 10, 1, 2, NULL, &err) == TRM_OK);

    /* A piece outside its tensor. */
    struct trm_ckpt_state training = fixture_state(20);
    struct fixture_pieces mine = fixture_pieces_of(1, world->size, world->rank, 20);
    struct trm_rect kept = mine.pieces[0].rect;
    if (world->rank == last)
        mine.pieces[0].rect.row = 1000;
    enum trm_status status =
        trm_checkpoint_save(world, directory, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                            mine.pieces, mine.count, NULL, &err);
    assert_on_all_ranks(world, status == TRM_ERR_INTERNAL &&
                                   strstr(err.text, "lies outside tensor \"tok_embed\"") != NULL);
    mine.pieces[0].rect = kept;

    /* A piece that is missing. */
    int count = world->rank == last ? mine.count - 1 : mine.count;
    status = trm_checkpoint_save(world, directory, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                                 mine.pieces, count, NULL, &err);
    assert_on_all_ranks(world, status == TRM_ERR_INTERNAL &&
                                   strstr(err.text, "do not cover exp_avg_sq of ") != NULL);

    /* Nothing of step 20 is left. */
    status = trm_store_step_path(directory, 20, path, NULL);
    assert_on_all_ranks(world, status == TRM_OK && !trm_file_exists(path));
    status = trm_store_stage_path(directory, 20, training.attempt, path, NULL);
    assert_on_all_ranks(world, status == TRM_OK && !trm_file_exists(path));

    /* A directory that cannot be made. */
    status = trm_file_path(path, &err, "%s/step-00000010/manifest.json/x", directory);
    status = trm_checkpoint_save(world, path, 2, &training, fixture_tensors, FIXTURE_TENSORS,
                                 mine.pieces, mine.count, NULL, &err);
    assert_on_all_ranks(world, status == TRM_ERR_IO && strstr(err.text, "manifest.json") != NULL);

    fixture_pieces_free(&mine);
    assert_on_all_ranks(world, load(world, directory, 10, 1, 2, &err));
    remove_shared_directory(world, directory);
}

struct notes {
    int count;
    char text[2][1200];
};

static void note(void *context, const char *path, const char *reason)
{
    struct notes *notes = context;
    if (notes->count < 2)
        snprintf(notes->text[notes->count], sizeof(notes->text[0]), "%s: %s", path, reason);
    notes->count++;
}

/* Two ranks to a shard. */
static int last_shard(const struct trm_comm *world)
{
    return (world->size - 1) / 2;
}

static void truncate_last_shard(const char *step, int last)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(trm_file_path(path, NULL, "%s/shard-%05d.h5", step, last), TRM_OK);
    assert_int_equal(truncate(path, 100), 0);
}

static void delete_last_shard(const char *step, int last)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(trm_file_path(path, NULL, "%s/shard-%05d.h5", step, last), TRM_OK);
    assert_int_equal(unlink(path), 0);
}

static void what_is_not_sound_is_passed_over_for_the_older_one(void **state)
{
    struct trm_comm *world = *state;
    static void (*const damages[])(const char *, int) = {truncate_last_shard, delete_last_shard};
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        char directory[TRM_PATH_BYTES], step[TRM_PATH_BYTES], name[32];
        struct trm_error err = {0};
        struct notes notes = {0};
        struct trm_checkpoint *checkpoint = NULL;
        shared_directory(world, directory);
        assert_on_all_ranks(world, save(world, directory, 10, 1, 2, NULL, &err) == TRM_OK);
        assert_on_all_ranks(world, save(world, directory, 20, 1, 2, NULL, &err) == TRM_OK);
        trm_store_step_path(directory, 20, step, NULL);
        if (world->rank == 0)
            damages[i](step, last_shard(world));
        trm_comm_barrier(world, NULL, NULL);
        enum trm_status status =
            trm_checkpoint_open(world, directory, -1, note, &notes, &checkpoint, &err);
        snprintf(name, sizeof(name), "shard-%05d.h5", last_shard(world));
        bool ok = status == TRM_OK && trm_checkpoint_catalog(checkpoint)->state.step == 10 &&
                  notes.count == (world->rank == 0) &&
                  (world->rank != 0 || strstr(notes.text[0], name) != NULL);
        assert_on_all_ranks(world, ok);
        trm_checkpoint_close(checkpoint);
        assert_on_all_ranks(world, load(world, directory, 10, 2, 1, &err));
        status = trm_checkpoint_open(world, directory, 20, NULL, NULL, &checkpoint, &err);
        assert_on_all_ranks(world, status == TRM_ERR_CORRUPT && strstr(err.text, name) != NULL);
        remove_shared_directory(world, directory);
    }
}

static void a_flipped_bit_in_a_tensor_fails_the_load_of_all_by_name(void **state)
{
    struct trm_comm *world = *state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    struct trm_checkpoint *checkpoint = NULL;
    shared_directory(world, directory);
    assert_on_all_ranks(world, save(world, directory, 20, 1, 2, NULL, &err) == TRM_OK);
    enum trm_status status =
        trm_checkpoint_open(world, directory, -1, NULL, NULL, &checkpoint, &err);
    assert_on_all_ranks(world, status == TRM_OK);
    const struct trm_ckpt_file *file = &trm_checkpoint_catalog(checkpoint)->files[0];
    trm_file_path(path, NULL, "%s/%s", trm_checkpoint_path(checkpoint), file->name);
    if (world->rank == 0)
        fixture_flip(path, file->data[TRM_KIND_EXP_AVG].offset + 11, 3);
    trm_comm_barrier(world, NULL, NULL);
    /* Only the last rank wants what is damaged. */
    float value = 0;
    struct trm_ckpt_piece piece = {0, TRM_KIND_EXP_AVG, {0, 0, 1, 1}, &value};
    if (world->rank != world->size - 1)
        piece.kind = TRM_KIND_PARAMETER;
    status = trm_checkpoint_load(world, checkpoint, &piece, 1, NULL, &err);
    assert_on_all_ranks(world, status == TRM_ERR_CORRUPT &&
                                   strstr(err.text, "shard-00000.h5: rows 0..") != NULL &&
                                   strstr(err.text, "exp_avg of \"tok_embed\" have checksum "));
    trm_checkpoint_close(checkpoint);
    remove_shared_directory(world, directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_in_one_layout_loads_in_any_other),
        cmocka_unit_test(a_rank_without_pieces_writes_nothing),
        cmocka_unit_test(a_step_that_is_there_is_left_alone_and_another_state_replaces_it),
        cmocka_unit_test(more_slices_than_a_checkpoint_may_have_are_refused),
        cmocka_unit_test(one_ranks_failure_is_everybodys_and_leaves_no_trace),
        cmocka_unit_test(what_is_not_sound_is_passed_over_for_the_older_one),
        cmocka_unit_test(a_flipped_bit_in_a_tensor_fails_the_load_of_all_by_name),
    };
    return cmocka_run_group_tests(tests, world_start, world_finish);
}
