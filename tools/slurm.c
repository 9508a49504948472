/* `trireme slurm`: a batch script for a run, refused here and now where the request and the
 * configuration don't fit. It asks nothing of Slurm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "launch/slurm/batch.h"
#include "tools/run_config.h"
#include "tools/run_memory.h"
#include "tools/tools.h"
#include "trainer/model/model.h"

#define STOP_BEFORE_S  120
#define SIGNAL_SLACK_S 60 /* Slurm may signal so much earlier than it was asked to */

static const char usage[] =
    "usage: trireme slurm CONFIG.yaml [OPTION ...] [--key value ...] > job.sbatch\n"
    "\n"
    "Prints a batch script that trains under `trireme run`, goes on in another start when the\n"
    "time is up, a node is lost or the job is preempted, and ends when training is complete.\n"
    "Submit it with sbatch.\n"
    "\n"
    "  --nodes N            nodes in all, those in reserve included (1)\n"
    "  --ntasks-per-node G  ranks on a node (with GPUs: as many; else 1)\n"
    "  --spares K           nodes in reserve (0)\n"
    "  --time TIME          limit of one start, as sbatch reads it\n"
    "  --stop-before S      stop and save S seconds before the limit (120)\n"
    "  --chain N            for clusters that forbid requeueing: an array of N jobs, one after\n"
    "                       the other\n"
    "  --profile FILE       shell commands that set the environment (examples/slurm/)\n"
    "  --gpus-per-node G, --cpus-per-task C, --mem SIZE, --partition P, --account A, --qos Q,\n"
    "  --constraint C, --job-name NAME, --output FILE\n"
    "                       as for sbatch\n"
    "  --key value          keys of the configuration, as for trireme-train\n";

struct request {
    struct trm_batch batch;
    char **arguments; /* owned list: CONFIG and flags, borrowed words */
    int argument_count;
};

static bool take_text(struct trm_batch *batch, const char *name, const char *value)
{
    const struct {
        const char *name, **place;
    } texts[] = {
        {"--time", &batch->time},
        {"--mem", &batch->mem},
        {"--partition", &batch->partition},
        {"--account", &batch->account},
        {"--qos", &batch->qos},
        {"--constraint", &batch->constraint},
        {"--job-name", &batch->job_name},
        {"--output", &batch->output},
        {"--profile", &batch->profile},
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].name, name) == 0) {
            *texts[i].place = value;
            return true;
        }
    return false;
}

static bool take_number(struct trm_batch *batch, const char *name, const char *value,
                        enum trm_status *status, struct trm_error *err)
{
    const struct {
        const char *name;
        int least, *place;
    } numbers[] = {
        {"--nodes", 1, &batch->nodes},
        {"--ntasks-per-node", 1, &batch->tasks_per_node},
        {"--spares", 0, &batch->spares},
        {"--gpus-per-node", 1, &batch->gpus_per_node},
        {"--cpus-per-task", 1, &batch->cpus_per_task},
        {"--stop-before", 1, &batch->stop_before_s},
        {"--chain", 2, &batch->chain},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(numbers[i].name, name) == 0) {
            *status = trm_run_read_number(name, value, numbers[i].least, numbers[i].place, err);
            return true;
        }
    return false;
}

/* Options for Slurm are taken out; what is left are CONFIG and keys of the configuration. */
static enum trm_status read_request(int argc, char **argv, struct request *request,
                                    struct trm_error *err)
{
    enum trm_status status = TRM_OK;

    request->arguments = calloc((size_t)argc + 1, sizeof *request->arguments);
    if (!request->arguments)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d arguments", argc);
    for (int i = 1; i < argc && status == TRM_OK; i++) {
        char name[64], *equals = strchr(argv[i], '=');
        bool joined = equals && equals - argv[i] < (int)sizeof name;
        const char *value = joined ? equals + 1 : i + 1 < argc ? argv[i + 1] : "";
        snprintf(name, sizeof name, "%.*s", joined ? (int)(equals - argv[i]) : 63, argv[i]);
        if (take_text(&request->batch, name, value) ||
            take_number(&request->batch, name, value, &status, err))
            i += !joined;
        else
            request->arguments[request->argument_count++] = argv[i];
    }
    if (status == TRM_OK && (request->argument_count == 0 || request->arguments[0][0] == '-'))
        status = trm_error_set(err, TRM_ERR_CONFIG,
                               "CONFIG comes first: trireme slurm CONFIG.yaml [OPTION ...]");
    return status;
}

