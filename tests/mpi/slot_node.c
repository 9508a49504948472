#include "slot_node.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "collectives/attach.h"
#include "launch/agent/slot_pool.h"

#define CONNECTIONS_MAX 16
#define POLL_MS         20

struct slot_node {
    char directory[TRM_PATH_BYTES];
    struct trm_slot_pool *pool;
    struct pollfd polls[1 + CONNECTIONS_MAX];
    int count;
    int segment; /* one flight segment for all */
    int admitted;
    atomic_bool stop;
    atomic_int slots;
    pthread_t thread;
};

/* Answers one message; false when the connection is over. */
static bool answer(struct slot_node *node, int socket)
{
    struct trm_attach_message message, reply;
    int fds[TRM_ATTACH_MAX_FDS], count = 0;
    if (trm_attach_receive(socket, &message, fds, 1, &count, NULL) != TRM_OK)
        return false;
    if (trm_slot_pool_serves((enum trm_attach_kind)message.kind)) {
        trm_slot_pool_answer(node->pool, &message, &reply, fds, &count);
        atomic_store(&node->slots, trm_slot_pool_count(node->pool));
    } else {
        reply = message;
        reply.kind = TRM_ATTACH_WELCOME;
        reply.index = node->admitted++;
        fds[0] = node->segment;
        count = 1;
    }
    return trm_attach_send(socket, &reply, fds, count, NULL) == TRM_OK;
}

static void *serve(void *context)
{
    struct slot_node *node = context;
    while (!atomic_load(&node->stop)) {
        if (poll(node->polls, (nfds_t)node->count, POLL_MS) <= 0)
            continue;
        if (node->polls[0].revents & POLLIN) {
            TRM_ASSERT(node->count <= CONNECTIONS_MAX);
            node->polls[node->count++] =
                (struct pollfd){accept4(node->polls[0].fd, NULL, NULL, SOCK_CLOEXEC), POLLIN, 0};
        }
        for (int i = node->count - 1; i > 0; i--)
            if (node->polls[i].revents != 0 && !answer(node, node->polls[i].fd)) {
                close(node->polls[i].fd);
                node->polls[i] = node->polls[--node->count];
            }
    }
    return NULL;
}

struct slot_node *slot_node_start(const char *prefix, int64_t limit_bytes)
{
    struct slot_node *node = calloc(1, sizeof(*node));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[TRM_PATH_BYTES];
    const int capacity = 256;
    size_t bytes = trm_flight_segment_bytes(capacity);
    TRM_ASSERT(trm_attach_directory(prefix, node->directory, NULL) == TRM_OK);
    TRM_ASSERT(mkdir(node->directory, 0700) == 0);
    TRM_ASSERT(trm_file_path(path, NULL, "%s/" TRM_ATTACH_LOCK, node->directory) == TRM_OK);
    TRM_ASSERT(trm_file_write_all(path, "", 0, false, NULL) == TRM_OK);
    TRM_ASSERT(trm_slot_pool_create(limit_bytes, &node->pool, NULL) == TRM_OK);

    node->segment = memfd_create("flight", MFD_CLOEXEC);
    TRM_ASSERT(ftruncate(node->segment, (off_t)bytes) == 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, node->segment, 0);
    TRM_ASSERT(memory != MAP_FAILED);
    trm_flight_segment_init(memory, capacity, 0);
    munmap(memory, bytes);

    int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/" TRM_ATTACH_SOCKET,
                          node->directory);
    TRM_ASSERT(length > 0 && (size_t)length < sizeof(address.sun_path));
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    TRM_ASSERT(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    TRM_ASSERT(listen(listener, CONNECTIONS_MAX) == 0);
    node->polls[node->count++] = (struct pollfd){listener, POLLIN, 0};
    TRM_ASSERT(pthread_create(&node->thread, NULL, serve, node) == 0);
    return node;
}

int slot_node_slots(struct slot_node *node)
{
    return atomic_load(&node->slots);
}

void slot_node_stop(struct slot_node *node)
{
    if (node == NULL)
        return;
    atomic_store(&node->stop, true);
    pthread_join(node->thread, NULL);
    for (int i = 0; i < node->count; i++)
        close(node->polls[i].fd);
    close(node->segment);
    trm_slot_pool_destroy(node->pool);
    (void)trm_file_remove_tree(node->directory, NULL);
    free(node);
}
