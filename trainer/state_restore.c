/* The state from an open checkpoint, on disk or in memory: compared, matched, read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/parallel/load.h"
#include "collectives/agree.h"
#include "trainer/algorithms.h"
#include "trainer/mirror.h"
#include "trainer/state.h"

/* What a comparison of configurations found. */
struct differences {
    const struct trm_log *log;
    char identity[256]; /* the first key that makes it another model */
};

static void on_difference(void *context, const char *name, enum trm_key_class key_class,
                          const char *before, const char *after)
{
    struct differences *d = context;

    if (key_class == TRM_CLASS_IDENTITY && d->identity[0] == '\0')
        snprintf(d->identity, sizeof d->identity, "%s %.80s, and this run has %.80s", name, before,
                 after);
    else if (key_class == TRM_CLASS_NUMERICS)
        trm_log(
            d->log, TRM_LOG_WARNING,
            "%s was %s in the checkpoint and is %s now: results agree to rounding from here on, "
            "not bit for bit",
            name, before, after);
    else if (key_class == TRM_CLASS_SCHEDULE)
        trm_log(d->log, TRM_LOG_INFO, "%s changes from %s to %s", name, before, after);
}

static enum trm_status compare_with(struct trm_run *run, const struct trm_checkpoint *checkpoint,
                                    struct trm_error *err)
{
    const struct trm_catalog *catalog = trm_checkpoint_catalog(checkpoint);
    const struct trm_ckpt_state *state = &catalog->state;
    const char *mine = run->state.config_yaml;
    struct differences differences = {.log = &run->log};
    struct trm_config *theirs = NULL;
    enum trm_status status = trm_config_create(&theirs, err);

    /* An imported model names its sizes alone; in all else it agrees with this run. */
    if (status == TRM_OK && !catalog->kinds[TRM_KIND_EXP_AVG])
        status = trm_config_load_text(theirs, mine, strlen(mine), "this run", err);
    if (status == TRM_OK)
        status = trm_config_load_text(theirs, state->config_yaml, strlen(state->config_yaml),
                                      trm_checkpoint_path(checkpoint), err);
    if (status == TRM_OK)
        status = trm_config_check(theirs, 0, err);
    if (status != TRM_OK)
        goto out;
    trm_config_compare(theirs, run->config, on_difference, &differences);
    if (differences.identity[0])
        status = trm_error_set(err, TRM_ERR_CONFIG,
                               "checkpoint \"%s\" has %s; use the checkpoint's value, or start "
                               "another run",
                               trm_checkpoint_path(checkpoint), differences.identity);
    else if (state->fingerprint && *state->fingerprint &&
             !trm_algorithms_alike(state->fingerprint, run->state.fingerprint))
        trm_log(
            &run->log, TRM_LOG_WARNING,
            "the checkpoint was written on \"%.*s\", this is \"%.*s\": results agree to rounding "
            "from here on, not bit for bit",
            trm_algorithms_words(state->fingerprint), state->fingerprint,
            trm_algorithms_words(run->state.fingerprint), run->state.fingerprint);
out:
    trm_config_destroy(theirs);
    return status;
}

/* The checkpoint's number of each of the layout's tensors. */
static enum trm_status match_tensors(struct trm_run *run, const struct trm_checkpoint *checkpoint,
                                     int *numbers, struct trm_error *err)
{
    const struct trm_catalog *catalog = trm_checkpoint_catalog(checkpoint);

    for (int i = 0; i < run->layout->tensor_count; i++) {
        const struct trm_tensor_spec *spec = &run->layout->tensors[i].spec;
        int found = trm_checkpoint_find(checkpoint, spec->name);
        if (found < 0)
            return trm_error_set(err, TRM_ERR_MISMATCH,
                                 "checkpoint \"%s\" has no tensor \"%s\", which the model needs",
                                 trm_checkpoint_path(checkpoint), spec->name);
        const struct trm_ckpt_tensor *t = &catalog->tensors[found];
        if (t->rows != spec->rows || t->columns != spec->columns || t->type != TRM_F32)
            return trm_error_set(
                err, TRM_ERR_MISMATCH,
                "tensor \"%s\" is %lld x %lld %s in checkpoint \"%s\", and %lld x %lld float32 in "
                "the model",
                spec->name, (long long)t->rows, (long long)t->columns, trm_type_name(t->type),
                trm_checkpoint_path(checkpoint), (long long)spec->rows, (long long)spec->columns);
        numbers[i] = found;
    }
    return TRM_OK;
}

