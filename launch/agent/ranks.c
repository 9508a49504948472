#include "launch/agent/ranks.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "collectives/attach.h"
#include "launch/agent/ranks_internal.h"

#define MAX_VISITORS (TRM_FLIGHT_MAX_RANKS + 256)
#define HELLO_MS     10000

_Static_assert(TRM_ATTACH_TEXT_BYTES == TRM_MESSAGE_NAME_BYTES, "a domain fits a welcome");

static void tell_odd(struct trm_agent_ranks *ranks, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void tell_odd(struct trm_agent_ranks *ranks, const char *format, ...)
{
    char text[TRM_MESSAGE_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ranks->events.on_odd(text, ranks->context);
}

void trm_agent_ranks_release(struct trm_agent_ranks *ranks)
{
    if (--ranks->holds > 0)
        return;
    struct trm_agent_ranks_events events = ranks->events;
    void *context = ranks->context;
    free(ranks);
    events.on_closed(context);
}

static void on_visitor_closed(uv_handle_t *handle)
{
    struct visitor *visitor = handle->data;
    struct trm_agent_ranks *ranks = visitor->ranks;
    free(visitor);
    trm_agent_ranks_release(ranks);
}

static void drop(struct visitor *visitor)
{
    struct trm_agent_ranks *ranks = visitor->ranks;
    if (visitor->previous)
        visitor->previous->next = visitor->next;
    else
        ranks->visitors = visitor->next;
    if (visitor->next)
        visitor->next->previous = visitor->previous;
    ranks->visitor_count--;
    if (visitor->seat)
        visitor->seat->visitor = NULL;
    uv_close((uv_handle_t *)&visitor->poll, on_visitor_closed);
    close(visitor->socket);
}

/* The other end is gone. */
static void lose(struct visitor *visitor)
{
    struct trm_agent_ranks *ranks = visitor->ranks;
    struct seat *seat = visitor->seat;
    drop(visitor);
    if (!seat)
        return;
    trm_cohort_check_gone(seat);
    ranks->events.on_change(ranks->context);
}

static void refuse(struct visitor *visitor, struct trm_attach_message *message, const char *why)
{
    struct trm_agent_ranks *ranks = visitor->ranks;
    message->kind = TRM_ATTACH_REFUSED;
    snprintf(message->text, sizeof message->text, "%.*s", TRM_ATTACH_TEXT_BYTES - 1, why);
    trm_attach_send(visitor->socket, message, NULL, 0, NULL);
    tell_odd(ranks, "process %d (rank %d of attempt %" PRId64 ") was refused: %s",
             (int)visitor->pid, message->rank, message->attempt, why);
    drop(visitor);
}

/* Why a HELLO is not welcome, or TRM_OK with its seat. */
static enum trm_status find_seat(struct visitor *visitor, const struct trm_attach_message *hello,
                                 struct seat **seat, struct trm_error *err)
{
    struct trm_agent_ranks *ranks = visitor->ranks;
    if (hello->kind != TRM_ATTACH_HELLO)
        return trm_error_set(err, TRM_ERR_MISMATCH, "it did not begin with a hello");
    if (!ranks->admits)
        return trm_error_set(err, TRM_ERR_MISMATCH, "no attempt is open on this node");
    if (hello->attempt != ranks->cohort->attempt)
        return trm_error_set(err, TRM_ERR_MISMATCH, "attempt %" PRId64 " is at hand, not %" PRId64,
                             ranks->cohort->attempt, hello->attempt);
    return trm_cohort_seat(ranks->cohort, hello->local_rank, hello->rank, visitor->pid, seat, err);
}

static void admit(struct visitor *visitor, struct trm_attach_message *message)
{
    struct trm_agent_ranks *ranks = visitor->ranks;
    struct seat *seat = NULL;
    struct trm_error err;
    if (find_seat(visitor, message, &seat, &err) != TRM_OK) {
        refuse(visitor, message, err.text);
        return;
    }
    visitor->seat = seat;
    seat->visitor = visitor;
    message->kind = TRM_ATTACH_WELCOME;
    message->index = seat->index;
    memcpy(message->text, ranks->domain, sizeof message->text);
    if (trm_attach_send(visitor->socket, message, &seat->cohort->fd, 1, &err) != TRM_OK) {
        tell_odd(ranks, "rank %d could not be welcomed: %s", seat->rank, err.text);
        lose(visitor);
        return;
    }
    ranks->events.on_change(ranks->context);
}

static void answer(struct visitor *visitor, struct trm_attach_message *message)
{
    int fds[TRM_ATTACH_MAX_FDS], count = 0;
    struct trm_attach_message reply = *message;
    struct trm_error err;
    if (!visitor->ranks->admits || !trm_slot_pool_serves((enum trm_attach_kind)message->kind)) {
        reply.kind = TRM_ATTACH_REFUSED;
        snprintf(reply.text, sizeof reply.text, "%s",
                 visitor->ranks->admits ? "the agent does not know this request"
                                        : "this attempt has ended");
    } else {
        trm_slot_pool_answer(visitor->ranks->pool, message, &reply, fds, &count);
        reply.sequence = message->sequence;
    }
    if (trm_attach_send(visitor->socket, &reply, fds, count, &err) != TRM_OK) {
        tell_odd(visitor->ranks, "rank %d does not take its answers: %s", visitor->seat->rank,
                 err.text);
        lose(visitor);
    }
}

static void on_readable(uv_poll_t *poll, int code, int events)
{
    struct visitor *visitor = poll->data;
    struct trm_attach_message message;
    struct trm_error err;
    int count = 0;
    (void)events;
    enum trm_status status =
        code < 0 ? TRM_ERR_NOT_FOUND
                 : trm_attach_receive(visitor->socket, &message, NULL, 0, &count, &err);
    if (status == TRM_ERR_TIMEOUT)
        return; /* woken for nothing */
    if (status != TRM_OK && status != TRM_ERR_NOT_FOUND)
        tell_odd(visitor->ranks, "process %d: %s", (int)visitor->pid, err.text);
    if (status != TRM_OK)
        lose(visitor);
    else if (visitor->seat)
        answer(visitor, &message);
    else
        admit(visitor, &message);
}

/* Takes the socket. */
static enum trm_status receive_visitor(struct trm_agent_ranks *ranks, int socket,
                                       struct trm_error *err)
{
    pid_t pid = 0;
    uid_t uid = 0;
    struct visitor *visitor = NULL;
    enum trm_status status = trm_attach_peer(socket, &pid, &uid, err);
    if (status == TRM_OK && uid != geteuid())
        status = trm_error_set(err, TRM_ERR_MISMATCH, "process %d of uid %ld is not ours", (int)pid,
                               (long)uid);
    if (status == TRM_OK && ranks->visitor_count >= MAX_VISITORS)
        status =
            trm_error_set(err, TRM_ERR_MISMATCH, "over %d processes are connected", MAX_VISITORS);
    if (status == TRM_OK && !(visitor = calloc(1, sizeof *visitor)))
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a connection");
    if (status == TRM_OK && uv_poll_init(ranks->loop, &visitor->poll, socket) != 0)
        status = trm_error_set(err, TRM_ERR_IO, "the connection cannot be watched");
    if (status != TRM_OK) {
        free(visitor);
        close(socket);
        return status;
    }
    visitor->ranks = ranks;
    visitor->poll.data = visitor;
    visitor->socket = socket;
    visitor->pid = pid;
    visitor->since_ns = trm_clock_now_ns();
    visitor->next = ranks->visitors;
    if (ranks->visitors)
        ranks->visitors->previous = visitor;
    ranks->visitors = visitor;
    ranks->visitor_count++;
    ranks->holds++;
    uv_poll_start(&visitor->poll, UV_READABLE | UV_DISCONNECT, on_readable);
    return TRM_OK;
}

static void on_listener(uv_poll_t *poll, int code, int events)
{
    struct trm_agent_ranks *ranks = poll->data;
    struct trm_error err;
    (void)code;
    (void)events;
    int socket = accept4(ranks->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0 && (errno == EMFILE || errno == ENFILE))
        tell_odd(ranks, "a rank cannot attach: no descriptor is left");
    if (socket >= 0 && receive_visitor(ranks, socket, &err) != TRM_OK)
        tell_odd(ranks, "a connection was closed: %s", err.text);
}

enum trm_status trm_agent_ranks_create(uv_loop_t *loop, int socket, struct trm_slot_pool *pool,
                                       const struct trm_agent_ranks_events *events, void *context,
                                       struct trm_agent_ranks **out, struct trm_error *err)
{
    struct trm_agent_ranks *ranks = calloc(1, sizeof *ranks);
    if (!ranks)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for an agent");
    *ranks = (struct trm_agent_ranks){.loop = loop,
                                      .pool = pool,
                                      .events = *events,
                                      .context = context,
                                      .socket = socket,
                                      .holds = 1};
    int code = uv_poll_init(loop, &ranks->listener, socket);
    if (code != 0) {
        free(ranks);
        return trm_error_set(err, TRM_ERR_IO, "the ranks' socket cannot be watched: %s",
                             uv_strerror(code));
    }
    ranks->listener.data = ranks;
    uv_poll_start(&ranks->listener, UV_READABLE, on_listener);
    *out = ranks;
    return TRM_OK;
}

static void on_listener_closed(uv_handle_t *handle)
{
    trm_agent_ranks_release(handle->data);
}

/* Connections of the cohort that goes; those that have not said hello may stay. */
static void drop_seated(struct trm_agent_ranks *ranks)
{
    for (struct visitor *visitor = ranks->visitors, *next; visitor; visitor = next) {
        next = visitor->next;
        if (visitor->seat)
            drop(visitor);
    }
}

void trm_agent_ranks_close(struct trm_agent_ranks *ranks)
{
    TRM_ASSERT(!ranks->closing);
    ranks->closing = true;
    ranks->admits = false;
    while (ranks->visitors)
        drop(ranks->visitors);
    trm_cohort_retire(ranks->cohort);
    ranks->cohort = NULL;
    uv_close((uv_handle_t *)&ranks->listener, on_listener_closed);
}

enum trm_status trm_agent_ranks_begin(struct trm_agent_ranks *ranks,
                                      const struct trm_message_begin *begin, int64_t lease_until_ns,
                                      struct trm_error *err)
{
    struct cohort *cohort = NULL;
    TRM_ASSERT(trm_agent_ranks_living(ranks) == 0 && !ranks->admits);
    enum trm_status status =
        trm_cohort_create(ranks, begin->attempt, begin->capacity, &cohort, err);
    if (status != TRM_OK)
        return status;
    drop_seated(ranks);
    trm_cohort_retire(ranks->cohort);
    ranks->cohort = cohort;
    memcpy(ranks->domain, begin->domain, sizeof ranks->domain);
    trm_agent_ranks_set_lease(ranks, lease_until_ns);
    ranks->admits = true;
    return TRM_OK;
}

void trm_agent_ranks_refuse(struct trm_agent_ranks *ranks)
{
    ranks->admits = false;
}

bool trm_agent_ranks_admits(const struct trm_agent_ranks *ranks)
{
    return ranks->admits;
}

/* Whether its words, or its end, are there to be read: this process may have been held up. */
static bool has_spoken(const struct visitor *visitor)
{
    struct pollfd end = {.fd = visitor->socket, .events = POLLIN | POLLRDHUP};
    return poll(&end, 1, 0) > 0;
}

void trm_agent_ranks_tick(struct trm_agent_ranks *ranks)
{
    int64_t oldest_ns = trm_clock_now_ns() - HELLO_MS * INT64_C(1000000);
    for (struct visitor *visitor = ranks->visitors, *next; visitor; visitor = next) {
        next = visitor->next;
        if (!visitor->seat && visitor->since_ns < oldest_ns && !has_spoken(visitor)) {
            tell_odd(ranks, "process %d connected and said nothing", (int)visitor->pid);
            drop(visitor);
        }
    }
}
