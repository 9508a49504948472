#include "trainer/step.h"

#include <math.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/memory_tier.h"
#include "trainer/mirror.h"
#include "trainer/numbers.h"
#include "trainer/optimizer/schedule.h"
#include "trainer/replicas.h"
#include "trainer/saving.h"
#include "trainer/signals.h"
#include "trainer/sums.h"

static void param_wait(void *context, int first, int count)
{
    struct trm_run *run = context;
    trm_param_gather_wait(run->param_gather, first, count);
    trm_memory_tier_poll(run);
}

static void grad_ready(void *context, int first, int count)
{
    struct trm_run *run = context;
    trm_grad_sync_ready(run->grad_sync, first, count);
    trm_memory_tier_poll(run);
}

static void backward(void *context)
{
    struct trm_run *run = context;
    trm_run_phase(run, TRM_PHASE_BACKWARD);
}

/* Does every rank have its batch, was any asked to stop, and how far are saves and copies in
 * memory? One small reduction. */
static enum trm_status agree_to_begin(struct trm_run *run, enum trm_status mine, bool *stop,
                                      struct trm_error *err)
{
    int64_t flags[3 + TRM_PARTNER_WORDS] = {mine != TRM_OK, trm_signals_stop_requested(run->flight),
                                            trm_saver_report(run->saving.saver)};
    struct trm_error ignored, *words = mine == TRM_OK ? err : &ignored;
    enum trm_status status = trm_memory_tier_report(run, flags + 3, words);

    if (status == TRM_OK)
        status =
            trm_comm_all_reduce(run->world, flags, 3 + TRM_PARTNER_WORDS, TRM_MAX_I64, NULL, words);
    if (status != TRM_OK)
        return status;
    *stop = flags[1] != 0;
    if (flags[0])
        return trm_agree(run->world, mine, err);
    status = trm_saving_advance(run, flags[2], err);
    if (status == TRM_OK && !*stop)
        status = trm_memory_tier_advance(run, flags + 3, err);
    return status;
}

/* All lanes of this rank, each with its micro-batches in order. */
static enum trm_status run_lanes(struct trm_run *run, const struct trm_batch *batch,
                                 struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_model_hooks early = {.context = run, .param_wait = param_wait, .backward = backward};
    struct trm_model_hooks last = early;
    int64_t tokens = config->micro_batch_size * config->seq_length;
    const int32_t *inputs, *targets;
    enum trm_status status = TRM_OK;

    last.grad_ready = grad_ready;
    trm_sums_zero(run);
    trm_mirror_send_tokens(run, batch, run->micro_batch_count * tokens, &inputs, &targets);
    for (int lane = 0; lane < run->lane_count && status == TRM_OK; lane++) {
        float *gradients = trm_grad_sync_begin_lane(run->grad_sync);
        for (int64_t i = 0; i < config->accumulation && status == TRM_OK; i++) {
            int64_t at = (lane * config->accumulation + i) * tokens;
            trm_run_phase(run, TRM_PHASE_FORWARD);
            status = trm_model_forward_backward(
                run->model, inputs + at, targets + at, gradients, i > 0,
                i == config->accumulation - 1 ? &last : &early, &run->sums->loss, err);
        }
    }
    return status;
}

/* AdamW on owned shards, once nothing reads what it changes. `norm` is of no matter where a device
 * judges, which has the scale in its verdict. */
static enum trm_status update(struct trm_run *run, double norm, float *owned,
                              struct trm_step_metrics *m, struct trm_error *err)
{
    double tokens = (double)(run->config->global_batch_size * run->config->seq_length);
    double scale = trm_clip_factor(norm, run->config->clip_grad) / tokens;
    bool on_host = trm_device_is_host(&run->device);
    enum trm_status status = trm_memory_tier_join(run, err);

    if (status == TRM_OK)
        status = trm_saving_join(run, err);
    if (status != TRM_OK)
        return status;
    trm_run_phase(run, TRM_PHASE_OPTIMIZER);
    trm_mirror_forget(run);
    m->learning_rate = trm_schedule_learning_rate(run->config, m->step);
    trm_optimizer_update(run->optimizer, m->step, m->learning_rate, scale,
                         on_host ? NULL : &run->sums->verdict, run->parameters, owned);
    return trm_device_check(&run->device, err);
}

/* New parameters on their way to everyone. */
static enum trm_status share(struct trm_run *run, int64_t step, struct trm_error *err)
{
    const struct trm_layout_bucket *first = &run->layout->buckets[0];
    int64_t own = run->mesh.data_rank * first->shard_elements;
    bool on_host = trm_device_is_host(&run->device);

    trm_failpoint("updated", step, on_host ? (float *)run->parameters + first->offset + own : NULL,
                  on_host ? (size_t)first->shard_elements * sizeof(float) : 0);
    return trm_param_gather_start(run->param_gather, run->parameters, err);
}

/* What a step is told by, from the totals of losses and squares. */
static void tell(struct trm_run *run, const double values[2], struct trm_step_metrics *m)
{
    double tokens = (double)(run->config->global_batch_size * run->config->seq_length);

    m->loss = values[0] / tokens;
    m->grad_norm = sqrt(values[1]) / tokens;
}

static enum trm_status check_replicas(struct trm_run *run, int64_t step, struct trm_error *err)
{
    return trm_replicas_due(run, step) ? trm_replicas_check(run, step, err) : TRM_OK;
}

/* The host sees the numbers before it updates. */
static enum trm_status end_on_host(struct trm_run *run, const struct trm_batch *batch, float *owned,
                                   struct trm_step_metrics *m, struct trm_error *err)
{
    struct trm_exact_sum sums[2] = {run->sums->loss, run->sums->squares};
    bool finite_here = isfinite(trm_exact_sum_value(&sums[0]));
    double values[2];
    enum trm_status status;

