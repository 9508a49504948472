/* `trireme ckpt`: what checkpoints hold, without MPI or GPU. */
#include <stdio.h>
#include <string.h>

#include "tools/ckpt.h"
#include "tools/tools.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    int arguments;
    const char *usage, *help;
} commands[] = {
    {"list", trm_ckpt_list, 1, "list DIR",
     "steps, newest first: when written, size, run, layout, loss, and what is wrong with them;\n"
     "      manifests, sizes and slice tables are checked, tensors are not read"},
    {"diff", trm_ckpt_diff, 2, "diff A B",
     "prints \"identical\" and exits 0 when all tensors have the same bits, whatever the layouts;\n"
     "      else says which differ and by how much, and exits 1"},
};

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void print_help(FILE *out)
{
    fprintf(out, "usage: trireme ckpt COMMAND\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %s\n      %s\n", commands[i].usage, commands[i].help);
    fprintf(out, "\nA checkpoint is a directory with a manifest.json, such as "
                 "checkpoints/step-00001200;\nwhere DIR holds several, diff takes the newest.\n");
}

int trm_ckpt_fail(const struct trm_error *err)
{
    fprintf(stderr, "trireme ckpt: %s\n", err->text);
    return (int)trm_status_exit_code(err->status);
}

int trm_tool_ckpt(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TRM_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return TRM_EXIT_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (argc - 2 == commands[i].arguments)
            return commands[i].run(argc - 2, argv + 2);
        fprintf(stderr, "usage: trireme ckpt %s\n", commands[i].usage);
        return TRM_EXIT_USAGE;
    }
    fprintf(stderr, "trireme ckpt: \"%s\" is not a command; see \"trireme ckpt --help\"\n",
            argv[1]);
    return TRM_EXIT_USAGE;
}