static enum trm_status check_time(const struct trm_batch *batch, struct trm_error *err)
{
    int64_t seconds;
    enum trm_status status;

    if (!batch->time)
        return TRM_OK;
    status = trm_batch_parse_time(batch->time, &seconds, err);
    if (status == TRM_OK && seconds >= 0 && seconds <= batch->stop_before_s + SIGNAL_SLACK_S)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "--time %s is %lld s, and the job would be asked to stop up to %d s "
                             "before that: nothing would be left to train in; ask for more time, "
                             "or a smaller --stop-before",
                             batch->time, (long long)seconds,
                             batch->stop_before_s + SIGNAL_SLACK_S);
    return status;
}

static enum trm_status check_gpus(const struct trm_batch *batch, const struct trm_config *config,
                                  struct trm_error *err)
{
    if (config->device == TRM_DEVICE_CUDA && batch->gpus_per_node == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "parallel.device is cuda, and no GPU is asked for; --gpus-per-node %d "
                             "would fit",
                             batch->tasks_per_node);
    if (config->device == TRM_DEVICE_CPU && batch->gpus_per_node > 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "parallel.device is cpu, and --gpus-per-node %d would lie idle",
                             batch->gpus_per_node);
    if (batch->gpus_per_node > 0 && batch->tasks_per_node != batch->gpus_per_node)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%d ranks and %d GPUs on a node; a rank drives one GPU, so give "
                             "--ntasks-per-node and --gpus-per-node the same number",
                             batch->tasks_per_node, batch->gpus_per_node);
    return TRM_OK;
}

static enum trm_status check_nodes(const struct trm_batch *batch, int ranks, struct trm_error *err)
{
    int tasks = batch->tasks_per_node, needed = (ranks + tasks - 1) / tasks;
    int active = batch->nodes - batch->spares;

    if (needed > active)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%d ranks need %d nodes of %d, and --nodes %d with %d in reserve "
                             "leaves %d; --nodes %d would fit",
                             ranks, needed, tasks, batch->nodes, batch->spares, active,
                             needed + batch->spares);
    if (needed < active)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "%d ranks fill %d node%s of %d, so %d would lie idle; give --nodes %d, "
            "or --spares %d to keep them in reserve",
            ranks, needed, needed == 1 ? "" : "s", tasks, active - needed, needed + batch->spares,
            batch->nodes - needed);
    return TRM_OK;
}

static enum trm_status check_memory(const struct trm_batch *batch, const struct trm_config *config,
                                    int ranks, struct trm_error *err)
{
    char needs[32], has[32];
    int64_t node_bytes = 0, rank_bytes = 0;
    enum trm_status status = TRM_OK;

    if (!batch->mem || strcmp(batch->mem, "0") == 0) /* 0: all that a node has */
        return TRM_OK;
    status = trm_batch_parse_memory(batch->mem, &node_bytes, err);
    if (status == TRM_OK)
        status = trm_run_rank_bytes(config, ranks, batch->gpus_per_node > 0,
                                    batch->nodes - batch->spares > 1, &rank_bytes, err);
    if (status == TRM_OK && rank_bytes * batch->tasks_per_node > node_bytes)
        status = trm_error_set(
            err, TRM_ERR_CONFIG,
            "--mem %s is %s, and the weights, gradients, moments and copies in memory of %d ranks "
            "alone take %s; ask for more memory, or put fewer ranks on a node",
            batch->mem, trm_human_bytes(has, sizeof has, (uint64_t)node_bytes),
            batch->tasks_per_node,
            trm_human_bytes(needs, sizeof needs, (uint64_t)(rank_bytes * batch->tasks_per_node)));
    return status;
}

