#include "checkpoint/view.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/h5.h"

#define FORMAT_NAME "trireme view"

/* Slice `number` of file `file`; sorted so that those of a dataset follow each other. */
struct entry {
    const struct trm_slice *slice;
    int file;
};

static int64_t sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_place(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int64_t order = sign(a->slice->kind, b->slice->kind);
    if (order == 0)
        order = sign(a->slice->tensor, b->slice->tensor);
    if (order == 0)
        order = sign(a->file, b->file);
    if (order == 0)
        order = sign(a->slice->offset, b->slice->offset);
    return (int)order;
}

static bool same_dataset(const struct entry *a, const struct entry *b)
{
    return a->slice->kind == b->slice->kind && a->slice->tensor == b->slice->tensor;
}

/* Whether `next` follows `last` in the file and, element by element, in the tensor: HDF5 pairs a
 * selection of a file with one of a tensor in the order of both. */
static bool follows(const struct entry *last, const struct entry *next)
{
    struct trm_rect a = last->slice->rect, b = next->slice->rect;
    if (last->file != next->file ||
        last->slice->offset + trm_rect_elements(a) != next->slice->offset)
        return false;
    bool below = b.row >= a.row + a.rows;
    bool right = a.rows == 1 && b.rows == 1 && b.row == a.row && b.column >= a.column + a.columns;
    return below || right;
}

/* One rectangle out of two that follow each other, where they make one. */
static bool join(struct trm_rect *a, struct trm_rect b)
{
    if (b.column == a->column && b.columns == a->columns && b.row == a->row + a->rows) {
        a->rows += b.rows;
        return true;
    }
    if (a->rows == 1 && b.rows == 1 && b.row == a->row && b.column == a->column + a->columns) {
        a->columns += b.columns;
        return true;
    }
    return false;
}

/* A view being made. */
struct view {
    const struct trm_catalog *catalog;
    hid_t file, element, name_type;
};

/* A tensor of one dimension has its elements in rows. */
static bool select_rect(hid_t space, struct trm_rect rect, H5S_seloper_t operation)
{
    const hsize_t start[2] = {(hsize_t)rect.row, (hsize_t)rect.column};
    const hsize_t count[2] = {(hsize_t)rect.rows, (hsize_t)rect.columns};
    const hsize_t one[2] = {1, 1};
    return H5Sselect_hyperslab(space, operation, start, NULL, one, count) >= 0;
}

/* Maps entries[0, count), which follow each other, onto their tensor: at most three rectangles
 * where they are a flat range of a tensor-parallel slice. */
static bool map_run(const struct view *view, hid_t plan, hid_t space, const struct entry *entries,
                    int64_t count)
{
    const struct trm_slice *first = entries[0].slice;
    const struct trm_ckpt_file *file = &view->catalog->files[entries[0].file];
    struct trm_rect rect = first->rect;
    hsize_t elements = 0;
    H5S_seloper_t operation = H5S_SELECT_SET;
    bool done = true;
    for (int64_t i = 0; done && i < count; i++) {
        elements += (hsize_t)trm_rect_elements(entries[i].slice->rect);
        if (i == 0 || join(&rect, entries[i].slice->rect))
            continue;
        done = select_rect(space, rect, operation);
        operation = H5S_SELECT_OR;
        rect = entries[i].slice->rect;
    }
    done = done && select_rect(space, rect, operation);
    const hsize_t start = (hsize_t)first->offset;
    const hsize_t whole = (hsize_t)file->data[first->kind].bytes /
                          trm_type_bytes(view->catalog->tensors[first->tensor].type);
    const hsize_t one = 1;
    hid_t source = H5Screate_simple(1, &whole, NULL);
    done = done && source >= 0 &&
           H5Sselect_hyperslab(source, H5S_SELECT_SET, &start, NULL, &one, &elements) >= 0 &&
           H5Pset_virtual(plan, space, file->name,
                          trm_ckpt_kind_name((enum trm_ckpt_kind)first->kind), source) >= 0;
    trm_h5_close(source);
    return done;
}

/* What is read where a shard is missing: NaN, or the least integer. */
static bool set_fill(hid_t plan, hid_t element, enum trm_type type)
{
    const float f32 = NAN;
    const double f64 = NAN;
    const uint16_t bf16 = 0x7fc0;
    const int32_t i32 = INT32_MIN;
    const void *const fills[TRM_TYPE_COUNT] = {
        [TRM_F32] = &f32, [TRM_F64] = &f64, [TRM_BF16] = &bf16, [TRM_I32] = &i32};
    return H5Pset_fill_value(plan, element, fills[type]) >= 0;
}

