#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/human.h"

/* One read or write asks for no more than this: the kernel caps a transfer just below 2 GiB. */
#define TRANSFER_BYTES   ((size_t)1 << 30)
#define FIRST_READ_BYTES ((size_t)64 << 10)

/* Trees deeper than this are not of our making. Each level holds one descriptor. */
#define TREE_DEPTH 64

enum trm_status trm_file_path(char path[TRM_PATH_BYTES], struct trm_error *err, const char *format,
                              ...)
{
    char text[TRM_PATH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= TRM_PATH_BYTES)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "the path \"%.60s...\" has %d bytes, more than the %d allowed", text,
                             length, TRM_PATH_BYTES - 1);
    memcpy(path, text, (size_t)length + 1);
    return TRM_OK;
}

bool trm_file_name_is_plain(const char *name)
{
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 0x7F || *c == '/')
            return false;
    return true;
}

enum trm_status trm_file_read_at(int fd, void *data, size_t bytes, int64_t offset, const char *path,
                                 struct trm_error *err)
{
    char *cursor = data;
    size_t left = bytes;
    while (left > 0) {
        size_t wanted = left < TRANSFER_BYTES ? left : TRANSFER_BYTES;
        ssize_t got = pread(fd, cursor, wanted, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return trm_error_set_errno(err, errno, "could not read \"%s\" at byte %lld", path,
                                       (long long)offset);
        if (got == 0)
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "\"%s\" ends at byte %lld, %zu bytes short of what it should hold",
                                 path, (long long)offset, left);
        cursor += got;
        offset += got;
        left -= (size_t)got;
    }
    return TRM_OK;
}

enum trm_status trm_file_write_at(int fd, const void *data, size_t bytes, int64_t offset,
                                  const char *path, struct trm_error *err)
{
    const char *cursor = data;
    size_t left = bytes;
    while (left > 0) {
        size_t wanted = left < TRANSFER_BYTES ? left : TRANSFER_BYTES;
        ssize_t put = pwrite(fd, cursor, wanted, offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return trm_error_set_errno(err, put < 0 ? errno : ENOSPC,
                                       "could not write \"%s\" at byte %lld", path,
                                       (long long)offset);
        cursor += put;
        offset += put;
        left -= (size_t)put;
    }
    return TRM_OK;
}

static enum trm_status refuse_size(const char *path, size_t limit_bytes, struct trm_error *err)
{
    char limit[32];
    return trm_error_set(err, TRM_ERR_INPUT, "\"%s\" is larger than the %s allowed", path,
                         trm_human_bytes(limit, sizeof limit, limit_bytes));
}

/* Reads to the end of `fd`. Sizes are not trusted: pipes have none and files grow meanwhile. */
static enum trm_status read_to_end(int fd, const char *path, size_t limit_bytes, size_t size_hint,
                                   char **data, size_t *bytes, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    size_t used = 0;
    size_t capacity = (size_hint > FIRST_READ_BYTES ? size_hint : FIRST_READ_BYTES) + 2;
    char *buffer = malloc(capacity);
    if (!buffer) {
        status = trm_error_set_errno(err, ENOMEM, "could not read \"%s\"", path);
        goto out;
    }
    for (;;) {
        size_t room = capacity - used - 1;
        if (room == 0) {
            char *larger = realloc(buffer, capacity * 2);
            if (!larger) {
                status = trm_error_set_errno(err, ENOMEM, "could not read \"%s\"", path);
                goto out;
            }
            buffer = larger;
            capacity *= 2;
            continue;
        }
        ssize_t got = read(fd, buffer + used, room < TRANSFER_BYTES ? room : TRANSFER_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = trm_error_set_errno(err, errno, "could not read \"%s\"", path);
            goto out;
        }
        if (got == 0)
            break;
        used += (size_t)got;
        if (used > limit_bytes) {
            status = refuse_size(path, limit_bytes, err);
            goto out;
        }
    }
    buffer[used] = '\0';
    *data = buffer;
    *bytes = used;
    buffer = NULL;

out:
    free(buffer);
    return status;
}

enum trm_status trm_file_read_all(const char *path, size_t limit_bytes, char **data, size_t *bytes,
                                  struct trm_error *err)
{
    enum trm_status status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    struct stat info;
    if (fstat(fd, &info) != 0) {
        status = trm_error_set_errno(err, errno, "could not read \"%s\"", path);
        goto out;
    }
    size_t size_hint = 0;
    if (S_ISREG(info.st_mode) && info.st_size > 0) {
        if ((uint64_t)info.st_size > limit_bytes) {
            status = refuse_size(path, limit_bytes, err);
            goto out;
        }
        size_hint = (size_t)info.st_size;
    }
    status = read_to_end(fd, path, limit_bytes, size_hint, data, bytes, err);

out:
    close(fd);
    return status;
}

enum trm_status trm_file_write_all(const char *path, const void *data, size_t bytes, bool durable,
                                   struct trm_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not create \"%s\"", path);
    enum trm_status status = trm_file_write_at(fd, data, bytes, 0, path, err);
    if (status == TRM_OK && durable)
        status = trm_file_sync(fd, path, err);
    /* Network file systems may report a failed write as late as here. EINTR closes all the same. */
    if (close(fd) != 0 && errno != EINTR && status == TRM_OK)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", path);
    return status;
}

