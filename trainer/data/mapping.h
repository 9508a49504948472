/*
 * A whole regular file mapped read-only. A file that somebody cuts short while it is mapped ends
 * the process with SIGBUS: replace token files by rename, as `trireme data prepare` does.
 */
#ifndef TRM_TRAINER_DATA_MAPPING_H
#define TRM_TRAINER_DATA_MAPPING_H

#include <stdint.h>

#include "base/status.h"

struct trm_mapping {
    const unsigned char *data; /* page aligned; NULL when nothing is mapped */
    int64_t bytes;             /* > 0 */
};

/* TRM_ERR_INPUT for a file that is missing, empty, a directory or unreadable. The caller closes. */
enum trm_status trm_mapping_open(const char *path, struct trm_mapping *mapping,
                                 struct trm_error *err);

/* Idempotent. */
void trm_mapping_close(struct trm_mapping *mapping);

#endif
