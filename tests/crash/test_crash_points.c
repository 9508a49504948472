/*
 * A save killed before every call that changes anything on disk, and in the middle of every write.
 *
 * After each kill three states are looked at: as the process left it, and two that a loss of power
 * may leave (image.h). In each, a resume must take the newest committed checkpoint without passing
 * one over, every checkpoint that shows must be whole to the last bit, and the next save must work
 * and clear up. "Committed" is read off the log: the rename was done, and, for a loss of power that
 * undoes names, synced.
 */
#include "trial.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/checkpoint/fixture.h"

#define NEXT_STEP 50

struct scenario {
    const char *name;
    const char *arguments[8];
    int64_t there[4]; /* steps saved before; 0: no more */
    bool leftovers;   /* of earlier attempts */
    int64_t saved;    /* values of what is saved */
    bool no_exchange;
};

static const struct scenario scenarios[] = {
    {"the first save, in a directory that is not there",
     {"save", "@", "1", "20", "20", "3"},
     {0},
     false,
     20,
     false},
    {"a save beside an older one and leftovers of earlier attempts",
     {"save", "@", "1", "20", "20", "3"},
     {10},
     true,
     20,
     false},
    {"a save by two ranks", {"save", "@", "2", "20", "20", "3"}, {10}, false, 20, false},
    {"a save by two ranks into one file",
     {"save", "@", "2", "20", "20", "3", "2"},
     {10},
     false,
     20,
     false},
    {"a save by three ranks into two files",
     {"save", "@", "3", "20", "20", "3", "2"},
     {10},
     true,
     20,
     false},
    {"a step saved anew", {"save", "@", "1", "20", "40", "3"}, {10, 20}, false, 40, false},
    {"a step saved anew where names cannot be exchanged",
     {"save", "@", "1", "20", "40", "3"},
     {10, 20},
     false,
     40,
     true},
    {"two saves by a writer thread, and old ones removed",
     {"keep", "@", "1", "30", "2", "3"},
     {10, 20},
     false,
     TRIAL_OWN_VALUES,
     false},
    {"two saves by the writer threads of two ranks, and old ones removed",
     {"keep", "@", "2", "30", "2", "3"},
     {10, 20},
     false,
     TRIAL_OWN_VALUES,
     false},
    {"a save by the writer threads of two ranks into one file, read back",
     {"keep", "@", "2", "30", "1", "3", "2"},
     {10, 20},
     false,
     TRIAL_OWN_VALUES,
     false},
    {"a checkpoint removed", {"remove", "@", "10"}, {10, 20, 30}, false, TRIAL_OWN_VALUES, false},
};

static void leave(const char *directory, const char *hidden)
{
    char path[TRM_PATH_BYTES];
    assert_int_equal(trm_file_path(path, NULL, "%s/%s", directory, hidden), TRM_OK);
    assert_int_equal(trm_file_make_directories(path, NULL), TRM_OK);
    assert_int_equal(trm_file_path(path, NULL, "%s/%s/shard-00000.h5", directory, hidden), TRM_OK);
    assert_int_equal(trm_file_write_all(path, "half", 4, false, NULL), TRM_OK);
}

static struct trial_set set_up(struct trial *trial, const struct scenario *scenario)
{
    struct trial_set there = trial_nothing();
    char directory[TRM_PATH_BYTES];
    trial_reset(trial);
    trial_checkpoints(trial->before, directory);
    for (int i = 0; scenario->there[i] > 0; i++) {
        trial_save(directory, 1, 1, scenario->there[i], scenario->there[i]);
        there.values[scenario->there[i]] = scenario->there[i];
    }
    if (scenario->leftovers) {
        leave(directory, ".step-00000015.a2.tmp");
        leave(directory, ".step-00000005.a1.removed.tmp");
    }
    return there;
}

struct counts {
    int points, states;
};

/* After the kill: the three states. */
static void look_at_all(struct trial *trial, const struct scenario *scenario,
                        const struct trial_set *before, const char *how, long number,
                        struct counts *counts)
{
    const struct fault_call *call = &trial->control->calls[number - 1];
    const struct {
        const char *name, *root;
        bool durable, resumed; /* before the next save, that is */
    } states[] = {{"as it was left", trial->root, false, true},
                  {"with un-synced names and bytes lost", trial->lost, true, true},
                  {"with un-synced bytes zero", trial->hollow, false, false}};
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        char directory[TRM_PATH_BYTES], text[1200];
        struct trial_set expected = trial_after(trial, before, scenario->saved, states[i].durable);
        trial_checkpoints(states[i].root, directory);
        const char *wrong = NULL;
        if (states[i].resumed)
            wrong = trial_look(directory, &expected, text);
        if (wrong == NULL)
            wrong = trial_save_next(directory, NEXT_STEP, &expected, text);
        if (wrong == NULL)
            wrong = trial_look(directory, &expected, text);
        if (wrong != NULL)
            fail_msg("%s, killed %s call %ld (%s \"%s\"), %s: %s", scenario->name, how, number,
                     call->name, call->path, states[i].name, wrong);
        counts->states++;
    }
    counts->points++;
}

static bool is_write(const struct fault_call *call)
{
    return (strcmp(call->name, "write") == 0 || strcmp(call->name, "pwrite") == 0) &&
           call->bytes > 1;
}

/* False when the run got to its end. */
static bool kill_at(struct trial *trial, const struct scenario *scenario, long number,
                    enum fault_action action)
{
    trial->control->action = action;
    trial->control->target = number;
    trial->control->no_exchange = scenario->no_exchange;
    int code = trial_run(trial, scenario->arguments, true);
    if (code != 0 && code != -SIGKILL)
        fail_msg("%s, to be killed at call %ld: exit code %d: %s", scenario->name, number, code,
                 trial->said);
    return code == -SIGKILL;
}

static void enumerate(struct trial *trial, const struct scenario *scenario, struct counts *all)
{
    struct trial_set before = set_up(trial, scenario);
    struct counts counts = {0};
    long number = 1;
    while (kill_at(trial, scenario, number, FAULT_KILL)) {
        bool write = is_write(&trial->control->calls[number - 1]);
        look_at_all(trial, scenario, &before, "before", number, &counts);
        if (write && kill_at(trial, scenario, number, FAULT_TORN))
            look_at_all(trial, scenario, &before, "in the middle of", number, &counts);
        number++;
    }
    /* What was reported as saved is durable. */
    struct trial_set now = trial_after(trial, &before, scenario->saved, false);
    struct trial_set durable = trial_after(trial, &before, scenario->saved, true);
    assert_memory_equal(&now, &durable, sizeof(now));
    assert_memory_not_equal(&now, &before, sizeof(now));
    look_at_all(trial, scenario, &before, "after", number - 1, &counts);
    print_message("%s: %d crash points, %d states\n", scenario->name, counts.points, counts.states);
    all->points += counts.points;
    all->states += counts.states;
}

static void a_kill_at_any_call_leaves_the_newest_committed_checkpoint(void **state)
{
    struct trial trial;
    struct counts all = {0};
    (void)state;
    trial_start(&trial);
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        enumerate(&trial, &scenarios[i], &all);
    trial_finish(&trial);
    print_message("%d crash points, %d states looked at\n", all.points, all.states);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kill_at_any_call_leaves_the_newest_committed_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
