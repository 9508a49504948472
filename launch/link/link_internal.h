/* What link.c and link_server.c share. */
#ifndef TRM_LAUNCH_LINK_LINK_INTERNAL_H
#define TRM_LAUNCH_LINK_LINK_INTERNAL_H

#include "launch/link/link.h"

#define TRM_LINK_READ_BYTES 16384

struct trm_link {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connecting;
    uv_getaddrinfo_t resolving;
    uv_shutdown_t finishing;
    struct trm_wire *wire;
    struct trm_link_events events;
    void *context;
    struct trm_link_server *server;   /* until it is open or closed; NULL: an agent's end */
    struct trm_link *next, *previous; /* in the server's list of unknown ones */
    int holds;                        /* handles and requests that still use this memory */
    bool opened, closing, given_up;
    bool late; /* its time is up, but for what has arrived and was not looked at yet */
    int port;  /* of an agent's target; 0 at the supervisor's end */
    char peer[300];
    char reason[TRM_ERROR_TEXT_BYTES];
    char buffer[TRM_LINK_READ_BYTES];
};

/* A link with its handles on the loop and its wire; nothing is connected. */
enum trm_status trm_link_create(uv_loop_t *loop, enum trm_wire_side side,
                                const struct trm_wire_token *token, const char *node,
                                struct trm_link **link, struct trm_error *err);

/* The socket is connected: starts reading, and the handshake with its timer. */
void trm_link_start(struct trm_link *link, int64_t timeout_ms);

/* Breaks the link; on_closed (or its server) gets the reason later. */
void trm_link_break(struct trm_link *link, const char *reason);

/* A link of the server became known, or closed without: it is not the server's any more. */
void trm_link_server_release(struct trm_link_server *server, struct trm_link *link);
void trm_link_server_stranger(struct trm_link_server *server, const char *what);

#endif