static enum trm_status check_request(struct request *request, const struct trm_config *config,
                                     int ranks, struct trm_error *err)
{
    const struct trm_batch *batch = &request->batch;
    enum trm_status status = check_nodes(batch, ranks, err);

    if (status == TRM_OK)
        status = check_gpus(batch, config, err);
    if (status == TRM_OK)
        status = check_time(batch, err);
    if (status == TRM_OK)
        status = check_memory(batch, config, ranks, err);
    if (status == TRM_OK && batch->profile && access(batch->profile, R_OK) != 0)
        status =
            trm_error_set(err, TRM_ERR_CONFIG, "--profile \"%s\" can't be read", batch->profile);
    return status;
}

static void set_defaults(struct trm_batch *batch)
{
    if (batch->nodes == 0)
        batch->nodes = 1;
    if (batch->tasks_per_node == 0)
        batch->tasks_per_node = batch->gpus_per_node > 0 ? batch->gpus_per_node : 1;
    if (batch->stop_before_s == 0)
        batch->stop_before_s = STOP_BEFORE_S;
    if (!batch->output)
        batch->output = batch->chain > 0 ? "%x-%A.out" : "%x-%j.out";
}

/* The run's name: the last part of its directory. */
static const char *name_run(const char *run_dir)
{
    const char *slash = strrchr(run_dir, '/');

    return slash && slash[1] ? slash + 1 : run_dir;
}

static void join_words(int argc, char **argv, char *text, size_t bytes)
{
    size_t length = (size_t)snprintf(text, bytes, "trireme");

    for (int i = 0; i < argc && length < bytes; i++)
        length += (size_t)snprintf(text + length, bytes - length, " %s", argv[i]);
}

static enum trm_status write_script(struct request *request, int argc, char **argv,
                                    struct trm_error *err)
{
    struct trm_batch *batch = &request->batch;
    char program[TRM_PATH_BYTES], directory[TRM_PATH_BYTES], made_by[1024], *text = NULL;
    struct trm_config *config = NULL;
    int ranks = 0;
    enum trm_status status;

    set_defaults(batch);
    if (batch->spares >= batch->nodes)
        return trm_error_set(err, TRM_ERR_CONFIG, "--spares %d leaves none of the %d nodes to work",
                             batch->spares, batch->nodes);
    status = trm_run_config_read(request->arguments, request->argument_count,
                                 (batch->nodes - batch->spares) * batch->tasks_per_node, &config,
                                 &ranks, err);
    if (status == TRM_OK)
        status = check_request(request, config, ranks, err);
    if (status == TRM_OK)
        status = trm_run_find_program(program, err);
    if (status == TRM_OK && !getcwd(directory, sizeof directory))
        status = trm_error_set(err, TRM_ERR_IO, "could not tell the current directory");
    if (status == TRM_OK) {
        join_words(argc, argv, made_by, sizeof made_by);
        batch->made_by = made_by;
        batch->program = program;
        batch->directory = directory;
        batch->arguments = request->arguments;
        batch->argument_count = request->argument_count;
        if (!batch->job_name)
            batch->job_name = name_run(config->run_dir);
        status = trm_batch_write(batch, &text, err);
    }
    if (status == TRM_OK && (fputs(text, stdout) < 0 || fflush(stdout) != 0))
        status = trm_error_set(err, TRM_ERR_IO, "could not print the script");
    free(text);
    trm_config_destroy(config);
    return status;
}

int trm_tool_slurm(int argc, char **argv)
{
    struct request request = {0};
    struct trm_error error = {0};
    enum trm_status status;

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? TRM_EXIT_USAGE : TRM_EXIT_OK;
    }
    status = read_request(argc, argv, &request, &error);
    if (status == TRM_OK)
        status = write_script(&request, argc, argv, &error);
    free(request.arguments);
    if (status == TRM_OK)
        return TRM_EXIT_OK;
    fprintf(stderr, "trireme slurm: %s\n", error.text);
    return trm_status_exit_code(status);
}
