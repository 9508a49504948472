#include "trainer/step.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/memory_tier.h"
#include "trainer/numbers.h"
#include "trainer/optimizer/schedule.h"
#include "trainer/saving.h"
#include "trainer/signals.h"

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
    trm_flight_phase(run->flight, TRM_PHASE_BACKWARD);
}

enum trm_status trm_step_reduce(struct trm_comm *world, struct trm_exact_sum *sums, int count,
                                double *values, struct trm_error *err)
{
    int64_t words[4 * TRM_EXACT_SUM_WORDS];
    enum trm_status status;

    TRM_ASSERT(count <= 4);
    for (int i = 0; i < count; i++) {
        trm_exact_sum_normalize(&sums[i]);
        memcpy(words + i * TRM_EXACT_SUM_WORDS, &sums[i], TRM_EXACT_SUM_WORDS * sizeof *words);
    }
    status = trm_comm_all_reduce(world, words, (size_t)count * TRM_EXACT_SUM_WORDS, TRM_SUM_I64,
                                 NULL, err);
    for (int i = 0; i < count && status == TRM_OK; i++) {
        memcpy(&sums[i], words + i * TRM_EXACT_SUM_WORDS, TRM_EXACT_SUM_WORDS * sizeof *words);
        values[i] = trm_exact_sum_value(&sums[i]);
    }
    return status;
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
                                 struct trm_exact_sum *loss, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_model_hooks early = {.context = run, .param_wait = param_wait, .backward = backward};
    struct trm_model_hooks last = early;
    int64_t tokens = config->micro_batch_size * config->seq_length;
    enum trm_status status = TRM_OK;

    last.grad_ready = grad_ready;
    for (int lane = 0; lane < run->lane_count && status == TRM_OK; lane++) {
        float *gradients = trm_grad_sync_begin_lane(run->grad_sync);
        for (int64_t i = 0; i < config->accumulation && status == TRM_OK; i++) {
            int64_t at = (lane * config->accumulation + i) * tokens;
            trm_flight_phase(run->flight, TRM_PHASE_FORWARD);
            status = trm_model_forward_backward(
                run->model, batch->inputs + at, batch->targets + at, gradients, i > 0,
                i == config->accumulation - 1 ? &last : &early, loss, err);
        }
    }
    return status;
}

/* AdamW on owned shards, and the new parameters on their way to everyone. */
static enum trm_status update(struct trm_run *run, double norm, float *owned,
                              struct trm_step_metrics *m, struct trm_error *err)
{
    double tokens = (double)(run->config->global_batch_size * run->config->seq_length);
    double scale = trm_clip_factor(norm, run->config->clip_grad) / tokens;
    const struct trm_layout_bucket *first = &run->layout->buckets[0];
    int64_t own = run->mesh.data_rank * first->shard_elements;
    enum trm_status status = trm_memory_tier_join(run, err);

    if (status != TRM_OK)
        return status;
    m->learning_rate = trm_schedule_learning_rate(run->config, m->step);
    trm_optimizer_update(run->optimizer, m->step, m->learning_rate, scale, run->parameters, owned);
    trm_failpoint("updated", m->step, run->parameters + first->offset + own,
                  (size_t)first->shard_elements * sizeof *run->parameters);
    return trm_param_gather_start(run->param_gather, run->parameters, err);
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
    trm_flight_phase(run->flight, TRM_PHASE_DATA);
}

enum trm_status trm_step(struct trm_run *run, bool *stop, struct trm_step_metrics *m,
                         struct trm_error *err)
{
    double tokens = (double)(run->config->global_batch_size * run->config->seq_length);
    int64_t begin_ns = trm_clock_now_ns(), step = run->state.step + 1;
    int64_t waited_ns = trm_flight_waited_ns(run->flight), step_ns;
    struct trm_exact_sum sums[2]; /* loss, squared gradient norm */
    struct trm_batch batch;
    double values[2];
    bool finite_here;
    float *owned;
    enum trm_status status;

    trm_flight_phase(run->flight, TRM_PHASE_DATA);
    status = trm_reader_next(run->reader, &batch, err);
    status = agree_to_begin(run, status, stop, err);
    if (status != TRM_OK || *stop)
        return status;
    trm_exact_sum_init(&sums[0]);
    trm_exact_sum_init(&sums[1]);
    trm_flight_phase(run->flight, TRM_PHASE_FORWARD);
    trm_failpoint("forward", step, NULL, 0);
    status = run_lanes(run, &batch, &sums[0], err);
    trm_flight_phase(run->flight, TRM_PHASE_GRAD_EXCHANGE);
    trm_failpoint("grad_exchange", step, NULL, 0);
    if (status == TRM_OK)
        status = trm_param_gather_finish(run->param_gather, err);
    if (status == TRM_OK)
        status = trm_grad_sync_finish(run->grad_sync, &owned, err);
    if (status != TRM_OK)
        return status;
    trm_flight_phase(run->flight, TRM_PHASE_OPTIMIZER);
    trm_failpoint("optimizer", step, owned, (size_t)run->layout->owned_elements * sizeof *owned);
    finite_here = isfinite(trm_exact_sum_value(&sums[0]));
    if (run->mesh.tensor_rank > 0)
        trm_exact_sum_init(&sums[0]); /* every tensor-parallel rank has the same losses */
    trm_optimizer_sum_of_squares(run->optimizer, owned, &sums[1]);
    status = trm_step_reduce(run->world, sums, 2, values, err);
    if (status != TRM_OK)
        return status;
    *m = (struct trm_step_metrics){
        .step = step,
        .samples = batch.next_number,
        .loss = values[0] / tokens,
        .grad_norm = sqrt(values[1]) / tokens,
        .data_hash = batch.data_hash,
    };
    status = trm_numbers_judge(run, m, &batch, finite_here, err);
    if (status != TRM_OK)
        return status;
    status = update(run, m->grad_norm, owned, m, err);
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
