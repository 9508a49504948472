/*
 * A source: somewhere that slices of one step can be read from.
 *
 * Disk is one kind, memory another; a peer's memory, reached over a network, is a third. A source
 * knows which slices it has and how to read one; whether the bytes are right is for its reader to
 * find out (restore.h checks every checksum). A source is used by one thread at a time; a disk's
 * may have a thread of its own that reads ahead, until it is idle.
 */
#ifndef TRM_CHECKPOINT_SOURCE_H
#define TRM_CHECKPOINT_SOURCE_H

#include "checkpoint/stored.h"

struct trm_source;

struct trm_source_operations {
    /* All `bytes` of slices[number] into `data`. The error names the source. */
    enum trm_status (*read)(struct trm_source *source, int64_t number, void *data, size_t bytes,
                            struct trm_error *err);
    /* Nothing more is wanted for now: gives back what only reading needs (an open file). */
    void (*idle)(struct trm_source *source);
    void (*destroy)(struct trm_source *source);
    /* slices[number] will be read soon: may start on it. `alone`: all of it is wanted here, so
     * hardly by anybody else on this machine, whose page cache it would only crowd. NULL: there is
     * nothing to start. */
    void (*ahead)(struct trm_source *source, int64_t number, size_t bytes, bool alone);
};

struct trm_source {
    const struct trm_source_operations *operations;
    char name[TRM_PATH_BYTES];      /* for messages: a path, "memory of node-12" */
    const struct trm_slice *slices; /* borrowed, [slice_count] */
    int64_t slice_count;
};

/* Shard `file` of a stored checkpoint. Its file is opened at the first read, so that shards of
 * which nothing is wanted stay closed, and closed when idle, so that one at a time is open. Reading
 * ahead takes a thread and two slices of memory, given back when idle. Borrows
 * `stored`. *out is returned owned. */
enum trm_status trm_source_disk(const struct trm_stored *stored, int file, struct trm_source **out,
                                struct trm_error *err);

/* Slices that lie in this process: data[i] holds slices[i]. Borrows both. *out is returned owned.
 */
enum trm_status trm_source_memory(const char *name, const struct trm_slice *slices,
                                  const void *const *data, int64_t slice_count, enum trm_type type,
                                  struct trm_source **out, struct trm_error *err);

/* NULL-safe. */
void trm_source_destroy(struct trm_source *source);

/* All shards of a stored checkpoint. *out (an array of file_count sources) is returned owned. */
enum trm_status trm_sources_of_stored(const struct trm_stored *stored, struct trm_source ***out,
                                      struct trm_error *err);
void trm_sources_destroy(struct trm_source **sources, int count);

#endif
