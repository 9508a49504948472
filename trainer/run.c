/* Set-up and loop. */
#include "trainer/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/file.h"
#include "base/machine.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/algorithms.h"
#include "trainer/alike.h"
#include "trainer/evaluate.h"
#include "trainer/memory_tier.h"
#include "trainer/numbers.h"
#include "trainer/resources.h"
#include "trainer/saving.h"
#include "trainer/signals.h"
#include "trainer/state.h"
#include "trainer/step.h"

#define READ_AHEAD 4 /* batches */

void trm_run_phase(struct trm_run *run, enum trm_phase phase)
{
    trm_flight_phase(run->flight, phase);
    if (run->device.ops)
        trm_device_mark(&run->device, trm_phase_name(phase));
}

static enum trm_status create_layout(struct trm_run *run, struct trm_error *err)
{
    int count = trm_model_declare(run->config, run->mesh.tensor_size, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);
    struct trm_layout_shape shape = {
        .tensor_size = run->mesh.tensor_size,
        .tensor_rank = run->mesh.tensor_rank,
        .data_size = run->mesh.data_size,
        .bucket_elements = run->config->ddp_bucket_size,
    };
    enum trm_status status;

    if (!specs)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", count);
    trm_model_declare(run->config, run->mesh.tensor_size, specs, count);
    status = trm_layout_create(specs, count, &shape, &run->layout, err);
    free(specs);
    return status;
}

/* Where each micro-batch of this rank's lanes starts in a global batch. */
static enum trm_status list_offsets(struct trm_run *run, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    int lanes = trm_lanes_schedule(run->lanes, run->mesh.data_rank, NULL, 0);
    struct trm_lane_step *steps = calloc((size_t)lanes + 1, sizeof *steps);
    int64_t accumulation = config->accumulation;

    run->lane_count = lanes;
    run->micro_batch_count = (int)(lanes * accumulation);
    run->offsets = calloc((size_t)run->micro_batch_count + 1, sizeof *run->offsets);
    if (!steps || !run->offsets) {
        free(steps);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d lanes", lanes);
    }
    trm_lanes_schedule(run->lanes, run->mesh.data_rank, steps, lanes);
    for (int i = 0; i < run->micro_batch_count; i++)
        run->offsets[i] = (steps[i / accumulation].lane * accumulation + i % accumulation) *
                          config->micro_batch_size;
    free(steps);
    return TRM_OK;
}

/* Data-parallel ranks that sum first among themselves: those of a node, where every node has as
 * many neighbouring ones; else all, in one stage. */
static enum trm_status find_group_size(struct trm_run *run, int *size, struct trm_error *err)
{
    int ranks = run->mesh.data_size, group = (int)run->config->exchange_group_size;
    uint64_t mine, *all = calloc((size_t)ranks, sizeof *all);
    enum trm_status status;

    status = all ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d hosts", ranks);
    if (status == TRM_OK && group > 0 && (group > ranks || ranks % group != 0))
        status = trm_error_set(err, TRM_ERR_CONFIG,
                               "exchange_group_size %d does not divide the %d data-parallel ranks; "
                               "use 0 for those of a node",
                               group, ranks);
    status = trm_agree(run->world, status, err);
    if (status != TRM_OK) {
        free(all);
        return status;
    }
    mine = trm_machine_id();
    status = trm_comm_all_gather(run->mesh.data, &mine, all, sizeof mine, NULL, err);
    if (status == TRM_OK && group == 0) {
        for (group = 1; group < ranks && all[group] == all[0]; group++)
            ;
        for (int i = 0; i < ranks && group < ranks; i++)
            if (ranks % group != 0 || all[i] != all[i / group * group])
                group = ranks;
    }
    *size = group > 1 && ranks % group == 0 ? group : ranks;
    free(all);
    return status;
}

