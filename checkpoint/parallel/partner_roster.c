#include "checkpoint/parallel/partner_roster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "checkpoint/parallel/partner_map.h"
#include "checkpoint/slot.h"
#include "collectives/agree.h"

/* What every rank says of itself. */
struct place {
    uint64_t domain;
    char node[TRM_NODE_NAME_BYTES];
};

static enum trm_status list_wards(struct trm_partner_roster *roster, const int *partners, int rank,
                                  int size, struct trm_error *err)
{
    roster->partner = partners[rank];
    for (int r = 0; r < size; r++)
        roster->ward_count += partners[r] == rank;
    roster->wards = calloc((size_t)roster->ward_count + 1, sizeof(*roster->wards));
    if (roster->wards == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d wards", roster->ward_count);
    for (int r = 0, count = 0; r < size; r++)
        if (partners[r] == rank)
            roster->wards[count++].rank = r;
    return TRM_OK;
}

/* Node and partner's node of each rank, a NUL behind each. */
static enum trm_status write_text(struct trm_partner_roster *roster, const struct place *places,
                                  const int *partners, int size, struct trm_error *err)
{
    size_t at = 0;
    roster->text = malloc((size_t)size * 2 * TRM_NODE_NAME_BYTES);
    if (roster->text == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the names of %d nodes", size);
    for (int r = 0; r < size; r++) {
        const char *names[2] = {places[r].node, partners[r] >= 0 ? places[partners[r]].node : ""};
        for (int i = 0; i < 2; i++) {
            size_t bytes = strlen(names[i]) + 1;
            memcpy(roster->text + at, names[i], bytes);
            at += bytes;
        }
    }
    roster->text_bytes = at;
    return TRM_OK;
}

enum trm_status trm_partner_roster_create(struct trm_comm *comm, const char *node,
                                          const char *domain, struct trm_partner_roster *out,
                                          struct trm_error *err)
{
    struct trm_partner_roster made = {.partner = -1};
    struct place mine = {.domain = trm_hash64(domain, strlen(domain))};
    struct place *places = calloc((size_t)comm->size, sizeof(*places));
    uint64_t *domains = calloc((size_t)comm->size, sizeof(*domains));
    int *partners = calloc((size_t)comm->size, sizeof(*partners));
    enum trm_status status = TRM_OK;
    snprintf(mine.node, sizeof(mine.node), "%.*s", TRM_NODE_NAME_BYTES - 1, node);
    if (places == NULL || domains == NULL || partners == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &mine, places, sizeof(mine), NULL, err);
    if (status != TRM_OK)
        goto cleanup;
    for (int r = 0; r < comm->size; r++)
        domains[r] = places[r].domain;
    status = trm_partner_map(domains, comm->size, partners, err);
    if (status == TRM_OK)
        status = list_wards(&made, partners, comm->rank, comm->size, err);
    if (status == TRM_OK)
        status = write_text(&made, places, partners, comm->size, err);
    status = trm_agree(comm, status, err);
cleanup:
    free(places);
    free(domains);
    free(partners);
    if (status == TRM_OK)
        *out = made;
    else
        trm_partner_roster_destroy(&made);
    return status;
}

enum trm_status trm_partner_roster_sizes(struct trm_partner_roster *roster, struct trm_comm *comm,
                                         int64_t image_bytes, int64_t *largest,
                                         struct trm_error *err)
{
    int64_t *sizes = calloc((size_t)comm->size, sizeof(*sizes));
    enum trm_status status = TRM_OK;
    if (sizes == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d sizes", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &image_bytes, sizes, sizeof(*sizes), NULL, err);
    if (status == TRM_OK) {
        int64_t most = 0;
        for (int r = 0; r < comm->size; r++)
            most = sizes[r] > most ? sizes[r] : most;
        for (int i = 0; i < roster->ward_count; i++)
            roster->wards[i].image_bytes = sizes[roster->wards[i].rank];
        *largest = most;
    }
    free(sizes);
    return status;
}

char *trm_partner_roster_describe(const struct trm_partner_roster *roster, char *text,
                                  size_t text_bytes)
{
    const char *node, *partner, *last_node = "", *last_partner = "";
    size_t length = 0;
    int shown = 0;
    text[0] = '\0';
    if (roster->partner < 0)
        return text;
    for (int r = 0; length < text_bytes &&
                    trm_slot_roster_entry(roster->text, roster->text_bytes, r, &node, &partner);
         r++) {
        if (strcmp(node, last_node) == 0 && strcmp(partner, last_partner) == 0)
            continue;
        if (shown++ == TRM_PARTNER_ROSTER_SHOWN) {
            snprintf(text + length, text_bytes - length, " and so on");
            break;
        }
        length += (size_t)snprintf(text + length, text_bytes - length, "%s%s to %s",
                                   length > 0 ? ", " : "", node, partner);
        last_node = node;
        last_partner = partner;
    }
    return text;
}

void trm_partner_roster_destroy(struct trm_partner_roster *roster)
{
    if (roster == NULL)
        return;
    free(roster->text);
    free(roster->wards);
    roster->text = NULL;
    roster->wards = NULL;
    roster->ward_count = 0;
}
