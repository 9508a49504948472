#include "launch/link/link.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fake_agent.h"

#define PATIENCE_MS 60000
#define MANY        300

static const struct trm_wire_token token = {{1}}, wrong_token = {{2}};

struct world {
    uv_loop_t loop;
    uv_timer_t tick; /* keeps the loop turning, so that conditions are looked at */
    struct trm_link_server *server;
    struct trm_link *links[MANY];
    int open, closed, strangers, received[TRM_MESSAGE_TYPES];
    char stranger[512], closed_reason[256], node[TRM_WIRE_NAME_BYTES];
    bool acknowledge;
};

static void on_open(struct trm_link *link, void *context)
{
    struct world *world = context;
    snprintf(world->node, sizeof world->node, "%s", trm_link_node(link));
    world->links[world->open++] = link;
}

static void on_message(struct trm_link *link, struct trm_message *message, void *context)
{
    struct world *world = context;
    struct trm_message ack = {.type = TRM_MESSAGE_ACK};
    world->received[message->type]++;
    ack.number = message->type == TRM_MESSAGE_HELLO ? message->hello.number : 0;
    if (message->type == TRM_MESSAGE_BEAT)
        ack.number = message->beat.number;
    if (world->acknowledge &&
        (message->type == TRM_MESSAGE_HELLO || message->type == TRM_MESSAGE_BEAT))
        trm_link_send(link, &ack, NULL);
}

static void on_closed(struct trm_link *link, const char *reason, void *context)
{
    struct world *world = context;
    for (int i = 0; i < world->open; i++)
        if (world->links[i] == link)
            world->links[i] = NULL;
    world->closed++;
    snprintf(world->closed_reason, sizeof world->closed_reason, "%s", reason);
}

static void on_stranger(const char *what, void *context)
{
    struct world *world = context;
    world->strangers++;
    snprintf(world->stranger, sizeof world->stranger, "%s", what);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void start(struct world *world)
{
    static const struct trm_link_server_events events = {{on_open, on_message, on_closed},
                                                         on_stranger};
    *world = (struct world){.acknowledge = true};
    uv_loop_init(&world->loop);
    uv_timer_init(&world->loop, &world->tick);
    uv_timer_start(&world->tick, on_tick, 5, 5);
    assert_int_equal(
        trm_link_listen(&world->loop, "127.0.0.1", 0, &token, &events, world, &world->server, NULL),
        TRM_OK);
}

/* Ends everything; a handle or a descriptor that stays makes uv_loop_close fail. */
static void finish(struct world *world)
{
    for (int i = 0; i < world->open; i++)
        trm_link_close(world->links[i], false);
    trm_link_server_close(world->server);
    uv_close((uv_handle_t *)&world->tick, NULL);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
}

#define WAIT_FOR(world, condition)                                         \
    do {                                                                   \
        int64_t deadline_ns = trm_clock_deadline_ns(PATIENCE_MS);          \
        bool reached;                                                      \
        while (!(reached = (condition)) && !trm_clock_passed(deadline_ns)) \
            uv_run(&(world)->loop, UV_RUN_ONCE);                           \
        if (!reached)                                                      \
            fail_msg("in vain: %s", #condition);                           \
    } while (0)

static void agents_and_supervisor_exchange_messages(void **state)
{
    (void)state;
    struct world world;
    struct fake_agent agent;
    start(&world);
    fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2", 5);
    WAIT_FOR(&world, agent.acknowledged >= 3);
    assert_string_equal(world.node, "node2");
    assert_int_equal(world.received[TRM_MESSAGE_HELLO], 1);
    struct trm_message quit = {.type = TRM_MESSAGE_QUIT};
    assert_int_equal(trm_link_send(world.links[0], &quit, NULL), TRM_OK);
    WAIT_FOR(&world, world.closed == 1);
    assert_int_equal(world.received[TRM_MESSAGE_BYE], 1);
    assert_non_null(strstr(world.closed_reason, "closed the connection"));
    assert_int_equal(world.strangers, 0);
    fake_agent_stop(&agent);
    finish(&world);
}

static void hundreds_of_agents_share_a_process(void **state)
{
    (void)state;
    struct world world;
    struct fake_agent *agents = calloc(MANY, sizeof *agents);
    assert_non_null(agents);
    start(&world);
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "node%d", i);
        fake_agent_start(&agents[i], &world.loop, trm_link_server_port(world.server), &token, name,
                         1000);
        agents[i].persists = true; /* all proofs together may take longer than the server waits */
    }
    for (int i = 0; i < MANY; i++)
        WAIT_FOR(&world, agents[i].acknowledged >= 1);
    assert_int_equal(world.open, MANY);
    assert_int_equal(world.closed, 0);
    for (int i = 0; i < MANY; i++)
        fake_agent_stop(&agents[i]);
    WAIT_FOR(&world, world.closed == MANY);
    finish(&world);
    free(agents);
}

