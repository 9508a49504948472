/*
 * trireme-train CONFIG [--key value ...]: the program that mpirun or srun starts on every rank.
 * What it prints comes from rank 0; its exit codes are those of docs/exit-codes.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "collectives/agree.h"
#include "collectives/mpi/mpi.h"
#include "trainer/run.h"
#include "trainer/signals.h"

#define VERSION_TEXT "trireme-train " TRIREME_VERSION

static void print_usage(FILE *out)
{
    fprintf(out, "usage: mpirun [-np RANKS] trireme-train CONFIG.yaml [--key value ...]\n"
                 "       trireme-train --help | --version\n");
}

/* The rank before MPI has started, so that a bad command line is told once. */
static bool is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);
        if (rank)
            return strcmp(rank, "0") == 0;
    }
    return true;
}

static int fail(bool tell, enum trm_status status, const struct trm_error *error)
{
    struct trm_log log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO};

    if (tell)
        trm_log(&log, status == TRM_ERR_STOPPED ? TRM_LOG_INFO : TRM_LOG_ERROR, "%s", error->text);
    return trm_status_exit_code(status);
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

/* Between MPI's start and its end. */
static enum trm_status run_ranks(struct trm_config *config, struct trm_comm *world,
                                 struct trm_error *err)
{
    int local_rank, local_size;
    enum trm_status status = trm_config_check(config, world->size, err);

    trm_mpi_local(world, &local_rank, &local_size);
    status = trm_agree(world, status, err);
    if (status == TRM_OK)
        status = trm_run_train(config, world, local_rank, local_size, err);
    return status;
}

int main(int argc, char **argv)
{
    struct trm_error error = {0};
    struct trm_config *config = NULL;
    struct trm_comm *world = NULL;
    enum trm_status status;
    bool first = is_first_rank();
    int code;

    trm_signals_block();
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            argv[1] = argv[i];
    if (argc < 2 || argv[1][0] == '-') {
        bool help = argc >= 2 && strcmp(argv[1], "--help") == 0;
        if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
            puts(VERSION_TEXT);
            return TRM_EXIT_OK;
        }
        print_usage(help ? stdout : stderr);
        if (help)
            trm_config_print_help(stdout);
        return help ? TRM_EXIT_OK : TRM_EXIT_USAGE;
    }
    status = trm_config_create(&config, &error);
    if (status == TRM_OK)
        status = read_config(argc, argv, config, &error);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return fail(first, status, &error);
    }
    trm_failpoint("startup", 0, NULL, 0);
    status = trm_mpi_start(&argc, &argv, &world, &error);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return fail(true, status, &error);
    }
    status = run_ranks(config, world, &error);
    code = status == TRM_OK ? TRM_EXIT_OK : fail(world->rank == 0, status, &error);
    /* A broken group can't finalize: its peers may be gone. */
    if (status == TRM_ERR_COMM || status == TRM_ERR_TIMEOUT)
        trm_comm_abort(world, code);
    trm_mpi_finish(world);
    trm_config_destroy(config);
    return code;
}
