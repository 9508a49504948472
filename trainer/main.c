/*
 * trireme-train CONFIG [--key value ...]: the program that mpirun or srun starts on every rank.
 * What it prints comes from rank 0; its exit codes are those of docs/exit-codes.md.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "collectives/mpi/mpi.h"
#include "collectives/node_flight.h"
#include "collectives/watchdog.h"
#include "trainer/place.h"
#include "trainer/run.h"
#include "trainer/self_test.h"
#include "trainer/signals.h"

#define VERSION_TEXT "trireme-train " TRIREME_VERSION

static void print_usage(FILE *out)
{
    fprintf(out, "usage: mpirun [-np RANKS] trireme-train CONFIG.yaml [--key value ...]\n"
                 "       trireme-train --self-test [--device auto|cpu|cuda]\n"
                 "       trireme-train --help | --version\n");
}

/* The first of these variables that is a number, `otherwise` where none is. */
static int number_of(const char *const *names, int count, int otherwise)
{
    for (int i = 0; i < count; i++) {
        const char *text = getenv(names[i]);
        char *end = NULL;
        long number = text ? strtol(text, &end, 10) : -1;
        if (text && end != text && *end == '\0' && number >= 0 && number < INT32_MAX)
            return (int)number;
    }
    return otherwise;
}

/* Before MPI has started, the launcher's variables say who this is. */
static int launched_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};
    return number_of(names, 3, 0);
}

static int launched_local_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"};
    return number_of(names, 2, 0);
}

/* What this process holds, in the order in which it takes it. */
struct process {
    int rank;    /* as the launcher says */
    bool joined; /* its node's agent, if there is one */
    struct trm_attach attach;
    struct trm_watchdog *watchdog;
    struct trm_config *config;
    struct trm_comm *world;
};

/* The one way out: tells why, in the flight record too, and returns the exit code. Rank 0 speaks
 * for all of them; ranks of a broken group, and of a node that is not taken, have reasons of their
 * own. */
static int leave(struct process *p, enum trm_status status, const struct trm_error *error)
{
    int code = trm_status_exit_code(status);
    bool broken = p->world && trm_run_is_broken(status);
    bool alone = broken || !p->joined;
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = alone ? p->rank : -1, .fd = STDERR_FILENO};

    if (status != TRM_OK && (p->rank == 0 || alone))
        trm_log(&log, status == TRM_ERR_STOPPED ? TRM_LOG_INFO : TRM_LOG_ERROR, "%s", error->text);
    trm_flight_exit(&p->attach.flight, status, code, status == TRM_OK ? "" : error->text);
    /* It can't finalize: its peers may be gone. */
    if (broken)
        trm_comm_abort(p->world, code);
    trm_mpi_finish(p->world);
    trm_watchdog_stop(p->watchdog);
    trm_config_destroy(p->config);
    return code; /* lock and connection of the agent end with the process */
}

/* What needs no other rank: file, command line, and their agreement with each other. */
static enum trm_status read_config(int argc, char **argv, struct trm_config *config,
                                   struct trm_error *err)
{
    enum trm_status status = trm_config_load_file(config, argv[1], err);
    if (status == TRM_OK)
        status = trm_config_load_arguments(config, argc - 2, argv + 2, err);
    return status;
}

/* Before MPI: a rank that its node's agent refuses must not join the others. */
static enum trm_status join_agent(struct process *p, struct trm_error *err)
{
    enum trm_status status = trm_attach_open(p->rank, launched_local_rank(), &p->attach, err);

    p->joined = status == TRM_OK;
    if (status == TRM_OK && p->attach.socket >= 0)
        status = trm_watchdog_start(&p->attach, NULL, &p->watchdog, err);
    return status;
}

/* Without an agent the ranks of a node watch each other. A run can do without that. */
static enum trm_status watch_node(struct process *p, struct trm_comm *node, struct trm_error *err)
{
    const struct trm_stall_limits limits = {
        .factor = p->config->progress_timeout_factor,
        .floor_ms = p->config->progress_timeout_floor_ms,
        .ceiling_ms = p->config->progress_timeout_ceiling_ms,
        .io_ms = p->config->io_timeout_ms,
    };
    const struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};
    struct trm_error why;
    enum trm_status status;

    if (p->attach.socket >= 0 || limits.ceiling_ms == 0)
        return TRM_OK;
    status = trm_node_flight_open(node, p->rank, &p->attach.flight, &why);
    if (trm_run_is_broken(status))
        return trm_error_set(err, status, "%s", why.text);
    if (status == TRM_OK)
        status = trm_watchdog_start(&p->attach, &limits, &p->watchdog, &why);
    if (status != TRM_OK && node->rank == 0)
        trm_log(&log, TRM_LOG_WARNING, "nobody watches the progress of this node's ranks: %s",
                why.text);
    return TRM_OK;
}

