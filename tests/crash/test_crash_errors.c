/*
 * A save in which every call fails once: a disk that is full from some call on, one that reports an
 * error, writes that are cut short or interrupted.
 *
 * A save that fails says why in the system's words, leaves no stage behind and the older checkpoint
 * as it was. One that succeeds is there. Short and interrupted writes are no failures.
 */
#include "trial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/checkpoint/fixture.h"

#define NEXT_STEP 50

struct saving {
    const char *name;
    const char *arguments[8];
    int64_t last; /* the last step that it saves */
};

static const struct saving savings[] = {
    {"one rank", {"save", "@", "1", "20", "20", "3"}, 20},
    {"two ranks", {"save", "@", "2", "20", "20", "3"}, 20},
    {"two ranks into one file", {"save", "@", "2", "20", "20", "3", "2"}, 20},
    {"the writer threads of two ranks into one file", {"keep", "@", "2", "20", "2", "3", "2"}, 21},
    {"a writer thread", {"keep", "@", "1", "20", "2", "3"}, 21},
};
#define SAVINGS (sizeof(savings) / sizeof(savings[0]))

static struct trial_set one_older(struct trial *trial)
{
    struct trial_set there = trial_nothing();
    char directory[TRM_PATH_BYTES];
    trial_reset(trial);
    trial_checkpoints(trial->before, directory);
    trial_save(directory, 1, 1, 10, 10);
    there.values[10] = 10;
    return there;
}

/* Whether a save must not pass over a failure of this call: of every fsync, and of all that makes
 * a stage. What only clears up may fail, and a rename may be tried in another way. */
static bool must_be_reported(const struct fault_call *call)
{
    if (strcmp(call->name, "fsync") == 0)
        return true;
    return strstr(call->path, ".tmp") != NULL && strstr(call->path, ".removed.") == NULL &&
           strcmp(call->name, "unlink") != 0 && strcmp(call->name, "rmdir") != 0 &&
           strncmp(call->name, "rename", 6) != 0;
}

/* What was named as the cause, and what is there now. */
static const char *judge(struct trial *trial, const struct saving *saving,
                         const struct trial_set *before, int code, int error, char text[1200])
{
    char directory[TRM_PATH_BYTES];
    trial_checkpoints(trial->root, directory);
    struct trial_set expected = trial_after(trial, before, TRIAL_OWN_VALUES, false);
    if (code == 0 && expected.values[saving->last] != saving->last)
        return "it says that it saved, and did not";
    if (code != 0 && strcasestr(trial->said, strerror(error)) == NULL) {
        snprintf(text, 1200, "it does not say \"%s\": %.900s", strerror(error), trial->said);
        return text;
    }
    if (code != 0 && trial_hidden(directory, false) > 0)
        return "it left its stage";
    const char *wrong = trial_look(directory, &expected, text);
    if (wrong == NULL)
        wrong = trial_save_next(directory, NEXT_STEP, &expected, text);
    return wrong != NULL ? wrong : trial_look(directory, &expected, text);
}

/* Fails call after call; the number of those that were reported. */
static int fail_each(struct trial *trial, const struct saving *saving, int error, bool onward)
{
    struct trial_set before = one_older(trial);
    int reported = 0;
    for (long number = 1;; number++) {
        char text[1200];
        trial->control->action = FAULT_ERROR;
        trial->control->target = number;
        trial->control->error = error;
        trial->control->onward = onward;
        int code = trial_run(trial, saving->arguments, false);
        if (atomic_load(&trial->control->count) < number)
            break;
        const struct fault_call *call = &trial->control->calls[number - 1];
        const char *wrong = judge(trial, saving, &before, code, error, text);
        if (wrong == NULL && code == 0 && call->error != 0 && must_be_reported(call))
            wrong = "nothing was said of it";
        if (wrong != NULL)
            fail_msg("%s: \"%s\" at call %ld (%s \"%s\"): %s", saving->name, strerror(error),
                     number, call->name, call->path, wrong);
        reported += code != 0;
    }
    return reported;
}

static void fail_all(int error, bool onward)
{
    struct trial trial;
    trial_start(&trial);
    for (size_t i = 0; i < SAVINGS; i++) {
        int reported = fail_each(&trial, &savings[i], error, onward);
        print_message("%s at any call, %s: %d saves failed and said so\n", strerror(error),
                      savings[i].name, reported);
        assert_true(reported > 20);
    }
    trial_finish(&trial);
}

static void a_full_disk_is_reported_and_the_older_checkpoint_stays(void **state)
{
    (void)state;
    fail_all(ENOSPC, true);
}

static void an_error_of_any_call_is_reported_and_the_older_checkpoint_stays(void **state)
{
    (void)state;
    fail_all(EIO, false);
}

/* Call after call; 0: every write. */
static int disturb_each(struct trial *trial, const struct saving *saving, enum fault_action action)
{
    struct trial_set before = one_older(trial);
    for (long number = 0;; number++) {
        char text[1200];
        trial->control->action = action;
        trial->control->target = number;
        int code = trial_run(trial, saving->arguments, false);
        if (atomic_load(&trial->control->count) < number)
            return (int)number;
        const char *wrong = code != 0 ? trial->said : judge(trial, saving, &before, code, 0, text);
        if (wrong != NULL)
            fail_msg("%s: a write %s at call %ld: %s", saving->name,
                     action == FAULT_SHORT ? "cut short" : "interrupted", number, wrong);
    }
}

static void short_and_interrupted_writes_are_completed(void **state)
{
    static const struct saving *const disturbed[] = {&savings[0], &savings[2]};
    struct trial trial;
    (void)state;
    trial_start(&trial);
    for (size_t i = 0; i < sizeof(disturbed) / sizeof(disturbed[0]); i++) {
        int cut = disturb_each(&trial, disturbed[i], FAULT_SHORT);
        int interrupted = disturb_each(&trial, disturbed[i], FAULT_INTERRUPT);
        print_message("%s: %d saves with short writes, %d with interrupted ones\n",
                      disturbed[i]->name, cut, interrupted);
        assert_true(cut > 20 && interrupted > 20);
    }
    trial_finish(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_reported_and_the_older_checkpoint_stays),
        cmocka_unit_test(an_error_of_any_call_is_reported_and_the_older_checkpoint_stays),
        cmocka_unit_test(short_and_interrupted_writes_are_completed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
