/*
 * What the files that call HDF5 share. Internal to checkpoint/; nothing outside sees HDF5.
 *
 * HDF5 takes one global lock and keeps its error settings for the whole process: every entry point
 * begins with trm_h5_quiet_begin and ends with trm_h5_quiet_end. HDF5's names of flags and types
 * are macros that open the library, so none of them stands before that.
 */
#ifndef TRM_CHECKPOINT_H5_H
#define TRM_CHECKPOINT_H5_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/type.h"

/* Says that `what` ("create") could not be done to `path`, and why, innermost reason of HDF5. */
enum trm_status trm_h5_error(struct trm_error *err, enum trm_status status, const char *what,
                             const char *path);

/* libhdf5 prints its errors unless told otherwise; what the process had is kept here. */
struct trm_h5_quiet {
    H5E_auto2_t function;
    void *context;
};
struct trm_h5_quiet trm_h5_quiet_begin(void);
void trm_h5_quiet_end(struct trm_h5_quiet quiet);

/* Closes an id of any sort; negative ones are none. */
void trm_h5_close(hid_t id);

/* The type on disk, owned by the caller (trm_h5_close); negative on failure. */
hid_t trm_h5_element_type(enum trm_type type);

/* Text of `bytes` bytes, padded with NULs; as above. */
hid_t trm_h5_text_type(size_t bytes);

/* A scalar attribute of a file, group or dataset. */
bool trm_h5_put_attribute(hid_t object, const char *name, hid_t type, const void *value);

#endif
