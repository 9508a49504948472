/* A llm.c model file. What is accepted has every tensor inside the file, and no byte twice. */
#include "fuzz.h"

#include <string.h>

#include "base/assert.h"
#include "scratch.h"
#include "tools/formats/llmc_model.h"

#define HEADER_BYTES 1024
#define INPUT_BYTES  65536

static void read_all(const struct trm_foreign *foreign, size_t size)
{
    static unsigned char seen[INPUT_BYTES];
    static float values[INPUT_BYTES / 2];
    memset(seen, 0, size);
    for (int t = 0; t < foreign->tensor_count; t++) {
        const struct trm_tensor_spec *spec = &foreign->specs[t];
        const struct trm_foreign_tensor *tensor = &foreign->tensors[t];
        struct trm_error err = {0};
        int64_t elements = spec->rows * spec->columns;
        int64_t bytes = elements * trm_foreign_type_bytes(tensor->type);
        TRM_ASSERT(tensor->offset >= HEADER_BYTES && bytes > 0 && !tensor->transposed);
        TRM_ASSERT(bytes <= (int64_t)size - tensor->offset);
        for (int64_t i = tensor->offset; i < tensor->offset + bytes; i++) {
            TRM_ASSERT(seen[i] == 0);
            seen[i] = 1;
        }
        struct trm_rect whole = {0, 0, spec->rows, spec->columns};
        TRM_ASSERT(trm_foreign_read(foreign, t, whole, values, &err) == TRM_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[TRM_PATH_BYTES];
    struct trm_foreign foreign = {.fd = -1};
    struct trm_error err = {0};
    if (size > INPUT_BYTES)
        return 0;
    scratch_write("model.bin", data, size);
    scratch_path("model.bin", path);
    if (trm_llmc_model_open(path, &foreign, &err) != TRM_OK) {
        TRM_ASSERT(err.text[0] != '\0');
        return 0;
    }
    read_all(&foreign, size);
    trm_foreign_close(&foreign);
    return 0;
}
