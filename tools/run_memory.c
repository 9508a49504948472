#include "tools/run_memory.h"

#include <stdlib.h>

#include "trainer/model/model.h"
#include "trainer/plan/layout.h"

#define ELEMENT_BYTES 4
#define SLOT_SETS     2 /* of the memory tier, in turn */
#define SLOT_KINDS    3 /* parameters and both moments */

enum trm_status trm_run_rank_bytes(const struct trm_config *config, int ranks, bool on_gpu,
                                   bool spread, int64_t *bytes, struct trm_error *err)
{
    int tensor_size = (int)config->tensor_model_parallel_size;
    int count = trm_model_declare(config, tensor_size, NULL, 0);
    struct trm_tensor_spec *specs = calloc((size_t)count, sizeof *specs);
    struct trm_layout *layout = NULL;
    struct trm_layout_shape shape = {
        .tensor_size = tensor_size,
        .data_size = ranks / tensor_size,
        .bucket_elements = config->ddp_bucket_size,
    };
    enum trm_status status;

    if (!specs)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", count);
    trm_model_declare(config, tensor_size, specs, count);
    status = trm_layout_create(specs, count, &shape, &layout, err);
    if (status == TRM_OK) {
        int64_t elements = on_gpu ? 0 : 2 * layout->elements + 2 * layout->owned_elements;
        if (config->memory_interval != 0)
            elements += layout->owned_elements * SLOT_KINDS * SLOT_SETS * (spread ? 2 : 1);
        *bytes = elements * ELEMENT_BYTES;
    }
    trm_layout_destroy(layout);
    free(specs);
    return status;
}