static enum trm_status create_parts(struct trm_run *run, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_model_setup setup = {
        .config = config,
        .device = &run->device,
        .tensor = run->groups.tensor,
        .type = run->type,
        .batch = config->micro_batch_size,
        .training = true,
    };
    int group_size = 1;
    enum trm_status status = trm_agree(run->world, create_layout(run, err), err);

    if (status == TRM_OK)
        status = find_group_size(run, &group_size, err);
    if (status == TRM_OK)
        status = trm_lanes_create((int)config->lanes, run->mesh.data_size, &run->lanes, err);
    if (status == TRM_OK)
        status = list_offsets(run, err);
    setup.layout = run->layout;
    if (status == TRM_OK)
        status = trm_model_create(&setup, &run->model, err);
    if (status == TRM_OK)
        status =
            trm_grad_sync_create(run->layout, run->lanes, run->groups.data, group_size,
                                 config->reduction == TRM_REDUCTION_FASTEST, &run->grad_sync, err);
    if (status == TRM_OK)
        status = trm_param_gather_create(run->layout, run->groups.data, run->type,
                                         &run->param_gather, err);
    if (status == TRM_OK)
        status = trm_optimizer_create(config, run->layout, run->mesh.data_rank, &run->device,
                                      run->type, &run->optimizer, err);
    return status;
}

static enum trm_status open_part(struct trm_run *run, const struct trm_string_list *paths,
                                 enum trm_dataset_part part, double begin, double end,
                                 struct trm_dataset **out, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_dataset_settings settings = {
        .paths = (const char *const *)paths->items,
        .path_count = paths->count,
        .seq_length = config->seq_length,
        .vocab_size = config->vocab_size,
        .seed = (uint64_t)config->seed,
        .raw_token_bytes = config->raw_token_type == TRM_RAW_UINT32 ? 4 : 2,
        .part = part,
        .part_begin = begin,
        .part_end = end,
    };
    return trm_dataset_open(&settings, out, err);
}

static enum trm_status open_data(struct trm_run *run, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    double cut = config->train_fraction;
    enum trm_status status =
        open_part(run, &config->train_data_path, TRM_PART_TRAIN, 0, cut, &run->train, err);

    if (status == TRM_OK && config->eval_iters > 0) {
        if (config->valid_data_path.count > 0)
            status =
                open_part(run, &config->valid_data_path, TRM_PART_VALID, 0, 1, &run->valid, err);
        else if (cut < 1)
            status =
                open_part(run, &config->train_data_path, TRM_PART_VALID, cut, 1, &run->valid, err);
    }
    return trm_agree(run->world, status, err);
}

enum trm_status trm_run_start_reader(struct trm_run *run, struct trm_error *err)
{
    struct trm_skip *skips = calloc((size_t)run->state.skip_count + 1, sizeof *skips);
    struct trm_reader_settings settings = {
        .global_batch = run->config->global_batch_size,
        .micro_batch = run->config->micro_batch_size,
        .offsets = run->offsets,
        .micro_batches = run->micro_batch_count,
        .next_number = run->state.next_sample,
        .data_hash = run->state.data_hash,
        .skips = skips,
        .skip_count = run->state.skip_count,
        .depth = READ_AHEAD,
    };
    enum trm_status status;

    if (!skips)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the list of skipped samples");
    for (int i = 0; i < run->state.skip_count; i++)
        skips[i] = (struct trm_skip){run->state.skips[i].first, run->state.skips[i].count};
    trm_reader_destroy(run->reader);
    run->reader = NULL;
    status = trm_reader_create(run->train, &settings, &run->reader, err);
    free(skips);
    if (status == TRM_OK)
        trm_flight_step(run->flight, &(struct trm_flight_step){.step = run->state.step,
                                                               .samples = run->state.next_sample,
                                                               .loss = run->state.last_loss});
    return status;
}

/* A run that is started again finds its configuration there, and needs no room for it. */
static enum trm_status write_config(const char *path, const char *yaml, struct trm_error *err)
{
    char *text = NULL;
    size_t bytes = 0, length = strlen(yaml);
    bool same = trm_file_read_all(path, length, &text, &bytes, NULL) == TRM_OK && bytes == length &&
                memcmp(text, yaml, length) == 0;

