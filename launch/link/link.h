/*
 * A connection between supervisor and agent: TCP by libuv, the authenticated stream (wire.h) and
 * messages (message.h). One type for both ends, and any number of them in a process.
 *
 * A link calls back from its loop alone, never from inside a call of its owner: on_open once both
 * ends have proved themselves, on_message for each message, and on_closed, once, when it broke; the
 * link is gone after on_closed returned. An owner that closes it hears nothing more.
 *
 * What strangers can take: TRM_LINK_MAX_UNKNOWN connections that have not proved themselves (more
 * wait in the kernel's backlog), each for TRM_LINK_HANDSHAKE_MS and about 20 KiB. A peer that sends
 * noise is dropped and told of by on_stranger. What a known peer can take: one frame being read (2
 * MiB), and TRM_LINK_QUEUE_BYTES waiting to be written; one that reads too slowly is dropped.
 *
 * The process must ignore SIGPIPE. Descriptors: one per link, one per server. One thread, the
 * loop's (and libuv's for names of hosts).
 */
#ifndef TRM_LAUNCH_LINK_LINK_H
#define TRM_LAUNCH_LINK_LINK_H

#include <stdbool.h>
#include <uv.h>

#include "base/status.h"
#include "launch/link/message.h"
#include "launch/link/wire.h"

#define TRM_LINK_MAX_UNKNOWN  256
#define TRM_LINK_HANDSHAKE_MS 2000
#define TRM_LINK_QUEUE_BYTES  ((size_t)8 << 20)

struct trm_link;

struct trm_link_events {
    void (*on_open)(struct trm_link *link, void *context);
    /* Takes beat.ranks by setting it to NULL, if it likes; the rest is borrowed. */
    void (*on_message)(struct trm_link *link, struct trm_message *message, void *context);
    void (*on_closed)(struct trm_link *link, const char *reason, void *context);
};

/* An agent's end: connects (a name or a numeric address) and proves itself, both within
 * `timeout_ms`; on_closed tells when that failed. *link is returned owned, until on_closed. */
struct trm_link_target {
    const char *host;
    int port;
    const char *node; /* this agent's name */
    const struct trm_wire_token *token;
    int64_t timeout_ms;
};

enum trm_status trm_link_connect(uv_loop_t *loop, const struct trm_link_target *target,
                                 const struct trm_link_events *events, void *context,
                                 struct trm_link **link, struct trm_error *err);

/* Queues a message on an open link. When it cannot be, the link breaks: on_closed comes. */
enum trm_status trm_link_send(struct trm_link *link, const struct trm_message *message,
                              struct trm_error *err);

/* Gives the link up: no callback comes from it any more. `flush`: what is queued is still sent,
 * and the other end may close first, for a second at most. NULL is fine. */
void trm_link_close(struct trm_link *link, bool flush);

/* The agent's name (at the supervisor; "" before it is open), and "address:port" of the peer. */
const char *trm_link_node(const struct trm_link *link);
const char *trm_link_peer(const struct trm_link *link);

/* Whom callbacks are for; a server's links start with the server's context. */
void trm_link_set_context(struct trm_link *link, void *context);

/* The supervisor's end. */
struct trm_link_server;

struct trm_link_server_events {
    struct trm_link_events link; /* of every link that opened; the owner is whoever gets on_open */
    /* A connection that did not prove itself, in words with its address; ten a second at most. */
    void (*on_stranger)(const char *what, void *context);
};

/* Listens at a numeric address ("0.0.0.0", "::") and a port (0: any free one). The token is
 * copied. *server is returned owned. */
enum trm_status trm_link_listen(uv_loop_t *loop, const char *address, int port,
                                const struct trm_wire_token *token,
                                const struct trm_link_server_events *events, void *context,
                                struct trm_link_server **server, struct trm_error *err);
int trm_link_server_port(const struct trm_link_server *server);

/* Closes it and what has not proved itself; open links stay their owners'. The loop must run on
 * until it has no handles left. NULL is fine. */
void trm_link_server_close(struct trm_link_server *server);

#endif
