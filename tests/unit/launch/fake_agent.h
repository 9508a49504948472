/*
 * An agent without a node: connects, says hello, beats, and answers a supervisor's messages as an
 * agent with nothing to do would. Hundreds fit a process.
 */
#ifndef TRM_TESTS_UNIT_LAUNCH_FAKE_AGENT_H
#define TRM_TESTS_UNIT_LAUNCH_FAKE_AGENT_H

#include <stdbool.h>
#include <uv.h>

#include "launch/link/link.h"

struct fake_agent {
    uv_timer_t beat_timer;
    struct trm_link *link; /* NULL: not connected */
    char node[TRM_WIRE_NAME_BYTES];
    int64_t number, acknowledged; /* of beats; -1: none */
    int64_t attempt, dead;
    int received[TRM_MESSAGE_TYPES];
    bool deaf[TRM_MESSAGE_TYPES]; /* to these messages, which it counts and does not answer */
    char closed_reason[256];
    bool open, silent;          /* silent: answers nothing, and sends no beats */
    bool persists;              /* connects again where nobody answered the first hello */
    bool answered, lost;        /* this connection was; it is to be made again */
    int ill;                    /* so many checks fail from now on */
    enum trm_launcher launcher; /* what beats say of it */
    const char *version;        /* "0.1.0" */
    uv_loop_t *loop;
    int port;
    const struct trm_wire_token *token; /* borrowed */
    struct trm_rank_report *ranks;      /* what beats report, [rank_count]; borrowed */
    int rank_count;
};

/* Connects to 127.0.0.1. Beats come every `beat_ms`; 0: none. */
void fake_agent_start(struct fake_agent *agent, uv_loop_t *loop, int port,
                      const struct trm_wire_token *token, const char *node, int beat_ms);
void fake_agent_beat(struct fake_agent *agent);

/* Cuts the connection, and makes it again, as after a link that flapped. */
void fake_agent_cut(struct fake_agent *agent);
void fake_agent_connect(struct fake_agent *agent);

/* Answers a BEGIN that it was deaf to. */
void fake_agent_begun(struct fake_agent *agent);

/* Cuts the connection and stops the timer; the struct may go once the loop has run out. */
void fake_agent_stop(struct fake_agent *agent);

#endif
