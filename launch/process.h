/*
 * Processes of this node, by /proc and pidfds. A pidfd stays with its process: whatever is killed
 * through it is what was looked at, though pids are used again. Nothing here waits.
 */
#ifndef TRM_LAUNCH_PROCESS_H
#define TRM_LAUNCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct trm_process {
    pid_t pid, parent;
    char state;          /* R, S, D, T, t, Z, X, I */
    char name[16];       /* of the program, cut to 15 characters */
    uint64_t start_time; /* clock ticks since boot: with the pid, it names one process */
};

/* False when there is none (any more). */
bool trm_process_read(pid_t pid, struct trm_process *out);

/* Parses what /proc/PID/stat holds; the name may hold blanks and brackets. */
bool trm_process_parse(const char *text, struct trm_process *out);

/* A pidfd (close it), -1: no such process. */
int trm_process_open(pid_t pid);
bool trm_process_is_over(int pidfd);
void trm_process_kill(int pidfd);

/* The signal that ended the process of a pidfd, 0 when it exited or is not known (before Linux
 * 6.15 it never is; it is known once the parent has reaped it). */
int trm_process_death_signal(int pidfd);

/* Kills every process that holds a flock on the file that `fd` is open on, and has that file open;
 * returns how many. */
int trm_process_kill_lock_holders(int fd);

/* Kills every process of this user with this program name that has `text`, a whole path or the
 * beginning of one up to a '-' or '/', in an argument; returns how many. */
int trm_process_kill_by_argument(const char *name, const char *text);

#endif