/* The dataset of entries[0, count): all that the shards hold of one tensor in one kind. */
static bool put_tensor(const struct view *view, hid_t group, const struct entry *entries,
                       int64_t count)
{
    const struct trm_ckpt_tensor *tensor = &view->catalog->tensors[entries[0].slice->tensor];
    const hsize_t sides[2] = {(hsize_t)tensor->rows, (hsize_t)tensor->columns};
    hid_t dataset = -1;
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(tensor->dims, sides, NULL);
    bool done = plan >= 0 && space >= 0 && set_fill(plan, view->element, tensor->type);
    for (int64_t begin = 0, end = 1; done && begin < count; begin = end++) {
        while (end < count && follows(&entries[end - 1], &entries[end]))
            end++;
        done = map_run(view, plan, space, &entries[begin], end - begin);
    }
    if (done)
        dataset =
            H5Dcreate2(group, tensor->name, view->element, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    done = dataset >= 0 && trm_h5_put_attribute(dataset, "name", view->name_type, tensor->name);
    trm_h5_close(dataset);
    trm_h5_close(space);
    trm_h5_close(plan);
    return done;
}

/* A group whose members are listed by name or in the order of the manifest. */
static hid_t make_group(hid_t file, const char *name)
{
    const unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    hid_t group = -1;
    hid_t plan = H5Pcreate(H5P_GROUP_CREATE);
    if (plan >= 0 && H5Pset_link_creation_order(plan, order) >= 0)
        group = H5Gcreate2(file, name, H5P_DEFAULT, plan, H5P_DEFAULT);
    trm_h5_close(plan);
    return group;
}

static bool put_tensors(const struct view *view, const struct entry *entries, int64_t count)
{
    bool done = true;
    int64_t begin = 0;
    for (int kind = 0; done && kind < TRM_KIND_COUNT; kind++) {
        if (!view->catalog->kinds[kind])
            continue;
        hid_t group = make_group(view->file, trm_ckpt_kind_name((enum trm_ckpt_kind)kind));
        done = group >= 0;
        while (done && begin < count && entries[begin].slice->kind == kind) {
            int64_t end = begin + 1;
            while (end < count && same_dataset(&entries[begin], &entries[end]))
                end++;
            done = put_tensor(view, group, &entries[begin], end - begin);
            begin = end;
        }
        trm_h5_close(group);
    }
    return done;
}

/* "names": all tensors, in the order of the manifest. */
static bool put_names(const struct view *view)
{
    const struct trm_catalog *catalog = view->catalog;
    const hsize_t count = (hsize_t)catalog->tensor_count;
    char *names = calloc((size_t)count, TRM_CKPT_NAME_BYTES);
    if (names == NULL)
        return false;
    for (int t = 0; t < catalog->tensor_count; t++)
        memcpy(names + (size_t)t * TRM_CKPT_NAME_BYTES, catalog->tensors[t].name,
               strnlen(catalog->tensors[t].name, TRM_CKPT_NAME_BYTES - 1));
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t attribute =
        H5Acreate2(view->file, "names", view->name_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool done = attribute >= 0 && H5Awrite(attribute, view->name_type, names) >= 0;
    trm_h5_close(attribute);
    trm_h5_close(space);
    free(names);
    return done;
}

static bool put_attributes(const struct view *view)
{
    const struct trm_ckpt_state *state = &view->catalog->state;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"format_version", TRM_CKPT_FORMAT_VERSION},
                   {"lineage", state->lineage},
                   {"step", state->step},
                   {"next_sample", state->next_sample}};
    bool done = true;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        done = done &&
               trm_h5_put_attribute(view->file, numbers[i].name, H5T_STD_I64LE, &numbers[i].value);
    hid_t format_type = trm_h5_text_type(sizeof(FORMAT_NAME) - 1);
    hid_t run_id_type = trm_h5_text_type(TRM_CKPT_RUN_ID_BYTES);
    done = done && trm_h5_put_attribute(view->file, "format", format_type, FORMAT_NAME) &&
           trm_h5_put_attribute(view->file, "run_id", run_id_type, state->run_id) &&
           put_names(view);
    trm_h5_close(format_type);
    trm_h5_close(run_id_type);
    return done;
}

