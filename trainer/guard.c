#include "trainer/guard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Element (count - 1) / 2 in ascending order. Insertion into an array of its own: at most 256, and
 * the C library's sort may allocate. */
static double lower_median(const double *values, int count)
{
    double sorted[TRM_CKPT_MAX_LOSSES];

    for (int i = 0; i < count; i++) {
        int at = i;
        for (; at > 0 && sorted[at - 1] > values[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return sorted[(count - 1) / 2];
}

double trm_guard_limit(const struct trm_config *config, const struct trm_ckpt_state *state)
{
    int window = (int)config->loss_spike_window, count = state->recent_loss_count;

    TRM_ASSERT(window > 0 && window <= TRM_CKPT_MAX_LOSSES && count <= TRM_CKPT_MAX_LOSSES);
    if (config->loss_spike_factor == 0 || count < window)
        return INFINITY;
    return config->loss_spike_factor * lower_median(state->recent_losses + count - window, window);
}

enum trm_guard_verdict trm_guard_judge(const struct trm_config *config,
                                       const struct trm_ckpt_state *state, double loss,
                                       double grad_norm)
{
    if (!isfinite(loss) || !isfinite(grad_norm))
        return TRM_GUARD_NOT_FINITE;
    return loss > trm_guard_limit(config, state) ? TRM_GUARD_SPIKE : TRM_GUARD_SOUND;
}

enum trm_guard_policy trm_guard_policy_of(const struct trm_config *config,
                                          enum trm_guard_verdict verdict)
{
    return (enum trm_guard_policy)(verdict == TRM_GUARD_SPIKE ? config->loss_spike_policy
                                                              : config->nonfinite_policy);
}

void trm_guard_note(const struct trm_config *config, struct trm_ckpt_state *state, double loss)
{
    int window = (int)config->loss_spike_window, keep = state->recent_loss_count;

    state->skips_in_row = 0;
    if (config->loss_spike_factor == 0) {
        state->recent_loss_count = 0;
        return;
    }
    if (keep > window - 1)
        keep = window - 1;
    memmove(state->recent_losses, state->recent_losses + state->recent_loss_count - keep,
            (size_t)keep * sizeof *state->recent_losses);
    state->recent_losses[keep] = loss;
    state->recent_loss_count = keep + 1;
}

enum trm_status trm_guard_skip(struct trm_ckpt_state *state, int64_t first, int64_t end,
                               struct trm_error *err)
{
    struct trm_ckpt_skip *made;
    int count = 0, i = 0;

    if (first >= end)
        return TRM_OK;
    made = calloc((size_t)state->skip_count + 1, sizeof *made);
    if (!made)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the list of skipped samples");
    for (; i < state->skip_count && state->skips[i].first + state->skips[i].count < first; i++)
        made[count++] = state->skips[i];
    /* Those that overlap or touch become one. */
    for (; i < state->skip_count && state->skips[i].first <= end; i++) {
        int64_t behind = state->skips[i].first + state->skips[i].count;
        first = state->skips[i].first < first ? state->skips[i].first : first;
        end = behind > end ? behind : end;
    }
    made[count++] = (struct trm_ckpt_skip){first, end - first};
    for (; i < state->skip_count; i++)
        made[count++] = state->skips[i];
    if (count > TRM_CKPT_MAX_SKIPS) {
        free(made);
        return trm_error_set(err, TRM_ERR_NUMERICS,
                             "the list of skipped samples is full (%d ranges); look for what is "
                             "wrong with the data or the settings",
                             TRM_CKPT_MAX_SKIPS);
    }
    free(state->skips);
    state->skips = made;
    state->skip_count = count;
    return TRM_OK;
}

int64_t trm_guard_walk(const struct trm_ckpt_state *state, int64_t position, int64_t count)
{
    for (int i = 0; i < state->skip_count && count > 0; i++) {
        const struct trm_ckpt_skip *skip = &state->skips[i];
        if (skip->first + skip->count <= position)
            continue;
        if (count <= skip->first - position)
            break;
        if (skip->first > position)
            count -= skip->first - position;
        position = skip->first + skip->count;
    }
    return position + count;
}

/* Boyer and Moore, "MJRTY: a fast majority vote algorithm", 1981; then counted. */
int trm_guard_vote(const uint64_t *digests, int count, bool *deviates)
{
    uint64_t candidate = 0;
    int lead = 0, votes = 0;

    for (int i = 0; i < count; i++) {
        if (lead == 0)
            candidate = digests[i];
        lead += digests[i] == candidate ? 1 : -1;
    }
    for (int i = 0; i < count; i++)
        votes += digests[i] == candidate;
    for (int i = 0; i < count; i++)
        deviates[i] = 2 * votes > count && digests[i] != candidate;
    return 2 * votes > count ? count - votes : -1;
}