/* Cores and GPU; the first rank tells what it has, and every node what it lacks. */
static enum trm_status settle_down(struct process *p, struct trm_comm *node,
                                   struct trm_run_place *place, struct trm_error *err)
{
    const struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};
    struct trm_place chosen;
    enum trm_status status = trm_place_choose(p->config, node, &chosen, err);

    if (status != TRM_OK)
        return status;
    place->threads = chosen.threads;
    place->gpu = chosen.gpu;
    if (chosen.warns && node->rank == 0)
        trm_log(&log, TRM_LOG_WARNING, "%s", chosen.text);
    else if (chosen.text[0] && p->rank == 0)
        trm_log(&log, TRM_LOG_INFO, "each rank is bound to a part of its node; rank 0: %s",
                chosen.text);
    return TRM_OK;
}

/* Between MPI's start and its end. */
static enum trm_status run_ranks(struct process *p, struct trm_error *err)
{
    struct trm_run_place place = {.world = p->world, .attach = &p->attach};
    struct trm_comm *node = NULL;
    enum trm_status status = TRM_OK;

    trm_mpi_local(p->world, &place.local_rank, &place.local_size);
    if (p->world->rank != p->rank && p->attach.socket >= 0)
        status = trm_error_set(err, TRM_ERR_INTERNAL,
                               "the launcher started this process as rank %d, and MPI calls it "
                               "rank %d",
                               p->rank, p->world->rank);
    p->rank = p->world->rank;
    if (status == TRM_OK)
        status = trm_config_check(p->config, p->world->size, err);
    status = trm_agree(p->world, status, err);
    if (status == TRM_OK)
        status = trm_mpi_node(p->world, &node, err);
    if (status == TRM_OK)
        status = watch_node(p, node, err);
    if (status == TRM_OK)
        status = trm_agree(p->world, settle_down(p, node, &place, err), err);
    trm_comm_destroy(node);
    if (status == TRM_OK) {
        trm_flight_phase(&p->attach.flight, TRM_PHASE_COMM_INIT);
        p->world->flight = trm_flight_lane(&p->attach.flight, TRM_FLIGHT_WORLD);
        status = trm_run_train(p->config, &place, err);
    }
    return status;
}

/* Prints a line of JSON: trireme run asks each node for it. */
static int self_test(enum trm_device_kind device)
{
    const struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};
    struct trm_error error;
    char *report = NULL;
    enum trm_status status = trm_self_test_report(TRIREME_VERSION, device, &report, &error);

    if (status == TRM_OK)
        puts(report);
    else
        trm_log(&log, TRM_LOG_ERROR, "%s", error.text);
    free(report);
    return trm_status_exit_code(status);
}

/* "--self-test", "--self-test --device NAME"; false: something else. */
static bool wants_self_test(int argc, char **argv, enum trm_device_kind *out)
{
    static const char *const names[] = {
        [TRM_DEVICE_AUTO] = "auto", [TRM_DEVICE_CPU] = "cpu", [TRM_DEVICE_CUDA] = "cuda"};

    *out = TRM_DEVICE_CPU;
    if (argc == 2 && strcmp(argv[1], "--self-test") == 0)
        return true;
    if (argc != 4 || strcmp(argv[1], "--self-test") != 0 || strcmp(argv[2], "--device") != 0)
        return false;
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(argv[3], names[i]) == 0) {
            *out = (enum trm_device_kind)i;
            return true;
        }
    return false;
}

/* Options that train nothing; false: there are none. */
static bool answer(int argc, char **argv, int *code)
{
    bool help = argc >= 2 && strcmp(argv[1], "--help") == 0;
    enum trm_device_kind device;

    for (int i = 2; i < argc; i++)
        help = help || strcmp(argv[i], "--help") == 0;
    if (argc >= 2 && argv[1][0] != '-' && !help)
        return false;
    *code = TRM_EXIT_OK;
    if (!help && argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts(VERSION_TEXT);
        return true;
    }
    if (!help && wants_self_test(argc, argv, &device)) {
        *code = self_test(device);
        return true;
    }
    print_usage(help ? stdout : stderr);
    if (help)
        trm_config_print_help(stdout);
    else
        *code = TRM_EXIT_USAGE;
    return true;
}

int main(int argc, char **argv)
{
    struct process process = {.rank = launched_rank(), .attach = {.socket = -1, .lock = -1}};
    struct trm_error error = {0};
    enum trm_status status;
    int code;

    trm_signals_block();
    if (answer(argc, argv, &code))
        return code;
    status = join_agent(&process, &error);
    if (status == TRM_OK)
        status = trm_config_create(&process.config, &error);
    if (status == TRM_OK)
        status = read_config(argc, argv, process.config, &error);
    if (status == TRM_OK) {
        trm_failpoint("startup", 0, NULL, 0);
        trm_flight_phase(&process.attach.flight, TRM_PHASE_COMM_INIT);
        status = trm_mpi_start(&argc, &argv, &process.world, &error);
    }
    if (status == TRM_OK)
        status = run_ranks(&process, &error);
    return leave(&process, status, &error);
}
