/*
 * The disk as it is after a loss of power.
 *
 * An image holds, for each inode, what its last fsync made durable: a file's bytes, or a
 * directory's names. It is the strict model: a file's fsync does not save its name, nor a
 * directory's fsync the content of what it names. What loads after a crash is asked in two forms,
 * since a file system may keep more than it must, and keep names before bytes:
 *
 *   lost      names and bytes as they were last synced: renames undone, new files gone
 *   hollow    the names of the moment, sizes included, and in the files zeros for every byte that
 *             was not synced, as journals of names alone leave it
 *
 * One folder, a file per inode. Functions return false with errno on failure.
 */
#ifndef TRM_TESTS_CRASH_IMAGE_H
#define TRM_TESTS_CRASH_IMAGE_H

#include <stdbool.h>

/* What an fsync of `fd` makes durable. */
bool image_record(const char *image, int fd);

/* All below `root` is durable: the state before a run. */
bool image_record_tree(const char *image, const char *root);

/* Makes `to`, which is not there. */
bool image_lost(const char *image, const char *root, const char *to);
bool image_hollow(const char *image, const char *root, const char *to);

/* A plain copy of the tree. */
bool image_copy(const char *root, const char *to);

#endif
