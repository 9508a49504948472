#include "launch/link/link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "launch/link/link_internal.h"

#define FLUSH_MS    1000
#define LATE_MS     20
#define KEEPALIVE_S 5

struct write {
    uv_write_t request;
    struct trm_link *link;
    char frame[];
};

static void release(struct trm_link *link)
{
    if (--link->holds > 0)
        return;
    trm_wire_destroy(link->wire);
    free(link);
}

/* The last handle has closed: now the owner may hear of it, once. */
static void on_handle_closed(uv_handle_t *handle)
{
    struct trm_link *link = handle->data;
    if (handle == (uv_handle_t *)&link->tcp && !link->given_up) {
        if (link->server) {
            char text[sizeof link->peer + sizeof link->reason + 4];
            snprintf(text, sizeof text, "%s: %s", link->peer, link->reason);
            trm_link_server_stranger(link->server, text);
        } else {
            link->events.on_closed(link, link->reason, link->context);
        }
    }
    if (handle == (uv_handle_t *)&link->tcp && link->server)
        trm_link_server_release(link->server, link);
    release(link);
}

static void close_handles(struct trm_link *link)
{
    if (link->closing)
        return;
    link->closing = true;
    uv_cancel((uv_req_t *)&link->resolving); /* refused when there is nothing to cancel */
    uv_close((uv_handle_t *)&link->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&link->timer, on_handle_closed);
}

void trm_link_break(struct trm_link *link, const char *reason)
{
    if (link->closing)
        return;
    snprintf(link->reason, sizeof link->reason, "%s", reason);
    close_handles(link);
}

static void break_by(struct trm_link *link, const char *what, int code)
{
    char reason[200];
    snprintf(reason, sizeof reason, "%s: %s", what, uv_strerror(code));
    trm_link_break(link, reason);
}

enum trm_status trm_link_create(uv_loop_t *loop, enum trm_wire_side side,
                                const struct trm_wire_token *token, const char *node,
                                struct trm_link **link, struct trm_error *err)
{
    struct trm_link *made = calloc(1, sizeof *made);
    if (!made)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a connection");
    enum trm_status status = trm_wire_create(side, token, node, &made->wire, err);
    if (status != TRM_OK) {
        free(made);
        return status;
    }
    int codes = uv_tcp_init(loop, &made->tcp) | uv_timer_init(loop, &made->timer);
    TRM_ASSERT(codes == 0); /* they only fill the structs */
    made->tcp.data = made->timer.data = made->connecting.data = made->resolving.data =
        made->finishing.data = made;
    made->holds = 2;
    *link = made;
    return TRM_OK;
}

static void on_written(uv_write_t *request, int code)
{
    struct write *write = (struct write *)request;
    struct trm_link *link = write->link;
    if (code < 0 && code != UV_ECANCELED)
        break_by(link, "could not send", code);
    free(write);
    release(link);
}

/* Takes `write`, filled with `bytes`. */
static void queue(struct trm_link *link, struct write *write, size_t bytes)
{
    uv_buf_t buffer = uv_buf_init(write->frame, (unsigned)bytes);
    write->link = link;
    link->holds++;
    int code = uv_write(&write->request, (uv_stream_t *)&link->tcp, &buffer, 1, on_written);
    if (code < 0) {
        link->holds--;
        free(write);
        break_by(link, "could not send", code);
    }
}

static void send_handshake(struct trm_link *link)
{
    struct write *write = malloc(sizeof *write + TRM_WIRE_HANDSHAKE_BYTES);
    if (!write) {
        trm_link_break(link, "out of memory for a message");
        return;
    }
    size_t bytes = trm_wire_handshake(link->wire, write->frame, TRM_WIRE_HANDSHAKE_BYTES);
    if (bytes == 0)
        free(write);
    else
        queue(link, write, bytes);
}

/* It is open: from here on it belongs to whoever gets on_open. */
static void become_open(struct trm_link *link)
{
    link->opened = true;
    uv_timer_stop(&link->timer);
    if (link->server) {
        struct trm_link_server *server = link->server;
        link->server = NULL;
        trm_link_server_release(server, link);
    }
    link->events.on_open(link, link->context);
}

