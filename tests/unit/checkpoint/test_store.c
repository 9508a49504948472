/* A directory of checkpoints: listing, staging, committing, falling back. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/manifest.h"
#include "checkpoint/store.h"
#include "checkpoint/stored.h"

struct place {
    char directory[TRM_PATH_BYTES];
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    fixture_directory(place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    fixture_directory_free(place->directory);
    free(place);
    return 0;
}

/* directory/name; a buffer of this call's own is the caller's. */
static const char *in(const struct place *place, const char *name, char path[TRM_PATH_BYTES])
{
    assert_int_equal(trm_file_path(path, NULL, "%s/%s", place->directory, name), TRM_OK);
    return path;
}

static void save(const struct place *place, int64_t step)
{
    struct trm_ckpt_state training = fixture_state(step);
    fixture_save(place->directory, &training, 1, 2);
}

struct notes {
    int count;
    char text[8][1200];
};

static void note(void *context, const char *path, const char *reason)
{
    struct notes *notes = context;
    const char *name = strrchr(path, '/');
    assert_true(notes->count < 8);
    snprintf(notes->text[notes->count++], sizeof(notes->text[0]), "%s: %s", name + 1, reason);
}

/* Opens the newest; returns its step, or -status. */
static int64_t newest(const struct place *place, struct notes *notes, struct trm_error *err)
{
    struct trm_stored *stored = NULL;
    notes->count = 0;
    enum trm_status status =
        trm_stored_open_newest(place->directory, -1, note, notes, &stored, err);
    int64_t step = status == TRM_OK ? stored->catalog.state.step : -(int64_t)status;
    trm_stored_close(stored);
    return step;
}

static void list_shows_committed_steps_newest_first(void **state)
{
    struct place *place = *state;
    static const char *const names[] = {"step-00000003",
                                        "step-00000020",
                                        "step-100000000",
                                        "step-5",
                                        "step-00000007x",
                                        "step-0000000a",
                                        ".step-00000009.a1.tmp",
                                        "step-000000011",
                                        "step-99999999999999999999",
                                        "other"};
    char path[TRM_PATH_BYTES];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(mkdir(in(place, names[i], path), 0777), 0);
    int64_t *steps = NULL;
    int count = 0;
    struct trm_error err = {0};
    assert_ok(trm_store_list(place->directory, &steps, &count, &err), err);
    assert_int_equal(count, 3);
    assert_int_equal(steps[0], 100000000);
    assert_int_equal(steps[1], 20);
    assert_int_equal(steps[2], 3);
    free(steps);
    assert_int_equal(trm_store_list(in(place, "nowhere", path), &steps, &count, &err),
                     TRM_ERR_NOT_FOUND);
}

static void nothing_there_is_said_apart_from_nothing_sound(void **state)
{
    struct place *place = *state;
    struct notes notes;
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    char path[TRM_PATH_BYTES], expected[2 * TRM_PATH_BYTES];
    assert_int_equal(newest(place, &notes, &err), -TRM_ERR_NOT_FOUND);
    snprintf(expected, sizeof(expected), "no checkpoint in \"%s\"", place->directory);
    assert_string_equal(err.text, expected);
    assert_int_equal(trm_stored_open_newest(in(place, "gone", path), -1, NULL, NULL, &stored, &err),
                     TRM_ERR_NOT_FOUND);
    assert_int_equal(mkdir(in(place, "step-00000001", path), 0777), 0);
    assert_int_equal(newest(place, &notes, &err), -TRM_ERR_CORRUPT);
    assert_int_equal(notes.count, 1);
    assert_non_null(strstr(notes.text[0], "manifest.json"));
    assert_non_null(strstr(err.text, "none of the 1 checkpoints in "));
}

static void a_stage_is_invisible_until_it_is_committed(void **state)
{
    struct place *place = *state;
    struct notes notes;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    save(place, 10);
    assert_ok(trm_store_stage(place->directory, 20, 3, &err), err);
    assert_true(trm_file_exists(in(place, ".step-00000020.a3.tmp", path)));
    assert_int_equal(newest(place, &notes, &err), 10);
    assert_int_equal(notes.count, 0);
    assert_ok(trm_store_discard(place->directory, 20, 3, &err), err);
    assert_ok(trm_store_discard(place->directory, 20, 3, &err), err);
    assert_false(trm_file_exists(path));
    save(place, 20);
    assert_int_equal(newest(place, &notes, &err), 20);
}

