/*
 * How a rank meets its node's agent: a Unix socket, file descriptors, and a lock.
 *
 * `trireme run` gives every rank TRIREME_RUNTIME (a path prefix) and TRIREME_ATTEMPT (a number).
 * The node's agent listens at "<TRIREME_RUNTIME>-<hostname>/agent.sock" (SOCK_SEQPACKET, in a
 * directory of mode 0700; each end demands the other's uid to be its own). A rank, before it starts
 * MPI:
 *
 *   1. takes a shared flock on "<TRIREME_RUNTIME>-<hostname>/ranks.lock", which the agent made, and
 *      keeps it until it dies;
 *   2. connects and sends HELLO with its attempt and rank;
 *   3. is admitted (WELCOME, with the flight segment's descriptor), or refused (REFUSED, with a
 *      reason): the attempt is not the one at hand. A refused rank leaves at once.
 *
 * So an agent proves that no rank of its node lives by taking that lock exclusively after it
 * stopped admitting: a rank that is between 1 and 3 will be refused, and does nothing before 3. The
 * lock works across the death of agents; the connection tells the agent at once that a rank has
 * died. (It must not keep the lock for long: a rank that finds it taken is refused as well.)
 *
 * After that the rank may ask for memory slots (checkpoint/slot.h): memfds that the agent holds, so
 * that they outlive the rank. One request, one reply, in turn; a reply repeats the request's
 * `sequence` (answer by changing the message that came), and carries at most TRM_ATTACH_MAX_FDS
 * descriptors. One thread on the rank's side. The rank keeps the connection to its end; it closing
 * means that the agent is gone, and the watchdog ends the rank.
 *
 * Messages are this struct, in native byte order: both ends are on one machine and of one build,
 * which `version` holds to.
 */
#ifndef TRM_COLLECTIVES_ATTACH_H
#define TRM_COLLECTIVES_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/file.h"
#include "base/status.h"
#include "collectives/flight.h"

#define TRM_ATTACH_VERSION    2
#define TRM_ATTACH_MAX_FDS    64
#define TRM_ATTACH_TEXT_BYTES 256

enum trm_attach_kind {
    TRM_ATTACH_HELLO = 1, /* rank, local_rank, attempt */
    TRM_ATTACH_WELCOME,   /* index: record in the segment; 1 fd: the segment; text: what is lost
                              together with this node, empty: the node alone */
    TRM_ATTACH_REFUSED,   /* text; the answer to any request */
    TRM_ATTACH_SLOT_LIST, /* first: how many to pass over. Lists slots that hold a snapshot */
    TRM_ATTACH_SLOTS,     /* count: fds here; total: all there are; bytes: of all slots,
                              whatever they hold */
    TRM_ATTACH_SLOT_TAKE, /* bytes, count <= MAX_FDS: for this rank's use, each free or new */
    TRM_ATTACH_TAKEN,     /* count fds */
    TRM_ATTACH_SETTLE,    /* slots that no rank of this attempt took are given back to the system */
    TRM_ATTACH_DONE,      /* answer to SETTLE */
    TRM_ATTACH_KIND_END
};

struct trm_attach_message {
    uint32_t version, kind; /* version is set by sending */
    int64_t sequence, attempt, bytes;
    int32_t rank, local_rank, index, first, count, total;
    char text[TRM_ATTACH_TEXT_BYTES]; /* with a NUL, which receiving holds to */
};

struct trm_attach {
    int socket, lock; /* -1: no agent */
    int64_t attempt, sequence;
    struct trm_flight flight;
    char domain[TRM_ATTACH_TEXT_BYTES]; /* the WELCOME's */
};

/* Not collective. Fills *out as above; with TRIREME_RUNTIME unset it has no agent, and is TRM_OK.
 * TRM_ERR_COMM when there should be an agent and is none, or it refused; bounded in time. */
enum trm_status trm_attach_open(int rank, int local_rank, struct trm_attach *out,
                                struct trm_error *err);
/* Unmaps the flight record too. Takes NULL. A rank that is about to exit keeps lock and connection
 * to its end instead. */
void trm_attach_close(struct trm_attach *attach);

/* Sends *message and waits (bounded) for the reply, which replaces it; received descriptors are the
 * caller's, at most `max_fds`. A refusal is TRM_ERR_UNSUPPORTED with the agent's words. */
enum trm_status trm_attach_ask(struct trm_attach *attach, struct trm_attach_message *message,
                               int *fds, int max_fds, int *fd_count, struct trm_error *err);

/* Either end: one message with descriptors, which stay the caller's when sent. Receiving returns
 * TRM_ERR_NOT_FOUND at the end of the connection, TRM_ERR_TIMEOUT when there is no message (a
 * nonblocking socket, or the socket's time-out), TRM_ERR_MISMATCH for what is no message of this
 * version; `fd_count` is 0 then. Sending never blocks longer than the socket's time-out; a peer
 * that is gone or does not read is TRM_ERR_COMM. */
enum trm_status trm_attach_send(int socket, const struct trm_attach_message *message,
                                const int *fds, int fd_count, struct trm_error *err);
enum trm_status trm_attach_receive(int socket, struct trm_attach_message *message, int *fds,
                                   int max_fds, int *fd_count, struct trm_error *err);
/* Who connected (or listened), as the kernel says and this process's namespaces see it: pid is 0
 * where they do not. */
enum trm_status trm_attach_peer(int socket, pid_t *pid, uid_t *uid, struct trm_error *err);

/* The directory "<prefix>-<hostname>", and names in it. */
#define TRM_ATTACH_SOCKET "agent.sock"
#define TRM_ATTACH_LOCK   "ranks.lock"
enum trm_status trm_attach_directory(const char *prefix, char path[TRM_PATH_BYTES],
                                     struct trm_error *err);

#endif
