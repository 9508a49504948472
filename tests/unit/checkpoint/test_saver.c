/* What a run sees of its saves: back-pressure, reading back, removal. One rank, no MPI. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/load.h"
#include "checkpoint/parallel/saver.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/store.h"

/* A run of one rank, and what it was told. */
struct run {
    char directory[TRM_PATH_BYTES];
    struct trm_comm *self;
    struct fixture_pieces pieces;
    char *memory;
    struct trm_saver *saver;
    int64_t damage; /* this step is damaged as soon as it was committed */
    int told[TRM_SAVE_KEPT + 1];
    int64_t last[TRM_SAVE_KEPT + 1]; /* step of the last such event */
    char text[2048];                 /* of the last error */
};

static void flip_in(const struct run *run, int64_t step)
{
    char path[TRM_PATH_BYTES], shard[TRM_PATH_BYTES];
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    assert_ok(trm_store_step_path(run->directory, step, path, &err), err);
    assert_ok(trm_stored_open(path, &stored, &err), err);
    assert_ok(trm_file_path(shard, &err, "%s/shard-00000.h5", path), err);
    fixture_flip(shard, stored->catalog.files[0].data[TRM_KIND_EXP_AVG].offset + 40, 5);
    trm_stored_close(stored);
}

static void on_event(void *context, const struct trm_save_event *event)
{
    struct run *run = context;
    run->told[event->kind]++;
    run->last[event->kind] = event->step;
    if (event->error != NULL)
        snprintf(run->text, sizeof(run->text), "%s", event->error->text);
    if (event->kind == TRM_SAVE_DONE && event->step == run->damage)
        flip_in(run, event->step);
}

/* An attempt of the run, which loaded nothing from its directory. */
static void attempt(struct run *run, struct trm_retention retention, int64_t replace_from)
{
    struct trm_error err = {0};
    size_t bytes = trm_snapshot_bytes(run->pieces.elements, run->pieces.count, TRM_F32);
    trm_saver_destroy(run->saver);
    const struct trm_saver_settings settings = {
        .comm = run->self,
        .directory = run->directory,
        .tensors = fixture_tensors,
        .tensor_count = FIXTURE_TENSORS,
        .pieces = run->pieces.pieces,
        .piece_count = run->pieces.count,
        .snapshots = {run->memory, run->memory + bytes},
        .copy_threads = 1,
        .retention = retention,
        .replace_from = replace_from,
        .event = on_event,
        .context = run,
    };
    assert_ok(trm_saver_create(&settings, &run->saver, &err), err);
}

static void start(struct run *run, struct trm_retention retention)
{
    struct trm_error err = {0};
    memset(run, 0, sizeof(*run));
    fixture_directory(run->directory);
    assert_ok(trm_comm_self(&run->self, &err), err);
    run->damage = -1;
    run->pieces = fixture_pieces_of(1, 1, 0, 0);
    run->memory = malloc(TRM_SAVER_SNAPSHOTS *
                         trm_snapshot_bytes(run->pieces.elements, run->pieces.count, TRM_F32));
    attempt(run, retention, INT64_MAX);
}

static void finish(struct run *run)
{
    trm_saver_destroy(run->saver);
    trm_comm_destroy(run->self);
    fixture_pieces_free(&run->pieces);
    free(run->memory);
    fixture_directory_free(run->directory);
}

/* Trains to `step`, and begins to save that. */
static void begin(struct run *run, int64_t step)
{
    struct trm_error err = {0};
    struct trm_ckpt_state state = fixture_state(step);
    struct fixture_pieces now = fixture_pieces_of(1, 1, 0, step);
    memcpy(run->pieces.memory, now.memory, (size_t)now.elements * sizeof(float));
    fixture_pieces_free(&now);
    assert_ok(trm_saver_begin(run->saver, &state, &err), err);
}

static void wait_for_all(struct run *run)
{
    struct trm_error err = {0};
    assert_ok(trm_saver_wait(run->saver, &err), err);
}

/* The steps that are there, newest first, ended by -1. */
static void expect_steps(const struct run *run, const int64_t *expected)
{
    struct trm_error err = {0};
    int64_t *steps = NULL;
    int count = 0;
    assert_ok(trm_store_list(run->directory, &steps, &count, &err), err);
    for (int i = 0; i < count; i++)
        assert_int_equal(steps[i], expected[i]);
    assert_int_equal(expected[count], -1);
    free(steps);
}

