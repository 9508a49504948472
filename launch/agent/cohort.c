/* The ranks of one attempt: their segment, processes and launcher. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "launch/agent/ranks_internal.h"

#define DAEMON "orted"

static enum trm_status make_segment(struct cohort *cohort, struct trm_error *err)
{
    cohort->bytes = trm_flight_segment_bytes(cohort->capacity);
    cohort->fd = memfd_create("trireme-flight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (cohort->fd < 0 || ftruncate(cohort->fd, (off_t)cohort->bytes) != 0)
        return trm_error_set_errno(err, errno, "could not make %zu bytes of flight records",
                                   cohort->bytes);
    void *memory = mmap(NULL, cohort->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cohort->fd, 0);
    if (memory == MAP_FAILED)
        return trm_error_set_errno(err, errno, "could not map %zu bytes of flight records",
                                   cohort->bytes);
    trm_flight_segment_init(memory, cohort->capacity, cohort->attempt);
    cohort->segment = memory;
    /* A rank that cut the file would end this process by SIGBUS. */
    if (fcntl(cohort->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return trm_error_set_errno(err, errno, "could not seal the flight records");
    return TRM_OK;
}

static void free_cohort(struct cohort *cohort)
{
    if (cohort->segment)
        munmap(cohort->segment, cohort->bytes);
    if (cohort->fd >= 0)
        close(cohort->fd);
    free(cohort);
}

enum trm_status trm_cohort_create(struct trm_agent_ranks *ranks, int64_t attempt, int capacity,
                                  struct cohort **out, struct trm_error *err)
{
    struct cohort *cohort = calloc(1, sizeof *cohort + (size_t)capacity * sizeof *cohort->seats);
    if (!cohort)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %d ranks", capacity);
    cohort->ranks = ranks;
    cohort->attempt = attempt;
    cohort->capacity = capacity;
    cohort->fd = cohort->launcher_fd = -1;
    cohort->holds = 1;
    for (int i = 0; i < capacity; i++)
        cohort->seats[i] = (struct seat){.cohort = cohort, .index = i, .pidfd = -1};
    enum trm_status status = make_segment(cohort, err);
    if (status != TRM_OK) {
        free_cohort(cohort);
        return status;
    }
    ranks->holds++;
    *out = cohort;
    return TRM_OK;
}

static void release(struct cohort *cohort)
{
    if (--cohort->holds > 0)
        return;
    struct trm_agent_ranks *ranks = cohort->ranks;
    free_cohort(cohort);
    trm_agent_ranks_release(ranks);
}

static void on_seat_closed(uv_handle_t *handle)
{
    struct seat *seat = handle->data;
    release(seat->cohort);
}

static void on_launcher_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void trm_cohort_retire(struct cohort *cohort)
{
    if (!cohort)
        return;
    for (int i = 0; i < cohort->capacity; i++) {
        struct seat *seat = &cohort->seats[i];
        if (!seat->taken)
            continue;
        uv_close((uv_handle_t *)&seat->death, on_seat_closed);
        close(seat->pidfd);
    }
    if (cohort->launcher_fd >= 0) {
        uv_close((uv_handle_t *)&cohort->launcher_death, on_launcher_closed);
        close(cohort->launcher_fd);
    }
    release(cohort);
}

static bool has_exited(const struct seat *seat)
{
    const struct trm_flight_record *record = &seat->cohort->segment->records[seat->index];
    return atomic_load_explicit(&record->state, memory_order_acquire) == TRM_FLIGHT_EXITED;
}

void trm_cohort_check_gone(struct seat *seat)
{
    struct trm_agent_ranks *ranks = seat->cohort->ranks;
    struct trm_rank_report report;
    if (seat->told_gone || has_exited(seat))
        return;
    seat->told_gone = true;
    trm_report_read(&seat->cohort->segment->records[seat->index], trm_clock_now_ns(), &report);
    const struct trm_message_gone gone = {
        .attempt = seat->cohort->attempt,
        .pid = seat->process.pid,
        .step = report.state == TRM_FLIGHT_EMPTY ? -1 : report.step,
        .rank = seat->rank,
        .phase = report.phase,
    };
    ranks->events.on_gone(&gone, ranks->context);
}

static void on_death(uv_poll_t *poll, int code, int events)
{
    struct seat *seat = poll->data;
    struct trm_agent_ranks *ranks = seat->cohort->ranks;
    (void)code;
    (void)events;
    uv_poll_stop(poll);
    trm_cohort_check_gone(seat);
    ranks->events.on_change(ranks->context);
}

static void on_launcher_death(uv_poll_t *poll, int code, int events)
{
    struct cohort *cohort = poll->data;
    (void)code;
    (void)events;
    uv_poll_stop(poll);
    cohort->ranks->events.on_change(cohort->ranks->context);
}

/* Watches the parent of the first rank. Failing that, mpirun's end still tells. */
static void follow_launcher(struct cohort *cohort, pid_t pid)
{
    int fd = cohort->launcher_fd < 0 ? trm_process_open(pid) : -1;
    if (fd < 0)
        return;
    if (!trm_process_read(pid, &cohort->launcher) ||
        uv_poll_init(cohort->ranks->loop, &cohort->launcher_death, fd) != 0) {
        close(fd);
        return;
    }
    cohort->launcher_death.data = cohort;
    cohort->launcher_fd = fd;
    cohort->holds++;
    uv_poll_start(&cohort->launcher_death, UV_READABLE, on_launcher_death);
}

enum trm_status trm_cohort_seat(struct cohort *cohort, int index, int rank, pid_t pid,
                                struct seat **out, struct trm_error *err)
{
    if (index < 0 || index >= cohort->capacity || rank < 0)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "rank %d is number %d on this node, where %d are expected", rank,
                             index + 1, cohort->capacity);
    struct seat *seat = &cohort->seats[index];
    if (seat->taken)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "process %d is already number %d on this node, as rank %d",
                             (int)seat->process.pid, index + 1, seat->rank);
    int pidfd = trm_process_open(pid);
    if (pidfd < 0 || !trm_process_read(pid, &seat->process)) {
        if (pidfd >= 0)
            close(pidfd);
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "process %d of rank %d is not to be seen from here", (int)pid, rank);
    }
    int code = uv_poll_init(cohort->ranks->loop, &seat->death, pidfd);
    if (code != 0) {
        close(pidfd);
        return trm_error_set(err, TRM_ERR_MISMATCH, "process %d cannot be watched: %s", (int)pid,
                             uv_strerror(code));
    }
    seat->taken = true;
    seat->rank = rank;
    seat->pidfd = pidfd;
    seat->death.data = seat;
    cohort->holds++;
    uv_poll_start(&seat->death, UV_READABLE, on_death);
    follow_launcher(cohort, seat->process.parent);
    *out = seat;
    return TRM_OK;
}

