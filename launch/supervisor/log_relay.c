#include "launch/supervisor/log_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define ROOM_BYTES (1 << 20)

struct trm_log_relay {
    int output, from, to; /* descriptors; the pipe's ends */
    int lost;             /* of atomic use */
    pthread_t thread;
};

/* An output that does not block is waited for; one that fails takes nothing. */
static void write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(fd, text, bytes);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else if (written < 0 && errno != EINTR) {
            return;
        }
        if (written > 0) {
            text += written;
            bytes -= (size_t)written;
        }
    }
}

static void tell_lost(struct trm_log_relay *relay)
{
    const struct trm_log log = {.level = TRM_LOG_WARNING, .rank = -1, .fd = relay->output};
    int lost = __atomic_exchange_n(&relay->lost, 0, __ATOMIC_RELAXED);

    if (lost > 0)
        trm_log(&log, TRM_LOG_WARNING,
                "%d line%s above %s missing: this output was not read for too long", lost,
                lost == 1 ? "" : "s", lost == 1 ? "is" : "are");
}

static void *carry(void *context)
{
    struct trm_log_relay *relay = context;
    char text[4096];
    int waiting = 0;

    for (;;) {
        ssize_t got = read(relay->from, text, sizeof text);
        if (got < 0 && errno == EINTR)
            continue;
        if (got > 0)
            write_all(relay->output, text, (size_t)got);
        /* What was lost came after all that was in the pipe. */
        if (got <= 0 || (ioctl(relay->from, FIONREAD, &waiting) == 0 && waiting == 0))
            tell_lost(relay);
        if (got <= 0)
            return NULL;
    }
}

static enum trm_status start(struct trm_log_relay *relay, struct trm_error *err)
{
    sigset_t all, before;

    fcntl(relay->to, F_SETPIPE_SZ, ROOM_BYTES); /* less has to do where more is not allowed */
    if (fcntl(relay->to, F_SETFL, O_NONBLOCK) != 0)
        return trm_error_set_errno(err, errno, "making a pipe for the log");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&relay->thread, NULL, carry, relay);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == 0 ? TRM_OK : trm_error_set_errno(err, code, "starting a thread for the log");
}

enum trm_status trm_log_relay_open(int output, struct trm_log *log, struct trm_log_relay **out,
                                   struct trm_error *err)
{
    struct trm_log_relay *relay = calloc(1, sizeof *relay);
    int ends[2];

    if (!relay)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the log");
    if (pipe2(ends, O_CLOEXEC) != 0) {
        enum trm_status status = trm_error_set_errno(err, errno, "making a pipe for the log");
        free(relay);
        return status;
    }
    *relay = (struct trm_log_relay){.output = output, .from = ends[0], .to = ends[1]};
    enum trm_status status = start(relay, err);
    if (status != TRM_OK) {
        close(ends[0]);
        close(ends[1]);
        free(relay);
        return status;
    }
    log->fd = relay->to;
    log->lost = &relay->lost;
    *out = relay;
    return TRM_OK;
}

void trm_log_relay_close(struct trm_log_relay *relay, int limit_ms)
{
    struct timespec end;

    if (!relay)
        return;
    close(relay->to);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += limit_ms / 1000;
    end.tv_nsec += limit_ms % 1000 * 1000000L;
    if (end.tv_nsec >= 1000000000L) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000L;
    }
    if (pthread_timedjoin_np(relay->thread, NULL, &end) != 0) {
        pthread_detach(relay->thread); /* it still reads the struct */
        return;
    }
    close(relay->from);
    free(relay);
}
