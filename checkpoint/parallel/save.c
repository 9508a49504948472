#include "checkpoint/parallel/save.h"

#include "base/machine.h"
#include "checkpoint/parallel/saver.h"

/* How it went. */
struct outcome {
    int64_t bytes;
    struct trm_error error; /* status TRM_OK: well */
};

static void on_event(void *context, const struct trm_save_event *event)
{
    struct outcome *outcome = context;
    if (event->kind == TRM_SAVE_DONE)
        outcome->bytes = event->bytes;
    if (event->kind == TRM_SAVE_FAILED)
        outcome->error = *event->error;
}

enum trm_status trm_checkpoint_save(struct trm_comm *comm, const char *directory,
                                    int shard_group_size, const struct trm_ckpt_state *state,
                                    const struct trm_ckpt_tensor *tensors, int tensor_count,
                                    const struct trm_ckpt_piece *pieces, int piece_count,
                                    int64_t *bytes_written, struct trm_error *err)
{
    struct outcome outcome = {0};
    struct trm_saver *saver = NULL;
    const struct trm_saver_settings settings = {
        .comm = comm,
        .directory = directory,
        .tensors = tensors,
        .tensor_count = tensor_count,
        .pieces = pieces,
        .piece_count = piece_count,
        .node = trm_machine_id(),
        .shard_group_size = shard_group_size,
        .replace_from = INT64_MAX,
        .event = on_event,
        .context = &outcome,
    };
    enum trm_status status = trm_saver_create(&settings, &saver, err);
    if (status == TRM_OK)
        status = trm_saver_begin(saver, state, err);
    trm_saver_destroy(saver);
    if (status == TRM_OK && outcome.error.status != TRM_OK)
        status = trm_error_set(err, outcome.error.status, "%s", outcome.error.text);
    if (status != TRM_OK)
        return trm_error_prefix(err, "saving step %lld", (long long)state->step);
    if (bytes_written != NULL)
        *bytes_written = outcome.bytes;
    return TRM_OK;
}