static void expect_values(const struct run *run, int64_t step)
{
    char text[128];
    struct trm_error err = {0};
    struct trm_checkpoint *checkpoint = NULL;
    struct fixture_pieces all = fixture_pieces_of(1, 1, 0, -1);
    assert_ok(trm_checkpoint_open(run->self, run->directory, step, NULL, NULL, &checkpoint, &err),
              err);
    assert_ok(trm_checkpoint_load(run->self, checkpoint, all.pieces, all.count, NULL, &err), err);
    const char *wrong = fixture_wrong(&all, step, text);
    if (wrong != NULL)
        fail_msg("step %lld: %s", (long long)step, wrong);
    trm_checkpoint_close(checkpoint);
    fixture_pieces_free(&all);
}

static void a_third_save_waits_for_the_first_and_none_is_skipped(void **state)
{
    (void)state;
    struct run run;
    start(&run, (struct trm_retention){0});
    begin(&run, 1);
    begin(&run, 2);
    /* Both snapshots are taken; nothing was waited for. */
    assert_int_equal(run.told[TRM_SAVE_WAITED], 0);
    assert_int_equal(run.told[TRM_SAVE_DONE], 0);
    begin(&run, 3);
    /* For the one before the last, and for no more. */
    assert_int_equal(run.told[TRM_SAVE_WAITED], 1);
    assert_int_equal(run.last[TRM_SAVE_WAITED], 3);
    assert_int_equal(run.told[TRM_SAVE_DONE], 1);
    assert_int_equal(run.last[TRM_SAVE_DONE], 1);
    begin(&run, 4);
    assert_int_equal(run.told[TRM_SAVE_WAITED], 2);
    assert_int_equal(run.last[TRM_SAVE_DONE], 2);
    wait_for_all(&run);
    assert_int_equal(run.told[TRM_SAVE_DONE], 4);
    assert_int_equal(run.told[TRM_SAVE_FAILED], 0);
    expect_steps(&run, (const int64_t[]){4, 3, 2, 1, -1});
    for (int64_t step = 1; step <= 4; step++)
        expect_values(&run, step);
    finish(&run);
}

static void what_reads_back_otherwise_is_told_and_nothing_goes_for_it(void **state)
{
    (void)state;
    struct run run;
    start(&run, (struct trm_retention){.keep_latest = 1});
    for (int64_t step = 1; step <= 3; step++) {
        begin(&run, step);
        wait_for_all(&run);
    }
    expect_steps(&run, (const int64_t[]){3, 2, -1});
    assert_int_equal(run.told[TRM_SAVE_UNVERIFIED], 0);
    /* A disk that keeps another bit than it was given. */
    run.damage = 4;
    begin(&run, 4);
    wait_for_all(&run);
    assert_int_equal(run.told[TRM_SAVE_UNVERIFIED], 1);
    assert_int_equal(run.last[TRM_SAVE_UNVERIFIED], 4);
    assert_non_null(strstr(run.text, "step-00000004/shard-00000.h5: rows 0.."));
    assert_non_null(strstr(run.text, "exp_avg of \"tok_embed\" are not what was written"));
    expect_steps(&run, (const int64_t[]){4, 3, 2, -1});
    /* The next sound one takes two verified ones along, of which that one is none. */
    begin(&run, 5);
    wait_for_all(&run);
    expect_steps(&run, (const int64_t[]){5, 3, -1});
    expect_values(&run, 5);
    expect_values(&run, 3);
    finish(&run);
}

static void what_earlier_attempts_read_back_counts_as_verified(void **state)
{
    (void)state;
    const struct trm_retention newest = {.keep_latest = 1};
    struct run run;
    start(&run, newest);
    /* Each attempt goes on from memory, and comes to one save. */
    for (int64_t step = 1; step <= 4; step++) {
        attempt(&run, newest, step);
        begin(&run, step);
        wait_for_all(&run);
    }
    expect_steps(&run, (const int64_t[]){4, 3, -1});
    /* Back behind both: whoever began there may have passed them over. */
    attempt(&run, newest, 2);
    begin(&run, 2);
    wait_for_all(&run);
    expect_steps(&run, (const int64_t[]){4, 3, 2, -1});
    /* Saved anew, and not read back: the mark was that of another save. */
    attempt(&run, (struct trm_retention){0}, 3);
    begin(&run, 3);
    wait_for_all(&run);
    attempt(&run, newest, 5);
    begin(&run, 5);
    wait_for_all(&run);
    expect_steps(&run, (const int64_t[]){5, 4, -1});
    finish(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_third_save_waits_for_the_first_and_none_is_skipped),
        cmocka_unit_test(what_reads_back_otherwise_is_told_and_nothing_goes_for_it),
        cmocka_unit_test(what_earlier_attempts_read_back_counts_as_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
