/*
 * A rank's report: its flight record as it travels from an agent to the supervisor, with what the
 * agent knows beside it. Pure.
 */
#ifndef TRM_LAUNCH_LINK_REPORT_H
#define TRM_LAUNCH_LINK_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "collectives/flight.h"

/* Bounds of numbers that are read: larger ones are refused. */
#define TRM_REPORT_MAX_COUNT INT64_C(1000000000000000) /* steps, samples, collectives, ms */

#define TRM_REPORT_NO_PROCESS '-'

struct trm_rank_lane {
    int64_t entered, completed;          /* collectives, numbered from 1 */
    int64_t waiting;                     /* the number that the rank stands still for, 0: none */
    int64_t age_ms;                      /* of the newest start, wait or completion */
    int64_t waited_ms;                   /* all waits so far */
    enum trm_flight_operation operation; /* of `waiting`, else of `entered` */
};

/* Ages were taken on the rank's node when the report was made. */
struct trm_rank_report {
    int rank, local_rank;
    int64_t pid; /* in the agent's PID namespace */
    enum trm_flight_state state;
    bool connected; /* its connection to the agent stands */
    char process;   /* the letter of /proc/PID/stat (R, S, D, T, t, Z, ...); '-': it is gone */
    int signal;     /* that ended the process; 0: it lives, exited, or nobody can tell */
    enum trm_phase phase;
    int64_t phase_age_ms;
    int64_t step; /* optimizer steps done, -1: none yet */
    int64_t samples, step_ns, compute_ns;
    double loss;                    /* infinities travel as NaN */
    int64_t memory_step, disk_step; /* -1: none */
    int64_t resumed_step;           /* where this start began; -1: not yet */
    int64_t restore_ns;             /* how long getting there took */
    enum trm_resumed resumed_from;
    int world_size, data_size, tensor_size;
    struct trm_rank_lane lanes[TRM_FLIGHT_GROUPS];
    int blamed_rank;             /* whose node is at fault for the exit; -1: nobody's */
    enum trm_status exit_status; /* these three with state EXITED */
    int exit_code;
    char exit_text[TRM_FLIGHT_TEXT_BYTES];
};

/* What a record holds at `now_ns` (CLOCK_MONOTONIC of its node). Numbers that a broken rank left
 * out of their range are brought into it. pid, connected and process are the caller's to set. */
void trm_report_read(const struct trm_flight_record *record, int64_t now_ns,
                     struct trm_rank_report *out);

/* Owned; NULL when memory is out. */
json_t *trm_report_to_json(const struct trm_rank_report *report);
enum trm_status trm_report_from_json(const json_t *value, struct trm_rank_report *out,
                                     struct trm_error *err);

/* `text` as a JSON string: cut to `limit_bytes` and to valid UTF-8, control characters other than
 * line feeds replaced. Owned; NULL when memory is out. */
json_t *trm_report_string(const char *text, size_t limit_bytes);

/* Members of an object, checked, the first error kept: the getters do nothing after it. */
struct trm_fields {
    const json_t *object;
    enum trm_status status;
    struct trm_error *err;
};

int64_t trm_fields_int(struct trm_fields *fields, const char *key, int64_t minimum,
                       int64_t maximum);
bool trm_fields_bool(struct trm_fields *fields, const char *key);
void trm_fields_text(struct trm_fields *fields, const char *key, char *out, size_t out_bytes);

#endif
