/*
 * The life of a run under its supervisor: states x events -> next state and what to do. Pure: the
 * table is the whole logic, and the supervisor does what it says (supervisor.h).
 *
 *   gathering  agents are started; waits until enough nodes answer
 *   checking   every node's health check
 *   claiming   the next attempt's number is claimed on disk, what an older one left is waited out
 *   launching  mpirun is started; ranks come up, load, and do their first step
 *   running    steps are made
 *   stopping   ranks were asked to save and leave
 *   fencing    something broke: ranks are killed, and each node proves that they are dead, or its
 *              lease runs out
 *   leaving    the job is over; agents clean up and go
 *   ended
 */
#ifndef TRM_LAUNCH_SUPERVISOR_STATES_H
#define TRM_LAUNCH_SUPERVISOR_STATES_H

enum trm_run_state {
    TRM_RUN_GATHERING,
    TRM_RUN_CHECKING,
    TRM_RUN_CLAIMING,
    TRM_RUN_LAUNCHING,
    TRM_RUN_RUNNING,
    TRM_RUN_STOPPING,
    TRM_RUN_FENCING,
    TRM_RUN_LEAVING,
    TRM_RUN_ENDED,
    TRM_RUN_STATE_COUNT
};

enum trm_run_event {
    TRM_EVENT_ENOUGH,  /* gathering: nodes for all ranks answer, or time is up and fewer will do */
    TRM_EVENT_CHECKED, /* checking: every node has passed or is left out, and enough passed */
    TRM_EVENT_TOO_FEW, /* not enough nodes, and no more are to be expected */
    TRM_EVENT_NODE_BACK,   /* a node answers (again) */
    TRM_EVENT_CLAIMED,     /* claiming: the number is ours */
    TRM_EVENT_SUPERSEDED,  /* another supervisor has claimed a newer attempt */
    TRM_EVENT_STEPPED,     /* launching: every rank has made a step */
    TRM_EVENT_FAULT,       /* a rank, a node, mpirun, progress: whatever ends an attempt */
    TRM_EVENT_STOP,        /* a person, a time limit, or growing asks for a stop */
    TRM_EVENT_STOP_NOW,    /* a person does not want to wait for it */
    TRM_EVENT_JOB_DONE,    /* every rank left with its work done (0) */
    TRM_EVENT_JOB_STOPPED, /* every rank left after a checkpoint (75) */
    TRM_EVENT_JOB_PAUSED,  /* the same, and it was asked in order to go on with more nodes */
    TRM_EVENT_JOB_REFUSED, /* ranks left for a reason that another attempt would meet again */
    TRM_EVENT_FENCED,      /* fencing: no rank of the attempt can be alive */
    TRM_EVENT_HOPELESS,    /* too many attempts without progress */
    TRM_EVENT_AGENTS_GONE, /* leaving: nothing is left, or time is up */
    TRM_RUN_EVENT_COUNT
};

enum trm_run_action {
    TRM_ACTION_NONE,
    TRM_ACTION_CHECK,
    TRM_ACTION_CLAIM,
    TRM_ACTION_LAUNCH,
    TRM_ACTION_NOTE_STEP,
    TRM_ACTION_ASK_STOP,
    TRM_ACTION_FENCE,
    TRM_ACTION_AGAIN, /* after fencing: give up, gather, or check */
    TRM_ACTION_LEAVE,
    TRM_ACTION_ABANDON, /* leave without touching what another supervisor owns */
    TRM_ACTION_END
};

struct trm_transition {
    enum trm_run_state next;
    enum trm_run_action action;
};

/* Events that mean nothing in a state leave it as it is. */
struct trm_transition trm_states_next(enum trm_run_state state, enum trm_run_event event);

/* "running"; static. */
const char *trm_run_state_name(enum trm_run_state state);

#endif
