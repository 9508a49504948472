/*
 * Large sequential I/O to one file, past the page cache where the file system lets us (O_DIRECT).
 *
 * Writing: ranges are put, best in ascending order. Those that follow each other in memory and file
 * alike leave as one: straight from the caller's memory where that lies like the file (modulo
 * 4 KiB), else through one buffer of 8 MiB. What O_DIRECT cannot take (short ranges, odd ends, file
 * systems without it) is written through the page cache; the caller's fsync covers both. Reading
 * goes past the page cache too, unless told otherwise. One thread at a time.
 *
 * Several processes of one machine may write ranges of one file that do not overlap: only blocks
 * that a range covers whole go past the page cache, a block being as large as a page of memory or a
 * block of the file system, and the rest of it meets the neighbours' in the page cache. On several
 * machines there is no such place to meet, unless the file system keeps their caches alike.
 */
#ifndef TRM_CHECKPOINT_STREAM_H
#define TRM_CHECKPOINT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_STREAM_BUFFER_BYTES ((size_t)8 << 20)

struct trm_stream {
    const char *path; /* borrowed, for messages */
    int fd, direct;   /* direct: -1 where it is not to be had */
    size_t block; /* bytes; of the file, and what is written past the page cache is whole ones */
    char *buffer; /* owned; lies like the file: [fill] bytes for the file from buffer_offset on */
    size_t fill;
    int64_t buffer_offset;
    const char *pending; /* borrowed; not written yet */
    size_t pending_bytes;
    int64_t pending_offset;
    bool through_cache; /* reading: what others on this machine may want too */
};

/* For writing a file that is there. Data put must stay in place until flushed. */
enum trm_status trm_stream_open(const char *path, struct trm_stream *stream, struct trm_error *err);
enum trm_status trm_stream_put(struct trm_stream *stream, const void *data, size_t bytes,
                               int64_t offset, struct trm_error *err);

/* Hands everything to the system. */
enum trm_status trm_stream_flush(struct trm_stream *stream, struct trm_error *err);

/* Forgets what was not flushed. TRM_ERR_IO when close fails: network file systems report failed
 * writes as late as that. */
enum trm_status trm_stream_close(struct trm_stream *stream, struct trm_error *err);

/* For reading; closed by trm_stream_close. With `forget`, pages of the file that are in the page
 * cache, and durable, are dropped from it. */
enum trm_status trm_stream_open_read(const char *path, bool forget, struct trm_stream *stream,
                                     struct trm_error *err);

/* `bytes` (at most TRM_STREAM_BUFFER_BYTES) at `offset`; *data lies in the stream's buffer until
 * the next call. */
enum trm_status trm_stream_read(struct trm_stream *stream, size_t bytes, int64_t offset,
                                const void **data, struct trm_error *err);

#endif
