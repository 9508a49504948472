/*
 * relay A B DELAY_MS LOSS_PERCENT SEED: a long and bad cable between two network interfaces.
 *
 * Every frame that arrives at one leaves from the other DELAY_MS later, in order; LOSS_PERCENT of
 * them, chosen at random from SEED, do not. Each direction holds up to QUEUE_BYTES; what comes on
 * top is lost, as in a full switch. Frames travel with their offload header (PACKET_VNET_HDR), so
 * large segments and checksums that the kernel has yet to compute pass unharmed.
 *
 * Says "ready" and runs until it is killed. An interface that is down loses what is sent to it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_BYTES (1 << 17) /* over any segment, with both headers */
#define QUEUE_BYTES ((size_t)16 << 20)
#define NS_PER_MS   INT64_C(1000000)

struct frame_head {
    int64_t due_ns;
    size_t bytes;
};

/* Frames in order of arrival, each behind its head; whole ones only, the rest of the ring's end is
 * left out. */
struct direction {
    int from, to;
    char *ring;
    size_t read_at, write_at, used;
    size_t end; /* of what lies in front of the wrap */
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int open_interface(const char *name)
{
    int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(name)};
    struct packet_mreq all = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};

    if (fd < 0 || address.sll_ifindex == 0)
        die(name);
    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        die(name);
    return fd;
}

/* Room for one frame of the largest size, or NULL when the queue is full. */
static char *reserve(struct direction *d)
{
    size_t most = sizeof(struct frame_head) + FRAME_BYTES;

    if (d->used == 0) {
        d->read_at = d->write_at = 0;
        d->end = QUEUE_BYTES;
    }
    if (d->write_at < d->read_at || (d->write_at == d->read_at && d->used > 0))
        return d->read_at - d->write_at >= most ? d->ring + d->write_at : NULL;
    if (QUEUE_BYTES - d->write_at >= most)
        return d->ring + d->write_at;
    if (d->read_at < most)
        return NULL;
    d->end = d->write_at;
    d->write_at = 0;
    return d->ring;
}

/* xorshift64*: the top 53 bits as a number in [0, 1). */
static double draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * UINT64_C(2685821657736338717)) >> 11) * 0x1p-53;
}

/* Takes in what has arrived. */
static void receive(struct direction *d, int64_t delay_ns, double loss, uint64_t *random)
{
    static char spare[sizeof(struct frame_head) + FRAME_BYTES];

    for (;;) {
        char *room = reserve(d), *at = room ? room : spare;
        ssize_t bytes = recv(d->from, at + sizeof(struct frame_head), FRAME_BYTES, 0);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0)
            return; /* nothing there, or the interface is down */
        if (draw(random) < loss || !room)
            continue;
        struct frame_head head = {now_ns() + delay_ns, (size_t)bytes};
        memcpy(at, &head, sizeof head);
        size_t length = (sizeof head + head.bytes + 15) & ~(size_t)15;
        d->write_at = (size_t)(at - d->ring) + length;
        d->used += length;
    }
}

/* Sends on what is due; returns when the next frame is, INT64_MAX without one. */
static int64_t forward(struct direction *d)
{
    while (d->used > 0) {
        struct frame_head head;
        if (d->read_at == d->end) {
            d->read_at = 0;
            d->end = QUEUE_BYTES;
        }
        memcpy(&head, d->ring + d->read_at, sizeof head);
        if (head.due_ns > now_ns())
            return head.due_ns;
        /* What can't be sent is lost, as on a cable. */
        (void)!send(d->to, d->ring + d->read_at + sizeof head, head.bytes, 0);
        size_t length = (sizeof head + head.bytes + 15) & ~(size_t)15;
        d->read_at += length;
        d->used -= length;
    }
    return INT64_MAX;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: relay A B DELAY_MS LOSS_PERCENT SEED\n");
        return 64;
    }
    int a = open_interface(argv[1]), b = open_interface(argv[2]);
    int64_t delay_ns = atoll(argv[3]) * NS_PER_MS;
    double loss = atof(argv[4]) / 100;
    uint64_t random = strtoull(argv[5], NULL, 10) * 2 + 1; /* never zero */
    struct direction directions[2] = {{.from = a, .to = b, .end = QUEUE_BYTES},
                                      {.from = b, .to = a, .end = QUEUE_BYTES}};
    struct pollfd polls[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};

    for (int i = 0; i < 2; i++)
        if (!(directions[i].ring = malloc(QUEUE_BYTES)))
            die("no memory");
    puts("ready");
    fflush(stdout);
    for (;;) {
        int64_t next_ns = INT64_MAX, wait_ns;
        for (int i = 0; i < 2; i++) {
            int64_t due_ns = forward(&directions[i]);
            next_ns = due_ns < next_ns ? due_ns : next_ns;
        }
        wait_ns = next_ns - now_ns();
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        if (wait_ns < 0)
            wait = (struct timespec){0, 0};
        if (ppoll(polls, 2, next_ns == INT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR)
            die("poll");
        for (int i = 0; i < 2; i++)
            receive(&directions[i], delay_ns, loss, &random);
    }
}
