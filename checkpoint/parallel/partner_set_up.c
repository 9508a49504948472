/* What copies need, from the first slot to the last. */
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/parallel/partner_parts.h"
#include "collectives/agree.h"

#define PLAN_EXTRA_BYTES ((int64_t)256 << 10)

int64_t trm_partner_plan_bytes(int64_t elements, enum trm_type type)
{
    int64_t image = elements * (int64_t)trm_type_bytes(type) + PLAN_EXTRA_BYTES;
    return 2 * TRM_PARTNER_SETS * image;
}

/* Not collective. */
static enum trm_status take_set(struct trm_partner *partner, struct trm_partner_set *set,
                                struct trm_error *err)
{
    int count = 1 + partner->roster.ward_count;
    int *fds = calloc((size_t)count, sizeof(*fds));
    set->wards = calloc((size_t)count, sizeof(*set->wards));
    if (fds == NULL || set->wards == NULL) {
        free(fds);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d memory slots", count);
    }
    const struct trm_slot_keeper *keeper = &partner->settings.keeper;
    enum trm_status status = keeper->take(keeper->context, partner->slot_bytes, count, fds, err);
    if (status != TRM_OK) {
        free(fds);
        return status;
    }
    for (int i = 0; i < count; i++) {
        if (status == TRM_OK)
            status = trm_slot_map(fds[i], true, i == 0 ? &set->own : &set->wards[i - 1], err);
        close(fds[i]);
    }
    free(fds);
    return status;
}

enum trm_status trm_partner_double(struct trm_partner *partner, struct trm_error *err)
{
    enum trm_status status =
        trm_agree(partner->comm, take_set(partner, &partner->sets[1], err), err);
    if (status == TRM_OK)
        partner->set_count = TRM_PARTNER_SETS;
    return status;
}

/* Not collective: what slots will look like, and who needs them. */
static enum trm_status make_form(struct trm_partner *partner, struct trm_error *err)
{
    const struct trm_partner_settings *settings = &partner->settings;
    struct trm_catalog catalog = {
        .state = *settings->state,
        .tensor_count = settings->tensor_count,
        .tensors = (struct trm_ckpt_tensor *)(uintptr_t)settings->tensors, /* only read */
        .shard_count = settings->world->size,
        .kinds = {true, true, true},
    };
    enum trm_status status =
        trm_slice_set_cut(settings->tensors, settings->tensor_count, settings->pieces,
                          settings->piece_count, &partner->live, err);
    if (status == TRM_OK)
        status = trm_slot_form_create(
            &catalog, &partner->live, partner->roster.text, partner->roster.text_bytes,
            settings->world->rank, settings->world->size, settings->attempt, &partner->form, err);
    return status;
}

static enum trm_status set_up(struct trm_partner *partner, struct trm_error *err)
{
    const struct trm_partner_settings *settings = &partner->settings;
    struct trm_comm *world = settings->world;
    enum trm_status status = trm_comm_split(world, 0, world->rank, &partner->comm, err);
    if (status == TRM_OK)
        status = trm_partner_roster_create(partner->comm, settings->node, settings->domain,
                                           &partner->roster, err);
    if (status == TRM_OK)
        status = trm_agree(partner->comm, make_form(partner, err), err);
    if (status == TRM_OK)
        status =
            trm_partner_roster_sizes(&partner->roster, partner->comm,
                                     partner->form.layout.image_bytes, &partner->slot_bytes, err);
    if (status != TRM_OK)
        return status;
    partner->receives = calloc((size_t)partner->roster.ward_count + 1, sizeof(*partner->receives));
    if (partner->receives == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d copies",
                               partner->roster.ward_count);
    if (status == TRM_OK)
        status = trm_request_create(partner->comm, partner->roster.ward_count + 1,
                                    &partner->request, err);
    if (status == TRM_OK)
        status = trm_writer_create(&partner->thread, err);
    if (status == TRM_OK)
        status = take_set(partner, &partner->sets[0], err);
    if (status == TRM_OK)
        partner->set_count = 1;
    return trm_agree(partner->comm, status, err);
}

enum trm_status trm_partner_create(const struct trm_partner_settings *settings,
                                   struct trm_partner **out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct trm_partner *partner = calloc(1, sizeof(*partner));
    if (partner == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for copies in memory");
    status = trm_agree(settings->world, status, err);
    if (status != TRM_OK) {
        free(partner);
        return status;
    }
    partner->settings = *settings;
    partner->step = partner->complete_step = -1;
    trm_pace_init(&partner->pace, settings->interval);
    status = set_up(partner, err);
    if (status != TRM_OK) {
        trm_partner_destroy(partner);
        return status;
    }
    *out = partner;
    return TRM_OK;
}

void trm_partner_destroy(struct trm_partner *partner)
{
    if (partner == NULL)
        return;
    trm_writer_destroy(partner->thread);
    for (int s = 0; s < TRM_PARTNER_SETS; s++) {
        trm_slot_unmap(&partner->sets[s].own);
        for (int i = 0; partner->sets[s].wards != NULL && i < partner->roster.ward_count; i++)
            trm_slot_unmap(&partner->sets[s].wards[i]);
        free(partner->sets[s].wards);
    }
    trm_request_destroy(partner->request);
    free(partner->receives);
    trm_slot_form_destroy(&partner->form);
    trm_slice_set_destroy(&partner->live);
    trm_partner_roster_destroy(&partner->roster);
    trm_comm_destroy(partner->comm);
    free(partner);
}