/* Copies the counters; strings of the old writer are not kept. */
static enum trm_status take_state(struct trm_run *run, const struct trm_ckpt_state *from,
                                  struct trm_error *err)
{
    struct trm_ckpt_state *to = &run->state;
    struct trm_ckpt_skip *skips = calloc((size_t)from->skip_count + 1, sizeof *skips);

    if (!skips)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the list of skipped samples");
    memcpy(skips, from->skips, (size_t)from->skip_count * sizeof *skips);
    memcpy(to->run_id, from->run_id, sizeof to->run_id);
    to->lineage = from->lineage;
    if (to->attempt <= from->attempt) /* of a newer one that did not load, it may be above */
        to->attempt = from->attempt + 1;
    to->step = from->step;
    to->next_sample = from->next_sample;
    to->data_hash = from->data_hash;
    to->last_loss = from->last_loss;
    to->valid_loss = from->valid_loss;
    memcpy(to->recent_losses, from->recent_losses, sizeof to->recent_losses);
    to->recent_loss_count = from->recent_loss_count;
    to->skips_in_row = from->skips_in_row;
    free(to->skips);
    to->skips = skips;
    to->skip_count = from->skip_count;
    return TRM_OK;
}

/* Drops the pieces that the checkpoint has not got: an imported model has no moments, and those
 * start at zero. Returns how many are left. */
static int keep_stored(struct trm_run *run, const struct trm_catalog *catalog,
                       struct trm_ckpt_piece *pieces, int piece_count)
{
    struct trm_pieces_memory memory = trm_mirror_state(run);
    size_t bytes = (size_t)run->layout->owned_elements * sizeof(float);
    int kept = 0;

    for (int i = 0; i < piece_count; i++)
        if (catalog->kinds[pieces[i].kind])
            pieces[kept++] = pieces[i];
    if (!catalog->kinds[TRM_KIND_EXP_AVG])
        memset(memory.exp_avg, 0, bytes);
    if (!catalog->kinds[TRM_KIND_EXP_AVG_SQ])
        memset(memory.exp_avg_sq, 0, bytes);
    return kept;
}

enum trm_status trm_state_restore(struct trm_run *run, struct trm_checkpoint *checkpoint,
                                  int64_t *bytes, struct trm_error *err)
{
    struct trm_pieces_memory memory = trm_mirror_state(run);
    struct trm_ckpt_piece *pieces = NULL;
    int run_count, piece_count = 0;
    const struct trm_layout_run *runs = trm_optimizer_runs(run->optimizer, &run_count);
    int *numbers = calloc((size_t)run->layout->tensor_count, sizeof *numbers);
    enum trm_status status =
        numbers ? TRM_OK : trm_error_set(err, TRM_ERR_MEMORY, "no memory to match tensors");

    if (status == TRM_OK)
        status = compare_with(run, checkpoint, err);
    if (status == TRM_OK)
        status = match_tensors(run, checkpoint, numbers, err);
    if (status == TRM_OK)
        status = trm_pieces_of_runs(run->layout, runs, run_count, &memory, numbers, false, &pieces,
                                    &piece_count, err);
    if (status == TRM_OK)
        piece_count = keep_stored(run, trm_checkpoint_catalog(checkpoint), pieces, piece_count);
    if (status == TRM_OK)
        status = take_state(run, &trm_checkpoint_catalog(checkpoint)->state, err);
    if (status == TRM_OK)
        status =
            trm_algorithms_take(run, trm_checkpoint_catalog(checkpoint)->state.fingerprint, err);
    status = trm_agree(run->world, status, err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(run->world, checkpoint, pieces, piece_count, bytes, err);
    if (status == TRM_OK)
        status = trm_agree(run->world, trm_mirror_send(run, err), err);
    free(pieces);
    free(numbers);
    return status;
}
