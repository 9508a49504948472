/* Messages with descriptors; used by ranks and agents alike. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "collectives/attach.h"

/* Room for the descriptors of one message, aligned as the kernel wants it. */
union control {
    char bytes[CMSG_SPACE(TRM_ATTACH_MAX_FDS * sizeof(int))];
    struct cmsghdr align;
};

static void close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

enum trm_status trm_attach_send(int socket, const struct trm_attach_message *message,
                                const int *fds, int fd_count, struct trm_error *err)
{
    struct trm_attach_message copy = *message;
    struct iovec data = {.iov_base = &copy, .iov_len = sizeof copy};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    union control control;
    ssize_t sent;

    TRM_ASSERT(fd_count >= 0 && fd_count <= TRM_ATTACH_MAX_FDS);
    copy.version = TRM_ATTACH_VERSION;
    if (fd_count > 0) {
        size_t bytes = (size_t)fd_count * sizeof *fds;
        struct cmsghdr *head;
        memset(&control, 0, sizeof control);
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(bytes);
        head = CMSG_FIRSTHDR(&header);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(head), fds, bytes);
    }
    do
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)sizeof copy)
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_COMM, "sending between rank and agent: %s",
                         sent < 0 ? strerror(errno) : "cut short");
}

/* The descriptors that came along. The kernel has made them ours, so all are taken out, and those
 * that nobody asked for are closed. */
static bool take_fds(struct msghdr *header, int *fds, int max_fds, int *fd_count)
{
    bool fits = !(header->msg_flags & MSG_CTRUNC);
    int count = 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(header); head; head = CMSG_NXTHDR(header, head)) {
        int here = 0, fd;
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
            here = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int i = 0; i < here; i++) {
            memcpy(&fd, CMSG_DATA(head) + (size_t)i * sizeof fd, sizeof fd);
            if (count < max_fds) {
                fds[count++] = fd;
            } else {
                close(fd);
                fits = false;
            }
        }
    }
    *fd_count = count;
    return fits;
}

static bool is_message(const struct trm_attach_message *message, ssize_t bytes)
{
    return bytes == (ssize_t)sizeof *message && message->version == TRM_ATTACH_VERSION &&
           message->kind >= TRM_ATTACH_HELLO && message->kind < TRM_ATTACH_KIND_END &&
           memchr(message->text, '\0', sizeof message->text);
}

static enum trm_status receive_error(ssize_t got, struct trm_error *err)
{
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return trm_error_set(err, TRM_ERR_TIMEOUT, "no message between rank and agent in time");
    if (got == 0 || errno == ECONNRESET)
        return trm_error_set(err, TRM_ERR_NOT_FOUND, "the other end closed the connection");
    return trm_error_set(err, TRM_ERR_COMM, "receiving between rank and agent: %s",
                         strerror(errno));
}

enum trm_status trm_attach_receive(int socket, struct trm_attach_message *message, int *fds,
                                   int max_fds, int *fd_count, struct trm_error *err)
{
    struct trm_attach_message got;
    struct iovec data = {.iov_base = &got, .iov_len = sizeof got};
    union control control;
    struct msghdr header = {.msg_iov = &data,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    int count = 0;
    ssize_t bytes;
    bool fits;

    *fd_count = 0;
    do
        bytes = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (bytes < 0 && errno == EINTR);
    if (bytes <= 0)
        return receive_error(bytes, err);
    fits = take_fds(&header, fds, max_fds, &count) && !(header.msg_flags & MSG_TRUNC);
    if (!fits || !is_message(&got, bytes)) {
        close_all(fds, count);
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "what came between rank and agent is no message of this version: run "
                             "one build of trireme and trireme-train on all nodes");
    }
    *message = got;
    *fd_count = count;
    return TRM_OK;
}

enum trm_status trm_attach_peer(int socket, pid_t *pid, uid_t *uid, struct trm_error *err)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;

    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return trm_error_set_errno(err, errno, "asking who is at the other end");
    *pid = peer.pid;
    *uid = peer.uid;
    return TRM_OK;
}
