/* `trireme`: the command on the login node. It links neither MPI nor CUDA. */
#include <stdio.h>
#include <string.h>

#include "tools/tools.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"agent", trm_tool_agent, "follow, check and end the ranks of a node; started by `run`"},
    {"ckpt", trm_tool_ckpt, "look into, verify, compare, re-cut and convert checkpoints"},
    {"data", trm_tool_data, "make token files from text, and look into them"},
    {"run", trm_tool_run, "train on this machine or on many, and go on whatever fails"},
    {"sample", trm_tool_sample, "write text from a checkpoint"},
    {"slurm", trm_tool_slurm, "print a batch script for a run under Slurm"},
    {"status", trm_tool_status, "tell how a run does"},
};

/* What a supervisor starts; people don't. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} own[] = {
    {"tether", trm_tool_tether},
};

#define OWN_COUNT     (sizeof own / sizeof *own)
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void print_help(FILE *out)
{
    fprintf(out, "usage: trireme COMMAND [ARGUMENT ...]\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n  --help     this text; `trireme COMMAND --help` tells about a command\n"
                 "  --version  the version\n\n"
                 "Training is started with `mpirun -np N trireme-train CONFIG`.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TRM_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return TRM_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("trireme %s\n", TRM_VERSION);
        return TRM_EXIT_OK;
    }
    for (size_t i = 0; i < OWN_COUNT; i++)
        if (strcmp(argv[1], own[i].name) == 0)
            return own[i].run(argc - 1, argv + 1);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "trireme: \"%s\" is not a command; see \"trireme --help\"\n", argv[1]);
    return TRM_EXIT_USAGE;
}
