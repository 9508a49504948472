#include "launch/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Of ranks, in beats. A core reads some 80,000. */
#define RECORDS_PER_SECOND 20000

const char *trm_node_state_name(enum trm_node_state state)
{
    static const char *const names[TRM_NODE_STATE_COUNT] = {
        [TRM_NODE_AWAY] = "away",           [TRM_NODE_READY] = "ready",
        [TRM_NODE_UNHEALTHY] = "unhealthy", [TRM_NODE_QUARANTINED] = "quarantined",
        [TRM_NODE_EXCLUDED] = "excluded",
    };

    TRM_ASSERT((unsigned)state < TRM_NODE_STATE_COUNT);
    return names[state];
}

enum trm_status trm_nodes_create(const struct trm_host *hosts, int count, struct trm_nodes *out,
                                 struct trm_error *err)
{
    struct trm_node *items = calloc((size_t)count, sizeof *items);

    if (!items)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d nodes", count);
    for (int i = 0; i < count; i++) {
        items[i].host = hosts[i];
        snprintf(items[i].reason, sizeof items[i].reason, "its agent has not answered yet");
    }
    *out = (struct trm_nodes){count, items};
    return TRM_OK;
}

void trm_nodes_destroy(struct trm_nodes *nodes)
{
    free(nodes->items);
    *nodes = (struct trm_nodes){0};
}

struct trm_node *trm_nodes_find(const struct trm_nodes *nodes, const char *name)
{
    for (int i = 0; i < nodes->count; i++)
        if (strcmp(nodes->items[i].host.name, name) == 0)
            return &nodes->items[i];
    return NULL;
}

void trm_nodes_blame(struct trm_node *node, const struct trm_nodes_want *want, int64_t now_ns,
                     const char *reason)
{
    if (now_ns - node->failed_ns > want->forget_ns)
        node->failures = 0;
    node->failed_ns = now_ns;
    node->failures++;
    node->state = node->failures >= want->quarantine_after ? TRM_NODE_QUARANTINED : TRM_NODE_AWAY;
    snprintf(node->reason, sizeof node->reason, "%s", reason);
}

static int fit(const struct trm_nodes *nodes, const struct trm_nodes_want *want, bool healthy)
{
    int64_t slots = 0;
    int data_size;

    TRM_ASSERT(want->tensor_size > 0 && want->ranks % want->tensor_size == 0);
    for (int i = 0; i < nodes->count; i++)
        if (nodes->items[i].state == TRM_NODE_READY && (nodes->items[i].healthy || !healthy))
            slots += nodes->items[i].host.slots;
    if (slots >= want->ranks)
        return want->ranks;
    data_size = (int)(slots / want->tensor_size);
    if (want->min_data_size < 1 || data_size < want->min_data_size)
        return 0;
    return data_size * want->tensor_size;
}

int trm_nodes_fit(const struct trm_nodes *nodes, const struct trm_nodes_want *want)
{
    return fit(nodes, want, false);
}

int trm_nodes_fit_healthy(const struct trm_nodes *nodes, const struct trm_nodes_want *want)
{
    return fit(nodes, want, true);
}

void trm_nodes_assign(struct trm_nodes *nodes, int ranks)
{
    int left = ranks, next = 0;

    for (int i = 0; i < nodes->count; i++) {
        nodes->items[i].previous_ranks = nodes->items[i].ranks;
        nodes->items[i].ranks = 0;
    }
    for (int pass = 0; pass < 2; pass++) /* those of the attempt before come first */
        for (int i = 0; i < nodes->count && left > 0; i++) {
            struct trm_node *node = &nodes->items[i];
            if (node->state != TRM_NODE_READY || !node->healthy ||
                (node->previous_ranks > 0) == (pass == 1))
                continue;
            node->ranks = node->host.slots < left ? node->host.slots : left;
            left -= node->ranks;
        }
    TRM_ASSERT(left == 0);
    for (int i = 0; i < nodes->count; i++) {
        nodes->items[i].first_rank = next;
        next += nodes->items[i].ranks;
    }
}

struct trm_node *trm_nodes_of_rank(const struct trm_nodes *nodes, int rank)
{
    for (int i = 0; i < nodes->count; i++) {
        struct trm_node *node = &nodes->items[i];
        if (rank >= node->first_rank && rank < node->first_rank + node->ranks)
            return node;
    }
    return NULL;
}

char *trm_nodes_describe(const struct trm_nodes *nodes, char *text, size_t text_bytes)
{
    int total = 0, seen = 0;
    size_t length = 0;

    text[0] = '\0';
    for (int i = 0; i < nodes->count; i++)
        total += nodes->items[i].ranks > 0;
    for (int i = 0; i < nodes->count; i++) {
        if (nodes->items[i].ranks == 0)
            continue;
        if (seen >= 8 && total > 10) {
            snprintf(text + length, text_bytes - length, " and %d more", total - seen);
            break;
        }
        const char *joint = seen == 0 ? "" : seen == total - 1 ? " and " : ", ";
        length += (size_t)snprintf(text + length, text_bytes - length, "%s%s", joint,
                                   nodes->items[i].host.name);
        if (length >= text_bytes)
            break;
        seen++;
    }
    return text;
}

int64_t trm_nodes_heartbeat_ms(const struct trm_nodes *nodes, int64_t wanted_ms, int64_t lease_ms)
{
    int64_t slots = 0, least_ms;

    for (int i = 0; i < nodes->count; i++)
        slots += nodes->items[i].host.slots;
    least_ms = slots * 1000 / RECORDS_PER_SECOND;
    if (least_ms > lease_ms / 4)
        least_ms = lease_ms / 4;
    return wanted_ms > least_ms ? wanted_ms : least_ms;
}
