#include "tools/data.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "tools/tools.h"

int trm_tool_data_fail(const char *command, const struct trm_error *err)
{
    fprintf(stderr, "trireme data %s: %s\n", command, err->text);
    return trm_status_exit_code(err->status);
}

int trm_tool_data_refuse_option(const char *command, int found, char **argv)
{
    fprintf(stderr, "trireme data %s: option \"%s\" %s; see \"trireme data %s --help\"\n", command,
            argv[optind - 1], found == ':' ? "needs a value" : "is not known", command);
    return TRM_EXIT_USAGE;
}

int trm_tool_data(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "prepare") == 0)
        return trm_tool_data_prepare(argc - 1, argv + 1);
    if (strcmp(command, "inspect") == 0)
        return trm_tool_data_inspect(argc - 1, argv + 1);
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
        printf("usage: trireme data prepare IN.txt ... -o OUT [--format llmc|megatron|raw]\n"
               "       trireme data inspect FILE ... [--seq-length N]\n");
        return TRM_EXIT_OK;
    }
    if (*command)
        fprintf(stderr, "trireme data: \"%s\" is not a command; there are prepare and inspect\n",
                command);
    else
        fprintf(stderr, "trireme data: a command is missing; there are prepare and inspect\n");
    return TRM_EXIT_USAGE;
}
