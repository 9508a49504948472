/* An agent for tests: a directory, a socket, a segment, and one conversation at a time. */
#ifndef TRM_TESTS_AGENT_H
#define TRM_TESTS_AGENT_H

#include "collectives/attach.h"

struct agent {
    char folder[64];     /* TRIREME_RUNTIME is "<folder>/r" */
    char directory[512]; /* "<folder>/r-<hostname>" */
    int listener;
    int segment_fd;
    struct trm_flight_segment *segment;
};

/* Listens for ranks of `attempt`, with a segment of `capacity` records, and sets the environment.
 * Fails by cmocka's asserts. */
void agent_start(struct agent *agent, int capacity, int attempt);
void agent_stop(struct agent *agent);

/* Accepts a rank, reads its hello into *hello, and welcomes it with record `index`; the connection.
 */
int agent_welcome(struct agent *agent, int index, struct trm_attach_message *hello);

/* Accepts a rank, reads its hello, and refuses it. */
void agent_refuse(struct agent *agent, const char *why);

#endif
