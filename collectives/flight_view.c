#include "collectives/flight_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)

static int64_t age_ms(int64_t since_ns, int64_t now_ns)
{
    return since_ns > 0 && now_ns > since_ns ? (now_ns - since_ns) / 1000000 : 0;
}

static void view_lane(const struct trm_flight_lane *lane, int64_t now_ns,
                      struct trm_flight_lane_view *out)
{
    *out = (struct trm_flight_lane_view){
        .entered = GET(lane->entered),
        .completed = GET(lane->completed),
        .waiting = GET(lane->waiting),
        .age_ms = age_ms(GET(lane->since_ns), now_ns),
        .operation = (enum trm_flight_operation)GET(lane->operation),
    };
}

/* Bytes of the well-formed UTF-8 character at `text`, 0: none. The continuation bytes decide. */
static size_t utf8_length(const unsigned char *text)
{
    size_t length = text[0] < 0x80                       ? 1
                    : text[0] >= 0xC2 && text[0] <= 0xDF ? 2
                    : text[0] >= 0xE0 && text[0] <= 0xEF ? 3
                    : text[0] >= 0xF0 && text[0] <= 0xF4 ? 4
                                                         : 0;

    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies beyond the last character. */
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
        return 0;
    return length;
}

/* Error texts quote file names, which may be any bytes, and were cut to fit. */
static void copy_text(const char *from, char *to)
{
    unsigned char text[TRM_FLIGHT_TEXT_BYTES + 1];
    size_t used = 0, length;

    memcpy(text, from, TRM_FLIGHT_TEXT_BYTES);
    text[TRM_FLIGHT_TEXT_BYTES - 1] = text[TRM_FLIGHT_TEXT_BYTES] = '\0';
    for (const unsigned char *at = text; *at; at += length) {
        length = utf8_length(at);
        if (length == 0 || *at < 0x20 || *at == 0x7F) {
            to[used++] = '?';
            length = 1;
        } else {
            memcpy(to + used, at, length);
            used += length;
        }
    }
    to[used] = '\0';
}

void trm_flight_view(const struct trm_flight_record *record, int64_t now_ns,
                     struct trm_flight_view *out)
{
    int64_t loss_bits = GET(record->loss_bits);
    int32_t state = atomic_load_explicit(&record->state, memory_order_acquire);

    *out = (struct trm_flight_view){
        .state = (enum trm_flight_state)state,
        .rank = GET(record->rank),
        .world_size = GET(record->world_size),
        .data_size = GET(record->data_size),
        .tensor_size = GET(record->tensor_size),
        .pid = GET(record->pid),
        .process = '?',
        .phase = (enum trm_phase)GET(record->phase),
        .phase_age_ms = age_ms(GET(record->phase_since_ns), now_ns),
        .step = GET(record->step),
        .samples = GET(record->samples),
        .step_ms = (double)GET(record->step_ns) / 1e6,
        .compute_ms = (double)GET(record->compute_ns) / 1e6,
        .memory_step = GET(record->memory_step),
        .disk_step = GET(record->disk_step),
    };
    memcpy(&out->loss, &loss_bits, sizeof out->loss);
    for (int i = 0; i < TRM_FLIGHT_GROUPS; i++)
        view_lane(&record->lanes[i], now_ns, &out->lanes[i]);
    if (state != TRM_FLIGHT_EXITED)
        return;
    out->exit_status = (enum trm_status)GET(record->exit_status);
    out->exit_code = GET(record->exit_code);
    copy_text(record->exit_text, out->exit_text);
}

char trm_flight_process(int64_t pid)
{
    char path[64], text[512];
    const char *name_end;
    ssize_t got;
    int fd;

    if (pid <= 0)
        return '?';
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 'X' : '?';
    got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return got < 0 && errno == ESRCH ? 'X' : '?';
    text[got] = '\0';
    name_end = strrchr(text, ')'); /* the name may hold anything, the fields behind it don't */
    if (!name_end || name_end[1] != ' ')
        return '?';
    return name_end[2] == 'Z' ? 'X' : name_end[2];
}
