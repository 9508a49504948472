#include "trainer/algorithms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collectives/agree.h"
#include "trainer/mirror.h"
#include "trainer/ops/cuda/cuda.h"
#include "trainer/sums.h"

#define HEAD "\nalgorithms 1 "

static const char digits[] = "0123456789abcdef";

int trm_algorithms_words(const char *fingerprint)
{
    return (int)strcspn(fingerprint, "\n");
}

bool trm_algorithms_alike(const char *fingerprint, const char *other)
{
    const int length = trm_algorithms_words(fingerprint);
    return length == trm_algorithms_words(other) && memcmp(fingerprint, other, (size_t)length) == 0;
}

/* The digits; NULL: none. */
static const char *algorithms_of(const char *fingerprint)
{
    const char *head = fingerprint + trm_algorithms_words(fingerprint);
    return strncmp(head, HEAD, strlen(HEAD)) == 0 ? head + strlen(HEAD) : NULL;
}

enum trm_status trm_algorithms_take(struct trm_run *run, const char *fingerprint,
                                    struct trm_error *err)
{
    char *copy;

    if (!fingerprint || !algorithms_of(fingerprint) || algorithms_of(run->state.fingerprint) ||
        !trm_algorithms_alike(fingerprint, run->state.fingerprint))
        return TRM_OK;
    copy = strdup(fingerprint);
    if (!copy)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the run's description");
    free(run->state.fingerprint);
    run->state.fingerprint = copy;
    return TRM_OK;
}

/* Bytes from digits, the rest zero; false when that is not what they are. */
static bool from_digits(unsigned char *bytes, size_t count, const char *text)
{
    const size_t length = strlen(text);

    memset(bytes, 0, count);
    if (length % 2 != 0 || length / 2 > count)
        return false;
    for (size_t i = 0; i < length; i++) {
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return false;
        bytes[i / 2] = (unsigned char)(bytes[i / 2] << 4 | (digit - digits));
    }
    return true;
}

/* The fingerprint with these algorithms. */
static enum trm_status keep(struct trm_run *run, const unsigned char *bytes, size_t count,
                            struct trm_error *err)
{
    const size_t words = (size_t)trm_algorithms_words(run->state.fingerprint);
    char *text, *at;

    while (count > 0 && bytes[count - 1] == 0)
        count--;
    text = malloc(words + strlen(HEAD) + 2 * count + 1);
    if (!text)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the run's description");
    memcpy(text, run->state.fingerprint, words);
    memcpy(text + words, HEAD, sizeof HEAD);
    at = text + words + strlen(HEAD);
    for (size_t i = 0; i < count; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    *at = '\0';
    free(run->state.fingerprint);
    run->state.fingerprint = text;
    return TRM_OK;
}

/* A pass whose losses and gradients nobody reads: the next step begins with zeros. */
static enum trm_status pass(struct trm_run *run, struct trm_error *err)
{
    const int64_t tokens = run->config->micro_batch_size * run->config->seq_length;
    const struct trm_batch batch = {.inputs = run->valid_inputs, .targets = run->valid_targets};
    const int32_t *inputs, *targets;
    enum trm_status status;

    memset(run->valid_inputs, 0, (size_t)tokens * sizeof *run->valid_inputs);
    memset(run->valid_targets, 0, (size_t)tokens * sizeof *run->valid_targets);
    trm_sums_zero(run);
    trm_mirror_send_tokens(run, &batch, tokens, &inputs, &targets);
    status = trm_model_forward_backward(run->model, inputs, targets,
                                        trm_grad_sync_scratch(run->grad_sync), false, NULL,
                                        &run->sums->loss, err);
    return status == TRM_OK ? trm_device_sync(&run->device, err) : status;
}

/* Rank 0 times algorithms; ranks that share its layers go along with it. */
static enum trm_status search(struct trm_run *run, struct trm_error *err)
{
    enum trm_status status = TRM_OK;

    if (run->mesh.data_rank == 0) {
        trm_cuda_search(&run->device, run->world->rank == 0);
        status = pass(run, err);
        trm_cuda_search(&run->device, false);
    }
    return trm_agree(run->world, status, err);
}

static enum trm_status settle(struct trm_run *run, unsigned char *bytes, size_t count,
                              struct trm_error *err)
{
    const char *kept = algorithms_of(run->state.fingerprint);
    const bool good =
        kept && from_digits(bytes, count, kept) && trm_cuda_choices_set(&run->device, bytes);
    enum trm_status status = trm_param_gather_finish(run->param_gather, err);

    /* Ranks that take no part in the search wait for it on the host alone. */
    if (status == TRM_OK)
        status = trm_device_sync(&run->device, err);
    if (good) {
        trm_log(&run->log, TRM_LOG_INFO,
                "matrix products go on with the checkpoint's algorithms (%d of them)",
                trm_cuda_choices_count(&run->device));
        return status;
    }
    if (kept)
        trm_log(&run->log, TRM_LOG_WARNING,
                "the checkpoint's algorithms of matrix products can't be read: results agree to "
                "rounding from here on, not bit for bit");
    if (status == TRM_OK)
        status = search(run, err);
    trm_cuda_choices_get(&run->device, bytes);
    if (status == TRM_OK)
        status = trm_comm_broadcast(run->world, bytes, count, 0, NULL, err);
    if (status != TRM_OK)
        return status;
    trm_cuda_choices_set(&run->device, bytes);
    trm_log(&run->log, TRM_LOG_INFO, "rank 0 chose algorithms for %d matrix products",
            trm_cuda_choices_count(&run->device));
    return trm_agree(run->world, keep(run, bytes, count, err), err);
}

enum trm_status trm_algorithms_settle(struct trm_run *run, struct trm_error *err)
{
    const size_t count = trm_cuda_choices_bytes();
    unsigned char *bytes;
    enum trm_status status;

    if (trm_device_is_host(&run->device) ||
        (!run->config->matmul_search && !algorithms_of(run->state.fingerprint)))
        return TRM_OK;
    bytes = malloc(count);
    status = bytes ? TRM_OK
                   : trm_error_set(err, TRM_ERR_MEMORY, "no memory for the choice of algorithms");
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = settle(run, bytes, count, err);
    free(bytes);
    return status;
}
