/* What there is. */
#include "checkpoint/parallel/recall.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "checkpoint/parallel/recall_parts.h"
#include "collectives/agree.h"

#define SLOTS_MAX 65536 /* of a node */

bool trm_recall_same_step(const struct trm_recall_step *a, const struct trm_recall_step *b)
{
    return a->step == b->step && a->lineage == b->lineage && a->attempt == b->attempt &&
           strcmp(a->run_id, b->run_id) == 0;
}

/* Not collective: maps all slots of this node. */
static enum trm_status list_slots(struct trm_recall *recall, struct trm_error *err)
{
    const struct trm_slot_keeper *keeper = &recall->settings.keeper;
    int fds[TRM_ATTACH_MAX_FDS], count = 0, total = 0;
    do {
        enum trm_status status = keeper->list(keeper->context, recall->slot_count, fds, &count,
                                              &total, &recall->held_bytes, err);
        if (status != TRM_OK)
            return status;
        struct trm_slot *more = NULL;
        if (total <= SLOTS_MAX)
            more = realloc(recall->slots,
                           (size_t)(recall->slot_count + count + 1) * sizeof(*recall->slots));
        if (more == NULL)
            status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d memory slots", total);
        else
            recall->slots = more;
        for (int i = 0; i < count; i++) {
            if (status == TRM_OK)
                status = trm_slot_map(fds[i], false, &recall->slots[recall->slot_count], err);
            if (status == TRM_OK)
                recall->slot_count++;
            close(fds[i]);
        }
        if (status != TRM_OK)
            return status;
    } while (count > 0 && recall->slot_count < total);
    return TRM_OK;
}

static bool is_mine(const struct trm_recall *recall, int index)
{
    return index % recall->local_size == recall->local_rank;
}

static struct trm_recall_offer offer_of(const struct trm_recall *recall, int index,
                                        const struct trm_slot_layout *layout)
{
    const struct trm_slot *slot = &recall->slots[index];
    const struct trm_slot_head *head = trm_slot_head(slot);
    struct trm_recall_offer offer = {
        .step = {.lineage = head->key.lineage,
                 .step = head->key.step,
                 .attempt = head->key.attempt},
        .writer = head->key.writer,
        .world_size = head->key.world_size,
        .copy = head->copy,
        .holder = recall->settings.comm->rank,
        .index = index,
        .node = recall->settings.node_id,
        .slice_count = head->key.slice_count,
        .digest = head->digest,
        .manifest_digest =
            trm_hash64(slot->memory + layout->manifest, (size_t)head->key.manifest_bytes),
    };
    memcpy(offer.step.run_id, head->key.run_id, sizeof(offer.step.run_id));
    return offer;
}

/* Not collective: this rank's share, checked. offers[slot_count]; returns how many. */
static int64_t look(struct trm_recall *recall, struct trm_recall_offer *offers)
{
    int64_t count = 0;
    for (int i = 0; i < recall->slot_count; i++) {
        struct trm_slot_layout layout;
        struct trm_error reason = {0};
        char path[128];
        if (!is_mine(recall, i))
            continue;
        if (trm_slot_check(&recall->slots[i], &layout, &reason) == TRM_OK) {
            offers[count++] = offer_of(recall, i, &layout);
            continue;
        }
        snprintf(path, sizeof(path), "memory slot %d of %.63s", i, recall->node);
        trm_recall_note(recall, path, reason.text);
    }
    return count;
}

