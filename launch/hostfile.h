/*
 * Host files: which nodes a run may use.
 *
 * Open MPI's format, a node a line: `node1 slots=4`, `node1:4`, `#` begins a comment; without slots
 * a node has one. A word of our own, `domain=rack3`, names what fails together: copies of memory
 * snapshots go to another domain; without it a node is its own. A node named twice has the sum of
 * its slots.
 */
#ifndef TRM_LAUNCH_HOSTFILE_H
#define TRM_LAUNCH_HOSTFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define TRM_HOST_NAME_BYTES 255   /* as on the wire; the names of DNS have up to 253 */
#define TRM_HOST_MAX        65536 /* nodes of a run */
#define TRM_HOST_MAX_SLOTS  1024  /* ranks of a node */

struct trm_host {
    char name[TRM_HOST_NAME_BYTES];
    char domain[TRM_HOST_NAME_BYTES]; /* the name where none was given */
    int slots;
};

/* Whether `name` is that of a host, and nothing that a shell or a launcher would read as something
 * else: letters, digits, '.', '-' and '_'. */
bool trm_host_is_name(const char *name);

/* *hosts is returned owned (free), in the order of the file. TRM_ERR_CONFIG "file:line: ..." for
 * what cannot be read or holds no host. */
enum trm_status trm_hostfile_read(const char *path, struct trm_host **hosts, int *count,
                                  struct trm_error *err);

/* The names in an exclude file: one a line, the same comments. A missing file has none. *names is
 * returned owned (free). */
enum trm_status trm_hostfile_read_names(const char *path, struct trm_host **names, int *count,
                                        struct trm_error *err);

#endif
