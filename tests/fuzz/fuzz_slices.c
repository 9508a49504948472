/* A shard's slice table: rows of seven 64-bit numbers, against a fixed catalog. What is accepted
 * lies inside its tensor and inside its dataset. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "checkpoint/slice.h"

static struct trm_ckpt_tensor tensors[] = {{"a", TRM_F32, 2, 301, 17}, {"b", TRM_F32, 1, 29, 1}};
static const struct trm_ckpt_file file = {
    .name = "shard-00000.h5",
    .bytes = 1 << 20,
    .data = {{4096, 20584}, {65536, 20584}, {0, 0}},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct trm_catalog catalog = {
        .tensors = tensors, .tensor_count = 2, .kinds = {true, true, true}};
    int64_t count = (int64_t)(size / TRM_SLICE_ROW_BYTES);
    if (count == 0)
        return 0;
    struct trm_ckpt_file mine = file;
    struct trm_error err = {0};
    int64_t *rows = malloc((size_t)count * TRM_SLICE_ROW_BYTES);
    uint64_t *checksums = calloc((size_t)count, sizeof(*checksums));
    struct trm_slice *slices = calloc((size_t)count, sizeof(*slices));
    memcpy(rows, data, (size_t)count * TRM_SLICE_ROW_BYTES);
    mine.slice_count = count;
    if (trm_slices_decode(&catalog, &mine, rows, checksums, slices, &err) == TRM_OK)
        for (int64_t i = 0; i < count; i++) {
            const struct trm_slice *slice = &slices[i];
            TRM_ASSERT(slice->tensor >= 0 && slice->tensor < 2);
            TRM_ASSERT(slice->kind >= 0 && slice->kind < TRM_KIND_COUNT);
            const struct trm_ckpt_tensor *tensor = &tensors[slice->tensor];
            const struct trm_rect *rect = &slice->rect;
            TRM_ASSERT(rect->rows > 0 && rect->columns > 0 && rect->row >= 0 && rect->column >= 0);
            TRM_ASSERT(rect->rows <= tensor->rows - rect->row);
            TRM_ASSERT(rect->columns <= tensor->columns - rect->column);
            int64_t bytes = trm_slice_bytes(slice, TRM_F32);
            TRM_ASSERT(bytes > 0 && bytes <= TRM_CKPT_SLICE_BYTES && slice->offset >= 0);
            TRM_ASSERT(slice->offset <= (mine.data[slice->kind].bytes - bytes) / 4);
        }
    else
        TRM_ASSERT(err.text[0] != '\0');
    free(rows);
    free(checksums);
    free(slices);
    return 0;
}
