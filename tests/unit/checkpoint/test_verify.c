/* Every byte that matters is looked at; and two checkpoints are told apart. */
#include "fixture.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "checkpoint/compare.h"
#include "checkpoint/restore.h"
#include "checkpoint/verify.h"

#ifdef TRM_SANITIZED
/* libhdf5 leaks what it had read of a file that turns out to be damaged. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}
#endif

static struct trm_stored *open_step(const char *directory, int64_t step)
{
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    assert_ok(trm_stored_open_newest(directory, step, NULL, NULL, &stored, &err), err);
    return stored;
}

struct found {
    int wrong, differs;
    int64_t bytes;
    char text[512];
    struct trm_difference last;
};

static void note_wrong(void *context, const char *reason)
{
    struct found *found = context;
    if (found->wrong++ == 0)
        snprintf(found->text, sizeof(found->text), "%s", reason);
}

static void note_progress(void *context, int64_t bytes)
{
    ((struct found *)context)->bytes = bytes;
}

static void a_sound_checkpoint_verifies_to_the_last_byte(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES];
    struct trm_error err = {0};
    struct found found = {0};
    const struct trm_verify_report report = {&found, note_wrong, note_progress};
    fixture_directory(directory);
    struct trm_ckpt_state training = fixture_state(20);
    fixture_save(directory, &training, 2, 2);
    struct trm_stored *stored = open_step(directory, 20);
    assert_ok(trm_verify(stored, &report, &err), err);
    assert_int_equal(found.wrong, 0);
    assert_int_equal(found.bytes, trm_catalog_bytes(&stored->catalog));
    trm_stored_close(stored);
    fixture_directory_free(directory);
}

/* What became of a checkpoint after one bit was flipped. */
enum outcome { REFUSED_AT_OPEN, REFUSED_BY_VERIFY, UNNOTICED };

static enum outcome look_at(const char *directory, const char *name, const char *context)
{
    struct trm_error err = {0};
    struct trm_stored *stored = NULL;
    enum outcome outcome = REFUSED_AT_OPEN;
    if (trm_stored_open(directory, &stored, &err) == TRM_OK)
        outcome = trm_verify(stored, NULL, &err) == TRM_OK ? UNNOTICED : REFUSED_BY_VERIFY;
    if (outcome != UNNOTICED && strstr(err.text, name) == NULL)
        fail_msg("%s: \"%s\" does not name %s", context, err.text, name);
    trm_stored_close(stored);
    return outcome;
}

/* In each shard, bits all over: those in tables and tensors must be noticed, by name. */
static void a_flipped_bit_is_noticed_by_name(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], step[TRM_PATH_BYTES];
    struct trm_error err = {0};
    fixture_directory(directory);
    struct trm_ckpt_state training = fixture_state(20);
    fixture_save(directory, &training, 1, 2);
    assert_ok(trm_file_path(step, &err, "%s/step-00000020", directory), err);
    struct trm_stored *stored = open_step(directory, 20);
    uint64_t draw = 0;
    for (int f = 0; f < stored->catalog.file_count; f++) {
        const struct trm_ckpt_file *file = &stored->catalog.files[f];
        const struct trm_ckpt_range ranges[] = {
            file->identity, file->slices,  file->checksums, file->data[0],
            file->data[1],  file->data[2], {0, 600},
        };
        assert_ok(trm_file_path(path, &err, "%s/%s", step, file->name), err);
        for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++)
            for (int i = 0; i < 40; i++) {
                uint64_t bits = trm_random_bits(7, draw++);
                int64_t byte = ranges[r].offset + (int64_t)(bits >> 8) % ranges[r].bytes;
                char context[128];
                snprintf(context, sizeof(context), "%s, range %zu, byte %lld", file->name, r,
                         (long long)byte);
                fixture_flip(path, byte, (int)(bits & 7));
                enum outcome outcome = look_at(step, file->name, context);
                fixture_flip(path, byte, (int)(bits & 7));
                /* HDF5's own bytes at the file's head have gaps that mean nothing. */
                if (r < 3 && outcome != REFUSED_AT_OPEN)
                    fail_msg("%s: not refused at open", context);
                if (r >= 3 && r < 6 && outcome != REFUSED_BY_VERIFY)
                    fail_msg("%s: not noticed", context);
            }
    }
    trm_stored_close(stored);
    assert_int_equal(look_at(step, "", "restored"), UNNOTICED);
    fixture_directory_free(directory);
}

static void note_unequal(void *context, const char *what)
{
    note_wrong(context, what);
}

