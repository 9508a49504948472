/*
 * Reading every byte of a stored checkpoint: what opening did not look at.
 *
 * Opening has checked manifest and slice tables; this opens each shard with HDF5, holds its
 * attributes and datasets against the manifest, and reads every slice against its checksum. Memory:
 * one slice. Nothing is changed.
 */
#ifndef TRM_CHECKPOINT_VERIFY_H
#define TRM_CHECKPOINT_VERIFY_H

#include "checkpoint/stored.h"

struct trm_verify_report {
    void *context;
    /* One sentence for each thing that is wrong; may be NULL. */
    void (*wrong)(void *context, const char *reason);
    /* Bytes of tensors checked so far, of trm_catalog_bytes in all; may be NULL. */
    void (*progress)(void *context, int64_t bytes);
};

/* TRM_OK when all is well; else the first thing that is wrong. Goes on to the end after a fault in
 * a file, so that `wrong` hears of all. */
enum trm_status trm_verify(const struct trm_stored *stored, const struct trm_verify_report *report,
                           struct trm_error *err);

#endif
