/* `trireme run`: training that goes on, whatever dies. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "launch/goodput.h"
#include "launch/hostfile.h"
#include "tools/run_config.h"
#include "tools/run_memory.h"
#include "tools/run_slurm.h"
#include "tools/tools.h"

static const char usage[] =
    "usage: trireme run [--np N | --hostfile FILE] [--spares K] [--rsh COMMAND]\n"
    "                   CONFIG.yaml [--key value ...]\n"
    "\n"
    "Trains on this machine, on the nodes of a host file, or on those of the Slurm job that it\n"
    "is called in, and starts again from the newest state in memory or on disk when a process, a\n"
    "node or the network fails.\n"
    "\n"
    "  --np N           ranks on this machine\n"
    "  --hostfile FILE  nodes, as mpirun reads them: `node1 slots=4`; `domain=rack1` besides\n"
    "                   names what fails together\n"
    "  --spares K       keep the last K nodes in reserve (0)\n"
    "  --rsh COMMAND    what reaches a node: called as COMMAND NODE WORD ... (ssh; in\n"
    "                   a Slurm job, steps of it)\n"
    "  CONFIG, --key    as for trireme-train; sections `recovery` and `elastic` are for this\n"
    "                   command\n"
    "\n"
    "SIGTERM, SIGUSR1 or ^C stop it with a checkpoint, and it exits with 75: start it again to go\n"
    "on. `trireme status RUN_DIR` tells how it does, RUN_DIR/events.jsonl what happened.\n";

struct options {
    int np, spares;
    const char *hostfile, *shell;
    char **arguments; /* CONFIG and flags */
    int argument_count;
};

struct run {
    struct options options;
    struct trm_host *hosts; /* owned, unless they are the job's */
    int host_count;
    bool local, in_slurm;
    struct trm_run_slurm slurm; /* in_slurm */
    struct trm_config *config;  /* owned */
};

/* Options end where CONFIG begins. */
static enum trm_status read_options(int argc, char **argv, struct options *o, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int i = 1;

    for (; i < argc && argv[i][0] == '-' && status == TRM_OK; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            return trm_error_set(err, TRM_ERR_CONFIG, "%s needs a value", argv[i]);
        if (strcmp(argv[i], "--np") == 0 || strcmp(argv[i], "-np") == 0)
            status = trm_run_read_number("--np", value, 1, &o->np, err);
        else if (strcmp(argv[i], "--spares") == 0)
            status = trm_run_read_number("--spares", value, 0, &o->spares, err);
        else if (strcmp(argv[i], "--hostfile") == 0)
            o->hostfile = value;
        else if (strcmp(argv[i], "--rsh") == 0)
            o->shell = value;
        else
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "\"%s\" is no option of trireme run; keys of the configuration "
                                 "come behind CONFIG",
                                 argv[i]);
    }
    if (status == TRM_OK && i >= argc)
        status = trm_error_set(err, TRM_ERR_CONFIG, "no CONFIG was given");
    o->arguments = argv + i;
    o->argument_count = argc - i;
    return status;
}

/* This machine, as a host. */
static enum trm_status make_local(int np, struct trm_host **hosts, int *count,
                                  struct trm_error *err)
{
    *hosts = calloc(1, sizeof **hosts);
    if (!*hosts)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a host");
    snprintf((*hosts)->name, sizeof(*hosts)->name, "localhost");
    snprintf((*hosts)->domain, sizeof(*hosts)->domain, "localhost");
    (*hosts)->slots = np;
    *count = 1;
    return TRM_OK;
}

/* The nodes of the command line, or of the Slurm job that this is in. */
static enum trm_status find_nodes(struct run *run, struct trm_error *err)
{
    const struct options *o = &run->options;
    enum trm_status status;

    if (o->hostfile) {
        status = trm_hostfile_read(o->hostfile, &run->hosts, &run->host_count, err);
    } else {
        status = trm_slurm_job_read(&run->slurm.job, err);
        run->hosts = run->slurm.job.hosts;
        run->host_count = run->slurm.job.host_count;
        run->in_slurm = status == TRM_OK;
    }
    if (status == TRM_OK && o->spares >= run->host_count)
        return trm_error_set(err, TRM_ERR_CONFIG, "--spares %d leaves none of the %d nodes to work",
                             o->spares, run->host_count);
    return status;
}

static enum trm_status find_hosts(struct run *run, struct trm_error *err)
{
    const struct options *o = &run->options;

    if (o->hostfile && o->np > 0)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "--np is for this machine and --hostfile for others; give one of them");
    if (o->hostfile || (o->np == 0 && trm_slurm_is_inside()))
        return find_nodes(run, err);
    if (o->np == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "give --np N for ranks on this machine, or --hostfile FILE; in a job "
                             "of Slurm neither is needed");
    if (o->spares > 0)
        return trm_error_set(err, TRM_ERR_CONFIG, "--spares needs --hostfile, or a job of Slurm");
    run->local = true;
    return make_local(o->np, &run->hosts, &run->host_count, err);
}

static int count_slots(const struct trm_host *hosts, int count)
{
    int slots = 0;

    for (int i = 0; i < count; i++)
        slots += hosts[i].slots;
    return slots;
}

