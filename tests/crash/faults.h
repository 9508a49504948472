/*
 * Fault injection: what a harness and the library that it preloads into a program share.
 *
 * faults.c is built as libfaults.so. Preloaded (LD_PRELOAD) with TRM_FAULTS naming a control file,
 * it numbers every call that changes something below `root`, over all processes and threads: open
 * with O_CREAT or O_TRUNC, write, pwrite, writev, pwritev, ftruncate, truncate, fallocate, fsync,
 * fdatasync, close of a file that was open for writing, rename, renameat, renameat2, link, symlink,
 * unlink, unlinkat, remove, rmdir, mkdir, mkdirat. libhdf5 is linked dynamically, so its calls are
 * among them. Each call is logged in the control file, and at call number `target` it does
 * `action`. After a kill every other process dies at its next such call: all stop together, as they
 * do when the power goes.
 *
 * Losing power is modelled in image.h. There fsync does nothing but tell the model.
 */
#ifndef TRM_TESTS_CRASH_FAULTS_H
#define TRM_TESTS_CRASH_FAULTS_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAULT_CALLS_MAX 4096

enum fault_action {
    FAULT_NONE,      /* count and log */
    FAULT_KILL,      /* SIGKILL before the call */
    FAULT_TORN,      /* of a write, half is written; then SIGKILL */
    FAULT_ERROR,     /* the call fails with `error` and has done nothing (close: has closed) */
    FAULT_SHORT,     /* of a write, half is written, and that is said */
    FAULT_INTERRUPT, /* a write fails with EINTR, once */
    FAULT_SLOW       /* every write and fsync takes `delay_us` longer */
};

struct fault_call {
    char name[16];
    char path[192]; /* below root; of a rename, the new one */
    int64_t bytes;  /* of a write */
    int error;      /* 0: it succeeded */
};

struct fault_control {
    char root[PATH_MAX];  /* absolute, without links */
    char image[PATH_MAX]; /* of image.h; empty: fsync is the system's */
    int64_t target;       /* from 1; 0 with FAULT_SHORT and FAULT_INTERRUPT: each write */
    enum fault_action action;
    int error, delay_us;
    bool onward;      /* FAULT_ERROR: from the target on, every call that takes space */
    bool no_exchange; /* renameat2 with flags is not there, as on NFS */
    atomic_long count;
    atomic_bool dead;
    struct fault_call calls[FAULT_CALLS_MAX]; /* [number - 1] */
};

#define FAULT_VARIABLE "TRM_FAULTS"

#endif
