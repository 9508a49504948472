/*
 * Lines for people, on standard error: "12:04:31 rank 3  warning: ...". One write(2) per line, so
 * lines of several processes do not mix. A context is passed, there is no global logger.
 * Only `main` functions and the trainer's loop log; libraries report errors to their callers.
 */
#ifndef TRM_BASE_LOG_H
#define TRM_BASE_LOG_H

#include <stdbool.h>

enum trm_log_level { TRM_LOG_ERROR, TRM_LOG_WARNING, TRM_LOG_INFO, TRM_LOG_DEBUG };

struct trm_log {
    enum trm_log_level level; /* what is less severe than this is dropped */
    int rank;                 /* shown when >= 0; -1 for programs without ranks */
    int fd;                   /* where lines go, usually 2 */
    int *lost;                /* counts lines that fd did not take; NULL: nobody does */
};

/* Formats one line; at most 2,000 bytes of it are written. Thread safe. */
void trm_log(const struct trm_log *log, enum trm_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Somebody else's line, as it is, and a line feed behind it. Thread safe. */
void trm_log_pass(const struct trm_log *log, const char *line);

#endif
