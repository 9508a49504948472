/* `trireme ckpt`: what checkpoints hold, without MPI or GPU. */
#include <stdio.h>
#include <string.h>

#include "tools/ckpt.h"
#include "tools/tools.h"

#define WITH_OPTIONS (-1)

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    int arguments; /* WITH_OPTIONS: the command looks for itself */
    const char *usage, *help;
} commands[] = {
    {"list", trm_ckpt_list, 1, "list DIR",
     "steps, newest first: when written, size, run, layout, loss, and what is wrong with them;\n"
     "      manifests, sizes and slice tables are checked, tensors are not read"},
    {"diff", trm_ckpt_diff, 2, "diff A B",
     "prints \"identical\" and exits 0 when all tensors have the same bits, whatever the layouts;\n"
     "      else says which differ and by how much, and exits 1"},
    {"inspect", trm_ckpt_inspect, WITH_OPTIONS, "inspect CKPT [--json]",
     "step, run, layout, configuration, loss, and every tensor with shape, type and size"},
    {"verify", trm_ckpt_verify, WITH_OPTIONS, "verify CKPT|DIR",
     "reads every slice against its checksum, of a directory all checkpoints; names each file,\n"
     "      tensor and range that is bad, and then exits 1"},
    {"reshard", trm_ckpt_reshard, WITH_OPTIONS, "reshard CKPT -o DIR --shards N",
     "the same tensors and counters in N files, as DIR/step-NNNNNNNN; a shard is held in memory"},
    {"export", trm_ckpt_export, WITH_OPTIONS, "export CKPT -o DIR",
     "the parameters as a Hugging Face GPT-2: DIR/model.safetensors and DIR/config.json"},
    {"import", trm_ckpt_import, WITH_OPTIONS, "import MODEL -o DIR [--shards N]",
     "the reverse, as DIR/step-00000000 to train from: MODEL is a Hugging Face GPT-2 directory, "
     "or\n"
     "      a llm.c model file (gpt2_124M.bin)"},
};

#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static void print_help(FILE *out)
{
    fprintf(out, "usage: trireme ckpt COMMAND\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %s\n      %s\n", commands[i].usage, commands[i].help);
    fprintf(out,
            "\nA checkpoint is a directory with a manifest.json, such as "
            "checkpoints/step-00001200;\nof a directory that holds several, the newest sound one "
            "is taken.\n");
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
        if (commands[i].arguments == WITH_OPTIONS || argc - 2 == commands[i].arguments)
            return commands[i].run(argc - 2, argv + 2);
        fprintf(stderr, "usage: trireme ckpt %s\n", commands[i].usage);
        return TRM_EXIT_USAGE;
    }
    fprintf(stderr, "trireme ckpt: \"%s\" is not a command; see \"trireme ckpt --help\"\n",
            argv[1]);
    return TRM_EXIT_USAGE;
}
