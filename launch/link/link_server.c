/* The listening end: counts, times and drops whoever has not proved itself. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "launch/link/link_internal.h"

#define BACKLOG            4096
#define REPORTS_PER_SECOND 10
#define REPORT_WINDOW_MS   1000

struct trm_link_server {
    uv_tcp_t tcp;
    struct trm_wire_token token;
    struct trm_link_server_events events;
    void *context;
    struct trm_link *unknown; /* list of those that have not proved themselves */
    int unknown_count;
    int holds;
    bool waiting; /* a connection is left to the kernel until there is room */
    bool closing;
    int port;
    uint64_t window_ms; /* since when strangers are counted */
    int reports, unreported;
};

static void release(struct trm_link_server *server)
{
    if (--server->holds > 0)
        return;
    trm_wire_token_forget(&server->token);
    free(server);
}

static void take(struct trm_link_server *server)
{
    struct trm_link *link = NULL;
    struct trm_error err;
    server->waiting = server->unknown_count >= TRM_LINK_MAX_UNKNOWN;
    if (server->waiting)
        return;
    if (trm_link_create(server->tcp.loop, TRM_WIRE_SUPERVISOR, &server->token, NULL, &link, &err) !=
        TRM_OK) {
        trm_link_server_stranger(server, err.text);
        return;
    }
    link->events = server->events.link;
    link->context = server->context;
    link->server = server;
    link->next = server->unknown;
    if (server->unknown)
        server->unknown->previous = link;
    server->unknown = link;
    server->unknown_count++;
    server->holds++;
    int code = uv_accept((uv_stream_t *)&server->tcp, (uv_stream_t *)&link->tcp);
    if (code < 0)
        trm_link_break(link, uv_strerror(code));
    else
        trm_link_start(link, TRM_LINK_HANDSHAKE_MS);
}

static void on_connection(uv_stream_t *stream, int code)
{
    struct trm_link_server *server = stream->data;
    if (code < 0)
        trm_link_server_stranger(server, uv_strerror(code));
    else if (!server->closing)
        take(server);
}

void trm_link_server_release(struct trm_link_server *server, struct trm_link *link)
{
    if (link->previous)
        link->previous->next = link->next;
    else
        server->unknown = link->next;
    if (link->next)
        link->next->previous = link->previous;
    link->next = link->previous = NULL;
    server->unknown_count--;
    if (server->waiting && !server->closing)
        take(server);
    release(server);
}

void trm_link_server_stranger(struct trm_link_server *server, const char *what)
{
    uint64_t now = uv_now(server->tcp.loop);
    char text[TRM_ERROR_TEXT_BYTES + 400];
    if (server->closing)
        return;
    if (now - server->window_ms >= REPORT_WINDOW_MS) {
        server->window_ms = now;
        server->reports = 0;
    }
    if (server->reports++ >= REPORTS_PER_SECOND) {
        server->unreported++;
        return;
    }
    if (server->unreported > 0)
        snprintf(text, sizeof text, "%s (and %d more that were not told)", what,
                 server->unreported);
    else
        snprintf(text, sizeof text, "%s", what);
    server->unreported = 0;
    server->events.on_stranger(text, server->context);
}

static void on_server_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static int bind_and_listen(struct trm_link_server *server, const char *address, int port)
{
    struct sockaddr_storage bound;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    const struct sockaddr *chosen = NULL;
    int length = sizeof bound;
    if (uv_ip4_addr(address, port, &four) == 0)
        chosen = (const struct sockaddr *)&four;
    else if (uv_ip6_addr(address, port, &six) == 0)
        chosen = (const struct sockaddr *)&six;
    int code = chosen ? uv_tcp_bind(&server->tcp, chosen, 0) : UV_EINVAL;
    if (code == 0)
        code = uv_listen((uv_stream_t *)&server->tcp, BACKLOG, on_connection);
    if (code == 0)
        code = uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&bound, &length);
    if (code == 0)
        server->port =
            ntohs(bound.ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)&bound)->sin6_port
                                              : ((const struct sockaddr_in *)&bound)->sin_port);
    return code;
}

enum trm_status trm_link_listen(uv_loop_t *loop, const char *address, int port,
                                const struct trm_wire_token *token,
                                const struct trm_link_server_events *events, void *context,
                                struct trm_link_server **server, struct trm_error *err)
{
    struct trm_link_server *made = calloc(1, sizeof *made);
    if (!made)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a server");
    int code = uv_tcp_init(loop, &made->tcp);
    TRM_ASSERT(code == 0); /* it only fills the struct */
    made->tcp.data = made;
    made->token = *token;
    made->events = *events;
    made->context = context;
    made->holds = 1;
    code = bind_and_listen(made, address, port);
    if (code < 0) {
        made->closing = true;
        uv_close((uv_handle_t *)&made->tcp, on_server_closed);
        return trm_error_set(err, TRM_ERR_COMM, "could not listen at %s, port %d: %s", address,
                             port, uv_strerror(code));
    }
    *server = made;
    return TRM_OK;
}

int trm_link_server_port(const struct trm_link_server *server)
{
    return server->port;
}

void trm_link_server_close(struct trm_link_server *server)
{
    if (!server)
        return;
    server->closing = true;
    for (struct trm_link *link = server->unknown; link; link = link->next)
        trm_link_break(link, "the server closes");
    uv_close((uv_handle_t *)&server->tcp, on_server_closed);
}
