#include "trainer/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/mirror.h"
#include "trainer/signals.h"
#include "trainer/sums.h"

/* Micro-batch starting at sample `first` of the validation order. */
static enum trm_status read_micro_batch(struct trm_run *run, int64_t first, struct trm_error *err)
{
    int64_t length = run->config->seq_length;
    enum trm_status status = TRM_OK;

    for (int64_t i = 0; i < run->config->micro_batch_size && status == TRM_OK; i++) {
        status = trm_dataset_read(run->valid, first + i, run->sample, err);
        memcpy(run->valid_inputs + i * length, run->sample, (size_t)length * sizeof(int32_t));
        memcpy(run->valid_targets + i * length, run->sample + 1, (size_t)length * sizeof(int32_t));
    }
    return status;
}

/* Of the micro-batch that was read; the losses are added to run->sums. */
static enum trm_status evaluate_micro_batch(struct trm_run *run, struct trm_error *err)
{
    int64_t tokens = run->config->micro_batch_size * run->config->seq_length;
    const struct trm_batch batch = {.inputs = run->valid_inputs, .targets = run->valid_targets};
    const int32_t *inputs, *targets;
    enum trm_status status;

    trm_mirror_send_tokens(run, &batch, tokens, &inputs, &targets);
    status = trm_model_evaluate(run->model, inputs, targets, NULL, &run->sums->loss, err);
    /* The host's memory is used again. */
    return status == TRM_OK ? trm_device_sync(&run->device, err) : status;
}

/* This rank's micro-batches of one global batch. */
static enum trm_status evaluate_batch(struct trm_run *run, int64_t batch, struct trm_error *err)
{
    int64_t first = batch * run->config->global_batch_size;
    enum trm_status status = TRM_OK;

    for (int i = 0; i < run->micro_batch_count && status == TRM_OK; i++) {
        status = read_micro_batch(run, first + run->offsets[i], err);
        if (status == TRM_OK)
            status = evaluate_micro_batch(run, err);
    }
    return status;
}

enum trm_status trm_evaluate(struct trm_run *run, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    double tokens = (double)(config->eval_iters * config->global_batch_size * config->seq_length);
    int64_t begin_ns = trm_clock_now_ns();
    struct trm_step_sums sums;
    enum trm_status status = TRM_OK;
    bool stop = false;
    double total;

    if (!run->valid || config->eval_iters == 0)
        return TRM_OK;
    trm_run_phase(run, TRM_PHASE_EVALUATE);
    status = trm_param_gather_finish(run->param_gather, err);
    trm_sums_zero(run);
    for (int64_t batch = 0; batch < config->eval_iters && status == TRM_OK; batch++) {
        trm_failpoint("evaluate", run->state.step, NULL, 0);
        status = trm_agree_any(run->world, trm_signals_stop_requested(run->flight), &stop, err);
        if (status != TRM_OK || stop)
            return status;
        status = trm_agree(run->world, evaluate_batch(run, batch, err), err);
    }
    if (status == TRM_OK)
        status = trm_agree(run->world, trm_sums_read(run, &sums, err), err);
    if (status != TRM_OK)
        return trm_error_prefix(err, "validation");
    if (run->mesh.tensor_rank > 0)
        trm_exact_sum_init(&sums.loss);
    status = trm_sums_reduce(run->world, &sums.loss, 1, &total, err);
    if (status != TRM_OK)
        return status;
    run->state.valid_loss = total / tokens;
    if (!isfinite(run->state.valid_loss)) /* on all ranks alike */
        return trm_error_set(err, TRM_ERR_NUMERICS, "step %lld: the validation loss is %g",
                             (long long)run->state.step, run->state.valid_loss);
    trm_metrics_validation(&run->metrics, run->state.step, run->state.valid_loss,
                           (double)(trm_clock_now_ns() - begin_ns) / 1e6);
    return TRM_OK;
}
