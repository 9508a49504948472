/* What a run tells: a line per step for people (standard output of rank 0), and metrics.jsonl for
 * programs: one JSON object per step, with the time at which it was done (as events.jsonl has it),
 * and per validation. Only rank 0 writes.
 *
 * A line that a full or failing disk does not take is missing, and no reason to end a run: that is
 * told once, and once more when lines are written again. Half a line is never left. */
#ifndef TRM_TRAINER_METRICS_H
#define TRM_TRAINER_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "base/status.h"
#include "trainer/gauges.h"

struct trm_metrics {
    int fd; /* of metrics.jsonl; -1 on other ranks */
    int64_t train_iters, log_interval;
    struct trm_log log;
    int64_t missing; /* lines since the file took one */
    struct trm_gauges gauges;
};

struct trm_step_metrics {
    int64_t step, samples;
    double loss, grad_norm, learning_rate;
    double step_ms, tokens_per_second; /* of the whole job */
    uint64_t data_hash;
};

/* A step whose numbers were bad, and what was done about it (docs/guard.md). */
struct trm_bad_step_metrics {
    int64_t step; /* among whose lines it stands: the bad one, or the one that a rollback went to */
    int64_t bad_step;
    const char *reason, *action;
    int64_t first, next; /* sample numbers [first, next) */
    int64_t lineage;
};

/* Opens RUN_DIR/metrics.jsonl for appending, without lines of steps after `step` (a run that was
 * cut off wrote them; they will come again). */
enum trm_status trm_metrics_open(struct trm_metrics *metrics, const char *run_dir, int64_t step,
                                 struct trm_error *err);
void trm_metrics_close(struct trm_metrics *metrics);

void trm_metrics_step(struct trm_metrics *metrics, const struct trm_step_metrics *step);
void trm_metrics_validation(struct trm_metrics *metrics, int64_t step, double loss,
                            double milliseconds);
void trm_metrics_bad_step(struct trm_metrics *metrics, const struct trm_bad_step_metrics *bad);
/* `ranks`: "rank 2 (node3)", those that deviate, or, when that is not known, those that differ. */
void trm_metrics_diverged(struct trm_metrics *metrics, int64_t step, bool known, const char *ranks);

#endif
