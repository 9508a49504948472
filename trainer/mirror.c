#include "trainer/mirror.h"

#include <string.h>

#include "base/assert.h"
#include "trainer/sums.h"

/* Tokens of this rank's micro-batches, inputs alone. */
static size_t token_bytes(const struct trm_run *run)
{
    const struct trm_config *config = run->config;
    return (size_t)(run->micro_batch_count * config->micro_batch_size * config->seq_length) *
           sizeof(int32_t);
}

static size_t state_bytes(const struct trm_run *run)
{
    return (size_t)run->layout->owned_elements * sizeof(float);
}

size_t trm_mirror_bytes(const struct trm_run *run)
{
    if (trm_device_is_host(&run->device))
        return 0;
    return 3 * state_bytes(run) + 2 * token_bytes(run) + sizeof(struct trm_step_sums);
}

enum trm_status trm_mirror_open(struct trm_run *run, struct trm_error *err)
{
    struct trm_mirror *mirror = &run->mirror;
    size_t bytes = trm_mirror_bytes(run);
    char *next;

    if (bytes == 0)
        return TRM_OK;
    next = trm_device_allocate_host(&run->device, bytes);
    if (!next)
        return trm_device_check(&run->device, err);
    memset(next, 0, bytes);
    mirror->memory = next;
    mirror->parameters = (float *)(void *)next;
    mirror->exp_avg = mirror->parameters + run->layout->owned_elements;
    mirror->exp_avg_sq = mirror->exp_avg + run->layout->owned_elements;
    next += 3 * state_bytes(run);
    mirror->sums = (struct trm_step_sums *)(void *)next;
    mirror->tokens = (int32_t *)(void *)(next + sizeof *mirror->sums);
    return TRM_OK;
}

void trm_mirror_close(struct trm_run *run)
{
    if (run->mirror.memory) {
        (void)trm_device_fetch_wait(&run->device, NULL); /* what an error left under way */
        trm_device_release_host(&run->device, run->mirror.memory);
    }
    run->mirror = (struct trm_mirror){.memory = NULL};
}

struct trm_pieces_memory trm_mirror_state(const struct trm_run *run)
{
    const struct trm_mirror *mirror = &run->mirror;

    if (trm_device_is_host(&run->device))
        return (struct trm_pieces_memory){
            .parameters = run->parameters,
            .exp_avg = trm_optimizer_exp_avg(run->optimizer),
            .exp_avg_sq = trm_optimizer_exp_avg_sq(run->optimizer),
        };
    return (struct trm_pieces_memory){
        .parameters = mirror->parameters,
        .exp_avg = mirror->exp_avg,
        .exp_avg_sq = mirror->exp_avg_sq,
        .parameters_are_owned = true,
    };
}

/* One piece of the state on the device, and its place in the mirror. */
struct piece {
    float *device, *host;
    size_t bytes;
};

/* The weights that are updated: this rank's shards of the flat vector, or its master weights, which
 * lie in one piece. */
static int weight_pieces(const struct trm_run *run)
{
    return trm_optimizer_masters(run->optimizer) ? 1 : run->layout->bucket_count;
}

static struct piece weights(const struct trm_run *run, int b)
{
    const struct trm_layout_bucket *bucket = &run->layout->buckets[b];
    float *masters = trm_optimizer_masters(run->optimizer);

    if (masters)
        return (struct piece){masters, run->mirror.parameters, state_bytes(run)};
    return (struct piece){
        .device = (float *)run->parameters + bucket->offset +
                  run->mesh.data_rank * bucket->shard_elements,
        .host = run->mirror.parameters + bucket->owned_offset,
        .bytes = (size_t)bucket->shard_elements * sizeof(float),
    };
}

void trm_mirror_fetch(struct trm_run *run)
{
    struct trm_mirror *mirror = &run->mirror;

    if (!mirror->memory || mirror->is_current)
        return;
    trm_device_fetch_begin(&run->device);
    for (int i = 0; i < weight_pieces(run); i++) {
        struct piece piece = weights(run, i);
        trm_device_fetch(&run->device, piece.host, piece.device, piece.bytes);
    }
    trm_device_fetch(&run->device, mirror->exp_avg, trm_optimizer_exp_avg(run->optimizer),
                     state_bytes(run));
    trm_device_fetch(&run->device, mirror->exp_avg_sq, trm_optimizer_exp_avg_sq(run->optimizer),
                     state_bytes(run));
    mirror->is_current = mirror->is_coming = true;
}

enum trm_status trm_mirror_wait(struct trm_run *run, struct trm_error *err)
{
    if (!run->mirror.is_coming)
        return TRM_OK;
    run->mirror.is_coming = false;
    return trm_device_fetch_wait(&run->device, err);
}

enum trm_status trm_mirror_send(struct trm_run *run, struct trm_error *err)
{
    struct trm_mirror *mirror = &run->mirror;

    if (!mirror->memory)
        return TRM_OK;
    for (int i = 0; i < weight_pieces(run); i++) {
        struct piece piece = weights(run, i);
        trm_device_upload(&run->device, piece.device, piece.host, piece.bytes);
    }
    trm_optimizer_round(run->optimizer, run->parameters);
    trm_device_upload(&run->device, trm_optimizer_exp_avg(run->optimizer), mirror->exp_avg,
                      state_bytes(run));
    trm_device_upload(&run->device, trm_optimizer_exp_avg_sq(run->optimizer), mirror->exp_avg_sq,
                      state_bytes(run));
    mirror->is_current = true;
    return trm_device_sync(&run->device, err);
}

void trm_mirror_forget(struct trm_run *run)
{
    TRM_ASSERT(!run->mirror.is_coming);
    run->mirror.is_current = false;
}

void trm_mirror_send_tokens(struct trm_run *run, const struct trm_batch *batch, int64_t count,
                            const int32_t **inputs, const int32_t **targets)
{
    size_t bytes = (size_t)count * sizeof(int32_t);
    int32_t *staging = run->mirror.tokens;

    TRM_ASSERT(bytes <= token_bytes(run));
    *inputs = batch->inputs;
    *targets = batch->targets;
    if (!run->mirror.memory || count == 0)
        return;
    memcpy(staging, batch->inputs, bytes);
    memcpy(staging + count, batch->targets, bytes);
    trm_device_upload(&run->device, run->tokens, staging, 2 * bytes);
    *inputs = run->tokens;
    *targets = run->tokens + count;
}