static void stale_stages_of_ours_go_and_those_of_others_stay(void **state)
{
    struct place *place = *state;
    static const struct {
        const char *name;
        bool stays;
    } cases[] = {
        {".step-00000005.a1.tmp", false},          {".step-00000006.a3.tmp", false},
        {".step-00000007.a4.tmp", true},           {".step-00000005.a1.removed.tmp", false},
        {".step-00000005.a1.replaced.tmp", false}, {".step-00000005.tmp", true},
        {".step-00000005.a1.tmp.keep", true},      {"notes.tmp", true},
    };
    char path[TRM_PATH_BYTES];
    struct trm_error err = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(mkdir(in(place, cases[i].name, path), 0777), 0);
    assert_ok(trm_store_stage(place->directory, 30, 3, &err), err);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(trm_file_exists(in(place, cases[i].name, path)), cases[i].stays);
}

static void a_removed_checkpoint_is_gone_at_once_and_for_good(void **state)
{
    struct place *place = *state;
    struct notes notes;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    save(place, 10);
    save(place, 20);
    assert_ok(trm_store_remove(place->directory, 20, 3, &err), err);
    assert_int_equal(newest(place, &notes, &err), 10);
    assert_false(trm_file_exists(in(place, "step-00000020", path)));
    trm_store_recover(place->directory);
    assert_int_equal(newest(place, &notes, &err), 10);
    assert_int_equal(trm_store_remove(place->directory, 20, 3, &err), TRM_ERR_NOT_FOUND);
}

static void a_step_saved_again_replaces_the_old_one(void **state)
{
    struct place *place = *state;
    struct trm_error err = {0};
    struct trm_catalog catalog = {0};
    char path[TRM_PATH_BYTES];
    save(place, 10);
    struct trm_ckpt_state training = fixture_state(10);
    training.attempt = 9;
    fixture_save(place->directory, &training, 2, 1);
    in(place, "step-00000010", path);
    assert_ok(trm_stored_read_catalog(path, &catalog, &err), err);
    assert_int_equal(catalog.state.attempt, 9);
    trm_catalog_destroy(&catalog);
    assert_false(trm_file_exists(in(place, ".step-00000010.a9.tmp", path)));
    assert_false(trm_file_exists(in(place, ".step-00000010.a9.replaced.tmp", path)));
}

static void a_crash_between_the_renames_of_a_replacement_loses_nothing(void **state)
{
    struct place *place = *state;
    struct notes notes;
    struct trm_error err = {0};
    char final[TRM_PATH_BYTES], hidden[TRM_PATH_BYTES];
    save(place, 10);
    assert_int_equal(rename(in(place, "step-00000010", final),
                            in(place, ".step-00000010.a9.replaced.tmp", hidden)),
                     0);
    assert_int_equal(newest(place, &notes, &err), -TRM_ERR_NOT_FOUND);
    trm_store_recover(place->directory);
    assert_int_equal(newest(place, &notes, &err), 10);
    /* Its name can't be given back: then a save leaves it where it is. */
    assert_int_equal(rename(final, hidden), 0);
    assert_int_equal(symlink("nowhere", final), 0);
    assert_ok(trm_store_stage(place->directory, 20, 9, &err), err);
    assert_int_equal(unlink(final), 0);
    trm_store_recover(place->directory);
    assert_int_equal(newest(place, &notes, &err), 10);
}

static void what_cannot_be_looked_at_is_not_missing(void **state)
{
    struct place *place = *state;
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    char path[TRM_PATH_BYTES];
    assert_int_equal(trm_stored_open_newest(in(place, "none", path), -1, NULL, NULL, &stored, &err),
                     TRM_ERR_NOT_FOUND);
    assert_int_equal(symlink("loop", in(place, "loop", path)), 0);
    assert_int_equal(trm_stored_open_newest(path, -1, NULL, NULL, &stored, &err), TRM_ERR_IO);
    assert_non_null(strstr(err.text, "could not look at"));
}

static void holds_tells_the_same_state_from_another(void **state)
{
    struct place *place = *state;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    bool holds = true;
    struct trm_ckpt_state same = fixture_state(10);
    assert_ok(trm_store_holds(place->directory, &same, &holds, &err), err);
    assert_false(holds);
    save(place, 10);
    assert_ok(trm_store_holds(place->directory, &same, &holds, &err), err);
    assert_true(holds);
    struct trm_ckpt_state other = fixture_state(10);
    other.config_yaml = (char[]){"lr: 2\n"};
    assert_ok(trm_store_holds(place->directory, &other, &holds, &err), err);
    assert_false(holds);
    other = fixture_state(10);
    other.data_hash++;
    assert_ok(trm_store_holds(place->directory, &other, &holds, &err), err);
    assert_false(holds);
    other = fixture_state(10);
    strcpy(other.run_id, "another");
    assert_int_equal(trm_store_holds(place->directory, &other, &holds, &err), TRM_ERR_MISMATCH);
    assert_non_null(strstr(err.text, "is there already and belongs to run run-a1b2, this is run "
                                     "another: save to another directory"));
    other = fixture_state(10);
    other.lineage = 0;
    assert_int_equal(trm_store_holds(place->directory, &other, &holds, &err), TRM_ERR_MISMATCH);
    fixture_flip(in(place, "step-00000010/manifest.json", path), 20, 0);
    assert_ok(trm_store_holds(place->directory, &same, &holds, &err), err);
    assert_false(holds);
}

