/* Which values a checkpoint of these tests should hold: those of the step that its data position
 * says, so that a step that was saved twice tells which save is there. */
#ifndef TRM_TESTS_CRASH_VALUES_H
#define TRM_TESTS_CRASH_VALUES_H

#include "tests/unit/checkpoint/fixture.h"

#define VALUES_ATTEMPT 3

static inline struct trm_ckpt_state values_state(int64_t step, int64_t values)
{
    struct trm_ckpt_state state = fixture_state(step);
    state.attempt = VALUES_ATTEMPT;
    state.next_sample = values;
    return state;
}

static inline int64_t values_of(const struct trm_ckpt_state *state)
{
    return state->next_sample;
}

#endif
