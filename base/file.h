/*
 * Files: whole reads and writes, durability, and paths that cannot leave their directory.
 * Every error names the path and the system's reason. EINTR and short transfers are handled;
 * a failed fsync is final and never tried again (after it the data is gone from the page cache's
 * point of view).
 */
#ifndef TRM_BASE_FILE_H
#define TRM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_PATH_BYTES 1024

/* Formats a path; TRM_ERR_INPUT when it is longer than TRM_PATH_BYTES. */
enum trm_status trm_file_path(char path[TRM_PATH_BYTES], struct trm_error *err, const char *format,
                              ...) __attribute__((format(printf, 3, 4)));

/* True for a plain file name: not empty, no '/', not "." or "..", no control characters. */
bool trm_file_name_is_plain(const char *name);

/* All of `bytes` at `offset`, or an error. `path` is for the message. */
enum trm_status trm_file_read_at(int fd, void *data, size_t bytes, int64_t offset, const char *path,
                                 struct trm_error *err);
enum trm_status trm_file_write_at(int fd, const void *data, size_t bytes, int64_t offset,
                                  const char *path, struct trm_error *err);

/* The whole file in owned memory with a NUL behind it; refused when it has over `limit_bytes`.
 * *data is returned owned (free). */
enum trm_status trm_file_read_all(const char *path, size_t limit_bytes, char **data, size_t *bytes,
                                  struct trm_error *err);

/* Writes `path` in one go (create or truncate) and, when `durable`, fsyncs it. */
enum trm_status trm_file_write_all(const char *path, const void *data, size_t bytes, bool durable,
                                   struct trm_error *err);

/* Replaces `path` atomically: writes "<path>.tmp", fsyncs, renames, fsyncs the directory. */
enum trm_status trm_file_replace(const char *path, const void *data, size_t bytes,
                                 struct trm_error *err);

enum trm_status trm_file_sync(int fd, const char *path, struct trm_error *err);
enum trm_status trm_file_sync_directory(const char *path, struct trm_error *err);

/* mkdir -p; an existing directory is fine. */
enum trm_status trm_file_make_directories(const char *path, struct trm_error *err);

/* Removes a directory and what is in it, without following links; a missing one is fine. */
enum trm_status trm_file_remove_tree(const char *path, struct trm_error *err);

bool trm_file_exists(const char *path);

#endif
