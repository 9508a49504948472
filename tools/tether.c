/* `trireme tether COMMAND ...`: becomes the command, which the kernel kills when the caller ends,
 * however that happens. How a supervisor starts mpirun; no command for people. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tools/tools.h"

int trm_tool_tether(int argc, char **argv)
{
    pid_t parent = getppid();

    if (argc < 2) {
        fprintf(stderr, "usage: trireme tether COMMAND [ARGUMENT ...]\n");
        return TRM_EXIT_USAGE;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        return TRM_EXIT_UNAVAILABLE;
    execvp(argv[1], argv + 1);
    fprintf(stderr, "trireme: could not start \"%s\": %s\n", argv[1], strerror(errno));
    return TRM_EXIT_UNAVAILABLE;
}
