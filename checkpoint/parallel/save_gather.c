#include "checkpoint/parallel/save_gather.h"

#include <stdio.h>
#include <stdlib.h>

#include "checkpoint/view.h"
#include "collectives/agree.h"

static struct trm_shard_identity identity_of(const struct trm_save_job *job)
{
    const struct trm_shard_group *group = &job->plan->group;
    return trm_shard_identity_of(&job->state, job->nonce, group->shard, group->shard_count);
}

void trm_save_prepare(struct trm_save_job *job, const struct trm_ckpt_state *state)
{
    const struct trm_save_plan *plan = job->plan;
    const struct trm_shard_group *group = &plan->group;
    struct trm_error *err = &job->early;
    snprintf(job->file.name, sizeof(job->file.name), "shard-%05d.h5", group->shard);
    enum trm_status status = trm_ckpt_state_copy(state, &job->state, err);
    if (status != TRM_OK) {
        /* The counters at least: the phases need to know which save it is. */
        job->state = *state;
        job->state.skips = NULL;
        job->state.skip_count = 0;
        job->state.config_yaml = job->state.fingerprint = NULL;
    }
    struct trm_shard_identity identity = identity_of(job);
    if (status == TRM_OK && trm_shard_group_leads(group) && group->table.count > 0)
        status = trm_skeleton_make(&identity, plan->tensors[0].type, &group->table, &job->file,
                                   &job->skeleton, err);
    if (status == TRM_OK)
        err->status = TRM_OK;
}

enum trm_status trm_save_tell_files(struct trm_comm *comm, struct trm_save_job *job,
                                    struct trm_error *err)
{
    return trm_shard_group_tell(comm, &job->plan->group, &job->file, err);
}

/* Collective; agreed. The leaders' digests. */
static enum trm_status digest(struct trm_comm *comm, struct trm_save_plan *plan,
                              struct trm_save_job *job, struct trm_error *err)
{
    struct trm_shard_identity identity = identity_of(job);
    enum trm_status status = trm_shard_group_collect(comm, &plan->group, job->set, err);
    if (status == TRM_OK && trm_shard_group_leads(&plan->group) && job->file.bytes > 0)
        status = trm_shard_digest_table(&identity, plan->group.table.slices, &job->file, err);
    return trm_agree(comm, status, err);
}

enum trm_status trm_save_gather_files(struct trm_comm *comm, struct trm_save_plan *plan,
                                      struct trm_save_job *job, struct trm_error *err)
{
    struct trm_ckpt_file mine = {.bytes = 0};
    enum trm_status status = digest(comm, plan, job, err);
    if (status != TRM_OK)
        return status;
    job->files = calloc((size_t)comm->size, sizeof(*job->files));
    if (job->files == NULL)
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d file records", comm->size);
    status = trm_agree(comm, status, err);
    if (trm_shard_group_leads(&plan->group))
        mine = job->file;
    if (status == TRM_OK)
        status = trm_comm_all_gather(comm, &mine, job->files, sizeof(*job->files), NULL, err);
    if (status != TRM_OK)
        return status;
    for (int rank = 0; rank < comm->size; rank++)
        if (job->files[rank].bytes > 0)
            job->files[job->file_count++] = job->files[rank];
    if (comm->rank == 0) {
        struct trm_catalog catalog =
            trm_save_plan_catalog(plan, &job->state, job->nonce, job->files, job->file_count);
        status = trm_view_image(&catalog, plan->all_slices, &job->view, &job->view_bytes, err);
    }
    return trm_agree(comm, status, err);
}
