#include "checkpoint/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/file.h"

/* What O_DIRECT asks of addresses, offsets and lengths, on every file system that has it. */
#define ALIGN_BYTES ((size_t)4096)
#define CHUNK_BYTES TRM_STREAM_BUFFER_BYTES /* of one write */

static enum trm_status open_stream(const char *path, int flags, struct trm_stream *stream,
                                   struct trm_error *err)
{
    struct trm_stream made = {.path = path, .fd = -1, .direct = -1};
    /* Room for a range that begins and ends in the middle of a block. */
    made.buffer = aligned_alloc(ALIGN_BYTES, TRM_STREAM_BUFFER_BYTES + 2 * ALIGN_BYTES);
    if (made.buffer == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for \"%s\"", path);
    made.fd = open(path, flags | O_CLOEXEC);
    if (made.fd < 0) {
        free(made.buffer);
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    }
    made.direct = open(path, flags | O_DIRECT | O_CLOEXEC);
    *stream = made;
    return TRM_OK;
}

enum trm_status trm_stream_open(const char *path, struct trm_stream *stream, struct trm_error *err)
{
    return open_stream(path, O_WRONLY, stream, err);
}

enum trm_status trm_stream_open_read(const char *path, bool forget, struct trm_stream *stream,
                                     struct trm_error *err)
{
    enum trm_status status = open_stream(path, O_RDONLY, stream, err);
    if (status == TRM_OK && forget)
        (void)posix_fadvise(stream->fd, 0, 0, POSIX_FADV_DONTNEED);
    return status;
}

static void forget_direct(struct trm_stream *stream)
{
    if (stream->direct >= 0)
        close(stream->direct);
    stream->direct = -1;
}

/* As much of aligned data as O_DIRECT takes; *done says how much that was. */
static enum trm_status write_direct(struct trm_stream *stream, const char *data, size_t bytes,
                                    int64_t offset, size_t *done, struct trm_error *err)
{
    while (stream->direct >= 0 && bytes - *done >= ALIGN_BYTES) {
        size_t wanted = (bytes - *done) / ALIGN_BYTES * ALIGN_BYTES;
        ssize_t put = pwrite(stream->direct, data + *done, wanted, offset + (int64_t)*done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno != EINVAL)
            return trm_error_set_errno(err, errno, "could not write \"%s\" at byte %lld",
                                       stream->path, (long long)offset);
        if (put > 0)
            *done += (size_t)put;
        /* Refused, or cut short in the middle of a block: the rest goes the plain way. */
        if (put <= 0 || (size_t)put % ALIGN_BYTES != 0)
            forget_direct(stream);
    }
    return TRM_OK;
}

/* Writes now: directly where all is aligned, else through the page cache. */
static enum trm_status write_range(struct trm_stream *stream, const char *data, size_t bytes,
                                   int64_t offset, struct trm_error *err)
{
    bool aligned = (uintptr_t)data % ALIGN_BYTES == 0 && offset % (int64_t)ALIGN_BYTES == 0;
    size_t done = 0;
    enum trm_status status =
        aligned ? write_direct(stream, data, bytes, offset, &done, err) : TRM_OK;
    if (status != TRM_OK || done == bytes)
        return status;
    return trm_file_write_at(stream->fd, data + done, bytes - done, offset + (int64_t)done,
                             stream->path, err);
}

static enum trm_status flush_buffer(struct trm_stream *stream, struct trm_error *err)
{
    size_t fill = stream->fill;
    stream->fill = 0;
    if (fill == 0)
        return TRM_OK;
    return write_range(stream, stream->buffer, fill, stream->buffer_offset, err);
}