    if (run->mesh.tensor_rank > 0)
        trm_exact_sum_init(&sums[0]); /* every tensor-parallel rank has the same losses */
    status = trm_sums_reduce(run->world, sums, 2, values, err);
    if (status != TRM_OK)
        return status;
    tell(run, values, m);
    status = check_replicas(run, m->step, err);
    if (status == TRM_OK)
        status = trm_numbers_judge(run, m, batch, finite_here, err);
    if (status == TRM_OK)
        status = update(run, m->grad_norm, owned, m, err);
    return status == TRM_OK ? share(run, m->step, err) : status;
}

/* The numbers of a step that the device has judged; it must have judged as the host does. */
static enum trm_status read_numbers(struct trm_run *run, const struct trm_batch *batch,
                                    struct trm_step_metrics *m, struct trm_error *err)
{
    const struct trm_step_sums *sums = run->mirror.sums;
    double values[2];
    bool bad;
    enum trm_status status = trm_groups_settle(&run->groups, err);

    if (status == TRM_OK)
        status = trm_device_fetch_wait(&run->device, err);
    if (status != TRM_OK)
        return status;
    values[0] = trm_exact_sum_value(&sums->loss);
    values[1] = trm_exact_sum_value(&sums->squares);
    tell(run, values, m);
    bad = trm_guard_judge(run->config, &run->state, m->loss, m->grad_norm) != TRM_GUARD_SOUND;
    if (bad != (sums->verdict.bad != 0))
        return trm_error_set(err, TRM_ERR_INTERNAL,
                             "step %lld: loss %g and gradient norm %g are %s to the GPU and %s to "
                             "the host; test this node's GPU",
                             (long long)m->step, m->loss, m->grad_norm, bad ? "sound" : "bad",
                             bad ? "bad" : "sound");
    return trm_numbers_judge(run, m, batch, isfinite(trm_exact_sum_value(&sums->own_loss)), err);
}

/* The device judges, and the host reads what it found while AdamW runs. */
static enum trm_status end_on_device(struct trm_run *run, const struct trm_batch *batch,
                                     float *owned, struct trm_step_metrics *m,
                                     struct trm_error *err)
{
    enum trm_status status = check_replicas(run, m->step, err);

    if (status == TRM_OK)
        status = trm_sums_judge(run, trm_guard_limit(run->config, &run->state), err);
    if (status == TRM_OK)
        status = update(run, 0, owned, m, err);
    if (status == TRM_OK)
        status = read_numbers(run, batch, m, err);
    return status == TRM_OK ? share(run, m->step, err) : status;
}

/* What comes until the next step's forward pass belongs to that step, and may wait for the disk. */
static void note_step(struct trm_run *run, int64_t step_ns, int64_t waited_before_ns)
{
    struct trm_flight_step step = {
        .step = run->state.step,
        .samples = run->state.next_sample,
        .step_ns = step_ns,
        .compute_ns = step_ns - (trm_flight_waited_ns(run->flight) - waited_before_ns),
        .loss = run->state.last_loss,
    };

    trm_flight_step(run->flight, &step);
    trm_memory_tier_note_step(run, step_ns);
    trm_run_phase(run, TRM_PHASE_DATA);
}

enum trm_status trm_step(struct trm_run *run, bool *stop, struct trm_step_metrics *m,
                         struct trm_error *err)
{
    double tokens = (double)(run->config->global_batch_size * run->config->seq_length);
    int64_t begin_ns = trm_clock_now_ns(), step = run->state.step + 1;
    int64_t waited_ns = trm_flight_waited_ns(run->flight), step_ns;
    bool on_host = trm_device_is_host(&run->device);
    struct trm_batch batch;
    float *owned;
    enum trm_status status;

    trm_run_phase(run, TRM_PHASE_DATA);
    status = trm_reader_next(run->reader, &batch, err);
    status = agree_to_begin(run, status, stop, err);
    if (status != TRM_OK || *stop)
        return status;
    trm_run_phase(run, TRM_PHASE_FORWARD);
    trm_failpoint("forward", step, NULL, 0);
    status = run_lanes(run, &batch, err);
    trm_run_phase(run, TRM_PHASE_GRAD_EXCHANGE);
    trm_failpoint("grad_exchange", step, NULL, 0);
    if (status == TRM_OK)
        status = trm_param_gather_finish(run->param_gather, err);
    if (status == TRM_OK)
        status = trm_grad_sync_finish(run->grad_sync, &owned, err);
    if (status != TRM_OK)
        return status;
    trm_run_phase(run, TRM_PHASE_OPTIMIZER);
    trm_failpoint("optimizer", step, on_host ? owned : NULL,
                  on_host ? (size_t)run->layout->owned_elements * sizeof *owned : 0);
    trm_optimizer_sum_of_squares(run->optimizer, owned, &run->sums->squares);
    *m = (struct trm_step_metrics){
        .step = step,
        .samples = batch.next_number,
        .data_hash = batch.data_hash,
    };
    status = on_host ? end_on_host(run, &batch, owned, m, err)
                     : end_on_device(run, &batch, owned, m, err);
    if (status != TRM_OK)
        return status;
    run->state.step = m->step;
    run->state.next_sample = batch.next_number;
    run->state.data_hash = batch.data_hash;
    run->state.last_loss = m->loss;
    trm_guard_note(run->config, &run->state, m->loss);
    step_ns = trm_clock_now_ns() - begin_ns;
    note_step(run, step_ns, waited_ns);
    m->step_ms = (double)step_ns / 1e6;
    m->tokens_per_second = tokens / (m->step_ms / 1e3);
    return TRM_OK;
}
