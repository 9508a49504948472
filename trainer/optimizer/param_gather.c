#include "trainer/optimizer/param_gather.h"

#include <stdlib.h>

struct trm_param_gather {
    const struct trm_layout *layout;
    struct trm_comm *data;
    size_t element_bytes;
    struct trm_request **requests; /* [buckets] */
    enum trm_status status;
    struct trm_error error;
};

enum trm_status trm_param_gather_create(const struct trm_layout *layout, struct trm_comm *data,
                                        enum trm_type type, struct trm_param_gather **out,
                                        struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_param_gather *gather = calloc(1, sizeof *gather);

    if (gather)
        gather->requests = calloc((size_t)layout->bucket_count, sizeof *gather->requests);
    if (!gather || !gather->requests) {
        free(gather);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the parameter gather");
    }
    gather->layout = layout;
    gather->data = data;
    gather->element_bytes = trm_type_bytes(type);
    for (int b = 0; b < layout->bucket_count && status == TRM_OK; b++)
        status = trm_request_create(data, 0, &gather->requests[b], err);
    if (status != TRM_OK) {
        trm_param_gather_destroy(gather);
        return status;
    }
    *out = gather;
    return TRM_OK;
}

void trm_param_gather_destroy(struct trm_param_gather *gather)
{
    if (!gather)
        return;
    for (int b = 0; b < gather->layout->bucket_count; b++)
        trm_request_destroy(gather->requests[b]);
    free(gather->requests);
    free(gather);
}

enum trm_status trm_param_gather_start(struct trm_param_gather *gather, void *parameters,
                                       struct trm_error *err)
{
    enum trm_status status = TRM_OK;

    for (int b = 0; b < gather->layout->bucket_count && status == TRM_OK; b++) {
        const struct trm_layout_bucket *bucket = &gather->layout->buckets[b];
        char *all = (char *)parameters + (size_t)bucket->offset * gather->element_bytes;
        size_t bytes = (size_t)bucket->shard_elements * gather->element_bytes;
        if (gather->data->size == 1)
            continue;
        status = trm_comm_all_gather(gather->data, all + (size_t)gather->data->rank * bytes, all,
                                     bytes, gather->requests[b], err);
    }
    return status;
}

static void wait_bucket(struct trm_param_gather *gather, int bucket)
{
    struct trm_error error = {0};
    enum trm_status status = trm_request_wait_stream(gather->requests[bucket], &error);

    if (status != TRM_OK && gather->status == TRM_OK) {
        gather->status = status;
        gather->error = error;
    }
}

void trm_param_gather_wait(struct trm_param_gather *gather, int first, int count)
{
    int last = gather->layout->tensors[first + count - 1].bucket;
    for (int b = gather->layout->tensors[first].bucket; b <= last; b++)
        wait_bucket(gather, b);
}

enum trm_status trm_param_gather_finish(struct trm_param_gather *gather, struct trm_error *err)
{
    enum trm_status status;

    for (int b = 0; b < gather->layout->bucket_count; b++)
        wait_bucket(gather, b);
    status = gather->status;
    if (status != TRM_OK && err)
        *err = gather->error;
    gather->status = TRM_OK;
    return status;
}
