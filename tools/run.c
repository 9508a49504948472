/* `trireme run`: training that goes on, whatever dies. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "launch/hostfile.h"
#include "launch/supervisor.h"
#include "tools/tools.h"
#include "trainer/config/config.h"

static const char usage[] =
    "usage: trireme run [--np N | --hostfile FILE [--spares K]] [--rsh COMMAND]\n"
    "                   CONFIG.yaml [--key value ...]\n"
    "\n"
    "Trains with mpirun, on this machine or on the nodes of a host file, and starts again from\n"
    "the newest state in memory or on disk when a process, a node or the network fails.\n"
    "\n"
    "  --np N           ranks on this machine\n"
    "  --hostfile FILE  nodes, as mpirun reads them: `node1 slots=4`; `domain=rack1` besides\n"
    "                   names what fails together\n"
    "  --spares K       keep the last K nodes of the file in reserve (0)\n"
    "  --rsh COMMAND    what reaches a node: called as COMMAND NODE WORD ... (ssh)\n"
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

static enum trm_status read_number(const char *flag, const char *text, int least, int *out,
                                   struct trm_error *err)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < least || value > 1000000)
        return trm_error_set(err, TRM_ERR_CONFIG, "%s \"%s\" is not a number of at least %d", flag,
                             text, least);
    *out = (int)value;
    return TRM_OK;
}

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
            status = read_number("--np", value, 1, &o->np, err);
        else if (strcmp(argv[i], "--spares") == 0)
            status = read_number("--spares", value, 0, &o->spares, err);
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

static enum trm_status find_hosts(const struct options *o, struct trm_host **hosts, int *count,
                                  struct trm_error *err)
{
    if (o->hostfile && o->np > 0)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "--np is for this machine and --hostfile for others; give one of them");
    if (o->hostfile) {
        enum trm_status status = trm_hostfile_read(o->hostfile, hosts, count, err);
        if (status == TRM_OK && o->spares >= *count) {
            free(*hosts);
            return trm_error_set(err, TRM_ERR_CONFIG,
                                 "--spares %d leaves none of the %d nodes of \"%s\" to work",
                                 o->spares, *count, o->hostfile);
        }
        return status;
    }
    if (o->np == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "give --np N for ranks on this machine, or --hostfile FILE");
    if (o->spares > 0)
        return trm_error_set(err, TRM_ERR_CONFIG, "--spares needs --hostfile");
    *hosts = calloc(1, sizeof **hosts);
    if (!*hosts)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a host");
    gethostname((*hosts)->name, sizeof(*hosts)->name - 1);
    memcpy((*hosts)->domain, (*hosts)->name, sizeof(*hosts)->domain);
    (*hosts)->slots = o->np;
    *count = 1;
    return TRM_OK;
}

/* data_parallel_size x tensor_model_parallel_size where that is given, else every slot. */
static int count_ranks(const struct trm_config *config, const struct trm_host *hosts, int count)
{
    int slots = 0;

    if (config->data_parallel_size > 0)
        return (int)(config->data_parallel_size * config->tensor_model_parallel_size);
    for (int i = 0; i < count; i++)
        slots += hosts[i].slots;
    return slots;
}

static enum trm_status check_recovery(const struct trm_config *config, struct trm_error *err)
{
    if (config->lease_ms < 3 * config->heartbeat_interval_ms)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "lease_ms %lld is less than three times heartbeat_interval_ms %lld; "
                             "lease_ms %lld would fit",
                             (long long)config->lease_ms, (long long)config->heartbeat_interval_ms,
                             (long long)(3 * config->heartbeat_interval_ms));
    if (config->data_parallel_size > 0 && config->min_data_parallel_size > 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "data_parallel_size %lld is fixed, and min_data_parallel_size %lld "
                             "allows less; leave data_parallel_size out",
                             (long long)config->data_parallel_size,
                             (long long)config->min_data_parallel_size);
    return TRM_OK;
}

static enum trm_status read_config(const struct options *o, const struct trm_host *hosts, int count,
                                   struct trm_config **out, int *ranks, struct trm_error *err)
{
    struct trm_config *config = NULL;
    enum trm_status status = trm_config_create(&config, err);

    if (status == TRM_OK)
        status = trm_config_load_file(config, o->arguments[0], err);
    if (status == TRM_OK)
        status = trm_config_load_arguments(config, o->argument_count - 1, o->arguments + 1, err);
    if (status == TRM_OK) {
        *ranks = count_ranks(config, hosts, count - o->spares);
        status = trm_config_check(config, *ranks, err);
    }
    if (status == TRM_OK)
        status = check_recovery(config, err);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return status;
    }
    *out = config;
    return TRM_OK;
}

/* This program, and the trainer that lies beside it (or where TRIREME_TRAINER says). */
static enum trm_status find_programs(char program[TRM_PATH_BYTES], char trainer[TRM_PATH_BYTES],
                                     struct trm_error *err)
{
    ssize_t length = readlink("/proc/self/exe", program, TRM_PATH_BYTES - 1);
    const char *given = getenv("TRIREME_TRAINER");
    enum trm_status status;

    if (length < 0)
        return trm_error_set_errno(err, errno, "could not find this program's path");
    program[length] = '\0';
    if (given)
        status = trm_file_path(trainer, err, "%s", given);
    else
        status = trm_file_path(trainer, err, "%.*s/trireme-train",
                               (int)(strrchr(program, '/') - program), program);
    if (status == TRM_OK && access(trainer, X_OK) != 0)
        status = trm_error_set_errno(err, errno, "could not use the trainer \"%s\"", trainer);
    return status;
}

static enum trm_status supervise(const struct options *o, int *exit_code, struct trm_log *log,
                                 struct trm_error *err)
{
    char program[TRM_PATH_BYTES], trainer[TRM_PATH_BYTES];
    const char *temporary = getenv("TMPDIR");
    struct trm_host *hosts = NULL;
    struct trm_config *config = NULL;
    int count = 0, ranks = 0;
    enum trm_status status = find_hosts(o, &hosts, &count, err);

    if (status == TRM_OK)
        status = read_config(o, hosts, count, &config, &ranks, err);
    if (status == TRM_OK)
        status = find_programs(program, trainer, err);
    if (status == TRM_OK) {
        struct trm_supervisor_settings settings = {
            .config = config,
            .hosts = hosts,
            .host_count = count,
            .local = o->hostfile == NULL,
            .ranks = ranks,
            .remote_shell = o->shell ? o->shell : "ssh",
            .launcher_shell = o->shell,
            .program = program,
            .trainer = trainer,
            .trainer_arguments = o->arguments,
            .trainer_argument_count = o->argument_count,
            .temporary = temporary && temporary[0] == '/' ? temporary : "/tmp",
            .output_fd = STDOUT_FILENO,
            .log = *log,
        };
        status = trm_supervise(&settings, exit_code, err);
    }
    trm_config_destroy(config);
    free(hosts);
    return status;
}

int trm_tool_run(int argc, char **argv)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};
    struct options options = {0};
    struct trm_error error = {0};
    int exit_code = TRM_EXIT_OK;
    enum trm_status status;

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? TRM_EXIT_USAGE : TRM_EXIT_OK;
    }
    signal(SIGPIPE, SIG_IGN);
    status = read_options(argc, argv, &options, &error);
    if (status == TRM_OK)
        status = supervise(&options, &exit_code, &log, &error);
    if (status == TRM_OK)
        return exit_code;
    trm_log(&log, TRM_LOG_ERROR, "%s", error.text);
    return trm_status_exit_code(status);
}
