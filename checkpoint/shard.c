#include "checkpoint/shard.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/h5.h"

#define ALIGN_FROM_BYTES 65536
#define ALIGN_BYTES      (1 << 20)
#define FORMAT_NAME      "trireme shard"

/* The identity once more, as attributes: for people with h5dump. */
struct identity_attribute {
    const char *name;
    int64_t value;
};

#define IDENTITY_NUMBERS 5

static void identity_numbers(const struct trm_shard_identity *identity,
                             struct identity_attribute numbers[IDENTITY_NUMBERS])
{
    numbers[0] = (struct identity_attribute){"format_version", TRM_CKPT_FORMAT_VERSION};
    numbers[1] = (struct identity_attribute){"lineage", identity->lineage};
    numbers[2] = (struct identity_attribute){"step", identity->step};
    numbers[3] = (struct identity_attribute){"shard", identity->shard};
    numbers[4] = (struct identity_attribute){"shard_count", identity->shard_count};
}

static bool put_identity(hid_t file, const struct trm_shard_identity *identity)
{
    struct identity_attribute numbers[IDENTITY_NUMBERS];
    identity_numbers(identity, numbers);
    bool done = true;
    for (int i = 0; i < IDENTITY_NUMBERS; i++)
        done =
            done && trm_h5_put_attribute(file, numbers[i].name, H5T_STD_I64LE, &numbers[i].value);
    hid_t format_type = trm_h5_text_type(sizeof(FORMAT_NAME) - 1);
    hid_t run_id_type = trm_h5_text_type(TRM_CKPT_RUN_ID_BYTES);
    done = done && trm_h5_put_attribute(file, "format", format_type, FORMAT_NAME) &&
           trm_h5_put_attribute(file, "run_id", run_id_type, identity->run_id);
    trm_h5_close(format_type);
    trm_h5_close(run_id_type);
    return done;
}