/* A plain socket that is connected to the server. */
static int connect_plainly(const struct world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)trm_link_server_port(world->server)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void noise_and_strangers_are_dropped_and_told_while_agents_go_on(void **state)
{
    (void)state;
    static const char *const noise[] = {"GET / HTTP/1.1\r\n\r\n", "\n", "trmwire1 and then?",
                                        "\x16\x03\x01"};
    struct world world;
    struct fake_agent agent, stranger;
    start(&world);
    fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2", 5);
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++) {
        int fd = connect_plainly(&world), before = world.strangers;
        assert_true(write(fd, noise[i], strlen(noise[i])) > 0);
        if (i == 2)
            shutdown(fd, SHUT_WR);
        WAIT_FOR(&world, world.strangers > before);
        assert_non_null(strstr(world.stranger, "127.0.0.1:"));
        close(fd);
    }
    fake_agent_start(&stranger, &world.loop, trm_link_server_port(world.server), &wrong_token,
                     "node2", 0);
    WAIT_FOR(&world, !stranger.link && world.strangers == 5);
    assert_non_null(strstr(world.stranger, "does not know this run's token"));
    int64_t acknowledged = agent.acknowledged;
    WAIT_FOR(&world, agent.acknowledged > acknowledged + 2);
    assert_int_equal(world.open, 1);
    assert_int_equal(world.closed, 0);
    fake_agent_stop(&agent);
    fake_agent_stop(&stranger);
    finish(&world);
}

static void a_stranger_that_says_nothing_is_dropped_in_time(void **state)
{
    (void)state;
    struct world world;
    start(&world);
    int fd = connect_plainly(&world);
    WAIT_FOR(&world, world.strangers == 1);
    assert_non_null(strstr(world.stranger, "no handshake in time"));
    close(fd);
    finish(&world);
}

static void a_flood_of_strangers_is_bounded_and_an_agent_still_gets_through(void **state)
{
    (void)state;
    enum { FLOOD = TRM_LINK_MAX_UNKNOWN + 20 };
    struct world world;
    struct fake_agent agent;
    int fds[FLOOD];
    start(&world);
    for (int i = 0; i < FLOOD; i++)
        fds[i] = connect_plainly(&world);
    fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2", 5);
    WAIT_FOR(&world, agent.acknowledged >= 1);
    WAIT_FOR(&world, world.strangers >= 10);
    assert_true(world.strangers < FLOOD); /* ten a second are told of */
    for (int i = 0; i < FLOOD; i++)
        close(fds[i]);
    fake_agent_stop(&agent);
    finish(&world);
}

static void a_peer_that_does_not_read_is_dropped(void **state)
{
    (void)state;
    struct world world;
    struct fake_agent agent;
    struct trm_message health = {.type = TRM_MESSAGE_HEALTH};
    memset(health.health.report, 'x', sizeof health.health.report - 1);
    start(&world);
    fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2", 0);
    WAIT_FOR(&world, agent.acknowledged == 0);
    enum trm_status status = TRM_OK;
    size_t sent = 0; /* the loop, and so the other end, stands still */
    for (; sent < 8 * TRM_LINK_QUEUE_BYTES && status == TRM_OK; sent += TRM_MESSAGE_REPORT_BYTES)
        status = trm_link_send(agent.link, &health, NULL);
    assert_int_equal(status, TRM_ERR_COMM);
    assert_true(sent >= TRM_LINK_QUEUE_BYTES);
    WAIT_FOR(&world, !agent.link);
    assert_non_null(strstr(agent.closed_reason, "does not read"));
    fake_agent_stop(&agent);
    finish(&world);
}

static void a_message_of_the_wrong_side_ends_the_link(void **state)
{
    (void)state;
    struct world world;
    struct fake_agent agent;
    struct trm_message quit = {.type = TRM_MESSAGE_QUIT};
    start(&world);
    fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2", 0);
    WAIT_FOR(&world, agent.open && world.open == 1);
    assert_int_equal(trm_link_send(agent.link, &quit, NULL), TRM_OK);
    WAIT_FOR(&world, world.closed == 1);
    assert_non_null(strstr(world.closed_reason, "an agent sends no message \"quit\""));
    fake_agent_stop(&agent);
    finish(&world);
}

static void a_target_that_is_not_there_is_told_later(void **state)
{
    (void)state;
    struct world world;
    struct fake_agent agent;
    start(&world);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, so nobody listens there */
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, bytes), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    fake_agent_start(&agent, &world.loop, ntohs(address.sin_port), &token, "node2", 0);
    assert_non_null(agent.link);
    WAIT_FOR(&world, !agent.link);
    assert_non_null(strstr(agent.closed_reason, "could not connect"));
    close(fd);
    fake_agent_stop(&agent);
    finish(&world);
}

static void links_may_be_closed_at_any_moment(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct world world;
        struct fake_agent agent;
        start(&world);
        fake_agent_start(&agent, &world.loop, trm_link_server_port(world.server), &token, "node2",
                         1);
        for (int i = 0; i < turns; i++)
            uv_run(&world.loop, UV_RUN_NOWAIT);
        fake_agent_stop(&agent);
        finish(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agents_and_supervisor_exchange_messages),
        cmocka_unit_test(hundreds_of_agents_share_a_process),
        cmocka_unit_test(noise_and_strangers_are_dropped_and_told_while_agents_go_on),
        cmocka_unit_test(a_stranger_that_says_nothing_is_dropped_in_time),
        cmocka_unit_test(a_flood_of_strangers_is_bounded_and_an_agent_still_gets_through),
        cmocka_unit_test(a_peer_that_does_not_read_is_dropped),
        cmocka_unit_test(a_message_of_the_wrong_side_ends_the_link),
        cmocka_unit_test(a_target_that_is_not_there_is_told_later),
        cmocka_unit_test(links_may_be_closed_at_any_moment),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
