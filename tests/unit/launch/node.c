#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "collectives/attach.h"
#include "launch/agent/internal.h"
#include "launch/sweep.h"

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void on_open(struct trm_link *link, void *context)
{
    struct node *node = context;
    if (node->link)
        trm_link_close(node->link, false); /* the newer connection of a node counts */
    node->link = link;
}

static void keep(struct trm_message *to, struct trm_message *message)
{
    trm_message_clear(to);
    *to = *message;
    if (message->type == TRM_MESSAGE_BEAT) { /* taken */
        message->beat.ranks = NULL;
        message->beat.rank_count = 0;
    }
}

static void keep_note(struct node *node, const char *text)
{
    size_t used = strlen(node->notes);
    snprintf(node->notes + used, sizeof node->notes - used, "%s\n", text);
}

static void on_message(struct trm_link *link, struct trm_message *message, void *context)
{
    struct node *node = context;
    struct trm_message ack = {.type = TRM_MESSAGE_ACK};
    node->received[message->type]++;
    switch (message->type) {
    case TRM_MESSAGE_HELLO:
        ack.number = message->hello.number;
        node->hello = *message;
        break;
    case TRM_MESSAGE_BEAT:
        ack.number = message->beat.number;
        keep(&node->beat, message);
        break;
    case TRM_MESSAGE_BEGUN:
        node->begun = *message;
        return;
    case TRM_MESSAGE_GONE:
        node->gone = *message;
        return;
    case TRM_MESSAGE_HEALTH:
        node->health = *message;
        return;
    case TRM_MESSAGE_NOTE:
        keep_note(node, message->note.text);
        return;
    case TRM_MESSAGE_DEAD:
        node->dead = message->attempt;
        return;
    default:
        return;
    }
    if (node->acknowledge)
        trm_link_send(link, &ack, NULL);
}

static void on_closed(struct trm_link *link, const char *reason, void *context)
{
    struct node *node = context;
    (void)reason;
    node->closed++;
    if (node->link == link)
        node->link = NULL;
}

static void on_stranger(const char *what, void *context)
{
    struct node *node = context;
    (void)what;
    node->strangers++;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_agent_end(void *context, const char *why)
{
    struct node *node = context;
    node->agent = NULL;
    snprintf(node->agent_why, sizeof node->agent_why, "%.*s", (int)sizeof node->agent_why - 1, why);
}

/* A port that nobody listens at is anybody's: this socket is bound to it and never listens, which
 * suffers one that does (SO_REUSEADDR, as libuv sets it too). */
static void hold_port(struct node *node)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port = htons((uint16_t)node->options.addresses[0].port)};
    socklen_t bytes = sizeof address;
    int one = 1;

    if (node->port_holder >= 0)
        close(node->port_holder);
    node->port_holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(node->port_holder, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    assert_int_equal(bind(node->port_holder, (const struct sockaddr *)&address, bytes), 0);
    assert_int_equal(getsockname(node->port_holder, (struct sockaddr *)&address, &bytes), 0);
    node->options.addresses[0].port = ntohs(address.sin_port);
}

void node_lose_supervisor(struct node *node)
{
    trm_link_close(node->link, false);
    node->link = NULL;
    trm_link_server_close(node->server);
    node->server = NULL;
}

void node_start_supervisor(struct node *node)
{
    static const struct trm_link_server_events events = {{on_open, on_message, on_closed},
                                                         on_stranger};
    if (node->port_holder < 0 || node->options.addresses[0].port == 0)
        hold_port(node);
    assert_int_equal(trm_link_listen(&node->loop, "127.0.0.1", node->options.addresses[0].port,
                                     &node->options.token, &events, node, &node->server, NULL),
                     TRM_OK);
    node->options.addresses[0].port = trm_link_server_port(node->server);
}

void node_start_agent(struct node *node)
{
    struct trm_error err;
    if (trm_agent_create(&node->loop, &node->options, "0.1.0", &node->log, on_agent_end, node,
                         &node->agent, &err) != TRM_OK)
        fail_msg("%s", err.text);
}

static void make_world(struct node *node)
{
    *node = (struct node){.acknowledge = true, .port_holder = -1};
    snprintf(node->root, sizeof node->root, "/tmp/trm-node-XXXXXX");
    assert_non_null(mkdtemp(node->root));
    node->options = (struct trm_agent_options){
        .token = {{5, 4, 3}},
        .run_id = "run",
        .node = "node2",
        .addresses = {{"127.0.0.1", 0}},
        .address_count = 1,
        .lease_ms = 60000,
        .heartbeat_ms = 20,
        .linger_ms = 600000,
        .memory_limit = 1 << 24,
        .foreground = true,
    };
    snprintf(node->options.runtime, sizeof node->options.runtime, "%s/rt-%s", node->root,
             strrchr(node->root, '-') + 1);
    assert_int_equal(trm_attach_directory(node->options.runtime, node->directory, NULL), TRM_OK);
    node->log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    node->log = (struct trm_log){TRM_LOG_INFO, -1, getenv("NODE_LOG") ? 2 : node->log_fd, NULL};
    uv_loop_init(&node->loop);
    uv_timer_init(&node->loop, &node->tick);
    uv_timer_start(&node->tick, on_tick, 5, 5);
}

void node_start_world(struct node *node)
{
    make_world(node);
    node_start_supervisor(node);
}

void node_start(struct node *node)
{
    node_start_world(node);
    node_start_agent(node);
    NODE_WAIT(node, node->received[TRM_MESSAGE_BEAT] > 0);
}