static int compare(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* Newest first; of one step the same order everywhere: writers ascending, own copies first. */
static int newest_first(const void *left, const void *right)
{
    const struct trm_recall_offer *a = left, *b = right;
    int order = strcmp(a->step.run_id, b->step.run_id);
    if (order == 0)
        order = compare(b->step.lineage, a->step.lineage);
    if (order == 0)
        order = compare(b->step.step, a->step.step);
    if (order == 0)
        order = compare(b->step.attempt, a->step.attempt);
    if (order == 0)
        order = compare(a->writer, b->writer);
    if (order == 0)
        order = compare(a->copy, b->copy);
    if (order == 0)
        order = compare(a->holder, b->holder);
    return order != 0 ? order : compare(a->index, b->index);
}

/* Collective: this rank's place among those that share its slots. */
static enum trm_status find_place(struct trm_recall *recall, struct trm_error *err)
{
    struct trm_comm *comm = recall->settings.comm;
    uint64_t *ids = calloc((size_t)comm->size, sizeof(*ids));
    enum trm_status status = TRM_OK;
    if (ids == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &recall->settings.node_id, ids, sizeof(*ids), NULL, err);
    for (int r = 0; status == TRM_OK && r < comm->size; r++)
        if (ids[r] == recall->settings.node_id) {
            recall->local_rank += r < comm->rank;
            recall->local_size++;
        }
    free(ids);
    return status;
}

/* Collective: everybody's offers to everybody. */
static enum trm_status gather(struct trm_recall *recall, struct trm_error *err)
{
    struct trm_comm *comm = recall->settings.comm;
    struct trm_recall_offer *mine = NULL, *all = NULL;
    size_t own = (size_t)recall->slot_count;
    enum trm_status status = TRM_OK;
    int64_t most[2] = {0, 0};
    mine = calloc(own + 1, sizeof(*mine));
    if (mine == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %zu memory slots", own);
    status = trm_agree(comm, status, err);
    if (status != TRM_OK)
        goto cleanup;
    int64_t count = look(recall, mine);
    most[0] = count;
    status = trm_comm_all_reduce(comm, most, 1, TRM_MAX_I64, NULL, err);
    most[1] = recall->local_rank == 0 ? recall->slot_count : 0;
    if (status == TRM_OK)
        status = trm_comm_all_reduce(comm, &most[1], 1, TRM_SUM_I64, NULL, err);
    recall->all_slot_count = most[1];
    /* Blocks of one size: the places behind a rank's last offer have no writer. */
    if (status == TRM_OK) {
        struct trm_recall_offer *more = realloc(mine, ((size_t)most[0] + own + 1) * sizeof(*mine));
        all = calloc((size_t)(most[0] * comm->size) + 1, sizeof(*all));
        if (more != NULL)
            mine = more;
        if (more == NULL || all == NULL)
            status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld memory slots",
                                   (long long)most[1]);
        for (int64_t i = count; status == TRM_OK && i < most[0]; i++)
            mine[i] = (struct trm_recall_offer){.writer = -1};
        status = trm_agree(comm, status, err);
    }
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, mine, all, (size_t)most[0] * sizeof(*mine), NULL, err);
    if (status != TRM_OK)
        goto cleanup;
    for (int64_t i = 0; i < most[0] * comm->size; i++)
        if (all[i].writer >= 0)
            all[recall->offer_count++] = all[i];
    qsort(all, (size_t)recall->offer_count, sizeof(*all), newest_first);
    recall->offers = all;
    all = NULL;
    status = trm_recall_tell(recall, err);
cleanup:
    free(mine);
    free(all);
    return status;
}

enum trm_status trm_recall_open(const struct trm_recall_settings *settings, struct trm_recall **out,
                                struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_recall *recall = calloc(1, sizeof(*recall));
    if (recall == NULL) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for looking at memory slots");
    } else {
        recall->settings = *settings;
        snprintf(recall->node, sizeof(recall->node), "%s", settings->node);
        status = list_slots(recall, err);
        recall->freed = calloc((size_t)recall->slot_count + 1, sizeof(*recall->freed));
        if (status == TRM_OK && recall->freed == NULL)
            status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d memory slots",
                                   recall->slot_count);
    }
    status = trm_agree(settings->comm, status, err);
    if (status == TRM_OK)
        status = find_place(recall, err);
    if (status == TRM_OK)
        status = gather(recall, err);
    if (status != TRM_OK) {
        trm_recall_close(recall);
        return status;
    }
    *out = recall;
    return TRM_OK;
}

int64_t trm_recall_slot_count(const struct trm_recall *recall)
{
    return recall->all_slot_count;
}

/* The run whose slots are of the newest attempt; NULL when there is nothing. */
static const char *newest_run(const struct trm_recall *recall)
{
    const struct trm_recall_offer *newest = NULL;
    for (int i = 0; i < recall->offer_count; i++)
        if (newest == NULL || recall->offers[i].step.attempt > newest->step.attempt)
            newest = &recall->offers[i];
    return newest != NULL ? newest->step.run_id : NULL;
}