static void deliver(struct trm_link *link, const char *text, size_t bytes)
{
    struct trm_message message;
    struct trm_error err;
    if (trm_message_decode(link->port == 0, text, bytes, &message, &err) != TRM_OK) {
        trm_link_break(link, err.text);
        return;
    }
    link->events.on_message(link, &message, link->context);
    trm_message_clear(&message);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    struct trm_link *link = stream->data;
    const char *data = buffer->base;
    if (link->given_up && got < 0)
        close_handles(link);
    else if (got == UV_EOF)
        trm_link_break(link, "the other end closed the connection");
    else if (got < 0)
        break_by(link, "could not receive", (int)got);
    while (got > 0 && !link->closing && !link->given_up) {
        struct trm_error err;
        size_t used = 0, bytes = 0;
        if (trm_wire_feed(link->wire, data, (size_t)got, &used, &err) != TRM_OK) {
            trm_link_break(link, err.text);
            return;
        }
        data += used;
        got -= (ssize_t)used;
        if (!link->opened) {
            send_handshake(link);
            if (!link->closing && trm_wire_is_open(link->wire))
                become_open(link);
        }
        const char *text = trm_wire_text(link->wire, &bytes);
        if (text && !link->closing && !link->given_up)
            deliver(link, text, bytes);
    }
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct trm_link *link = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(link->buffer, sizeof link->buffer);
}

static void on_timer(uv_timer_t *timer)
{
    struct trm_link *link = timer->data;
    if (link->given_up) {
        close_handles(link);
    } else if (!link->late) { /* a loop that is behind runs timers before it looks at sockets */
        link->late = true;
        uv_timer_start(timer, on_timer, LATE_MS, 0);
    } else {
        trm_link_break(link, link->peer[0] ? "no handshake in time" : "no connection in time");
    }
}

/* Retransmissions of a thin stream come at a steady pace instead of doubling their distance, so a
 * short outage is over when the cable is back. Neither option is vital. */
static void tune(struct trm_link *link)
{
    uv_os_fd_t fd = -1;
    int yes = 1;
    uv_tcp_nodelay(&link->tcp, 1);
    uv_tcp_keepalive(&link->tcp, 1, KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)&link->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &yes, sizeof yes);
}

static void name_peer(struct trm_link *link)
{
    struct sockaddr_storage address;
    int length = sizeof address, port = 0;
    char host[INET6_ADDRSTRLEN] = "?";
    if (uv_tcp_getpeername(&link->tcp, (struct sockaddr *)&address, &length) == 0) {
        bool six = address.ss_family == AF_INET6;
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        (void)(six ? uv_ip6_name(in6, host, sizeof host) : uv_ip4_name(in, host, sizeof host));
        port = ntohs(six ? in6->sin6_port : in->sin_port);
    }
    snprintf(link->peer, sizeof link->peer, "%s:%d", host, port);
}

void trm_link_start(struct trm_link *link, int64_t timeout_ms)
{
    link->late = false;
    name_peer(link);
    tune(link);
    uv_timer_start(&link->timer, on_timer, (uint64_t)timeout_ms, 0);
    int code = uv_read_start((uv_stream_t *)&link->tcp, give_buffer, on_read);
    if (code < 0)
        break_by(link, "could not receive", code);
    else
        send_handshake(link);
}

static void on_connected(uv_connect_t *request, int code)
{
    struct trm_link *link = request->data;
    if (code == 0 && !link->closing)
        trm_link_start(link, (int64_t)uv_timer_get_due_in(&link->timer));
    else if (code != UV_ECANCELED)
        break_by(link, "could not connect", code);
    release(link);
}