void node_wait_agent(struct node *node)
{
    NODE_WAIT(node, !node->agent);
}

static void expect_no_files(struct node *node)
{
    char path[TRM_PATH_BYTES];
    assert_false(trm_file_exists(node->directory));
    assert_int_equal(trm_agent_shared_memory_path(node->options.runtime, path, NULL), TRM_OK);
    assert_false(trm_file_exists(path));
    if (rmdir(node->root) != 0)
        fail_msg("\"%s\" is not empty: %s", node->root, strerror(errno));
}

void node_finish(struct node *node)
{
    if (node->agent)
        trm_agent_leave(node->agent, "the test ends");
    node_wait_agent(node);
    NODE_WAIT(node, !node_has_children()); /* reaps those that have ended */
    trm_link_close(node->link, false);
    trm_link_server_close(node->server);
    trm_message_clear(&node->beat);
    uv_close((uv_handle_t *)&node->tick, NULL);
    uv_run(&node->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&node->loop), 0);
    close(node->log_fd);
    close(node->port_holder);
    expect_no_files(node);
    /* The next world would find descriptors that this one left. */
    static int descriptors;
    if (descriptors == 0)
        descriptors = count_descriptors();
    assert_int_equal(count_descriptors(), descriptors);
}

void node_send(struct node *node, struct trm_message message)
{
    NODE_WAIT(node, node->link);
    assert_int_equal(trm_link_send(node->link, &message, NULL), TRM_OK);
}

void node_begin(struct node *node, int64_t attempt)
{
    struct trm_message begin = {.type = TRM_MESSAGE_BEGIN};
    int before = node->received[TRM_MESSAGE_BEGUN];
    begin.begin.attempt = attempt;
    begin.begin.capacity = 4;
    snprintf(begin.begin.domain, sizeof begin.begin.domain, "rack7");
    node_send(node, begin);
    NODE_WAIT(node, node->received[TRM_MESSAGE_BEGUN] > before);
    if (!node->begun.begun.ok)
        fail_msg("%s", node->begun.begun.reason);
    assert_int_equal(node->begun.begun.attempt, attempt);
}

void node_kill(struct node *node, int64_t attempt)
{
    struct trm_message kill = {.type = TRM_MESSAGE_KILL};
    kill.kill.attempt = attempt;
    snprintf(kill.kill.reason, sizeof kill.kill.reason, "the test says so");
    node_send(node, kill);
    NODE_WAIT(node, node->dead >= attempt);
}

void node_program(const char *name, char *path, size_t bytes)
{
    char self[400];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(path, bytes, "%s/%s", self, name);
}

pid_t node_rank(struct node *node, int64_t attempt, int rank, int local_rank, const char *mode)
{
    char program[512], link[512], numbers[3][24];
    bool daemon = strcmp(mode, "daemon") == 0, launcher = daemon || strcmp(mode, "orted") == 0;
    node_program("fake_rank", program, sizeof program);
    snprintf(link, sizeof link, "%s/orted", node->root);
    if (launcher)
        assert_int_equal(symlink(program, link), 0);
    snprintf(numbers[0], sizeof numbers[0], "%d", rank);
    snprintf(numbers[1], sizeof numbers[1], "%d", local_rank);
    snprintf(numbers[2], sizeof numbers[2], "%lld", (long long)attempt);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("TRIREME_RUNTIME", node->options.runtime, 1);
        setenv("TRIREME_ATTEMPT", numbers[2], 1);
        if (!getenv("NODE_LOG"))
            dup2(open("/dev/null", O_WRONLY), 2);
        execl(launcher ? link : program, "rank", numbers[0], numbers[1], mode,
              daemon ? node->options.runtime : program, NULL);
        _exit(127);
    }
    return pid;
}

int node_reap(struct node *node, pid_t pid)
{
    int status = 0;
    pid_t got = 0;
    NODE_WAIT(node, (got = waitpid(pid, &status, WNOHANG)) != 0);
    assert_int_equal(got, pid);
    return status;
}

bool node_has_children(void)
{
    int status;
    return waitpid(-1, &status, WNOHANG) >= 0 || errno != ECHILD;
}

void node_shorten_lease(struct node *node, int64_t lease_ms)
{
    struct trm_agent *agent = node->agent;

    agent->options.lease_ms = lease_ms;
    agent->lease_until_ns = trm_flight_boot_ns() + lease_ms * INT64_C(1000000);
    trm_agent_ranks_set_lease(agent->ranks, agent->lease_until_ns);
}

static int count_connected(const struct node *node)
{
    int count = 0;
    for (int i = 0; node->beat.type == TRM_MESSAGE_BEAT && i < node->beat.beat.rank_count; i++)
        count += node->beat.beat.ranks[i].connected &&
                 node->beat.beat.ranks[i].state == TRM_FLIGHT_RUNNING &&
                 node->beat.beat.ranks[i].phase == TRM_PHASE_BACKWARD;
    return count;
}

void node_wait_connected(struct node *node, int count)
{
    NODE_WAIT(node, count_connected(node) == count);
}

const struct trm_rank_report *node_report(const struct node *node, int rank)
{
    for (int i = 0; i < node->beat.beat.rank_count; i++)
        if (node->beat.beat.ranks[i].rank == rank)
            return &node->beat.beat.ranks[i];
    fail_msg("rank %d is not in the newest beat", rank);
    return NULL;
}
