/*
 * Attempts: the numbers of a run's starts, claimed on the run's file system so that no two
 * supervisors start one.
 *
 * In RUN_DIR/supervisor/:
 *   run.json          the key of the run: names node-local directories; made once
 *   attempt-00000007  a claim: JSON with its nonce, the host and pid of the supervisor that made
 *                     it, the step the run was at, and the lease that its ranks have
 *   ended-00000007    that attempt is over, and nothing of it is left: no waiting
 *
 * A claim is written to a file of its own and given its name by link(2), which one of two callers
 * wins on every file system, NFS included (its reply may be lost: the nonce under the name tells).
 * The newest claim owns the run: a supervisor looks again every second, one that finds a newer
 * claim ends its job, and one that cannot look prolongs no lease after trm_attempts_owned_ms. What
 * a look found is as old as the look's beginning, however long the file system took over it.
 *
 * Calls block on the file system; the supervisor makes them on a thread beside its loop.
 */
#ifndef TRM_LAUNCH_ATTEMPT_H
#define TRM_LAUNCH_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"

#define TRM_ATTEMPT_DIRECTORY "supervisor"

struct trm_claim {
    int64_t attempt; /* 0: none yet */
    uint64_t nonce;
    char host[128];
    int64_t pid;
    int64_t step;     /* newest step known when it was made, -1: none */
    int64_t lease_ms; /* how long its ranks may live on without word of their supervisor */
    bool preempted;   /* the attempt before it was stopped from outside: no fault of its own */
    bool ended;       /* by its supervisor's word */
};

struct trm_attempts {
    char directory[TRM_PATH_BYTES];
    char key[17]; /* of the run, 16 hexadecimal digits */
};

/* Makes the directory and the key if need be. */
enum trm_status trm_attempts_open(const char *run_dir, struct trm_attempts *out,
                                  struct trm_error *err);

/* The newest claim; attempt = 0 when there is none. */
enum trm_status trm_attempts_newest(const struct trm_attempts *attempts, struct trm_claim *claim,
                                    struct trm_error *err);

/* Claims the number after the newest: fills claim->attempt and nonce, and *before with the claim
 * that it follows (attempt = 0: none). With claim->attempt above 0 the newest must be that one,
 * which is the caller's own: what another supervisor has taken over is not taken back.
 * TRM_ERR_MISMATCH, naming who, then, and when another one claimed the same number first. */
enum trm_status trm_attempts_claim(const struct trm_attempts *attempts, struct trm_claim *claim,
                                   struct trm_claim *before, struct trm_error *err);

/* TRM_OK while `claim` is the newest, TRM_ERR_MISMATCH naming who made a newer one. */
enum trm_status trm_attempts_check(const struct trm_attempts *attempts,
                                   const struct trm_claim *claim, struct trm_error *err);

/* For how long after the beginning of a look that found its claim the newest a supervisor with this
 * lease may prolong leases. Looks are a second apart, and a file system may be slow. */
int64_t trm_attempts_owned_ms(int64_t lease_ms);

/* From a claim on, how long ranks may live of the one that it follows: its supervisor may have
 * looked just before, and prolonged leases to the end of what that gave it. 0: none can be alive.
 */
int64_t trm_attempts_wait_ms(const struct trm_claim *before);

/* Notes that nothing of the attempt is left. */
enum trm_status trm_attempts_end(const struct trm_attempts *attempts, const struct trm_claim *claim,
                                 struct trm_error *err);

#endif
