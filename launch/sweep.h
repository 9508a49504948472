/*
 * What Open MPI leaves on a node when an attempt is killed, at the places where `trireme run` has
 * it put them:
 *
 *   <runtime>-mpi                  orte_tmpdir_base: session directories "ompi.<host>.<uid>"
 *   /dev/shm/<runtime's name>    btl_vader_backing_directory: "vader_segment.<host>..."
 *
 * Only entries of this host are removed; hosts may share these places.
 */
#ifndef TRM_LAUNCH_SWEEP_H
#define TRM_LAUNCH_SWEEP_H

#include <stdbool.h>

#include "base/file.h"

/* The directory for shared memory of a run's ranks. */
enum trm_status trm_agent_shared_memory_path(const char *runtime, char path[TRM_PATH_BYTES],
                                             struct trm_error *err);

/* Removes what is left. `more_to_come`: then makes the directory for shared memory; else removes
 * both, if they are empty. Blocks on the file system. */
enum trm_status trm_agent_sweep(const char *runtime, const char *hostname, bool more_to_come,
                                struct trm_error *err);

#endif