    free(text);
    return same ? TRM_OK : trm_file_replace(path, yaml, length, err);
}

/* The run's directory: resolved configuration and metrics. */
static enum trm_status open_run_dir(struct trm_run *run, struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    enum trm_status status = TRM_OK;

    run->metrics = (struct trm_metrics){.fd = -1,
                                        .train_iters = run->config->train_iters,
                                        .log_interval = run->config->log_interval,
                                        .log = run->log};
    if (run->world->rank == 0) {
        status = trm_file_make_directories(run->config->run_dir, err);
        if (status == TRM_OK)
            status = trm_file_path(path, err, "%s/config.yaml", run->config->run_dir);
        if (status == TRM_OK)
            status = write_config(path, run->state.config_yaml, err);
        if (status == TRM_OK)
            status = trm_metrics_open(&run->metrics, run->config->run_dir, run->state.step, err);
        if (status == TRM_OK)
            trm_gauges_open(&run->metrics.gauges, run->config, &run->device, run->type,
                            run->world->size, &run->log);
    }
    return trm_agree(run->world, status, err);
}

static enum trm_status set_up(struct trm_run *run, struct trm_error *err)
{
    char text[256];
    enum trm_status status;

    trm_failpoint("comm_init", 0, NULL, 0);
    status =
        trm_mesh_create(run->world, (int)run->config->tensor_model_parallel_size, &run->mesh, err);
    if (status == TRM_OK) {
        trm_mesh_follow(&run->mesh, run->flight);
        trm_run_phase(run, TRM_PHASE_STARTUP);
        status = trm_alike_configs(run, err);
    }
    if (status == TRM_OK)
        status = trm_agree(run->world, trm_resources_open_device(run, err), err);
    if (status == TRM_OK)
        status = trm_alike_devices(run, err);
    if (status == TRM_OK)
        status = trm_resources_open_groups(run, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, create_parts(run, err), err);
    if (status != TRM_OK)
        return status;
    if (run->config->replica_check_interval > 0 && run->mesh.data_size > 1 &&
        !run->device.ops->digest)
        trm_log(&run->log, TRM_LOG_WARNING,
                "this device has no hash: copies of the parameters are not compared");
    trm_device_describe(&run->device, text, sizeof text);
    trm_log(&run->log, TRM_LOG_INFO,
            "%d rank%s: data %d x tensor %d%s, %lld lanes; %s, %d thread%s", run->world->size,
            run->world->size > 1 ? "s" : "", run->mesh.data_size, run->mesh.tensor_size,
            run->config->sequence_parallel && run->mesh.tensor_size > 1
                ? " with sequence parallelism"
                : "",
            (long long)run->config->lanes, text, run->threads, run->threads > 1 ? "s" : "");
    trm_run_phase(run, TRM_PHASE_LOAD);
    trm_failpoint("load", 0, NULL, 0);
    status = open_data(run, err);
    if (status == TRM_OK)
        status = trm_memory_tier_open(run, err);
    if (status == TRM_OK)
        status = trm_resources_allocate(run, err);
    if (status == TRM_OK)
        status = trm_alike_data(run, err);
    if (status == TRM_OK)
        status = trm_state_begin(run, err);
    if (status == TRM_OK)
        status = trm_algorithms_settle(run, err);
    if (status == TRM_OK)
        status = trm_saving_open(run, err);
    if (status == TRM_OK)
        status = open_run_dir(run, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, trm_run_start_reader(run, err), err);
    if (status == TRM_OK)
        status = trm_memory_tier_begin(run, err);
    if (status == TRM_OK)
        trm_flight_disk_step(run->flight, run->saved_step);
    return status;
}

static bool divides(int64_t interval, int64_t step)
{
    return interval > 0 && step % interval == 0;
}

