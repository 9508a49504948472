/* What a run tells: a line per step for people (standard output of rank 0), and metrics.jsonl for
 * programs: one JSON object per step and per validation. Only rank 0 writes. */
#ifndef TRM_TRAINER_METRICS_H
#define TRM_TRAINER_METRICS_H

#include <stdint.h>

#include "base/status.h"

struct trm_metrics {
    int fd; /* of metrics.jsonl; -1 on other ranks */
    int64_t train_iters, log_interval;
};

struct trm_step_metrics {
    int64_t step, samples;
    double loss, grad_norm, learning_rate;
    double step_ms, tokens_per_second; /* of the whole job */
    uint64_t data_hash;
};

/* Opens RUN_DIR/metrics.jsonl for appending, without lines of steps after `step` (a run that was
 * cut off wrote them; they will come again). */
enum trm_status trm_metrics_open(struct trm_metrics *metrics, const char *run_dir, int64_t step,
                                 struct trm_error *err);
void trm_metrics_close(struct trm_metrics *metrics);

enum trm_status trm_metrics_step(struct trm_metrics *metrics, const struct trm_step_metrics *step,
                                 struct trm_error *err);
enum trm_status trm_metrics_validation(struct trm_metrics *metrics, int64_t step, double loss,
                                       double milliseconds, struct trm_error *err);

#endif
