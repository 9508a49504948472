/*
 * Runs a program with a fault in it, for scripts:
 *
 *   crash-run LOG ROOT FAULT COMMAND [ARGUMENTS]
 *
 * ROOT is the absolute path of the directory whose calls count (faults.h). FAULT is one of `count`,
 * `kill:NUMBER`, `torn:NUMBER`, `EIO:NUMBER`, `ENOSPC:NUMBER` (that call alone), `full:NUMBER` (no
 * space from that call on), `short`, `interrupt` (every write) and `slow:MICROSECONDS`. The calls
 * are written to LOG, one a line: number, name, path, and the error if there was one. Exits as the
 * command does; 128 and the signal's number when it was killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"

static bool set_fault(struct fault_control *control, const char *text)
{
    static const struct {
        const char *name;
        enum fault_action action;
        int error;
        bool onward;
    } faults[] = {{"count", FAULT_NONE, 0, false},        {"kill", FAULT_KILL, 0, false},
                  {"torn", FAULT_TORN, 0, false},         {"EIO", FAULT_ERROR, EIO, false},
                  {"ENOSPC", FAULT_ERROR, ENOSPC, false}, {"full", FAULT_ERROR, ENOSPC, true},
                  {"short", FAULT_SHORT, 0, false},       {"interrupt", FAULT_INTERRUPT, 0, false},
                  {"slow", FAULT_SLOW, 0, false}};
    const char *number = strchr(text, ':');
    size_t length = number != NULL ? (size_t)(number - text) : strlen(text);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (strlen(faults[i].name) != length || strncmp(faults[i].name, text, length) != 0)
            continue;
        control->action = faults[i].action;
        control->error = faults[i].error;
        control->onward = faults[i].onward;
        control->target = number != NULL ? atoll(number + 1) : 0;
        control->delay_us = (int)control->target;
        return true;
    }
    return false;
}

/* In memory that its name finds while this process lives. */
static struct fault_control *make_control(char name[64])
{
    int fd = memfd_create("faults", 0);
    if (fd < 0 || ftruncate(fd, sizeof(struct fault_control)) != 0)
        return NULL;
    snprintf(name, 64, "/proc/%d/fd/%d", getpid(), fd);
    void *data =
        mmap(NULL, sizeof(struct fault_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return data != MAP_FAILED ? data : NULL;
}

static int run(char **command, const char *control)
{
    char library[PATH_MAX];
    int status = 0;
    ssize_t length = readlink("/proc/self/exe", library, sizeof(library) - 32);
    if (length <= 0)
        return 1;
    library[length] = '\0';
    strcpy(strrchr(library, '/'), "/libfaults.so");
    pid_t child = fork();
    if (child == 0) {
        setenv("LD_PRELOAD", library, 1);
        setenv(FAULT_VARIABLE, control, 1);
        execvp(command[0], command);
        perror(command[0]);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool write_log(const struct fault_control *control, const char *path)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return false;
    long count = atomic_load(&control->count);
    for (long i = 0; i < count && i < FAULT_CALLS_MAX; i++) {
        const struct fault_call *call = &control->calls[i];
        fprintf(out, "%ld %s %s %s\n", i + 1, call->name, call->path,
                call->error != 0 ? strerror(call->error) : "");
    }
    return fclose(out) == 0;
}

int main(int argc, char **argv)
{
    char name[64];
    struct fault_control *control = make_control(name);
    if (argc < 5 || control == NULL || !set_fault(control, argv[3])) {
        fprintf(stderr, "usage: crash-run LOG ROOT FAULT COMMAND [ARGUMENTS]\n");
        return 64;
    }
    snprintf(control->root, sizeof(control->root), "%s", argv[2]);
    int code = run(argv + 4, name);
    if (!write_log(control, argv[1])) {
        perror(argv[1]);
        return 74;
    }
    return code;
}