/* The directory that holds `path`. */
static enum trm_status parent_of(const char *path, char parent[TRM_PATH_BYTES],
                                 struct trm_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return trm_file_path(parent, err, ".");
    if (slash == path)
        return trm_file_path(parent, err, "/");
    return trm_file_path(parent, err, "%.*s", (int)(slash - path), path);
}

enum trm_status trm_file_replace(const char *path, const void *data, size_t bytes,
                                 struct trm_error *err)
{
    char temporary[TRM_PATH_BYTES];
    char parent[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(temporary, err, "%s.tmp", path);
    if (status == TRM_OK)
        status = parent_of(path, parent, err);
    if (status != TRM_OK)
        return status;

    status = trm_file_write_all(temporary, data, bytes, true, err);
    if (status == TRM_OK && rename(temporary, path) != 0)
        status =
            trm_error_set_errno(err, errno, "could not rename \"%s\" to \"%s\"", temporary, path);
    if (status != TRM_OK) {
        unlink(temporary);
        return status;
    }
    return trm_file_sync_directory(parent, err);
}

enum trm_status trm_file_sync(int fd, const char *path, struct trm_error *err)
{
    if (fsync(fd) != 0)
        return trm_error_set_errno(err, errno, "could not sync \"%s\" to disk", path);
    return TRM_OK;
}

enum trm_status trm_file_sync_directory(const char *path, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open directory \"%s\"", path);
    /* EINVAL: a file system on which directories need no sync and cannot be synced. */
    if (fsync(fd) != 0 && errno != EINVAL)
        status = trm_error_set_errno(err, errno, "could not sync directory \"%s\" to disk", path);
    close(fd);
    return status;
}

static enum trm_status make_directory(const char *path, struct trm_error *err)
{
    if (mkdir(path, 0777) == 0)
        return TRM_OK;
    int reason = errno;
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return TRM_OK;
        reason = ENOTDIR;
    }
    return trm_error_set_errno(err, reason, "could not create directory \"%s\"", path);
}

enum trm_status trm_file_make_directories(const char *path, struct trm_error *err)
{
    char partial[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(partial, err, "%s", path);
    for (char *c = partial + 1; status == TRM_OK && partial[0] && *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        status = make_directory(partial, err);
        *c = '/';
    }
    return status == TRM_OK ? make_directory(partial, err) : status;
}

/* Empties the directory open as `fd`, which it takes. `path` is for the message. */
static enum trm_status empty_directory(int fd, const char *path, int depth, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    DIR *directory = depth < TREE_DEPTH ? fdopendir(fd) : NULL;
    if (!directory) {
        status = trm_error_set_errno(err, depth < TREE_DEPTH ? errno : ELOOP,
                                     "could not read directory \"%s\"", path);
        close(fd);
        return status;
    }
    struct dirent *entry;
    while (status == TRM_OK && (errno = 0, entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char inner_path[TRM_PATH_BYTES];
        snprintf(inner_path, sizeof inner_path, "%s/%s", path, entry->d_name);
        int inner =
            openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        bool is_directory = inner >= 0;
        if (is_directory)
            status = empty_directory(inner, inner_path, depth + 1, err);
        /* A missing entry was removed by somebody else: that is what was asked for. */
        if (status == TRM_OK && unlinkat(fd, entry->d_name, is_directory ? AT_REMOVEDIR : 0) != 0 &&
            errno != ENOENT)
            status = trm_error_set_errno(err, errno, "could not remove \"%s\"", inner_path);
    }
    if (status == TRM_OK && errno != 0)
        status = trm_error_set_errno(err, errno, "could not read directory \"%s\"", path);
    closedir(directory);
    return status;
}

enum trm_status trm_file_remove_tree(const char *path, struct trm_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return TRM_OK;
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open directory \"%s\"", path);
    enum trm_status status = empty_directory(fd, path, 0, err);
    if (status == TRM_OK && rmdir(path) != 0 && errno != ENOENT)
        status = trm_error_set_errno(err, errno, "could not remove directory \"%s\"", path);
    return status;
}

bool trm_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}
