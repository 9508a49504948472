#include "trainer/sums.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"

#define WORDS (sizeof(struct trm_exact_sum) / sizeof(int64_t))

_Static_assert(offsetof(struct trm_step_sums, squares) == sizeof(struct trm_exact_sum),
               "both sums are reduced as one run of words");

/* Any bytes, as a tensor that ops copy and set to zero. */
static struct trm_tensor bytes_of(void *data, size_t bytes)
{
    return trm_tensor_1d(data, TRM_F32, (int64_t)(bytes / sizeof(float)));
}

void trm_sums_zero(struct trm_run *run)
{
    run->device.ops->zero(&run->device, bytes_of(run->sums, sizeof *run->sums));
}

enum trm_status trm_sums_read(struct trm_run *run, struct trm_step_sums *out, struct trm_error *err)
{
    trm_device_download(&run->device, out, run->sums, sizeof *out);
    return trm_device_sync(&run->device, err);
}

enum trm_status trm_sums_reduce(struct trm_comm *world, struct trm_exact_sum *sums, int count,
                                double *values, struct trm_error *err)
{
    int64_t words[4 * TRM_EXACT_SUM_WORDS];
    enum trm_status status;

    TRM_ASSERT(count <= 4);
    for (int i = 0; i < count; i++) {
        trm_exact_sum_normalize(&sums[i]);
        memcpy(words + i * TRM_EXACT_SUM_WORDS, &sums[i], TRM_EXACT_SUM_WORDS * sizeof *words);
    }
    status = trm_comm_all_reduce(world, words, (size_t)count * TRM_EXACT_SUM_WORDS, TRM_SUM_I64,
                                 NULL, err);
    for (int i = 0; i < count && status == TRM_OK; i++) {
        memcpy(&sums[i], words + i * TRM_EXACT_SUM_WORDS, TRM_EXACT_SUM_WORDS * sizeof *words);
        values[i] = trm_exact_sum_value(&sums[i]);
    }
    return status;
}

/* Limbs that no carry has left may be added: in all there are fewer than 2^30 additions of 2^32. */
static enum trm_status reduce_on_device(struct trm_run *run, struct trm_error *err)
{
    const struct trm_ops *ops = run->device.ops;
    struct trm_tensor loss = bytes_of(&run->sums->loss, sizeof run->sums->loss);
    enum trm_status status;

    ops->copy(&run->device, bytes_of(&run->sums->own_loss, sizeof run->sums->own_loss), loss);
    if (run->mesh.tensor_rank > 0)
        ops->zero(&run->device, loss); /* every tensor-parallel rank has the same losses */
    status = trm_comm_all_reduce(run->groups.world, &run->sums->loss, 2 * WORDS, TRM_SUM_I64,
                                 run->sums_request, err);
    return status == TRM_OK ? trm_request_wait_stream(run->sums_request, err) : status;
}

enum trm_status trm_sums_judge(struct trm_run *run, double loss_limit, struct trm_error *err)
{
    const struct trm_config *config = run->config;
    const struct trm_step_rules rules = {
        .tokens = (double)(config->global_batch_size * config->seq_length),
        .loss_limit = loss_limit,
        .clip_grad = config->clip_grad,
    };
    struct trm_device *device = &run->device;
    enum trm_status status = reduce_on_device(run, err);

    if (status != TRM_OK)
        return status;
    device->ops->judge(device, &run->sums->verdict, &run->sums->loss, &run->sums->squares, &rules);
    trm_device_fetch_begin(device);
    trm_device_fetch(device, run->mirror.sums, run->sums, sizeof *run->sums);
    return trm_device_check(device, err);
}