void trm_agent_ranks_kill(struct trm_agent_ranks *ranks)
{
    struct cohort *cohort = ranks->cohort;
    if (!cohort)
        return;
    for (int i = 0; i < cohort->capacity; i++)
        if (cohort->seats[i].taken)
            trm_process_kill(cohort->seats[i].pidfd);
    if (cohort->launcher_fd >= 0 && strcmp(cohort->launcher.name, DAEMON) == 0)
        trm_process_kill(cohort->launcher_fd);
}

int trm_agent_ranks_living(const struct trm_agent_ranks *ranks)
{
    const struct cohort *cohort = ranks->cohort;
    int living = 0;
    for (int i = 0; cohort && i < cohort->capacity; i++)
        living += cohort->seats[i].taken && !trm_process_is_over(cohort->seats[i].pidfd);
    return living;
}

/* A process by the same pid that began at another time is another process. */
static char process_state(const struct seat *seat)
{
    struct trm_process now;
    if (trm_process_is_over(seat->pidfd) || !trm_process_read(seat->process.pid, &now) ||
        now.start_time != seat->process.start_time)
        return TRM_REPORT_NO_PROCESS;
    return now.state;
}

int trm_agent_ranks_report(struct trm_agent_ranks *ranks, struct trm_rank_report *out, int capacity)
{
    const struct cohort *cohort = ranks->cohort;
    int64_t now_ns = trm_clock_now_ns();
    int count = 0;
    for (int i = 0; cohort && i < cohort->capacity && count < capacity; i++) {
        const struct seat *seat = &cohort->seats[i];
        struct trm_rank_report *report = &out[count];
        if (!seat->taken)
            continue;
        trm_report_read(&cohort->segment->records[i], now_ns, report);
        report->rank = seat->rank;
        report->pid = seat->process.pid;
        report->process = process_state(seat);
        report->local_rank = i;
        report->connected = seat->visitor != NULL;
        if (report->process == TRM_REPORT_NO_PROCESS)
            report->signal = trm_process_death_signal(seat->pidfd);
        count++;
    }
    return count;
}

enum trm_launcher trm_agent_ranks_launcher(const struct trm_agent_ranks *ranks)
{
    const struct cohort *cohort = ranks->cohort;
    struct trm_process now;
    if (!cohort || cohort->launcher_fd < 0)
        return TRM_LAUNCHER_NONE;
    if (trm_process_is_over(cohort->launcher_fd) || !trm_process_read(cohort->launcher.pid, &now) ||
        now.start_time != cohort->launcher.start_time)
        return TRM_LAUNCHER_GONE;
    return now.state == 'T' || now.state == 't' ? TRM_LAUNCHER_STOPPED : TRM_LAUNCHER_RUNNING;
}

void trm_agent_ranks_set_lease(struct trm_agent_ranks *ranks, int64_t until_ns)
{
    if (ranks->cohort)
        atomic_store(&ranks->cohort->segment->lease_until_ns, until_ns);
}

void trm_agent_ranks_ask_stop(struct trm_agent_ranks *ranks)
{
    if (ranks->cohort)
        atomic_store(&ranks->cohort->segment->request, TRM_FLIGHT_STOP);
}
