/*
 * What the sources of the supervisor share.
 *
 *   supervisor.c  set-up, loop, states and their actions, the clock's tick
 *   start.c       agents: starting them
 *   agents.c      agents: messages, leases, the exclude file
 *   check.c       health checks before an attempt
 *   claim.c       attempts' numbers on disk: claims, and looks at them
 *   ranks.c       one attempt: its ranks, their launcher, and what its end means
 *   fault.c       what broke, fencing, blame, giving up
 *   watch.c       progress, verdicts, stragglers, growing, status.json
 */
#ifndef TRM_LAUNCH_SUPERVISOR_INTERNAL_H
#define TRM_LAUNCH_SUPERVISOR_INTERNAL_H

#include <uv.h>

#include "collectives/stall.h"
#include "collectives/straggler.h"
#include "collectives/verdict.h"
#include "launch/attempt.h"
#include "launch/job/job.h"
#include "launch/job/srun.h"
#include "launch/link/link.h"
#include "launch/link/message.h"
#include "launch/nodes.h"
#include "launch/supervisor/events.h"
#include "launch/supervisor/fault.h"
#include "launch/supervisor/states.h"
#include "launch/supervisor/supervisor.h"

/* Times are trm_clock_now_ns. 0: never. */
struct agent {
    struct trm_supervisor *supervisor;
    int number;            /* of the node */
    struct trm_link *link; /* NULL: not connected */
    struct trm_message_hello hello;
    int64_t heard_ns; /* newest message */
    int64_t acked_ns; /* receipt of the newest beat that was acknowledged: bounds its lease */
    int64_t dead;     /* proved for attempts up to this one */
    int64_t asked;    /* the attempt that it was asked to begin */
    int64_t begun;    /* the attempt that it admits ranks of */
    int64_t kill_ns;  /* when it was last asked to end its ranks; later by standstills since */
    int64_t beat_ns;  /* receipt of the beat with the reports */
    enum trm_launcher launcher;
    int report_count;
    struct trm_rank_report *reports; /* owned: of the newest beat */
    /* Health. */
    int64_t check_id; /* under way; 0: none */
    bool checked;     /* it answered; how is in its node */
    int64_t checked_ns;
    char fingerprint[512];
    /* Starting it. */
    uv_process_t starter;
    uv_pipe_t starter_input;
    uv_write_t starter_write;
    char *starter_line; /* owned */
    int starter_handles;
    bool starting;
    int start_failures; /* in a row */
    int other_builds;   /* agents that were of another one */
    int64_t tried_ns;
};

/* A task for libuv's threads; one of a kind at a time. */
struct file_work {
    uv_work_t request;
    bool busy;
    enum trm_status status;
    struct trm_error error;
    int64_t began_ns; /* what it finds is as old as that */
    struct trm_claim claim, before;
    char *text;             /* owned */
    struct trm_host *names; /* owned */
    int name_count;
};

struct trm_supervisor {
    const struct trm_supervisor_settings *settings;
    const struct trm_config *config;
    struct trm_log log;
    uv_loop_t loop;
    bool started;     /* its handles are */
    bool superseded;  /* what lies on this machine may be the other supervisor's */
    int64_t quit_ns;  /* leaving: agents are asked to go then, 0: they were */
    bool ended_clean; /* no rank of any attempt can be alive */
    uv_timer_t tick, wait, reaper;
    int64_t ticks, ticked_ns; /* how many; when the newest, or a word of a node (CLOCK_BOOTTIME) */
    int64_t stood_still_ns, went_on_ns; /* how long without one, and until when; the newest such */
    int64_t reap_until_ns;
    uv_signal_t signals[3];
    struct trm_link_server *server;
    struct trm_wire_token token;
    char runtime[TRM_PATH_BYTES];
    struct trm_nodes nodes;
    struct agent *agents; /* owned, [nodes.count] */
    struct trm_nodes_want want;
    struct trm_attempts attempts;
    struct trm_claim claim; /* attempt = 0 before the first */
    struct trm_events *events;
    enum trm_run_state state;
    int64_t entered_ns, gather_ns; /* into the state; into gathering, checks since then included */

    struct file_work claiming, checking_claim, status_work, exclude_work, ending;
    int64_t claim_checked_ns;   /* the claim was ours then: the look's beginning */
    int64_t inherited_until_ns; /* ranks of the supervisor before may be alive until then */

    /* The attempt. */
    struct trm_job *job; /* owned: mpirun, or srun; NULL before the first */
    bool mpirun_runs, mpirun_ended;
    int64_t mpirun_status, mpirun_ended_ns, mpirun_ended_tick, srun_end_ns, srun_end_tick;
    int mpirun_signal;
    int signal_rank, signal_number; /* from mpirun's words; -1, 0 */
    struct trm_srun_end srun_end;   /* from srun's; rank -1 */
    char banner[1024];              /* mpirun's own words */
    bool in_banner;
    struct fault fault;
    bool recovering, fault_told, fence_sent; /* recovering: fault is of the attempt before */
    int64_t fence_at_tick;
    int64_t launched_ns, began_ns, up_ns;
    int64_t resumed_step; /* of this attempt; -1: not known yet */

    /* Over attempts. */
    int64_t best_step;   /* newest step that was ever done */
    int64_t best_before; /* of it, when the attempt began */
    int fruitless, same_failures;
    int64_t same_step;
    int same_signal;
    enum fault_kind same_kind;
    int stop_signal;
    bool stop_wanted, pause_wanted, in_memory;
    int64_t growing_since_disk_step; /* INT64_MIN: nothing to grow to */
    int64_t looked_ns, status_ns, exclude_ns;
    bool exclude_read, claim_waits; /* for the file system, and that was told */
    struct trm_stall stall;
    struct trm_straggler_watch *stragglers; /* owned */
    struct trm_flight_view *views;          /* owned, [want.ranks] */
    struct trm_tally *tallies;              /* owned: for a verdict over these */
    const char **view_nodes;                /* owned, [want.ranks]; names borrowed from nodes */
    int64_t waiting_told_ns;
    int exit_code;
    char reason[1024];
    int64_t check_ids;
    double last_loss, last_step_s;
    int64_t last_step, last_samples, last_disk_step, last_memory_step;
    char last_fault[1024];
};

#endif
