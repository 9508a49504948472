/*
 * checkpoint.h5: every tensor whole, for people with h5py, h5dump or h5ls.
 *
 * A file of virtual datasets: /parameter/NAME, /exp_avg/NAME and /exp_avg_sq/NAME have the global
 * shape and no data of their own; HDF5 fetches each part from the shard that holds it, found next
 * to the view by its plain name, so the directory can be moved. A restart doesn't use it: where a
 * shard is missing, HDF5 reads the fill value (NaN) and reports success.
 *
 * HDF5 makes the file in memory and sees no disk; writing it is one write and one fsync. It follows
 * from the slice tables alone and can be made anew at any time. What a shard holds of a tensor is
 * one mapping, however many slices it has: about 120 bytes in the file, 1 KiB of memory while the
 * view is made. One thread.
 */
#ifndef TRM_CHECKPOINT_VIEW_H
#define TRM_CHECKPOINT_VIEW_H

#include "checkpoint/slice.h"

#define TRM_CKPT_VIEW "checkpoint.h5"

/* The file's content. `slices` are the tables of all files, in their order. The catalog needs no
 * manifest yet. Calls HDF5. *image is returned owned (free). */
enum trm_status trm_view_image(const struct trm_catalog *catalog, const struct trm_slice *slices,
                               void **image, size_t *bytes, struct trm_error *err);

/* Writes it as `directory`/checkpoint.h5, durably. On failure there is no such file. */
enum trm_status trm_view_write(const struct trm_catalog *catalog, const struct trm_slice *slices,
                               const char *directory, struct trm_error *err);

#endif