/* Trains until the last step or a request to stop; *stopped tells which. */
static enum trm_status loop(struct trm_run *run, bool *stopped, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    struct trm_step_metrics metrics;
    enum trm_status status = TRM_OK;

    while (run->state.step < config->train_iters) {
        status = trm_step(run, stopped, &metrics, err);
        if (status == TRM_OK && *stopped)
            return TRM_OK;
        if (status != TRM_OK)
            return status;
        trm_metrics_step(&run->metrics, &metrics);
        int64_t step = run->state.step;
        if (divides(config->eval_interval, step) && step < config->train_iters)
            status = trm_evaluate(run, err);
        /* The last save comes behind the last validation, and is waited for. */
        if (status == TRM_OK && divides(config->save_interval, step) && step < config->train_iters)
            status = trm_saving_begin(run, err);
        if (status != TRM_OK)
            return status;
        if (divides(config->exit_interval, step)) {
            *stopped = step < config->train_iters;
            return TRM_OK;
        }
    }
    return TRM_OK;
}

/* To the last step or a stop, validated and saved. */
static enum trm_status train_and_save(struct trm_run *run, int64_t first_step, bool *stopped,
                                      struct trm_error *err)
{
    enum trm_status status = loop(run, stopped, err);

    if (status == TRM_OK && !*stopped &&
        (run->state.step > first_step || run->config->train_iters == 0))
        status = trm_evaluate(run, err);
    if (status == TRM_OK)
        status = trm_saving_finish(run, err);
    return status;
}

static enum trm_status train(struct trm_run *run, struct trm_error *err)
{
    int64_t first_step = run->state.step;
    bool stopped = false;
    enum trm_status status = train_and_save(run, first_step, &stopped, err);

    while (status == TRM_ERR_NUMERICS && (status = trm_numbers_act(run, err)) == TRM_OK)
        status = train_and_save(run, first_step, &stopped, err);
    if (status == TRM_OK && stopped)
        return trm_error_set(err, TRM_ERR_STOPPED,
                             "stopped on request after step %lld of %lld; start again to go on",
                             (long long)run->state.step, (long long)run->config->train_iters);
    if (status == TRM_OK)
        trm_log(&run->log, TRM_LOG_INFO, "done: %lld steps, checkpoint \"%s/step-%08lld\"",
                (long long)run->state.step, run->config->save, (long long)run->state.step);
    return status;
}

bool trm_run_is_broken(enum trm_status status)
{
    return status == TRM_ERR_COMM || status == TRM_ERR_TIMEOUT;
}

static void tear_down(struct trm_run *run)
{
    if (run->param_gather)
        (void)trm_param_gather_finish(run->param_gather, NULL);
    trm_saving_close(run);
    trm_memory_tier_close(run);
    trm_metrics_close(&run->metrics);
    trm_reader_destroy(run->reader);
    trm_dataset_close(run->train);
    trm_dataset_close(run->valid);
    trm_optimizer_destroy(run->optimizer);
    trm_param_gather_destroy(run->param_gather);
    trm_grad_sync_destroy(run->grad_sync);
    trm_model_destroy(run->model);
    trm_lanes_destroy(run->lanes);
    trm_layout_destroy(run->layout);
    trm_resources_close(run);
    trm_mesh_destroy(&run->mesh);
    trm_ckpt_state_destroy(&run->state);
    free(run->offsets);
}

enum trm_status trm_run_train(struct trm_config *config, const struct trm_run_place *place,
                              struct trm_error *err)
{
    enum trm_status status;
    struct trm_run *run = calloc(1, sizeof *run);

    if (!run)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the run");
    run->config = config;
    run->world = place->world;
    run->attach = place->attach;
    run->flight = &place->attach->flight;
    run->local_rank = place->local_rank;
    run->local_size = place->local_size;
    run->threads = place->threads;
    run->gpu = place->gpu;
    run->metrics.fd = -1;
    run->log = (struct trm_log){.level = run->world->rank == 0 ? TRM_LOG_INFO : TRM_LOG_ERROR,
                                .rank = -1,
                                .fd = STDERR_FILENO};
    status = set_up(run, err);
    if (status == TRM_OK)
        status = train(run, err);
    if (trm_run_is_broken(status))
        return status;
    tear_down(run);
    free(run);
    return status;
}
