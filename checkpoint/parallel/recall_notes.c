/* What each rank passed over, told by rank 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/recall_parts.h"
#include "collectives/agree.h"

void trm_recall_note(struct trm_recall *recall, const char *path, const char *reason)
{
    if (recall->note_count < TRM_RECALL_NOTES) {
        struct trm_recall_note *note = &recall->notes[recall->note_count];
        snprintf(note->path, sizeof(note->path), "%.*s", (int)sizeof(note->path) - 1, path);
        snprintf(note->reason, sizeof(note->reason), "%.*s", (int)sizeof(note->reason) - 1, reason);
    }
    recall->note_count++;
}

static void tell_rank(const struct trm_recall *recall, const struct trm_recall_note *notes,
                      int64_t count)
{
    const struct trm_recall_settings *settings = &recall->settings;
    char more[96];
    for (int64_t i = 0; i < count && i < TRM_RECALL_NOTES; i++)
        settings->passed_over(settings->context, notes[i].path, notes[i].reason);
    if (count <= TRM_RECALL_NOTES)
        return;
    snprintf(more, sizeof(more), "and %lld more that the same rank found",
             (long long)(count - TRM_RECALL_NOTES));
    settings->passed_over(settings->context, notes[TRM_RECALL_NOTES - 1].path, more);
}

enum trm_status trm_recall_tell(struct trm_recall *recall, struct trm_error *err)
{
    struct trm_comm *comm = recall->settings.comm;
    struct {
        int64_t count;
        struct trm_recall_note notes[TRM_RECALL_NOTES];
    } mine = {.count = recall->note_count}, *all;
    bool any = false;
    enum trm_status status = trm_agree_any(comm, recall->note_count > 0, &any, err);
    if (status != TRM_OK || !any)
        return status;
    memcpy(mine.notes, recall->notes, sizeof(mine.notes));
    recall->note_count = 0;
    all = calloc((size_t)comm->size, sizeof(*all));
    if (all == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for notes of %d ranks", comm->size);
    status = trm_agree(comm, status, err);
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &mine, all, sizeof(mine), NULL, err);
    for (int r = 0; status == TRM_OK && r < comm->size; r++)
        if (comm->rank == 0 && recall->settings.passed_over != NULL)
            tell_rank(recall, all[r].notes, all[r].count);
    free(all);
    return status;
}