static void a_later_lineage_that_nobody_can_load_is_replaced(void **state)
{
    struct place *place = *state;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    bool holds = true;
    save(place, 10);
    struct trm_ckpt_state older = fixture_state(10);
    older.lineage = 0;
    assert_int_equal(trm_store_holds(place->directory, &older, &holds, &err), TRM_ERR_MISMATCH);
    /* Reading its tensors failed, and so the attempt that goes on from before is a later one. */
    older.attempt++;
    assert_ok(trm_store_holds(place->directory, &older, &holds, &err), err);
    assert_false(holds);
    older.attempt--;
    assert_int_equal(unlink(in(place, "step-00000010/shard-00000.h5", path)), 0);
    assert_ok(trm_store_holds(place->directory, &older, &holds, &err), err);
    assert_false(holds);
}

static void what_a_rollback_gave_up_is_passed_over(void **state)
{
    struct place *place = *state;
    struct notes notes;
    struct trm_error err = {0};
    char path[TRM_PATH_BYTES];
    struct trm_ckpt_state later = fixture_state(30);
    save(place, 10);
    save(place, 20);
    later.lineage = 0;
    fixture_save(place->directory, &later, 1, 2);
    assert_int_equal(newest(place, &notes, &err), 20);
    assert_int_equal(notes.count, 1);
    assert_non_null(strstr(notes.text[0], "step-00000030: "));
    assert_non_null(strstr(notes.text[0], "of lineage 0, which was given up: a rollback went back "
                                          "to step 10"));
    /* A later attempt went on from it: then it knew why. */
    assert_int_equal(trm_store_remove(place->directory, 30, 9, &err), TRM_OK);
    later.attempt++;
    fixture_save(place->directory, &later, 1, 2);
    assert_int_equal(newest(place, &notes, &err), 30);
    /* Of another run; or where what it went back to is not sound. */
    assert_int_equal(trm_store_remove(place->directory, 30, 9, &err), TRM_OK);
    later.attempt--;
    strcpy(later.run_id, "another");
    fixture_save(place->directory, &later, 1, 2);
    assert_int_equal(newest(place, &notes, &err), 30);
    assert_int_equal(trm_store_remove(place->directory, 30, 9, &err), TRM_OK);
    strcpy(later.run_id, "run-a1b2");
    fixture_save(place->directory, &later, 1, 2);
    assert_int_equal(unlink(in(place, "step-00000010/shard-00000.h5", path)), 0);
    assert_int_equal(newest(place, &notes, &err), 20);
    assert_int_equal(unlink(in(place, "step-00000020/shard-00000.h5", path)), 0);
    assert_int_equal(newest(place, &notes, &err), 30);
}

/* Damage done to step 20 of 10 and 20, and what is said of it. */
static void delete_shard(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(unlink(in(place, "step-00000020/shard-00001.h5", path)), 0);
}

static void truncate_shard(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(truncate(in(place, "step-00000020/shard-00001.h5", path), 5000), 0);
}

static void swap_in_another_step(const struct place *place)
{
    char from[TRM_PATH_BYTES], to[TRM_PATH_BYTES];
    assert_int_equal(rename(in(place, "step-00000010/shard-00000.h5", from),
                            in(place, "step-00000020/shard-00000.h5", to)),
                     0);
}

static void swap_in_another_run(const struct place *place)
{
    char other[TRM_PATH_BYTES], from[TRM_PATH_BYTES], to[TRM_PATH_BYTES];
    struct trm_ckpt_state training = fixture_state(20);
    strcpy(training.run_id, "stranger");
    fixture_save(in(place, "elsewhere", other), &training, 1, 2);
    assert_int_equal(rename(in(place, "elsewhere/step-00000020/shard-00000.h5", from),
                            in(place, "step-00000020/shard-00000.h5", to)),
                     0);
}

