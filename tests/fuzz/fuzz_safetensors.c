/* A safetensors file. What is accepted lies inside the file, and can be found by name. */
#include "fuzz.h"

#include "base/assert.h"
#include "tools/formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trm_safetensors tensors = {0};
    struct trm_error err = {0};
    enum trm_status status =
        trm_safetensors_open(data, size, (int64_t)size, "fuzz.safetensors", &tensors, &err);
    TRM_ASSERT(status == TRM_OK || err.text[0] != '\0');
    for (int64_t i = 0; i < tensors.count; i++) {
        const struct trm_safetensors_entry *entry = &tensors.entries[i];
        TRM_ASSERT(entry->dims >= 0 && entry->dims <= TRM_SAFETENSORS_MAX_DIMS);
        TRM_ASSERT(entry->offset >= 8 && entry->bytes >= 0);
        TRM_ASSERT(entry->bytes <= (int64_t)size - entry->offset);
        TRM_ASSERT(trm_safetensors_find(&tensors, entry->name) == entry);
    }
    trm_safetensors_destroy(&tensors);
    return 0;
}
