/* A step opened: its catalog, the slice tables of all writers, and who has what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "checkpoint/parallel/recall_parts.h"
#include "collectives/agree.h"

/* The offers of a step are neighbours; those that are of one piece with the first. */
static bool find_step(const struct trm_recall *recall, const struct trm_recall_step *step,
                      int *begin, int *end)
{
    for (*begin = 0; *begin < recall->offer_count; ++*begin)
        if (trm_recall_same_step(&recall->offers[*begin].step, step))
            break;
    for (*end = *begin; *end < recall->offer_count; ++*end)
        if (!trm_recall_same_step(&recall->offers[*end].step, step))
            break;
    return *begin < *end;
}

/* Collective: the catalog, from the rank that holds `offer`: all of its slot but the data. */
static enum trm_status share_catalog(struct trm_recall *recall,
                                     const struct trm_recall_offer *offer,
                                     struct trm_catalog *catalog, struct trm_error *err)
{
    struct trm_comm *comm = recall->settings.comm;
    struct trm_slot_layout layout;
    struct trm_slot copy = {0};
    int64_t bytes = 0;
    enum trm_status status = TRM_OK;
    bool mine = comm->rank == offer->holder;
    if (mine) {
        status = trm_slot_check(&recall->slots[offer->index], &layout, err);
        bytes = status == TRM_OK ? layout.data[0].offset : 0;
    }
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(comm, &bytes, sizeof(bytes), offer->holder, NULL, err);
    if (status != TRM_OK)
        return status;
    copy.memory = mine ? recall->slots[offer->index].memory : malloc((size_t)bytes);
    copy.bytes = (size_t)bytes;
    if (copy.memory == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a catalog");
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(comm, copy.memory, copy.bytes, offer->holder, NULL, err);
    if (status == TRM_OK) {
        status = trm_slot_layout_of(&trm_slot_head(&copy)->key, &layout, err);
        if (status == TRM_OK)
            status = trm_slot_catalog(&copy, &layout, catalog, err);
        status = trm_agree(comm, status, err);
    }
    if (!mine)
        free(copy.memory);
    return status;
}

/* Whether offers[i] is the first of its writer's. */
static bool is_first(const struct trm_recall *recall, int begin, int i)
{
    return i == begin || recall->offers[i - 1].writer != recall->offers[i].writer;
}

/* Not collective: this rank's part of the tables into `mine`. */
static enum trm_status decode_tables(struct trm_recall *recall, const struct trm_catalog *catalog,
                                     int begin, int end, struct trm_slice *mine,
                                     struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int i = begin; status == TRM_OK && i < end; i++) {
        const struct trm_recall_offer *offer = &recall->offers[i];
        struct trm_slot_layout layout;
        if (offer->holder != recall->settings.comm->rank || !is_first(recall, begin, i))
            continue;
        status = trm_slot_check(&recall->slots[offer->index], &layout, err);
        if (status == TRM_OK)
            status =
                trm_slot_slices(&recall->slots[offer->index], &layout, catalog, mine, NULL, err);
        mine += offer->slice_count;
    }
    return status;
}

/* Collective: for each writer its slice table, from the rank that speaks for its first slot; into
 * the source of that slot, which owns it. */
static enum trm_status share_tables(struct trm_recall_checkpoint *open, int begin, int end,
                                    struct trm_error *err)
{
    struct trm_recall *recall = open->recall;
    struct trm_comm *comm = recall->settings.comm;
    int64_t *at = calloc((size_t)comm->size + 1, sizeof(*at)), most = 0;
    struct trm_slice *mine = NULL, *all = NULL;
    enum trm_status status = TRM_OK;
    for (int i = begin; at != NULL && i < end; i++)
        if (is_first(recall, begin, i)) {
            int64_t *count = &at[recall->offers[i].holder];
            *count += recall->offers[i].slice_count;
            most = *count > most ? *count : most;
        }
    size_t bytes = (size_t)most * sizeof(*mine);
    if (at != NULL) {
        mine = calloc(1, bytes + 1);
        all = malloc(bytes * (size_t)comm->size + 1);
    }
    if (mine == NULL || all == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for tables of %lld slices",
                               (long long)most);
    if (status == TRM_OK)
        status = decode_tables(recall, &open->catalog, begin, end, mine, err);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, mine, all, bytes, NULL, err);
    for (int r = 0; status == TRM_OK && r < comm->size; r++)
        at[r] = r * most;
    for (int i = begin; status == TRM_OK && i < end; i++) {
        struct trm_recall_source *source = &open->sources[i - begin];
        const struct trm_recall_offer *offer = &recall->offers[i];
        if (!is_first(recall, begin, i))
            continue;
        source->table = malloc((size_t)offer->slice_count * sizeof(*source->table) + 1);
        if (source->table == NULL) {
            status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of slices");
            break;
        }
        memcpy(source->table, &all[at[offer->holder]],
               (size_t)offer->slice_count * sizeof(*source->table));
        at[offer->holder] += offer->slice_count;
    }
    free(at);
    free(mine);
    free(all);
    return trm_agree(comm, status, err);
}

