/*
 * What kind of failure, and in which words.
 *
 * A function that can fail returns enum trm_status and describes the failure in a struct trm_error
 * that its caller owns (a fixed buffer: reporting an error never allocates). The status is to
 * branch on; the text is for a person: lower case, no full stop, the offending value, and what to
 * do. Callers put context in front of it ("saving step 1200: ..."). Not thread safe per object.
 */
#ifndef TRM_BASE_STATUS_H
#define TRM_BASE_STATUS_H

#include <stdarg.h>

enum trm_status {
    TRM_OK = 0,
    TRM_ERR_CONFIG,      /* bad configuration or command line: exit 78 */
    TRM_ERR_INPUT,       /* bad input file of the user's (token file, text, model): exit 78 */
    TRM_ERR_NOT_FOUND,   /* a named file, checkpoint or key is not there */
    TRM_ERR_IO,          /* the system refused: open, read, write, fsync, rename */
    TRM_ERR_CORRUPT,     /* data that fails its checksum or contradicts itself */
    TRM_ERR_MISMATCH,    /* sound, but of another run, model, type or version */
    TRM_ERR_MEMORY,      /* does not fit, or malloc failed */
    TRM_ERR_COMM,        /* a communication library reported an error */
    TRM_ERR_TIMEOUT,     /* a deadline passed */
    TRM_ERR_STOPPED,     /* asked to stop; state is durable: exit 75 */
    TRM_ERR_NUMERICS,    /* NaN, Inf or a loss spike */
    TRM_ERR_DIVERGED,    /* copies that must be equal are not: a node computes or remembers wrong */
    TRM_ERR_UNSUPPORTED, /* valid, but this build or machine cannot */
    TRM_ERR_INTERNAL,    /* a bug in this program that was caught */
    TRM_STATUS_COUNT
};

/* Exit codes of every program (after sysexits.h); docs/exit-codes.md. */
enum trm_exit {
    TRM_EXIT_OK = 0,
    TRM_EXIT_DIFFERENT = 1,    /* `ckpt diff`, `ckpt verify`: the answer is no */
    TRM_EXIT_USAGE = 64,       /* unknown command or argument */
    TRM_EXIT_CORRUPT = 65,     /* a checkpoint or input contradicts itself */
    TRM_EXIT_NOT_FOUND = 66,   /* a named checkpoint or file is not there */
    TRM_EXIT_DIVERGED = 68,    /* replicas differ: start me again without the named node */
    TRM_EXIT_UNAVAILABLE = 69, /* communication failed or a deadline passed */
    TRM_EXIT_SOFTWARE = 70,    /* a bug in this program */
    TRM_EXIT_OS = 71,          /* out of memory */
    TRM_EXIT_GAVE_UP = 72,     /* the same failure repeats, or no progress: do not start me again */
    TRM_EXIT_IO = 74,          /* reading or writing failed */
    TRM_EXIT_REQUEUE = 75,     /* stopped on request after a checkpoint: start me again */
    TRM_EXIT_NUMERICS = 76,    /* NaN, Inf or a loss spike, and the policy is to stop */
    TRM_EXIT_CONFIG = 78       /* bad configuration or input: do not start me again */
};

#define TRM_ERROR_TEXT_BYTES 1024

struct trm_error {
    enum trm_status status;
    char text[TRM_ERROR_TEXT_BYTES]; /* NUL-terminated, cut with "..." when too long */
};

/* Sets status and text; returns the status, so that `return trm_error_set(...)` reads well.
 * `err` may be NULL when the caller does not want the words. */
enum trm_status trm_error_set(struct trm_error *err, enum trm_status status, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

/* The same, ending in ": " and the system's text for `errno_value`. ENOENT becomes
 * TRM_ERR_NOT_FOUND, ENOMEM TRM_ERR_MEMORY, everything else TRM_ERR_IO. */
enum trm_status trm_error_set_errno(struct trm_error *err, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<formatted>: " in front of the text and returns the unchanged status, which `err` holds:
 * without one (NULL) it can only return TRM_ERR_INTERNAL. */
enum trm_status trm_error_prefix(struct trm_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The word for a status ("corrupt"); static. */
const char *trm_status_name(enum trm_status status);

/* The documented exit code for a status. */
enum trm_exit trm_status_exit_code(enum trm_status status);

#endif