static void swap_two_shards(const struct place *place)
{
    char a[TRM_PATH_BYTES], b[TRM_PATH_BYTES], c[TRM_PATH_BYTES];
    in(place, "step-00000020/shard-00000.h5", a);
    in(place, "step-00000020/shard-00001.h5", b);
    in(place, "step-00000020/c", c);
    assert_int_equal(rename(a, c) | rename(b, a) | rename(c, b), 0);
}

static void truncate_manifest(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(truncate(in(place, "step-00000020/manifest.json", path), 700), 0);
}

static void delete_manifest(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(unlink(in(place, "step-00000020/manifest.json", path)), 0);
}

static void flip_manifest(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    fixture_flip(in(place, "step-00000020/manifest.json", path), 300, 2);
}

static void rename_step(const struct place *place)
{
    char from[TRM_PATH_BYTES], to[TRM_PATH_BYTES];
    assert_int_equal(rename(in(place, "step-00000020", from), in(place, "step-00000030", to)), 0);
}

static void replace_by_fifo(const struct place *place)
{
    char path[TRM_PATH_BYTES];
    delete_shard(place);
    assert_int_equal(mkdir(in(place, "step-00000020/shard-00001.h5", path), 0777), 0);
}

static void what_is_not_sound_is_passed_over_by_name(void **state)
{
    (void)state;
    static const struct {
        void (*damage)(const struct place *place);
        const char *reason; /* part of it */
        bool older_is_hurt; /* step 10 gave a shard away */
    } cases[] = {
        {delete_shard, "step-00000020/shard-00001.h5\": no such file", false},
        {truncate_shard, "step-00000020/shard-00001.h5 has 5000 bytes, the manifest says ", false},
        {swap_in_another_step, "shard-00000.h5: it says step 10 of run run-a1b2 (", true},
        {swap_in_another_run, "shard-00000.h5: it says step 20 of run stranger", false},
        {swap_two_shards, "shard-00000.h5 has ", false},
        {truncate_manifest, "manifest.json: it does not end in its digest", false},
        {delete_manifest, "manifest.json\": no such file", false},
        {flip_manifest, "manifest.json: its text has digest ", false},
        {rename_step, "step-00000030: its manifest is of step 20", false},
        {replace_by_fifo, "shard-00001.h5 has ", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct place place;
        struct notes notes;
        struct trm_error err = {0};
        fixture_directory(place.directory);
        save(&place, 10);
        save(&place, 20);
        cases[i].damage(&place);
        int64_t step = newest(&place, &notes, &err);
        if (step != (cases[i].older_is_hurt ? -(int64_t)TRM_ERR_CORRUPT : 10) || notes.count < 1 ||
            strstr(notes.text[0], cases[i].reason) == NULL)
            fail_msg("case %zu: step %lld, \"%s\"", i, (long long)step, notes.text[0]);
        fixture_directory_free(place.directory);
    }
}

static void a_step_asked_for_by_number_is_never_replaced_by_another(void **state)
{
    struct place *place = *state;
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    char path[TRM_PATH_BYTES];
    save(place, 10);
    save(place, 20);
    assert_ok(trm_stored_open_newest(place->directory, 10, NULL, NULL, &stored, &err), err);
    assert_int_equal(stored->catalog.state.step, 10);
    trm_stored_close(stored);
    stored = NULL;
    assert_int_equal(trm_stored_open_newest(place->directory, 15, NULL, NULL, &stored, &err),
                     TRM_ERR_NOT_FOUND);
    truncate_shard(place);
    assert_int_equal(trm_stored_open_newest(place->directory, 20, NULL, NULL, &stored, &err),
                     TRM_ERR_CORRUPT);
    in(place, "step-00000010", path);
    assert_int_equal(trm_stored_open_newest(path, 20, NULL, NULL, &stored, &err),
                     TRM_ERR_NOT_FOUND);
    assert_ok(trm_stored_open_newest(path, 10, NULL, NULL, &stored, &err), err);
    trm_stored_close(stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(list_shows_committed_steps_newest_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_there_is_said_apart_from_nothing_sound, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stage_is_invisible_until_it_is_committed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(stale_stages_of_ours_go_and_those_of_others_stay, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removed_checkpoint_is_gone_at_once_and_for_good, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_step_saved_again_replaces_the_old_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_crash_between_the_renames_of_a_replacement_loses_nothing,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_looked_at_is_not_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(holds_tells_the_same_state_from_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_later_lineage_that_nobody_can_load_is_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_a_rollback_gave_up_is_passed_over, set_up, tear_down),
        cmocka_unit_test(what_is_not_sound_is_passed_over_by_name),
        cmocka_unit_test_setup_teardown(a_step_asked_for_by_number_is_never_replaced_by_another,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
