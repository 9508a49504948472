#include "collectives/agree.h"

#include <string.h>

/* What one rank tells the others; the words travel with the status. */
struct verdict {
    int64_t status;
    char text[TRM_ERROR_TEXT_BYTES];
};

static void describe_mine(enum trm_status mine, const struct trm_error *err,
                          struct verdict *verdict)
{
    memset(verdict, 0, sizeof *verdict);
    verdict->status = mine;
    const char *words = err ? err->text : trm_status_name(mine);
    memcpy(verdict->text, words, strnlen(words, sizeof verdict->text - 1));
}

enum trm_status trm_agree(struct trm_comm *comm, enum trm_status mine, struct trm_error *err)
{
    if (comm->size == 1)
        return mine;

    /* Kept apart, so that a failure of the agreement does not hide the reason for it. */
    struct trm_error broken;
    int64_t first_failed = mine == TRM_OK ? comm->size : comm->rank;
    enum trm_status status =
        trm_comm_all_reduce(comm, &first_failed, 1, TRM_MIN_I64, NULL, &broken);
    if (!status && first_failed == comm->size)
        return TRM_OK;

    struct verdict verdict;
    if (!status) {
        if (first_failed == comm->rank)
            describe_mine(mine, err, &verdict);
        status =
            trm_comm_broadcast(comm, &verdict, sizeof verdict, (int)first_failed, NULL, &broken);
    }
    if (status && mine != TRM_OK)
        return mine;
    if (status)
        return trm_error_set(err, status, "agreeing with the other ranks: %s", broken.text);

    verdict.text[sizeof verdict.text - 1] = '\0';
    bool known = verdict.status > TRM_OK && verdict.status < TRM_STATUS_COUNT;
    return trm_error_set(err, known ? (enum trm_status)verdict.status : TRM_ERR_INTERNAL,
                         "rank %d: %s", (int)first_failed, verdict.text);
}

enum trm_status trm_agree_any(struct trm_comm *comm, bool mine, bool *any, struct trm_error *err)
{
    int64_t flag = mine ? 1 : 0;
    enum trm_status status = trm_comm_all_reduce(comm, &flag, 1, TRM_MAX_I64, NULL, err);
    if (status)
        return trm_error_prefix(err, "agreeing with the other ranks");
    *any = flag != 0;
    return TRM_OK;
}