static void note_differs(void *context, const struct trm_ckpt_tensor *tensor,
                         enum trm_ckpt_kind kind, const struct trm_difference *difference)
{
    struct found *found = context;
    found->differs++;
    found->last = *difference;
    snprintf(found->text, sizeof(found->text), "%s %s", tensor->name, trm_ckpt_kind_name(kind));
}

static bool compare(const char *a, const char *b, struct found *found)
{
    struct trm_error err = {0};
    bool identical = false;
    *found = (struct found){0};
    const struct trm_compare_report report = {found, note_unequal, note_differs, note_progress};
    struct trm_stored *first = open_step(a, -1), *second = open_step(b, -1);
    assert_ok(trm_compare(first, second, &report, &identical, &err), err);
    assert_int_equal(found->bytes, trm_catalog_bytes(&first->catalog));
    trm_stored_close(first);
    trm_stored_close(second);
    return identical;
}

static void checkpoints_of_all_layouts_are_identical(void **state)
{
    (void)state;
    static const int layouts[][2] = {{1, 1}, {2, 1}, {1, 3}, {2, 2}};
    char directories[4][TRM_PATH_BYTES];
    struct found found;
    for (int i = 0; i < 4; i++) {
        struct trm_ckpt_state training = fixture_state(20);
        training.attempt = i;
        fixture_directory(directories[i]);
        fixture_save(directories[i], &training, layouts[i][0], layouts[i][1]);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            assert_true(compare(directories[i], directories[j], &found));
    for (int i = 0; i < 4; i++)
        fixture_directory_free(directories[i]);
}

static void differences_are_counted_and_measured(void **state)
{
    (void)state;
    char a[TRM_PATH_BYTES], b[TRM_PATH_BYTES];
    struct found found;
    fixture_directory(a);
    fixture_directory(b);
    struct trm_ckpt_state training = fixture_state(20);
    fixture_save(a, &training, 1, 2);
    training.data_hash++;
    fixture_save(b, &training, 2, 1);
    assert_false(compare(a, b, &found));
    assert_int_equal(found.differs, 0);
    assert_string_equal(found.text, "data_hash: fedcba9876543224 and fedcba9876543225");
    /* Equal tensors, from which runs would not go on alike. */
    struct trm_ckpt_state others[4];
    for (int i = 0; i < 4; i++)
        others[i] = fixture_state(20);
    others[0].skip_count = 1;
    others[1].recent_losses[1] += 0.5;
    others[2].recent_loss_count--;
    others[3].skips_in_row = 0;
    for (int i = 0; i < 4; i++) {
        static const char *const words[] = {
            "skips: 2 and 1 ranges, and not the same", "recent_losses: 3 and 3, and not the same",
            "recent_losses: 3 and 2, and not the same", "skips_in_row: 2 and 0"};
        fixture_directory_free(b);
        fixture_directory(b);
        fixture_save(b, &others[i], 2, 1);
        assert_false(compare(a, b, &found));
        assert_int_equal(found.wrong, 1);
        assert_int_equal(found.differs, 0);
        assert_string_equal(found.text, words[i]);
    }
    /* Step 24 holds values that are 0.5 lower. */
    fixture_directory_free(b);
    fixture_directory(b);
    training = fixture_state(24);
    fixture_save(b, &training, 2, 2);
    assert_false(compare(a, b, &found));
    assert_int_equal(found.wrong, 3); /* step, next_sample, data_hash */
    assert_int_equal(found.differs, FIXTURE_TENSORS * TRM_KIND_COUNT);
    assert_string_equal(found.text, "scalar exp_avg_sq");
    assert_int_equal(found.last.elements, 1);
    assert_int_equal(found.last.different, 1);
    assert_true(fabs(found.last.largest_absolute - 0.5) < 1e-9);
    assert_true(fabs(found.last.largest_relative - 0.5 / 399998.0) < 1e-9);
    /* NaN is as far away as can be, and equal to itself. */
    fixture_directory_free(b);
    fixture_directory(b);
    training = fixture_state(20);
    fixture_save_values(b, &training, -1, 1, 2);
    assert_false(compare(b, a, &found));
    assert_true(isinf(found.last.largest_absolute) && isinf(found.last.largest_relative));
    assert_true(compare(b, b, &found));
    fixture_directory_free(a);
    fixture_directory_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_checkpoint_verifies_to_the_last_byte),
        cmocka_unit_test(a_flipped_bit_is_noticed_by_name),
        cmocka_unit_test(checkpoints_of_all_layouts_are_identical),
        cmocka_unit_test(differences_are_counted_and_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