/* Tells on rank 0 whose shards are nowhere, of the step that offers[begin, end) are of. */
static void tell_missing(const struct trm_recall *recall, int begin, int end, int missing,
                         int first)
{
    const struct trm_recall_settings *settings = &recall->settings;
    const struct trm_recall_offer *offer = &recall->offers[begin];
    const char *node = "", *partner = "";
    char path[64], where[192] = "", reason[384];
    if (settings->comm->rank != 0 || settings->passed_over == NULL)
        return;
    /* Any slot of the step that lies here says where the missing ones were. */
    for (int i = begin; i < end; i++) {
        struct trm_slot_layout layout;
        const struct trm_slot *slot = &recall->slots[recall->offers[i].index];
        if (recall->offers[i].node == recall->settings.node_id &&
            trm_slot_check(slot, &layout, NULL) == TRM_OK &&
            trm_slot_roster_entry(slot->memory + layout.roster,
                                  (size_t)trm_slot_head(slot)->key.roster_bytes, first, &node,
                                  &partner))
            break;
    }
    if (partner[0] != '\0')
        snprintf(where, sizeof(where), ", which was on %.63s, and its copy on %.63s", node,
                 partner);
    else if (node[0] != '\0')
        snprintf(where, sizeof(where), ", which was on %.63s alone: it had no partner", node);
    snprintf(path, sizeof(path), "step %lld in memory", (long long)offer->step.step);
    snprintf(reason, sizeof(reason),
             "the shards of %d of the %d ranks that copied it are nowhere, the first that of rank "
             "%d%s",
             missing, offer->world_size, first, where);
    settings->passed_over(settings->context, path, reason);
}

/* Whether offers[begin, end), all of one step, hold a slot of every writer. */
static bool is_complete(const struct trm_recall *recall, int begin, int end)
{
    const struct trm_recall_offer *offers = recall->offers;
    int missing = 0, first = -1, next = 0;
    for (int i = begin; i <= end; i++) {
        /* Of other writers than the first, or of another division: not one step. */
        if (i < end && (offers[i].world_size != offers[begin].world_size ||
                        offers[i].manifest_digest != offers[begin].manifest_digest))
            continue;
        int writer = i < end ? offers[i].writer : offers[begin].world_size;
        if (writer > next && first < 0)
            first = next;
        if (writer > next)
            missing += writer - next;
        if (writer >= next)
            next = writer + 1;
    }
    if (missing > 0)
        tell_missing(recall, begin, end, missing, first);
    return missing == 0;
}

bool trm_recall_newest(const struct trm_recall *recall, const char *run_id, int64_t below,
                       struct trm_recall_step *out)
{
    const char *run = run_id != NULL ? run_id : newest_run(recall);
    for (int begin = 0, end; run != NULL && begin < recall->offer_count; begin = end) {
        const struct trm_recall_step *step = &recall->offers[begin].step;
        for (end = begin + 1; end < recall->offer_count; end++)
            if (!trm_recall_same_step(&recall->offers[end].step, step))
                break;
        if (strcmp(step->run_id, run) == 0 && step->step < below &&
            is_complete(recall, begin, end)) {
            *out = *step;
            return true;
        }
    }
    return false;
}

void trm_recall_pass_over(struct trm_recall *recall, const struct trm_recall_step *step)
{
    int kept = 0;
    for (int i = 0; i < recall->offer_count; i++)
        if (!trm_recall_same_step(&recall->offers[i].step, step))
            recall->offers[kept++] = recall->offers[i];
    recall->offer_count = kept;
}

int64_t trm_recall_held_bytes(const struct trm_recall *recall)
{
    return recall->held_bytes;
}

void trm_recall_keep_only(struct trm_recall *recall, const struct trm_recall_step *step)
{
    for (int i = 0; i < recall->slot_count; i++) {
        const struct trm_slot_key *key = &trm_slot_head(&recall->slots[i])->key;
        struct trm_recall_step held = {
            .lineage = key->lineage, .step = key->step, .attempt = key->attempt};
        memcpy(held.run_id, key->run_id, sizeof(held.run_id));
        held.run_id[sizeof(held.run_id) - 1] = '\0';
        /* One that was freed before may hold a newer copy by now. */
        if (!is_mine(recall, i) || recall->freed[i] ||
            (step != NULL && trm_recall_same_step(step, &held)))
            continue;
        trm_slot_free(&recall->slots[i]);
        recall->freed[i] = true;
    }
}

void trm_recall_bytes(const struct trm_recall *recall, int64_t *own_node, int64_t *peers)
{
    *own_node = recall->own_node_bytes;
    *peers = recall->peer_bytes;
}

void trm_recall_close(struct trm_recall *recall)
{
    if (recall == NULL)
        return;
    for (int i = 0; i < recall->slot_count; i++)
        trm_slot_unmap(&recall->slots[i]);
    free(recall->slots);
    free(recall->freed);
    free(recall->offers);
    free(recall);
}