/* Through the buffer. */
static enum trm_status gather(struct trm_stream *stream, const char *data, size_t bytes,
                              int64_t offset, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    if (stream->fill > 0 && stream->buffer_offset + (int64_t)stream->fill != offset)
        status = flush_buffer(stream, err);
    while (status == TRM_OK && bytes > 0) {
        if (stream->fill == 0)
            stream->buffer_offset = offset;
        size_t room = TRM_STREAM_BUFFER_BYTES - stream->fill;
        size_t part = bytes < room ? bytes : room;
        memcpy(stream->buffer + stream->fill, data, part);
        stream->fill += part;
        data += part;
        offset += (int64_t)part;
        bytes -= part;
        if (stream->fill == TRM_STREAM_BUFFER_BYTES)
            status = flush_buffer(stream, err);
    }
    return status;
}

/* The first `bytes` of what is pending, on their way. */
static enum trm_status emit(struct trm_stream *stream, size_t bytes, struct trm_error *err)
{
    const char *data = stream->pending;
    int64_t offset = stream->pending_offset;
    if (bytes == 0)
        return TRM_OK;
    bool aligned = (uintptr_t)data % ALIGN_BYTES == 0 && offset % (int64_t)ALIGN_BYTES == 0;
    stream->pending += bytes;
    stream->pending_offset += (int64_t)bytes;
    stream->pending_bytes -= bytes;
    if (!aligned || bytes < CHUNK_BYTES)
        return gather(stream, data, bytes, offset, err);
    enum trm_status status = flush_buffer(stream, err);
    return status == TRM_OK ? write_range(stream, data, bytes, offset, err) : status;
}

enum trm_status trm_stream_put(struct trm_stream *stream, const void *data, size_t bytes,
                               int64_t offset, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    bool follows = stream->pending_bytes > 0 &&
                   data == (const void *)(stream->pending + stream->pending_bytes) &&
                   offset == stream->pending_offset + (int64_t)stream->pending_bytes;
    if (!follows) {
        status = emit(stream, stream->pending_bytes, err);
        stream->pending = data;
        stream->pending_offset = offset;
        stream->pending_bytes = 0;
    }
    stream->pending_bytes += bytes;
    while (status == TRM_OK && stream->pending_bytes >= CHUNK_BYTES)
        status = emit(stream, CHUNK_BYTES, err);
    return status;
}

enum trm_status trm_stream_flush(struct trm_stream *stream, struct trm_error *err)
{
    enum trm_status status = emit(stream, stream->pending_bytes, err);
    return status == TRM_OK ? flush_buffer(stream, err) : status;
}

enum trm_status trm_stream_close(struct trm_stream *stream, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    if (stream->direct >= 0 && close(stream->direct) != 0)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", stream->path);
    if (stream->fd >= 0 && close(stream->fd) != 0 && status == TRM_OK)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", stream->path);
    free(stream->buffer);
    *stream = (struct trm_stream){.fd = -1, .direct = -1};
    return status;
}

enum trm_status trm_stream_read(struct trm_stream *stream, size_t bytes, int64_t offset,
                                const void **data, struct trm_error *err)
{
    TRM_ASSERT(bytes <= TRM_STREAM_BUFFER_BYTES);
    size_t before = (size_t)offset % ALIGN_BYTES;
    size_t wanted = (before + bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    size_t got = 0;
    *data = stream->buffer + before;
    while (!stream->through_cache && stream->direct >= 0 && got < before + bytes) {
        ssize_t part = pread(stream->direct, stream->buffer + got, wanted - got,
                             offset - (int64_t)before + (int64_t)got);
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0 && errno == EINVAL) {
            forget_direct(stream);
            break;
        }
        if (part < 0)
            return trm_error_set_errno(err, errno, "could not read \"%s\" at byte %lld",
                                       stream->path, (long long)offset);
        got += (size_t)part;
        if (part == 0 || (size_t)part % ALIGN_BYTES != 0)
            break; /* the end of the file */
    }
    if (got >= before + bytes)
        return TRM_OK;
    return trm_file_read_at(stream->fd, stream->buffer + before, bytes, offset, stream->path, err);
}
