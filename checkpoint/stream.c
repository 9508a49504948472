#include "checkpoint/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/file.h"

/* What O_DIRECT asks of addresses, offsets and lengths, on every file system that has it. */
#define ALIGN_BYTES      ((size_t)4096)
#define CHUNK_BYTES      TRM_STREAM_BUFFER_BYTES /* of one write */
#define DIRECT_BYTES     ((size_t)256 << 10)     /* less is not worth waiting for the disk */
#define BLOCK_BYTES_MOST ((size_t)64 << 10)      /* of pages, and of blocks of file systems */

/* Network file systems name what they like best, which is more than what they need. */
static size_t block_of(int fd)
{
    struct stat info;
    size_t block = (size_t)sysconf(_SC_PAGESIZE);
    if (block < ALIGN_BYTES)
        block = ALIGN_BYTES;
    if (fstat(fd, &info) == 0 && info.st_blksize > 0 && (size_t)info.st_blksize > block)
        block = (size_t)info.st_blksize;
    return block < BLOCK_BYTES_MOST && block % ALIGN_BYTES == 0 ? block : BLOCK_BYTES_MOST;
}

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
    made.block = block_of(made.fd);
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

static size_t up_to_block(const struct trm_stream *stream, int64_t offset)
{
    size_t over = (size_t)offset % stream->block;
    return over > 0 ? stream->block - over : 0;
}

static bool lies_like_the_file(const char *data, int64_t offset)
{
    return ((uintptr_t)data - (uintptr_t)offset) % ALIGN_BYTES == 0;
}

/* Writes now: whole blocks directly, where there are some; the rest through the page cache. */
static enum trm_status write_range(struct trm_stream *stream, const char *data, size_t bytes,
                                   int64_t offset, struct trm_error *err)
{
    size_t head = up_to_block(stream, offset), done = 0;
    enum trm_status status = TRM_OK;
    if (stream->direct >= 0 && lies_like_the_file(data, offset) && bytes >= head + DIRECT_BYTES) {
        if (head > 0)
            status = trm_file_write_at(stream->fd, data, head, offset, stream->path, err);
        if (status == TRM_OK)
            status =
                write_direct(stream, data + head, (bytes - head) / stream->block * stream->block,
                             offset + (int64_t)head, &done, err);
        done += head;
    }
    if (status != TRM_OK || done == bytes)
        return status;
    return trm_file_write_at(stream->fd, data + done, bytes - done, offset + (int64_t)done,
                             stream->path, err);
}

static char *buffered(const struct trm_stream *stream)
{
    return stream->buffer + (size_t)stream->buffer_offset % ALIGN_BYTES;
}

static enum trm_status flush_buffer(struct trm_stream *stream, struct trm_error *err)
{
    size_t fill = stream->fill;
    stream->fill = 0;
    if (fill == 0)
        return TRM_OK;
    return write_range(stream, buffered(stream), fill, stream->buffer_offset, err);
}

/* Through the buffer, which is full at the end of a block. */
static enum trm_status gather(struct trm_stream *stream, const char *data, size_t bytes,
                              int64_t offset, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    if (stream->fill > 0 && stream->buffer_offset + (int64_t)stream->fill != offset)
        status = flush_buffer(stream, err);
    while (status == TRM_OK && bytes > 0) {
        if (stream->fill == 0)
            stream->buffer_offset = offset;
        size_t most = TRM_STREAM_BUFFER_BYTES - (size_t)stream->buffer_offset % stream->block;
        size_t room = most - stream->fill;
        size_t part = bytes < room ? bytes : room;
        memcpy(buffered(stream) + stream->fill, data, part);
        stream->fill += part;
        data += part;
        offset += (int64_t)part;
        bytes -= part;
        if (stream->fill == most)
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
    stream->pending += bytes;
    stream->pending_offset += (int64_t)bytes;
    stream->pending_bytes -= bytes;
    /* Short ranges, which may come one after the other, make long ones there. */
    if (!lies_like_the_file(data, offset) || bytes < CHUNK_BYTES / 2)
        return gather(stream, data, bytes, offset, err);
    enum trm_status status = flush_buffer(stream, err);
    return status == TRM_OK ? write_range(stream, data, bytes, offset, err) : status;
}

/* A chunk that ends with a block. */
static size_t next_chunk(const struct trm_stream *stream)
{
    return CHUNK_BYTES - (size_t)stream->pending_offset % stream->block;
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
    while (status == TRM_OK && stream->pending_bytes >= next_chunk(stream))
        status = emit(stream, next_chunk(stream), err);
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