static void connect_to(struct trm_link *link, const struct sockaddr *address)
{
    link->holds++;
    int code = uv_tcp_connect(&link->connecting, &link->tcp, address, on_connected);
    if (code < 0) {
        link->holds--;
        break_by(link, "could not connect", code);
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int code, struct addrinfo *found)
{
    struct trm_link *link = request->data;
    if (!link->closing && code < 0)
        break_by(link, "the host's name was not found", code);
    else if (!link->closing)
        connect_to(link, found->ai_addr);
    uv_freeaddrinfo(found);
    release(link);
}

static void resolve(struct trm_link *link, const char *host)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char port[16];
    snprintf(port, sizeof port, "%d", link->port);
    link->holds++;
    int code = uv_getaddrinfo(link->tcp.loop, &link->resolving, on_resolved, host, port, &hints);
    if (code < 0) {
        link->holds--;
        break_by(link, "the host's name was not found", code);
    }
}

enum trm_status trm_link_connect(uv_loop_t *loop, const struct trm_link_target *target,
                                 const struct trm_link_events *events, void *context,
                                 struct trm_link **link, struct trm_error *err)
{
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct trm_link *made = NULL;
    TRM_ASSERT(target->port > 0 && target->port < 65536 && target->timeout_ms > 0);
    enum trm_status status =
        trm_link_create(loop, TRM_WIRE_AGENT, target->token, target->node, &made, err);
    if (status != TRM_OK)
        return status;
    made->events = *events;
    made->context = context;
    made->port = target->port;
    uv_timer_start(&made->timer, on_timer, (uint64_t)target->timeout_ms, 0);
    if (uv_ip4_addr(target->host, target->port, &four) == 0)
        connect_to(made, (const struct sockaddr *)&four);
    else if (uv_ip6_addr(target->host, target->port, &six) == 0)
        connect_to(made, (const struct sockaddr *)&six);
    else
        resolve(made, target->host);
    *link = made;
    return TRM_OK;
}

enum trm_status trm_link_send(struct trm_link *link, const struct trm_message *message,
                              struct trm_error *err)
{
    struct trm_error own;
    char *text = NULL;
    size_t bytes = 0;
    if (!err)
        err = &own;
    if (link->closing || !link->opened)
        return trm_error_set(err, TRM_ERR_COMM, "the connection is not open");
    enum trm_status status = trm_message_encode(message, &text, &bytes, err);
    if (status != TRM_OK)
        return status;
    size_t waiting = uv_stream_get_write_queue_size((uv_stream_t *)&link->tcp);
    struct write *write = malloc(sizeof *write + bytes + TRM_WIRE_OVERHEAD_BYTES);
    if (!write)
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a message");
    else if (bytes > TRM_WIRE_TEXT_BYTES)
        status = trm_error_set(err, TRM_ERR_INTERNAL, "a message of %zu bytes is too long", bytes);
    else if (waiting + bytes > TRM_LINK_QUEUE_BYTES)
        status = trm_error_set(err, TRM_ERR_COMM,
                               "the other end does not read: %zu bytes wait for it", waiting);
    if (status == TRM_OK) {
        trm_wire_seal(link->wire, text, bytes, write->frame);
        queue(link, write, bytes + TRM_WIRE_OVERHEAD_BYTES);
    } else {
        free(write);
        trm_link_break(link, err->text);
    }
    free(text);
    return status;
}

static void on_finished(uv_shutdown_t *request, int code)
{
    struct trm_link *link = request->data;
    if (code < 0)
        close_handles(link);
    release(link);
}

/* To close a socket in which something lies unread resets the connection, and what was just sent
 * may be lost with it. So the other end is let to close first; what it still says is dropped. */

void trm_link_close(struct trm_link *link, bool flush)
{
    if (!link)
        return;
    TRM_ASSERT(!link->given_up);
    link->given_up = true;
    if (!flush || !link->opened || link->closing) {
        close_handles(link);
        return;
    }
    uv_timer_start(&link->timer, on_timer, FLUSH_MS, 0);
    link->holds++;
    if (uv_shutdown(&link->finishing, (uv_stream_t *)&link->tcp, on_finished) < 0) {
        link->holds--;
        close_handles(link);
    }
}

const char *trm_link_node(const struct trm_link *link)
{
    return trm_wire_node(link->wire);
}

const char *trm_link_peer(const struct trm_link *link)
{
    return link->peer;
}

void trm_link_set_context(struct trm_link *link, void *context)
{
    link->context = context;
}
