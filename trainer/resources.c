#include "trainer/resources.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/human.h"
#include "base/machine.h"
#include "collectives/agree.h"
#include "trainer/memory_tier.h"
#include "trainer/mirror.h"
#include "trainer/ops/cpu/cpu.h"
#include "trainer/ops/cuda/cuda.h"
#include "trainer/saving.h"
#include "trainer/sums.h"

/* A GPU for each rank of this node, where nothing was asked for. */
static bool wants_gpu(const struct trm_run *run)
{
    if (run->config->device != TRM_DEVICE_AUTO)
        return run->config->device == TRM_DEVICE_CUDA;
    return run->gpu >= 0;
}

enum trm_status trm_resources_open_device(struct trm_run *run, struct trm_error *err)
{
    int local_rank = run->local_rank;

    if (run->config->cpu_threads > 0)
        run->threads = (int)run->config->cpu_threads;
    run->type = run->config->precision == TRM_PRECISION_BF16 ? TRM_BF16 : TRM_F32;
    if (wants_gpu(run))
        return trm_device_cuda(&run->device, run->gpu >= 0 ? run->gpu : local_rank, err);
    if (run->type != TRM_F32)
        return trm_error_set(
            err, TRM_ERR_UNSUPPORTED,
            "precision is bf16, and this run computes on the CPU, which does so in "
            "fp32 alone; use --precision fp32, or --device cuda");
    return trm_device_cpu(&run->device, run->threads, err);
}

enum trm_status trm_resources_open_groups(struct trm_run *run, struct trm_error *err)
{
    if (trm_device_is_host(&run->device)) {
        trm_groups_on_host(&run->groups, &run->mesh);
        return TRM_OK;
    }
    return trm_groups_on_device(&run->groups, &run->mesh, run->config, run->flight,
                                trm_cuda_stream(&run->device), err);
}

/* All memory of the run, in one order for both passes over the arenas. */
static enum trm_status place_parts(struct trm_run *run, struct trm_error *err)
{
    size_t length = (size_t)run->config->seq_length;
    size_t micro_bytes = (size_t)run->config->micro_batch_size * length * sizeof(int32_t);
    struct trm_arena *arena = &run->arena, *tensors = run->tensors;

    run->parameters = trm_arena_alloc(tensors, TRM_ARENA_PARAMETERS,
                                      (size_t)run->layout->elements * trm_type_bytes(run->type));
    trm_grad_sync_place(run->grad_sync, tensors);
    trm_optimizer_place(run->optimizer, tensors);
    run->sums = trm_arena_alloc(tensors, TRM_ARENA_WORKSPACE, sizeof *run->sums);
    if (tensors != arena) {
        run->tokens = trm_arena_alloc(tensors, TRM_ARENA_WORKSPACE,
                                      2 * (size_t)run->micro_batch_count * micro_bytes);
        trm_arena_note(arena, TRM_ARENA_SNAPSHOT, trm_mirror_bytes(run));
    }
    run->valid_inputs = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, micro_bytes);
    run->valid_targets = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, micro_bytes);
    run->sample = trm_arena_alloc(arena, TRM_ARENA_WORKSPACE, (length + 1) * sizeof(int32_t));
    trm_saving_place(run);
    trm_memory_tier_place(run);
    return trm_model_place(run->model, tensors, err);
}

/* Bytes of the model's own memory under another configuration; 0: can't be told. */
static size_t model_bytes(const struct trm_run *run, const struct trm_config *config)
{
    struct trm_device device = run->device; /* placing a model notes its workspace there */
    const struct trm_model_setup setup = {
        .config = config,
        .layout = run->layout,
        .device = &device,
        .tensor = run->groups.tensor,
        .type = run->type,
        .batch = config->micro_batch_size,
        .training = true,
    };
    struct trm_model *model = NULL;
    struct trm_arena arena;
    size_t bytes = 0;

    trm_arena_init(&arena);
    if (trm_model_create(&setup, &model, NULL) == TRM_OK &&
        trm_model_place(model, &arena, NULL) == TRM_OK)
        bytes = arena.used;
    trm_model_destroy(model);
    return bytes;
}

/* Whether all would fit with these two keys changed. */
static bool would_fit(const struct trm_run *run, uint64_t available, int recompute,
                      int64_t micro_batch)
{
    struct trm_config other = *run->config;
    size_t now = model_bytes(run, run->config), then;

    other.recompute_granularity = recompute;
    other.micro_batch_size = micro_batch;
    if (!trm_config_shares_rows(&other))
        return false;
    then = model_bytes(run, &other);
    return now > 0 && then > 0 && run->tensors->used - now + then <= available;
}

/* The largest micro-batch below the configured one that divides it and fits; 0: none. */
static int64_t fitting_micro_batch(const struct trm_run *run, uint64_t available, int recompute)
{
    int64_t size = run->config->micro_batch_size, micro_batch = size - 1;

    while (micro_batch > 0 &&
           (size % micro_batch != 0 || !would_fit(run, available, recompute, micro_batch)))
        micro_batch--;
    return micro_batch;
}