/* An allocated dataset without content; its place in the file. */
static bool put_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *sides,
                        struct trm_ckpt_range *range)
{
    bool done = false;
    hid_t space = H5Screate_simple(rank, sides, NULL);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    hid_t dataset = -1;
    if (H5Pset_layout(plan, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(plan, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(plan, H5D_FILL_TIME_NEVER) >= 0)
        dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    if (dataset >= 0) {
        haddr_t offset = H5Dget_offset(dataset);
        range->offset = (int64_t)offset;
        range->bytes = (int64_t)H5Dget_storage_size(dataset);
        done = offset != HADDR_UNDEF && range->bytes > 0;
    }
    trm_h5_close(dataset);
    trm_h5_close(plan);
    trm_h5_close(space);
    return done;
}

static bool put_datasets(hid_t file, hid_t element, const struct trm_slice_set *set,
                         struct trm_ckpt_file *out)
{
    const hsize_t one = 1;
    const hsize_t table[2] = {(hsize_t)set->count, TRM_SLICE_ROW_WORDS};
    hid_t identity = trm_h5_text_type(TRM_SHARD_IDENTITY_BYTES);
    bool done = put_dataset(file, "identity", identity, 1, &one, &out->identity) &&
                put_dataset(file, "slices", H5T_STD_I64LE, 2, table, &out->slices) &&
                put_dataset(file, "checksums", H5T_STD_U64LE, 1, table, &out->checksums);
    for (int kind = 0; done && kind < TRM_KIND_COUNT; kind++) {
        const hsize_t elements = (hsize_t)set->elements[kind];
        if (elements > 0)
            done = put_dataset(file, trm_ckpt_kind_name((enum trm_ckpt_kind)kind), element, 1,
                               &elements, &out->data[kind]);
    }
    trm_h5_close(identity);
    return done;
}

/* Locking fails on some parallel file systems, and each byte has one writer. */
static hid_t access_plan(void)
{
    hid_t plan = H5Pcreate(H5P_FILE_ACCESS);
    if (plan >= 0 && (H5Pset_libver_bounds(plan, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0 ||
                      H5Pset_alignment(plan, ALIGN_FROM_BYTES, ALIGN_BYTES) < 0 ||
                      H5Pset_file_locking(plan, false, true) < 0)) {
        trm_h5_close(plan);
        return -1;
    }
    return plan;
}

static enum trm_status create(const char *path, bool in_memory,
                              const struct trm_shard_identity *identity, enum trm_type type,
                              const struct trm_slice_set *set, struct trm_ckpt_file *file,
                              struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_ckpt_file made = {.shard = identity->shard, .slice_count = set->count};
    struct stat info;
    struct trm_h5_quiet quiet = trm_h5_quiet_begin();
    hid_t plan = access_plan();
    hid_t element = trm_h5_element_type(type);
    /* HDF5's usual driver looks behind a link for the file's name, and there is none. */
    if (plan >= 0 && in_memory && H5Pset_fapl_stdio(plan) < 0)
        element = -1;
    hid_t handle = H5Fcreate(path, in_memory ? H5F_ACC_TRUNC : H5F_ACC_EXCL, H5P_DEFAULT, plan);
    if (handle < 0 || plan < 0 || element < 0) {
        status = trm_h5_error(err, TRM_ERR_IO, "create", path);
        goto cleanup;
    }
    if (!put_identity(handle, identity) || !put_datasets(handle, element, set, &made) ||
        H5Fflush(handle, H5F_SCOPE_LOCAL) < 0) {
        status = trm_h5_error(err, TRM_ERR_IO, "lay out", path);
        goto cleanup;
    }
    if (H5Fclose(handle) < 0) {
        status = trm_h5_error(err, TRM_ERR_IO, "close", path);
        handle = -1;
        goto cleanup;
    }
    handle = -1;
    if (stat(path, &info) != 0) {
        status = trm_error_set_errno(err, errno, "could not stat \"%s\"", path);
        goto cleanup;
    }
    made.bytes = info.st_size;
    memcpy(made.name, file->name, sizeof(made.name));
    *file = made;
cleanup:
    trm_h5_close(handle);
    trm_h5_close(element);
    trm_h5_close(plan);
    trm_h5_quiet_end(quiet);
    return status;
}

enum trm_status trm_shard_create(const char *path, const struct trm_shard_identity *identity,
                                 enum trm_type type, const struct trm_slice_set *set,
                                 struct trm_ckpt_file *file, struct trm_error *err)
{
    return create(path, false, identity, type, set, file, err);
}

enum trm_status trm_shard_create_in(int fd, const struct trm_shard_identity *identity,
                                    enum trm_type type, const struct trm_slice_set *set,
                                    struct trm_ckpt_file *file, struct trm_error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return create(path, true, identity, type, set, file, err);
}

static enum trm_status check_dataset(hid_t handle, const char *path, const char *name,
                                     hid_t expected, struct trm_ckpt_range range,
                                     struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    hid_t dataset = H5Dopen2(handle, name, H5P_DEFAULT);
    hid_t type = dataset >= 0 ? H5Dget_type(dataset) : -1;
    if (dataset < 0 || type < 0)
        status = trm_h5_error(err, TRM_ERR_CORRUPT, "find a dataset in", path);
    else if (H5Tequal(type, expected) <= 0)
        status = trm_error_set(err, TRM_ERR_CORRUPT,
                               "%s: dataset \"%s\" is not of the type that the manifest says", path,
                               name);
    else if (H5Dget_offset(dataset) != (haddr_t)range.offset ||
             H5Dget_storage_size(dataset) != (hsize_t)range.bytes)
        status =
            trm_error_set(err, TRM_ERR_CORRUPT,
                          "%s: dataset \"%s\" lies elsewhere than the manifest says", path, name);
    trm_h5_close(type);
    trm_h5_close(dataset);
    return status;
}

static enum trm_status check_attributes(hid_t handle, const char *path,
                                        const struct trm_shard_identity *identity,
                                        struct trm_error *err)
{
    struct identity_attribute numbers[IDENTITY_NUMBERS];
    identity_numbers(identity, numbers);
    for (int i = 0; i < IDENTITY_NUMBERS; i++) {
        int64_t value = 0;
        hid_t attribute = H5Aopen(handle, numbers[i].name, H5P_DEFAULT);
        bool done = attribute >= 0 && H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0;
        trm_h5_close(attribute);
        if (!done)
            return trm_h5_error(err, TRM_ERR_CORRUPT, "read an attribute of", path);
        if (value != numbers[i].value)
            return trm_error_set(err, TRM_ERR_CORRUPT,
                                 "%s: attribute \"%s\" is %" PRId64 ", the manifest says %" PRId64,
                                 path, numbers[i].name, value, numbers[i].value);
    }
    char run_id[TRM_CKPT_RUN_ID_BYTES] = "";
    hid_t type = trm_h5_text_type(sizeof(run_id));
    hid_t attribute = H5Aopen(handle, "run_id", H5P_DEFAULT);
    bool done = attribute >= 0 && H5Aread(attribute, type, run_id) >= 0;
    trm_h5_close(attribute);
    trm_h5_close(type);
    if (!done)
        return trm_h5_error(err, TRM_ERR_CORRUPT, "read an attribute of", path);
    if (strncmp(run_id, identity->run_id, sizeof(run_id)) != 0)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "%s: attribute \"run_id\" is \"%.40s\", the manifest says \"%s\"",
                             path, run_id, identity->run_id);
    return TRM_OK;
}

enum trm_status trm_shard_inspect(const char *path, const struct trm_catalog *catalog,
                                  const struct trm_ckpt_file *file, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_h5_quiet quiet = trm_h5_quiet_begin();
    hid_t plan = access_plan();
    hid_t element = trm_h5_element_type(catalog->tensors[0].type);
    hid_t identity_type = trm_h5_text_type(TRM_SHARD_IDENTITY_BYTES);
    hid_t handle = H5Fopen(path, H5F_ACC_RDONLY, plan);
    if (handle < 0) {
        status = trm_h5_error(err, TRM_ERR_CORRUPT, "open", path);
        goto cleanup;
    }
    struct trm_shard_identity identity =
        trm_shard_identity_of(&catalog->state, catalog->nonce, file->shard, catalog->shard_count);
    status = check_attributes(handle, path, &identity, err);
    if (status == TRM_OK)
        status = check_dataset(handle, path, "identity", identity_type, file->identity, err);
    if (status == TRM_OK)
        status = check_dataset(handle, path, "slices", H5T_STD_I64LE, file->slices, err);
    if (status == TRM_OK)
        status = check_dataset(handle, path, "checksums", H5T_STD_U64LE, file->checksums, err);
    for (int kind = 0; status == TRM_OK && kind < TRM_KIND_COUNT; kind++)
        if (file->data[kind].bytes > 0)
            status = check_dataset(handle, path, trm_ckpt_kind_name((enum trm_ckpt_kind)kind),
                                   element, file->data[kind], err);
cleanup:
    trm_h5_close(handle);
    trm_h5_close(identity_type);
    trm_h5_close(element);
    trm_h5_close(plan);
    trm_h5_quiet_end(quiet);
    return status;
}
