#include "checkpoint/h5.h"

#include <stdio.h>

/* What libhdf5 has to say, innermost first: that is where the system's reason is. */
struct reason {
    char text[256];
};

static herr_t keep_innermost(unsigned number, const H5E_error2_t *error, void *context)
{
    struct reason *reason = context;
    if (number == 0 && error->desc != NULL)
        snprintf(reason->text, sizeof(reason->text), "%s", error->desc);
    return 0;
}

enum trm_status trm_h5_error(struct trm_error *err, enum trm_status status, const char *what,
                             const char *path)
{
    struct reason reason = {"no reason given"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &reason);
    H5Eclear2(H5E_DEFAULT);
    return trm_error_set(err, status, "could not %s \"%s\" with HDF5: %s", what, path, reason.text);
}

struct trm_h5_quiet trm_h5_quiet_begin(void)
{
    struct trm_h5_quiet quiet = {NULL, NULL};
    /* Nor to tidy up at exit: it prints then, about files that were damaged. Counts once, before
     * the first use; we close what we open. */
    H5dont_atexit();
    H5Eget_auto2(H5E_DEFAULT, &quiet.function, &quiet.context);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return quiet;
}

void trm_h5_quiet_end(struct trm_h5_quiet quiet)
{
    H5Eset_auto2(H5E_DEFAULT, quiet.function, quiet.context);
}

void trm_h5_close(hid_t id)
{
    if (id >= 0)
        H5Idec_ref(id);
}

/* Owned by the caller (trm_h5_close). HDF5 1.10 has no bfloat16: it is float32 without the lower
 * half.
 */
hid_t trm_h5_element_type(enum trm_type type)
{
    _Static_assert(TRM_TYPE_COUNT == 4, "a new type needs its HDF5 form");
    if (type == TRM_F32)
        return H5Tcopy(H5T_IEEE_F32LE);
    if (type == TRM_F64)
        return H5Tcopy(H5T_IEEE_F64LE);
    if (type == TRM_I32)
        return H5Tcopy(H5T_STD_I32LE);
    hid_t bf16 = H5Tcopy(H5T_IEEE_F32LE);
    if (bf16 >= 0 &&
        (H5Tset_fields(bf16, 15, 7, 8, 0, 7) < 0 || H5Tset_precision(bf16, 16) < 0 ||
         H5Tset_offset(bf16, 0) < 0 || H5Tset_size(bf16, 2) < 0 || H5Tset_ebias(bf16, 127) < 0)) {
        trm_h5_close(bf16);
        return -1;
    }
    return bf16;
}

hid_t trm_h5_text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, bytes) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)) {
        trm_h5_close(type);
        return -1;
    }
    return type;
}

bool trm_h5_put_attribute(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    trm_h5_close(attribute);
    trm_h5_close(space);
    return done;
}
