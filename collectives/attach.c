/* The rank's end. */
#include "collectives/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* For the agent's answer; it does nothing slow in its loop. */
#define TIMEOUT_S 20

enum trm_status trm_attach_directory(const char *prefix, char path[TRM_PATH_BYTES],
                                     struct trm_error *err)
{
    char host[256] = "";

    if (gethostname(host, sizeof host - 1) != 0)
        return trm_error_set_errno(err, errno, "asking for the name of this host");
    return trm_file_path(path, err, "%s-%s", prefix, host);
}

/* Somebody else's directory could hold a socket of theirs. */
static enum trm_status check_directory(const char *path, struct trm_error *err)
{
    struct stat info;

    if (lstat(path, &info) != 0)
        return trm_error_set(err, TRM_ERR_COMM, "\"%s\": %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0)
        return trm_error_set(err, TRM_ERR_COMM,
                             "\"%s\" is not a directory of this user alone (mode 0700)", path);
    return TRM_OK;
}

static enum trm_status take_lock(const char *directory, int *lock, struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(path, err, "%s/" TRM_ATTACH_LOCK, directory);
    int fd;

    if (status != TRM_OK)
        return status;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return trm_error_set(err, TRM_ERR_COMM, "\"%s\": %s", path, strerror(errno));
    if (flock(fd, LOCK_SH | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;
        status =
            trm_error_set(err, TRM_ERR_COMM, "\"%s\": %s", path,
                          taken ? "this node has been declared free of ranks" : strerror(errno));
        close(fd);
        return status;
    }
    *lock = fd;
    return TRM_OK;
}

static enum trm_status connect_to(const char *directory, int *out, struct trm_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int length =
        snprintf(address.sun_path, sizeof address.sun_path, "%s/" TRM_ATTACH_SOCKET, directory);
    int fd;
    pid_t pid;
    uid_t uid;
    enum trm_status status;

    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "\"%s/" TRM_ATTACH_SOCKET "\" is too long for the name of a socket: "
                             "use a shorter runtime directory",
                             directory);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "making a socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        status = trm_error_set(err, TRM_ERR_COMM, "\"%s\": %s", address.sun_path, strerror(errno));
    else
        status = trm_attach_peer(fd, &pid, &uid, err);
    if (status == TRM_OK && uid != geteuid())
        status = trm_error_set(err, TRM_ERR_COMM, "\"%s\" is served by another user (uid %ld)",
                               address.sun_path, (long)uid);
    if (status != TRM_OK) {
        close(fd);
        return status;
    }
    *out = fd;
    return TRM_OK;
}

static void close_all(const int *fds, int *count)
{
    for (int i = 0; i < *count; i++)
        close(fds[i]);
    *count = 0;
}

enum trm_status trm_attach_ask(struct trm_attach *attach, struct trm_attach_message *message,
                               int *fds, int max_fds, int *fd_count, struct trm_error *err)
{
    struct trm_attach_message reply;
    enum trm_status status;

    *fd_count = 0;
    if (attach->socket < 0)
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "this rank was started without an agent");
    message->sequence = ++attach->sequence;
    message->attempt = attach->attempt;
    status = trm_attach_send(attach->socket, message, NULL, 0, err);
    /* An answer that came after its time-out is passed over. */
    do {
        close_all(fds, fd_count);
        if (status == TRM_OK)
            status = trm_attach_receive(attach->socket, &reply, fds, max_fds, fd_count, err);
    } while (status == TRM_OK && reply.sequence < message->sequence);
    if (status == TRM_ERR_NOT_FOUND)
        return trm_error_set(err, TRM_ERR_COMM, "the agent of this node closed the connection");
    if (status == TRM_OK && reply.kind == TRM_ATTACH_REFUSED) {
        close_all(fds, fd_count);
        return trm_error_set(err, TRM_ERR_UNSUPPORTED, "the agent of this node refused: %s",
                             reply.text[0] ? reply.text : "no reason given");
    }
    if (status == TRM_OK)
        *message = reply;
    return status;
}

static enum trm_status say_hello(struct trm_attach *attach, int rank, int local_rank,
                                 struct trm_error *err)
{
    struct trm_attach_message message = {
        .kind = TRM_ATTACH_HELLO, .rank = rank, .local_rank = local_rank};
    int fd = -1, count;
    enum trm_status status = trm_attach_ask(attach, &message, &fd, 1, &count, err);

    if (status == TRM_OK && (message.kind != TRM_ATTACH_WELCOME || count != 1))
        status = trm_error_set(err, TRM_ERR_COMM,
                               "the agent of this node answered with message %u and %d descriptors",
                               message.kind, count);
    if (status == TRM_OK)
        status = trm_flight_map(fd, message.index, rank, &attach->flight, err);
    if (status == TRM_OK)
        memcpy(attach->domain, message.text, sizeof attach->domain);
    if (count > 0)
        close(fd);
    return status;
}

/* A number that only `trireme run` writes. */
static enum trm_status read_attempt(int64_t *attempt, struct trm_error *err)
{
    const char *text = getenv("TRIREME_ATTEMPT");
    char *end = NULL;

    errno = 0;
    *attempt = text ? strtoll(text, &end, 10) : 0;
    if (!text || end == text || *end || errno || *attempt < 0)
        return trm_error_set(err, TRM_ERR_COMM,
                             "TRIREME_ATTEMPT is \"%s\", and not the number of an attempt",
                             text ? text : "");
    return TRM_OK;
}

enum trm_status trm_attach_open(int rank, int local_rank, struct trm_attach *out,
                                struct trm_error *err)
{
    struct trm_attach attach = {.socket = -1, .lock = -1};
    const char *prefix = getenv("TRIREME_RUNTIME");
    char directory[TRM_PATH_BYTES];
    struct trm_error why;
    enum trm_status status;

    *out = attach;
    if (!prefix)
        return TRM_OK;
    status = read_attempt(&attach.attempt, &why);
    if (status == TRM_OK)
        status = trm_attach_directory(prefix, directory, &why);
    if (status == TRM_OK)
        status = check_directory(directory, &why);
    if (status == TRM_OK)
        status = take_lock(directory, &attach.lock, &why);
    if (status == TRM_OK)
        status = connect_to(directory, &attach.socket, &why);
    if (status == TRM_OK)
        status = say_hello(&attach, rank, local_rank, &why);
    if (status != TRM_OK) {
        trm_attach_close(&attach);
        return trm_error_set(err, status == TRM_ERR_CONFIG ? status : TRM_ERR_COMM,
                             "rank %d cannot join its node's agent: %s", rank, why.text);
    }
    *out = attach;
    return TRM_OK;
}

void trm_attach_close(struct trm_attach *attach)
{
    if (!attach)
        return;
    trm_flight_unmap(&attach->flight);
    if (attach->socket >= 0)
        close(attach->socket);
    if (attach->lock >= 0)
        close(attach->lock);
    attach->socket = attach->lock = -1;
}
