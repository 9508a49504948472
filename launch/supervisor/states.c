#include "launch/supervisor/states.h"

#include "base/assert.h"

/* In the table: a state's number and an action's, with 0 for "stays, does nothing". */
#define GO(state, action)                        \
    {                                            \
        true,                                    \
        {                                        \
            TRM_RUN_##state, TRM_ACTION_##action \
        }                                        \
    }

#include <stdbool.h>

struct entry {
    bool given;
    struct trm_transition transition;
};

static const struct entry table[TRM_RUN_STATE_COUNT][TRM_RUN_EVENT_COUNT] =
    {
        [TRM_RUN_GATHERING] =
            {
                [TRM_EVENT_ENOUGH] = GO(CHECKING, CHECK),
                [TRM_EVENT_TOO_FEW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_HOPELESS] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_CHECKING] =
            {
                [TRM_EVENT_CHECKED] = GO(CLAIMING, CLAIM),
                [TRM_EVENT_TOO_FEW] = GO(GATHERING, NONE),
                [TRM_EVENT_STOP] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_CLAIMING] =
            {
                [TRM_EVENT_CLAIMED] = GO(LAUNCHING, LAUNCH),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
                [TRM_EVENT_STOP] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
            },
        [TRM_RUN_LAUNCHING] =
            {
                [TRM_EVENT_STEPPED] = GO(RUNNING, NOTE_STEP),
                [TRM_EVENT_FAULT] = GO(FENCING, FENCE),
                [TRM_EVENT_STOP] = GO(STOPPING, ASK_STOP),
                [TRM_EVENT_JOB_DONE] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_STOPPED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_PAUSED] = GO(FENCING, FENCE),
                [TRM_EVENT_JOB_REFUSED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_RUNNING] =
            {
                [TRM_EVENT_FAULT] = GO(FENCING, FENCE),
                [TRM_EVENT_STOP] = GO(STOPPING, ASK_STOP),
                [TRM_EVENT_JOB_DONE] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_STOPPED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_PAUSED] = GO(FENCING, FENCE),
                [TRM_EVENT_JOB_REFUSED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_STOPPING] =
            {
                [TRM_EVENT_STOP] = GO(STOPPING, ASK_STOP), /* there are more ranks to ask */
                /* What is in memory alone would be lost: it is started again, and asked again. */
                [TRM_EVENT_FAULT] = GO(FENCING, FENCE),
                [TRM_EVENT_JOB_DONE] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_STOPPED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_JOB_PAUSED] = GO(FENCING, FENCE),
                [TRM_EVENT_JOB_REFUSED] = GO(LEAVING, LEAVE),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_FENCING] =
            {
                [TRM_EVENT_FENCED] = GO(GATHERING, AGAIN),
                [TRM_EVENT_STOP_NOW] = GO(LEAVING, LEAVE),
                [TRM_EVENT_SUPERSEDED] = GO(LEAVING, ABANDON),
            },
        [TRM_RUN_LEAVING] =
            {
                [TRM_EVENT_AGENTS_GONE] = GO(ENDED, END),
            },
};

struct trm_transition trm_states_next(enum trm_run_state state, enum trm_run_event event)
{
    TRM_ASSERT((unsigned)state < TRM_RUN_STATE_COUNT && (unsigned)event < TRM_RUN_EVENT_COUNT);
    const struct entry *entry = &table[state][event];

    if (!entry->given)
        return (struct trm_transition){state, TRM_ACTION_NONE};
    return entry->transition;
}

const char *trm_run_state_name(enum trm_run_state state)
{
    static const char *const names[TRM_RUN_STATE_COUNT] = {
        [TRM_RUN_GATHERING] = "gathering nodes",
        [TRM_RUN_CHECKING] = "checking nodes",
        [TRM_RUN_CLAIMING] = "claiming",
        [TRM_RUN_LAUNCHING] = "launching",
        [TRM_RUN_RUNNING] = "running",
        [TRM_RUN_STOPPING] = "stopping",
        [TRM_RUN_FENCING] = "fencing",
        [TRM_RUN_LEAVING] = "leaving",
        [TRM_RUN_ENDED] = "ended",
    };

    TRM_ASSERT((unsigned)state < TRM_RUN_STATE_COUNT);
    return names[state];
}