/* In a file in memory. Not with the usual driver: that one looks for the name of an open file, and
 * this one has none. */
static hid_t create_file(int memory)
{
    char name[64];
    hid_t file = -1;
    hid_t plan = H5Pcreate(H5P_FILE_ACCESS);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", memory);
    if (plan >= 0 && H5Pset_fapl_stdio(plan) >= 0 &&
        H5Pset_libver_bounds(plan, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) >= 0 &&
        H5Pset_file_locking(plan, false, true) >= 0)
        file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, plan);
    trm_h5_close(plan);
    return file;
}

static enum trm_status fill_file(const struct trm_catalog *catalog, const struct entry *entries,
                                 int64_t count, int memory, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_h5_quiet quiet = trm_h5_quiet_begin();
    struct view view = {.catalog = catalog,
                        .element = trm_h5_element_type(catalog->tensors[0].type),
                        .name_type = trm_h5_text_type(TRM_CKPT_NAME_BYTES)};
    view.file = create_file(memory);
    if (view.file < 0)
        status = trm_h5_error(err, TRM_ERR_IO, "create", TRM_CKPT_VIEW);
    else if (view.element < 0 || view.name_type < 0 || !put_attributes(&view) ||
             !put_tensors(&view, entries, count))
        status = trm_h5_error(err, TRM_ERR_IO, "lay out", TRM_CKPT_VIEW);
    if (view.file >= 0 && H5Fclose(view.file) < 0 && status == TRM_OK)
        status = trm_h5_error(err, TRM_ERR_IO, "close", TRM_CKPT_VIEW);
    trm_h5_close(view.name_type);
    trm_h5_close(view.element);
    trm_h5_quiet_end(quiet);
    return status;
}

/* The whole of a file in memory; *image is returned owned. */
static enum trm_status take_image(int memory, void **image, size_t *bytes, struct trm_error *err)
{
    struct stat info;
    if (fstat(memory, &info) != 0)
        return trm_error_set_errno(err, errno, "could not stat a view in memory");
    size_t size = (size_t)info.st_size;
    char *taken = malloc(size + 1);
    if (taken == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a view of %zu bytes", size);
    enum trm_status status = trm_file_read_at(memory, taken, size, 0, "a view in memory", err);
    if (status != TRM_OK) {
        free(taken);
        return status;
    }
    *image = taken;
    *bytes = size;
    return TRM_OK;
}

static int64_t slice_count_of(const struct trm_catalog *catalog)
{
    int64_t count = 0;
    for (int f = 0; f < catalog->file_count; f++)
        count += catalog->files[f].slice_count;
    return count;
}

enum trm_status trm_view_image(const struct trm_catalog *catalog, const struct trm_slice *slices,
                               void **image, size_t *bytes, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int64_t count = slice_count_of(catalog), filled = 0;
    int memory = memfd_create(TRM_CKPT_VIEW, MFD_CLOEXEC);
    struct entry *entries = malloc((size_t)count * sizeof(*entries) + 1);
    if (memory < 0) {
        status = trm_error_set_errno(err, errno, "could not make a file in memory for a view");
        goto cleanup;
    }
    if (entries == NULL) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a view of %lld slices",
                               (long long)count);
        goto cleanup;
    }
    for (int f = 0; f < catalog->file_count; f++)
        for (int64_t i = 0; i < catalog->files[f].slice_count; i++, filled++)
            entries[filled] = (struct entry){&slices[filled], f};
    qsort(entries, (size_t)count, sizeof(*entries), by_place);
    status = fill_file(catalog, entries, count, memory, err);
    if (status == TRM_OK)
        status = take_image(memory, image, bytes, err);
cleanup:
    free(entries);
    if (memory >= 0)
        close(memory);
    return status;
}

enum trm_status trm_view_write(const struct trm_catalog *catalog, const struct trm_slice *slices,
                               const char *directory, struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    void *image = NULL;
    size_t bytes = 0;
    enum trm_status status = trm_file_path(path, err, "%s/" TRM_CKPT_VIEW, directory);
    if (status == TRM_OK)
        status = trm_view_image(catalog, slices, &image, &bytes, err);
    if (status != TRM_OK)
        return status;
    status = trm_file_write_all(path, image, bytes, true, err);
    if (status != TRM_OK)
        (void)unlink(path);
    free(image);
    return status;
}
