#include "checkpoint/parallel/keeper.h"

#include <unistd.h>

/* What an agent of this build does not answer. */
static enum trm_status contradiction(const struct trm_attach_message *reply, int *fds, int count,
                                     struct trm_error *err)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
    return trm_error_set(err, TRM_ERR_COMM,
                         "the agent of this node answered a request for memory slots with message "
                         "%u, %d slots and %d descriptors",
                         reply->kind, reply->count, count);
}

static enum trm_status agent_take(void *context, int64_t bytes, int count, int *fds,
                                  struct trm_error *err)
{
    for (int taken = 0; taken < count;) {
        int part = count - taken < TRM_ATTACH_MAX_FDS ? count - taken : TRM_ATTACH_MAX_FDS, got;
        struct trm_attach_message message = {
            .kind = TRM_ATTACH_SLOT_TAKE, .bytes = bytes, .count = part};
        enum trm_status status = trm_attach_ask(context, &message, fds + taken, part, &got, err);
        if (status == TRM_OK && (message.kind != TRM_ATTACH_TAKEN || got != part))
            status = contradiction(&message, fds + taken, got, err);
        if (status != TRM_OK) {
            for (int i = 0; i < taken; i++)
                close(fds[i]);
            return status;
        }
        taken += part;
    }
    return TRM_OK;
}

static enum trm_status agent_list(void *context, int first, int fds[TRM_ATTACH_MAX_FDS], int *count,
                                  int *total, int64_t *bytes, struct trm_error *err)
{
    struct trm_attach_message message = {.kind = TRM_ATTACH_SLOT_LIST, .first = first};
    enum trm_status status = trm_attach_ask(context, &message, fds, TRM_ATTACH_MAX_FDS, count, err);
    if (status == TRM_OK && (message.kind != TRM_ATTACH_SLOTS || message.count != *count))
        status = contradiction(&message, fds, *count, err);
    if (status != TRM_OK)
        return status;
    *total = message.total;
    *bytes = message.bytes;
    return TRM_OK;
}

static enum trm_status agent_settle(void *context, struct trm_error *err)
{
    struct trm_attach_message message = {.kind = TRM_ATTACH_SETTLE};
    int fds[TRM_ATTACH_MAX_FDS], count;
    enum trm_status status =
        trm_attach_ask(context, &message, fds, TRM_ATTACH_MAX_FDS, &count, err);
    if (status == TRM_OK && (message.kind != TRM_ATTACH_DONE || count != 0))
        status = contradiction(&message, fds, count, err);
    return status;
}

struct trm_slot_keeper trm_slot_keeper_of_agent(struct trm_attach *attach)
{
    return (struct trm_slot_keeper){agent_take, agent_list, agent_settle, attach};
}