static enum trm_status read_local(struct trm_source *base, int64_t number, void *data, size_t bytes,
                                  struct trm_error *err)
{
    const struct trm_recall_source *source = (const struct trm_recall_source *)base;
    (void)err;
    TRM_ASSERT(source->data != NULL);
    memcpy(data, source->data[number], bytes);
    return TRM_OK;
}

static void do_nothing(struct trm_source *source)
{
    (void)source;
}

static const struct trm_source_operations operations = {read_local, do_nothing, do_nothing, NULL};

/* Where the slices of a slot of this node lie. A slot that changed under us is as one of elsewhere
 * whose rank will say so. */
static enum trm_status find_data(struct trm_recall_checkpoint *open,
                                 struct trm_recall_source *source, struct trm_error *err)
{
    struct trm_recall *recall = open->recall;
    const struct trm_recall_offer *offer = source->offer;
    struct trm_slot_layout layout;
    if (offer->node != recall->settings.node_id || offer->index >= recall->slot_count)
        return TRM_OK;
    const struct trm_slot *slot = &recall->slots[offer->index];
    if (trm_slot_check(slot, &layout, NULL) != TRM_OK ||
        trm_slot_head(slot)->digest != offer->digest)
        return TRM_OK;
    source->data = calloc((size_t)offer->slice_count + 1, sizeof(*source->data));
    if (source->data == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of slices");
    for (int64_t i = 0; i < offer->slice_count; i++) {
        const struct trm_slice *slice = &source->base.slices[i];
        source->data[i] = slot->memory + layout.data[slice->kind].offset +
                          slice->offset * trm_slot_head(slot)->key.element_bytes;
    }
    return TRM_OK;
}

/* Not collective: all slots as sources, those of this node first. */
static enum trm_status fill_sources(struct trm_recall_checkpoint *open, int begin, int end,
                                    struct trm_error *err)
{
    const struct trm_recall *recall = open->recall;
    enum trm_status status = TRM_OK;
    int placed = 0;
    for (int i = begin, first = begin; status == TRM_OK && i < end; i++) {
        struct trm_recall_source *source = &open->sources[i - begin];
        const struct trm_recall_offer *offer = &recall->offers[i];
        first = is_first(recall, begin, i) ? i : first;
        /* Copies of a writer that are not the same have no business in one step. */
        bool same = offer->digest == recall->offers[first].digest;
        source->offer = offer;
        source->base.operations = &operations;
        source->base.slices = open->sources[first - begin].table;
        source->base.slice_count = same ? offer->slice_count : 0;
        snprintf(source->base.name, sizeof(source->base.name),
                 "the %s of rank %d's shard in the memory of %s",
                 offer->copy == TRM_SLOT_OWN ? "own copy" : "partner's copy", offer->writer,
                 offer->node == recall->settings.node_id ? recall->node : "another node");
        if (same)
            status = find_data(open, source, err);
    }
    for (int local = 1; local >= 0; local--)
        for (int i = 0; i < open->source_count; i++)
            if ((open->sources[i].data != NULL) == (local == 1))
                open->list[placed++] = &open->sources[i].base;
    return status;
}

static void close_step(struct trm_checkpoint *checkpoint)
{
    struct trm_recall_checkpoint *open = (struct trm_recall_checkpoint *)checkpoint;
    for (int i = 0; open->sources != NULL && i < open->source_count; i++) {
        free(open->sources[i].data);
        free(open->sources[i].table);
    }
    free(open->sources);
    free(open->list);
    trm_catalog_destroy(&open->catalog);
    free(open);
}

static const struct trm_checkpoint_operations step_operations = {trm_recall_load, close_step};

enum trm_status trm_recall_step_open(struct trm_recall *recall, const struct trm_recall_step *step,
                                     struct trm_checkpoint **out, struct trm_error *err)
{
    struct trm_comm *comm = recall->settings.comm;
    int begin = 0, end = 0;
    bool found = find_step(recall, step, &begin, &end);
    enum trm_status status = TRM_OK;
    TRM_ASSERT(found);
    struct trm_recall_checkpoint *open = calloc(1, sizeof(*open));
    if (open != NULL) {
        open->source_count = end - begin;
        open->sources = calloc((size_t)open->source_count, sizeof(*open->sources));
        open->list = calloc((size_t)open->source_count, sizeof(*open->list));
    }
    if (open == NULL || open->sources == NULL || open->list == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a step in memory");
    status = trm_agree(comm, status, err);
    if (open != NULL) {
        open->recall = recall;
        snprintf(open->path, sizeof(open->path), "step %lld in memory", (long long)step->step);
        open->base = (struct trm_checkpoint){&step_operations, &open->catalog, open->path};
    }
    if (status == TRM_OK)
        status = share_catalog(recall, &recall->offers[begin], &open->catalog, err);
    if (status == TRM_OK)
        status = share_tables(open, begin, end, err);
    if (status == TRM_OK)
        status = trm_agree(comm, fill_sources(open, begin, end, err), err);
    if (status != TRM_OK) {
        if (open != NULL)
            close_step(&open->base);
        return status;
    }
    *out = &open->base;
    return TRM_OK;
}
