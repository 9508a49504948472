/*
 * agent_run ACTION RANKS STEP COMMAND...: runs COMMAND (mpirun) under a test agent and acts on its
 * ranks once all have done STEP steps: `lapse` their lease, `close` the connections, ask them to
 * `stop`, or `none`; `refuse` admits no rank. Prints each rank's last record; the exit code is the
 * command's.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "collectives/flight_view.h"
#include "launch/agent/slot_pool.h"
#include "tests/unit/collectives/agent.h"

#define RANKS_MAX 16
#define TICK_MS   5

/* Of all memory slots together. */
#define POOL_BYTES (INT64_C(1) << 30)

struct session {
    struct agent agent;
    const char *action;
    int ranks, admitted;
    int64_t step;
    int connections[RANKS_MAX]; /* -1: closed */
    struct trm_slot_pool *pool;
};

static void look(const struct session *s, int index, struct trm_flight_view *view)
{
    trm_flight_view(&s->agent.segment->records[index], trm_clock_now_ns(), view);
}

static bool all_are_there(const struct session *s)
{
    struct trm_flight_view view;

    for (int i = 0; i < s->ranks; i++) {
        look(s, i, &view);
        if (view.state != TRM_FLIGHT_RUNNING || view.step < s->step)
            return false;
    }
    return true;
}

static void act(struct session *s)
{
    if (strcmp(s->action, "lapse") == 0)
        atomic_store(&s->agent.segment->lease_until_ns, trm_flight_boot_ns());
    if (strcmp(s->action, "stop") == 0)
        atomic_store(&s->agent.segment->request, TRM_FLIGHT_STOP);
    for (int i = 0; i < s->admitted && strcmp(s->action, "close") == 0; i++) {
        close(s->connections[i]);
        s->connections[i] = -1;
    }
}

/* A rank that mpirun ends meanwhile, since another has left, is none of the test's: its connection
 * fails, and that is all. */
static void admit(struct session *s)
{
    struct pollfd listener = {.fd = s->agent.listener, .events = POLLIN};
    struct trm_attach_message message;
    bool refuse = strcmp(s->action, "refuse") == 0;
    int segment = refuse ? -1 : s->agent.segment_fd, connection, count;

    if (poll(&listener, 1, TICK_MS) <= 0 || (!refuse && s->admitted == s->ranks))
        return;
    connection = accept(s->agent.listener, NULL, NULL);
    if (connection < 0)
        return;
    if (trm_attach_receive(connection, &message, NULL, 0, &count, NULL) == TRM_OK) {
        message.kind = refuse ? TRM_ATTACH_REFUSED : TRM_ATTACH_WELCOME;
        message.index = s->admitted;
        if (refuse)
            snprintf(message.text, sizeof message.text, "this attempt is over");
        (void)trm_attach_send(connection, &message, &segment, !refuse, NULL);
    }
    if (refuse)
        close(connection);
    else
        s->connections[s->admitted] = connection;
    s->admitted++;
}

/* Ranks ask for memory slots while they start. */
static void serve(struct session *s)
{
    struct trm_attach_message request, reply;
    int fds[TRM_ATTACH_MAX_FDS], count;

    for (int i = 0; i < s->admitted && i < s->ranks; i++) {
        struct pollfd connection = {.fd = s->connections[i], .events = POLLIN};
        if (s->connections[i] < 0 || poll(&connection, 1, 0) <= 0)
            continue;
        if (trm_attach_receive(s->connections[i], &request, fds, TRM_ATTACH_MAX_FDS, &count,
                               NULL) != TRM_OK) {
            close(s->connections[i]);
            s->connections[i] = -1;
            continue;
        }
        trm_slot_pool_answer(s->pool, &request, &reply, fds, &count);
        (void)trm_attach_send(s->connections[i], &reply, fds, count, NULL);
    }
}

static void print_records(const struct session *s)
{
    struct trm_flight_view view;

    for (int i = 0; i < s->ranks; i++) {
        look(s, i, &view);
        if (view.state == TRM_FLIGHT_EXITED)
            printf("rank %d: exit code %d, %s\n", view.rank, view.exit_code, view.exit_text);
        else
            printf("rank %d: state %d, step %lld\n", view.rank, view.state, (long long)view.step);
    }
}

int main(int argc, char **argv)
{
    static struct session s;
    bool acted = false;
    int status = 0;
    pid_t child;

    if (argc < 5)
        return 64;
    s.action = argv[1];
    s.ranks = atoi(argv[2]);
    s.step = atoi(argv[3]);
    agent_start(&s.agent, s.ranks < RANKS_MAX ? s.ranks : RANKS_MAX, 1);
    if (trm_slot_pool_create(POOL_BYTES, &s.pool, NULL) != TRM_OK)
        return 71;
    child = fork();
    if (child == 0) {
        execvp(argv[4], argv + 4);
        _exit(127);
    }
    while (waitpid(child, &status, WNOHANG) == 0) {
        admit(&s);
        serve(&s);
        if (!acted && all_are_there(&s)) {
            act(&s);
            acted = true;
        }
    }
    print_records(&s);
    trm_slot_pool_destroy(s.pool);
    agent_stop(&s.agent);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
