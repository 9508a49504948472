#include "base/human.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR_CELLS             24
#define REDRAW_NS             INT64_C(100000000)
#define PLAIN_LINE_PERCENT    10
#define ESTIMATE_FROM_PERCENT 2

char *trm_human_bytes(char *text, size_t text_bytes, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)bytes;
    /* 1,023.5 would be printed as 1024: it belongs to the next unit. */
    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024.0;
        unit++;
    }
    int decimals = value < 99.95 && value != floor(value) ? 1 : 0;
    snprintf(text, text_bytes, "%.*f %s", decimals, value, units[unit]);
    return text;
}

char *trm_human_duration(char *text, size_t text_bytes, double seconds)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        snprintf(text, text_bytes, "unknown time");
    } else if (seconds < 0.00995) {
        snprintf(text, text_bytes, "%.*f ms", seconds < 0.00005 ? 0 : 1, seconds * 1e3);
    } else if (seconds < 0.9995) {
        snprintf(text, text_bytes, "%.0f ms", seconds * 1e3);
    } else if (seconds < 59.95) {
        snprintf(text, text_bytes, "%.1f s", seconds);
    } else if (seconds < 3599.5) {
        int whole = (int)(seconds + 0.5);
        snprintf(text, text_bytes, "%d min %02d s", whole / 60, whole % 60);
    } else {
        long long minutes = (long long)(seconds / 60 + 0.5);
        snprintf(text, text_bytes, "%lld h %02lld min", minutes / 60, minutes % 60);
    }
    return text;
}

static void group_thousands(char *text, size_t text_bytes, unsigned count)
{
    if (count >= 1000)
        snprintf(text, text_bytes, "%u,%03u", count / 1000, count % 1000);
    else
        snprintf(text, text_bytes, "%u", count);
}

char *trm_human_count(char *text, size_t text_bytes, uint64_t count)
{
    static const char units[] = {'M', 'B', 'T'};
    if (count < 1000000) {
        group_thousands(text, text_bytes, (unsigned)count);
        return text;
    }
    size_t unit = 0;
    double value = (double)count / 1e6;
    while (value >= 999.95 && unit + 1 < sizeof units) {
        value /= 1e3;
        unit++;
    }
    snprintf(text, text_bytes, "%.*f%c", value < 9.995 ? 2 : 1, value, units[unit]);
    return text;
}

static void write_text(int fd, const char *text)
{
    ssize_t written;
    do {
        written = write(fd, text, strlen(text));
    } while (written < 0 && errno == EINTR);
}

static int percent_of(uint64_t done, uint64_t total)
{
    return done >= total ? 100 : (int)(100.0 * (double)done / (double)total);
}

static void draw(const struct trm_progress *progress, uint64_t done, int percent)
{
    char bar[BAR_CELLS + 1];
    int filled = percent * BAR_CELLS / 100;
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < filled ? '=' : i == filled ? '>' : ' ';
    bar[BAR_CELLS] = '\0';

    char so_far[32], total[32], left[64] = "";
    double elapsed_s = (double)(trm_clock_now_ns() - progress->start_ns) * 1e-9;
    if (percent >= ESTIMATE_FROM_PERCENT && percent < 100) {
        double left_s = elapsed_s * ((double)progress->total / (double)done - 1.0);
        snprintf(left, sizeof left, "  %s left",
                 trm_human_duration((char[32]){0}, 32, left_s < 1 ? left_s : ceil(left_s)));
    }
    char line[256];
    snprintf(line, sizeof line, "%s%.80s [%s] %3d %%  %s of %s%s%s",
             progress->is_terminal ? "\r" : "", progress->label, bar, percent,
             trm_human_bytes(so_far, sizeof so_far, done),
             trm_human_bytes(total, sizeof total, progress->total), left,
             progress->is_terminal ? "\x1b[K" : "\n");
    write_text(progress->fd, line);
}

void trm_progress_begin(struct trm_progress *progress, int fd, const char *label, uint64_t total)
{
    *progress = (struct trm_progress){
        .fd = fd,
        .is_terminal = isatty(fd),
        .total = total,
        .last_percent = -1,
        .start_ns = trm_clock_now_ns(),
        .label = label,
    };
    trm_progress_update(progress, 0);
}

void trm_progress_update(struct trm_progress *progress, uint64_t done)
{
    int percent = percent_of(done, progress->total);
    if (percent == progress->last_percent)
        return;
    if (progress->is_terminal) {
        int64_t now_ns = trm_clock_now_ns();
        if (percent < 100 && now_ns - progress->last_draw_ns < REDRAW_NS)
            return;
        progress->last_draw_ns = now_ns;
    } else if (progress->last_percent >= 0 &&
               percent / PLAIN_LINE_PERCENT == progress->last_percent / PLAIN_LINE_PERCENT) {
        return;
    }
    progress->last_percent = percent;
    draw(progress, done < progress->total ? done : progress->total, percent);
}

void trm_progress_end(struct trm_progress *progress)
{
    if (progress->is_terminal)
        write_text(progress->fd, "\n");
}