/* This program, and the trainer that lies beside it (or where TRIREME_TRAINER says). */
static enum trm_status find_programs(char program[TRM_PATH_BYTES], char trainer[TRM_PATH_BYTES],
                                     struct trm_error *err)
{
    const char *given = getenv("TRIREME_TRAINER");
    enum trm_status status = trm_run_find_program(program, err);

    if (status != TRM_OK)
        return status;
    if (given)
        status = trm_file_path(trainer, err, "%s", given);
    else
        status = trm_file_path(trainer, err, "%.*s/trireme-train",
                               (int)(strrchr(program, '/') - program), program);
    if (status == TRM_OK && access(trainer, X_OK) != 0)
        status = trm_error_set_errno(err, errno, "could not use the trainer \"%s\"", trainer);
    return status;
}

/* Settings that depend on where the nodes come from. TRM_ERR_STOPPED: a chain of starts of a Slurm
 * job gets nowhere. */
static enum trm_status choose_launcher(struct run *run, struct trm_supervisor_settings *settings,
                                       struct trm_error *err)
{
    const char *shell = run->options.shell;

    if (run->in_slurm)
        return trm_run_slurm_begin(&run->slurm, run->config, shell, settings, err);
    if (run->config->launcher == TRM_LAUNCH_SRUN)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "recovery.launcher is srun, which starts ranks in a job of Slurm "
                             "alone; here it is auto or mpirun");
    settings->remote_shell = shell ? shell : "ssh";
    settings->launcher_shell = shell;
    return TRM_OK;
}

/* Weights need no memory of the node then, as far as is known here. */
static bool may_use_gpus(const struct trm_config *config)
{
    return config->device == TRM_DEVICE_CUDA ||
           (config->device == TRM_DEVICE_AUTO && TRM_HAVE_CUDA);
}

/* What the run has cost so far, over all its supervisors. */
static void tell_goodput(const struct run *run, struct trm_log *log)
{
    struct trm_goodput goodput;
    char text[512];

    if (trm_goodput_read(run->config->run_dir, 0, &goodput, NULL) == TRM_OK && goodput.steps > 0)
        trm_log(log, TRM_LOG_INFO, "%s", trm_goodput_text(&goodput, text, sizeof text));
}

static enum trm_status supervise(struct run *run, int *exit_code, struct trm_log *log,
                                 struct trm_error *err)
{
    char program[TRM_PATH_BYTES], trainer[TRM_PATH_BYTES];
    const char *temporary = getenv("TMPDIR");
    const struct options *o = &run->options;
    struct trm_supervisor_settings settings = {
        .local = run->local,
        .hosts = run->hosts,
        .host_count = run->host_count,
        .version = TRM_VERSION,
        .program = program,
        .trainer = trainer,
        .trainer_arguments = o->arguments,
        .trainer_argument_count = o->argument_count,
        .temporary = temporary && temporary[0] == '/' ? temporary : "/tmp",
        .output_fd = STDOUT_FILENO,
        .log = *log,
    };
    struct trm_supervised supervised = {0};
    enum trm_status status = trm_run_config_read(
        o->arguments, o->argument_count, count_slots(run->hosts, run->host_count - o->spares),
        &run->config, &settings.ranks, err);

    if (status == TRM_OK)
        status = find_programs(program, trainer, err);
    if (status != TRM_OK)
        return status;
    settings.config = run->config;
    status = trm_run_rank_bytes(run->config, settings.ranks, may_use_gpus(run->config),
                                run->host_count - o->spares > 1, &settings.rank_memory_bytes, err);
    if (status != TRM_OK)
        return status;
    status = choose_launcher(run, &settings, err);
    if (status == TRM_ERR_STOPPED) {
        trm_log(log, TRM_LOG_ERROR, "gave up: %s", err->text);
        *exit_code = TRM_EXIT_GAVE_UP;
        return TRM_OK;
    }
    if (status == TRM_OK)
        status = trm_supervise(&settings, &supervised, err);
    if (status == TRM_OK)
        tell_goodput(run, log);
    if (status == TRM_OK && run->in_slurm)
        status = trm_run_slurm_end(&run->slurm, &supervised, err);
    *exit_code = supervised.exit_code;
    return status;
}

static void destroy(struct run *run)
{
    trm_config_destroy(run->config);
    if (run->in_slurm)
        trm_run_slurm_destroy(&run->slurm);
    else
        free(run->hosts);
}

int trm_tool_run(int argc, char **argv)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};
    struct run run = {0};
    struct trm_error error = {0};
    int exit_code = TRM_EXIT_OK;
    enum trm_status status;

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? TRM_EXIT_USAGE : TRM_EXIT_OK;
    }
    signal(SIGPIPE, SIG_IGN);
    status = read_options(argc, argv, &run.options, &error);
    if (status == TRM_OK)
        status = find_hosts(&run, &error);
    if (status == TRM_OK)
        status = supervise(&run, &exit_code, &log, &error);
    destroy(&run);
    if (status == TRM_OK)
        return exit_code;
    trm_log(&log, TRM_LOG_ERROR, "%s", error.text);
    return trm_status_exit_code(status);
}