/* "use --recompute-granularity full, or --micro-batch-size 4": what would fit. */
static void advise(const struct trm_run *run, uint64_t available, char *text, size_t text_bytes)
{
    static const char *const levels[] = {[TRM_RECOMPUTE_NONE] = "none",
                                         [TRM_RECOMPUTE_ATTENTION] = "attention",
                                         [TRM_RECOMPUTE_FULL] = "full"};
    int now = (int)run->config->recompute_granularity, level = now + 1;
    int64_t micro_batch = fitting_micro_batch(run, available, now);

    while (level <= TRM_RECOMPUTE_FULL &&
           !would_fit(run, available, level, run->config->micro_batch_size))
        level++;
    if (level <= TRM_RECOMPUTE_FULL && micro_batch > 0)
        snprintf(text, text_bytes, "use --recompute-granularity %s, or --micro-batch-size %lld",
                 levels[level], (long long)micro_batch);
    else if (level <= TRM_RECOMPUTE_FULL)
        snprintf(text, text_bytes, "use --recompute-granularity %s", levels[level]);
    else if (micro_batch > 0)
        snprintf(text, text_bytes, "use --micro-batch-size %lld", (long long)micro_batch);
    else if ((micro_batch = fitting_micro_batch(run, available, TRM_RECOMPUTE_FULL)) > 0)
        snprintf(text, text_bytes,
                 "use --recompute-granularity full and --micro-batch-size %lld together",
                 (long long)micro_batch);
    else
        snprintf(text, text_bytes,
                 "neither recomputation nor a smaller micro batch is enough: share the model among "
                 "more ranks by --tensor-model-parallel-size, or use more ranks");
}

static enum trm_status check_device_memory(struct trm_run *run, struct trm_error *err)
{
    uint64_t available = trm_device_available_bytes(&run->device);
    char need[32], have[32], advice[256];

    if (trm_device_check(&run->device, err) != TRM_OK)
        return run->device.error.status;
    if (run->tensors->used <= available)
        return TRM_OK;
    advise(run, available, advice, sizeof advice);
    return trm_error_set(err, TRM_ERR_MEMORY, "needs %s per GPU, has %s: %s",
                         trm_human_bytes(need, sizeof need, run->tensors->used),
                         trm_human_bytes(have, sizeof have, available), advice);
}

static enum trm_status check_memory(const struct trm_run *run, struct trm_error *err)
{
    uint64_t available = trm_machine_available_bytes() / (uint64_t)run->local_size;
    char need[32], have[32];
    uint64_t needed = run->arena.used, held = trm_memory_tier_held_bytes(run);

    /* Slots that are there already are no more to be had. */
    if (run->arena.noted > held)
        needed += run->arena.noted - held;
    if (available == 0 || needed <= available)
        return TRM_OK;
    return trm_error_set(
        err, TRM_ERR_MEMORY,
        "needs %s per rank, and this node has %s available for each of its %d ranks; use "
        "--recompute-granularity full, a smaller --micro-batch-size, or fewer ranks per node",
        trm_human_bytes(need, sizeof need, needed), trm_human_bytes(have, sizeof have, available),
        run->local_size);
}

static void tell_plan(const struct trm_run *run)
{
    char plan[512], on_host[256], count[32];
    bool apart = run->tensors != &run->arena;

    trm_arena_describe(run->tensors, plan, sizeof plan);
    trm_human_count(count, sizeof count, (uint64_t)run->layout->parameter_count);
    trm_log(&run->log, TRM_LOG_INFO, "%s parameters; will use %s%s", count,
            apart ? "of the GPU " : "", plan);
    if (!apart)
        return;
    trm_arena_describe(&run->arena, on_host, sizeof on_host);
    trm_log(&run->log, TRM_LOG_INFO, "and of the host %s", on_host);
}

/* The device's memory, zeroed. */
static enum trm_status commit_tensors(struct trm_run *run, struct trm_error *err)
{
    struct trm_device *device = &run->device;
    size_t bytes = run->device_arena.used;

    run->device_memory = trm_device_allocate(device, bytes);
    if (run->device_memory)
        device->ops->zero(
            device, trm_tensor_1d(run->device_memory, TRM_F32, (int64_t)(bytes / sizeof(float))));
    if (trm_device_sync(device, err) != TRM_OK)
        return device->error.status;
    trm_arena_commit_at(&run->device_arena, run->device_memory);
    return trm_mirror_open(run, err);
}

enum trm_status trm_resources_allocate(struct trm_run *run, struct trm_error *err)
{
    bool apart = !trm_device_is_host(&run->device);
    enum trm_status status;

    trm_arena_init(&run->arena);
    trm_arena_init(&run->device_arena);
    run->tensors = apart ? &run->device_arena : &run->arena;
    status = place_parts(run, err);
    if (status == TRM_OK)
        tell_plan(run);
    if (status == TRM_OK && apart)
        status = check_device_memory(run, err);
    if (status == TRM_OK)
        status = check_memory(run, err);
    status = trm_agree(run->world, status, err);
    if (status != TRM_OK)
        return status;
    status = trm_arena_commit(&run->arena, err);
    if (status == TRM_OK && apart)
        status = commit_tensors(run, err);
    if (status == TRM_OK)
        status = place_parts(run, err);
    if (status == TRM_OK)
        trm_model_set_parameters(run->model, run->parameters);
    if (status == TRM_OK)
        status = trm_request_create(run->groups.world, 0, &run->sums_request, err);
    return trm_agree(run->world, status, err);
}

void trm_resources_close(struct trm_run *run)
{
    if (run->device.ops)
        (void)trm_device_sync(&run->device, NULL);
    trm_request_destroy(run->sums_request);
    trm_mirror_close(run);
    trm_arena_destroy(&run->arena);
    trm_arena_destroy(&run->device_arena);
    if (run->device_memory)
        trm_device_release(&run->device, run->device_memory);
    trm_groups_destroy(&run->groups);
    trm_device_cuda_close(&run->device);
}
