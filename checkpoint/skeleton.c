#include "checkpoint/skeleton.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/human.h"

#define COPY_BYTES 65536

enum trm_status trm_skeleton_make(const struct trm_shard_identity *identity, enum trm_type type,
                                  const struct trm_slice_set *set, struct trm_ckpt_file *file,
                                  struct trm_skeleton *out, struct trm_error *err)
{
    int fd = memfd_create("trireme-shard", MFD_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not make a file in memory for a shard");
    enum trm_status status = trm_shard_create_in(fd, identity, type, set, file, err);
    if (status != TRM_OK) {
        close(fd);
        return status;
    }
    out->fd = fd;
    return TRM_OK;
}

void trm_skeleton_destroy(struct trm_skeleton *skeleton)
{
    if (skeleton->fd >= 0)
        close(skeleton->fd);
    skeleton->fd = -1;
}

/* Bytes [begin, end) of the skeleton, to the same place of the file. */
static enum trm_status copy_range(int from, int to, int64_t begin, int64_t end, const char *path,
                                  struct trm_error *err)
{
    char buffer[COPY_BYTES];
    enum trm_status status = TRM_OK;
    for (int64_t at = begin; status == TRM_OK && at < end; at += COPY_BYTES) {
        size_t part = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        status = trm_file_read_at(from, buffer, part, at, "a shard in memory", err);
        if (status == TRM_OK)
            status = trm_file_write_at(to, buffer, part, at, path, err);
    }
    return status;
}

static enum trm_status reserve(int fd, int64_t bytes, const char *path, struct trm_error *err)
{
    char size[32];
    int reason = 0;
    if (ftruncate(fd, bytes) != 0)
        return trm_error_set_errno(err, errno, "could not set the size of \"%s\"", path);
    do
        reason = fallocate(fd, 0, 0, bytes) == 0 ? 0 : errno;
    while (reason == EINTR);
    /* Without it a full disk is noticed later, by a write. */
    if (reason == 0 || reason == EOPNOTSUPP || reason == ENOSYS || reason == EINVAL)
        return TRM_OK;
    return trm_error_set_errno(err, reason, "could not reserve %s for \"%s\"",
                               trm_human_bytes(size, sizeof(size), (uint64_t)bytes), path);
}

enum trm_status trm_skeleton_write(const struct trm_skeleton *skeleton, const char *path,
                                   int64_t bytes, struct trm_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not create \"%s\"", path);
    enum trm_status status = reserve(fd, bytes, path, err);
    for (int64_t end = 0; status == TRM_OK && end < bytes;) {
        int64_t begin = lseek(skeleton->fd, end, SEEK_DATA);
        if (begin < 0)
            break; /* nothing but a hole is left */
        end = lseek(skeleton->fd, begin, SEEK_HOLE);
        status = copy_range(skeleton->fd, fd, begin, end < bytes ? end : bytes, path, err);
    }
    if (close(fd) != 0 && status == TRM_OK)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", path);
    return status;
}
