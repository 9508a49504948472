/*
 * One run of crash-saver with a fault in it, and what is found in its directory afterwards.
 *
 * A trial has folders of its own below a scratch folder: `root` is watched by the faults, and the
 * checkpoints lie in root/run/checkpoints, so that the folders that a first save makes are watched
 * too. All calls fail the test (cmocka) when the machinery itself does.
 */
#ifndef TRM_TESTS_CRASH_TRIAL_H
#define TRM_TESTS_CRASH_TRIAL_H

#include "base/file.h"
#include "faults.h"

#define TRIAL_CHECKPOINTS "run/checkpoints"
#define TRIAL_OWN_VALUES  (-2)
#define TRIAL_STEP_END    64 /* steps are below */

struct trial {
    char scratch[TRM_PATH_BYTES]; /* everything of this test program */
    char before[TRM_PATH_BYTES];  /* what a run starts from */
    char root[TRM_PATH_BYTES];    /* after a run: as the killed process left it */
    char lost[TRM_PATH_BYTES];    /* and as a loss of power might have (image.h) */
    char hollow[TRM_PATH_BYTES];
    char image[TRM_PATH_BYTES];
    struct fault_control *control; /* of the last run: its calls are logged here */
    char said[2048];               /* its standard error */
};

void trial_start(struct trial *trial);
void trial_finish(struct trial *trial);

/* Empties `before`; a directory in it that holds checkpoints. */
void trial_reset(struct trial *trial);
void trial_checkpoints(const char *root, char path[TRM_PATH_BYTES]);

/* Runs crash-saver with `arguments` (NULL-terminated; "@" stands for the directory of checkpoints)
 * on a copy of `before`. Target, action and the like are set in trial->control by the caller, and
 * cleared again. With `power` fsync is modelled, and `lost` and `hollow` are made. Returns the exit
 * code, or -signal. */
int trial_run(struct trial *trial, const char *const *arguments, bool power);

/* Saves without faults, by `ranks` processes, of which `group` share a shard. */
void trial_save(const char *directory, int ranks, int group, int64_t step, int64_t values);

/* Which checkpoints there are to be found, and with the values of which step. */
struct trial_set {
    int64_t values[TRIAL_STEP_END]; /* by step; -1: there is none */
};

struct trial_set trial_nothing(void);

/* `before`, and what the logged calls of the last run made of it: renames to and from step-N
 * (with values of step `saved`, or, for TRIAL_OWN_VALUES, of N). `durable`: counting only those
 * that an fsync of the directory followed. */
struct trial_set trial_after(const struct trial *trial, const struct trial_set *before,
                             int64_t saved, bool durable);

/* Resumes from the newest as a run does, then opens, verifies and loads every checkpoint there is
 * in full, each element compared, and holds what was found against `expected`. A sentence about
 * the first thing that is wrong, or NULL. */
const char *trial_look(const char *directory, const struct trial_set *expected, char text[1200]);

/* Saves `step` there as the next attempt does, and adds it to `expected`. Then nothing hidden may
 * be left. A sentence about what is wrong, or NULL. */
const char *trial_save_next(const char *directory, int64_t step, struct trial_set *expected,
                            char text[1200]);

/* Hidden names: of all sorts, or but for checkpoints that are on their way out. */
int trial_hidden(const char *directory, bool removed_ones_too);

#endif
