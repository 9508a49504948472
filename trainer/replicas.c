#include "trainer/replicas.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "collectives/agree.h"
#include "collectives/flight_write.h"
#include "trainer/guard.h"

/* What a rank says of itself once hashes differ. */
struct card {
    uint64_t digest;
    char host[64];
};

bool trm_replicas_due(const struct trm_run *run, int64_t step)
{
    int64_t interval = run->config->replica_check_interval;

    return interval > 0 && step % interval == 0;
}

static enum trm_status no_memory(struct trm_error *err)
{
    return trm_error_set(err, TRM_ERR_DIVERGED,
                         "copies of the parameters differ, and there is no memory to find out "
                         "where");
}

/* Whether all ranks of the world agree with their column. Collective. */
static enum trm_status compare(struct trm_run *run, uint64_t digest, bool *equal,
                               struct trm_error *err)
{
    /* The largest hash, and the complement of the smallest. */
    int64_t extremes[2] = {(int64_t)digest, ~(int64_t)digest};
    bool differ;
    enum trm_status status =
        trm_comm_all_reduce(run->mesh.data, extremes, 2, TRM_MAX_I64, NULL, err);

    if (status == TRM_OK)
        status = trm_agree_any(run->world, extremes[0] != ~extremes[1], &differ, err);
    if (status == TRM_OK)
        *equal = !differ;
    return status;
}

/* Marks the ranks that deviate from their column, and all of a column in which nobody can tell;
 * then *known is false. */
static enum trm_status vote(const struct trm_run *run, const struct card *cards, bool *suspects,
                            bool *known, struct trm_error *err)
{
    int tensor_size = run->mesh.tensor_size, data_size = run->mesh.data_size;
    uint64_t *digests = calloc((size_t)data_size, sizeof *digests);
    bool *column = calloc((size_t)data_size, sizeof *column);
    enum trm_status status = digests && column ? TRM_OK : TRM_ERR_MEMORY;

    *known = true;
    for (int t = 0; t < tensor_size && status == TRM_OK; t++) {
        for (int d = 0; d < data_size; d++)
            digests[d] = cards[d * tensor_size + t].digest;
        bool split = trm_guard_vote(digests, data_size, column) < 0;
        for (int d = 0; d < data_size; d++)
            suspects[d * tensor_size + t] = split || column[d];
        *known = *known && !split;
    }
    free(column);
    free(digests);
    return status == TRM_OK ? TRM_OK : no_memory(err);
}

/* "rank 2 (node3), rank 5 (node3)" */
static void list_ranks(const struct trm_run *run, const struct card *cards, const bool *suspects,
                       char *text, size_t text_bytes)
{
    size_t length = 0;

    text[0] = '\0';
    for (int rank = 0; rank < run->world->size; rank++) {
        if (!suspects[rank])
            continue;
        if (length + 128 > text_bytes) {
            snprintf(text + length, text_bytes - length, " and more");
            return;
        }
        length += (size_t)snprintf(text + length, text_bytes - length, "%srank %d (%s)",
                                   length > 0 ? ", " : "", rank, cards[rank].host);
    }
}

static int first_of(const bool *suspects, int count)
{
    int rank = 0;

    while (rank < count - 1 && !suspects[rank])
        rank++;
    return rank;
}

/* Who it is, in the same words on all ranks. Collective. */
static enum trm_status accuse(struct trm_run *run, uint64_t digest, int64_t step,
                              struct trm_error *err)
{
    size_t size = (size_t)run->world->size;
    struct card mine = {.digest = digest}, *cards = calloc(size, sizeof *cards);
    bool *suspects = calloc(size, sizeof *suspects), known = false;
    char who[512];
    enum trm_status status = cards && suspects ? TRM_OK : no_memory(err);

    gethostname(mine.host, sizeof mine.host - 1);
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(run->world, &mine, cards, sizeof mine, NULL, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, vote(run, cards, suspects, &known, err), err);
    if (status == TRM_OK) {
        list_ranks(run, cards, suspects, who, sizeof who);
        if (known)
            trm_flight_blame(run->flight, first_of(suspects, run->world->size));
        trm_metrics_diverged(&run->metrics, step, known, who);
        status = trm_error_set(
            err, TRM_ERR_DIVERGED,
            known ? "step %" PRId64 ": the parameters of %s are not those of the other "
                    "data-parallel ranks: memory, processor or network spoilt them; nothing was "
                    "updated; leave that node out and go on from the newest checkpoint"
                  : "step %" PRId64 ": the parameters differ among %s, and no more than half "
                    "agree, so nobody can tell which are spoilt; nothing was updated; test these "
                    "nodes and go on from the newest checkpoint",
            step, who);
    }
    free(suspects);
    free(cards);
    return status;
}

enum trm_status trm_replicas_check(struct trm_run *run, int64_t step, struct trm_error *err)
{
    const struct trm_ops *ops = run->device.ops;
    uint64_t digest;
    bool equal = true;
    enum trm_status status;

    bool on_host = trm_device_is_host(&run->device);

    trm_failpoint("replicas", step, on_host ? run->parameters : NULL,
                  on_host ? (size_t)run->layout->elements * sizeof(float) : 0);
    if (run->mesh.data_size == 1 || !ops->digest)
        return TRM_OK;
    digest =
        ops->digest(&run->device, trm_tensor_1d(run->parameters, run->type, run->layout->elements));
    status = trm_agree(run->world, trm_device_sync(&run->device, err), err);
    if (status == TRM_OK)
        status = compare(run, digest, &equal, err);
    if (status == TRM_OK && !equal)
        status = accuse(run, digest, step, err);
    return status;
}
