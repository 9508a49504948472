#include "trainer/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/human.h"

#define LINE_BYTES 1024

/* Takes back the beginning of a line that found no more room. */
static void take_back(int fd, ssize_t written)
{
    struct stat info;

    if (written > 0 && fstat(fd, &info) == 0 && info.st_size >= written)
        (void)!ftruncate(fd, info.st_size - written);
}

/* One write(2) for a whole line, so that readers never see half of one. */
static void write_line(struct trm_metrics *metrics, const char *line, int length)
{
    ssize_t written = write(metrics->fd, line, (size_t)length);
    /* A regular file that is cut short: the disk is full. */
    int reason = written < 0 ? errno : ENOSPC;
    struct trm_error error;

    if (written < length) {
        take_back(metrics->fd, written);
        if (metrics->missing++ > 0)
            return;
        (void)trm_error_set_errno(&error, reason, "could not write to metrics.jsonl");
        trm_log(&metrics->log, TRM_LOG_WARNING,
                "%s; training goes on, and lines are missing there until it can be written",
                error.text);
    } else if (metrics->missing > 0) {
        trm_log(&metrics->log, TRM_LOG_INFO,
                "metrics.jsonl can be written again; %" PRId64 " lines are missing there",
                metrics->missing);
        metrics->missing = 0;
    }
}

/* For people. Nobody may be there any more to read it (a closed pipe): training goes on. */
static void show_line(const char *line, int length)
{
    ssize_t ignored = write(STDOUT_FILENO, line, (size_t)length);
    (void)ignored;
}

static bool is_kept(const char *line, const char *end, int64_t step)
{
    static const char key[] = "\"step\": ";
    const char *found = memmem(line, (size_t)(end - line), key, sizeof key - 1);

    return found && isdigit((unsigned char)found[sizeof key - 1]) &&
           strtoll(found + sizeof key - 1, NULL, 10) <= step;
}

/* Length of the part that ends behind the last whole line of a step up to `step`. Lines stand in
 * the order of their steps, and what is to go is little: it is looked for from the end. */
static size_t keep_until(const char *text, size_t bytes, int64_t step)
{
    const char *end = memrchr(text, '\n', bytes);

    while (end) {
        const char *before = memrchr(text, '\n', (size_t)(end - text));
        if (is_kept(before ? before + 1 : text, end, step))
            return (size_t)(end + 1 - text);
        end = before;
    }
    return 0;
}

static enum trm_status cut(int fd, const char *path, int64_t step, struct trm_error *err)
{
    struct stat stat;

    if (fstat(fd, &stat) != 0)
        return trm_error_set_errno(err, errno, "could not look at \"%s\"", path);
    if (stat.st_size == 0)
        return TRM_OK;
    char *text = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (text == MAP_FAILED)
        return trm_error_set_errno(err, errno, "could not read \"%s\"", path);
    size_t kept = keep_until(text, (size_t)stat.st_size, step);
    munmap(text, (size_t)stat.st_size);
    if (kept < (size_t)stat.st_size && ftruncate(fd, (off_t)kept) != 0)
        return trm_error_set_errno(err, errno, "could not cut \"%s\"", path);
    return TRM_OK;
}

enum trm_status trm_metrics_open(struct trm_metrics *metrics, const char *run_dir, int64_t step,
                                 struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(path, err, "%s/metrics.jsonl", run_dir);

    if (status != TRM_OK)
        return status;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    status = cut(fd, path, step, err);
    if (status == TRM_OK)
        metrics->fd = fd;
    else
        close(fd);
    return status;
}

void trm_metrics_close(struct trm_metrics *metrics)
{
    if (metrics->fd >= 0)
        close(metrics->fd);
    metrics->fd = -1;
    trm_gauges_close(&metrics->gauges);
}

void trm_metrics_step(struct trm_metrics *metrics, const struct trm_step_metrics *m)
{
    const struct trm_gauges *gauges = &metrics->gauges;
    char line[LINE_BYTES], samples[32], rate[32], more[LINE_BYTES / 2];
    struct trm_gpu_state gpu = {-1, -1, -1, -1, -1};
    int length;

    if (metrics->fd < 0)
        return;
    if (m->step % metrics->log_interval == 0 || m->step == 1 || m->step == metrics->train_iters) {
        trm_gauges_read(gauges, &gpu);
        length = snprintf(line, sizeof line,
                          "step %6lld/%lld | loss %8.5f | grad norm %7.4f | lr %.3e | %8.1f ms | "
                          "%s tokens/s | %s samples%s\n",
                          (long long)m->step, (long long)metrics->train_iters, m->loss,
                          m->grad_norm, m->learning_rate, m->step_ms,
                          trm_human_count(rate, sizeof rate, (uint64_t)m->tokens_per_second),
                          trm_human_count(samples, sizeof samples, (uint64_t)m->samples),
                          trm_gauges_words(gauges, m->tokens_per_second, &gpu, more, sizeof more));
        show_line(line, length);
    }
    length = snprintf(line, sizeof line,
                      "{\"step\": %lld, \"loss\": %.9g, \"grad_norm\": %.9g, \"learning_rate\": "
                      "%.9g, \"step_ms\": %.3f, \"tokens_per_second\": %.1f, \"samples\": %lld, "
                      "\"data_hash\": \"%016llx\"%s, \"time\": %.4f}\n",
                      (long long)m->step, m->loss, m->grad_norm, m->learning_rate, m->step_ms,
                      m->tokens_per_second, (long long)m->samples, (unsigned long long)m->data_hash,
                      trm_gauges_json(gauges, m->tokens_per_second, &gpu, more, sizeof more),
                      trm_clock_utc_s());
    write_line(metrics, line, length);
}

void trm_metrics_validation(struct trm_metrics *metrics, int64_t step, double loss,
                            double milliseconds)
{
    char line[LINE_BYTES];
    int length;

    if (metrics->fd < 0)
        return;
    length = snprintf(line, sizeof line, "step %6lld/%lld | validation loss %8.5f | %.1f ms\n",
                      (long long)step, (long long)metrics->train_iters, loss, milliseconds);
    show_line(line, length);
    length = snprintf(line, sizeof line,
                      "{\"step\": %lld, \"validation_loss\": %.17g, \"validation_ms\": %.3f}\n",
                      (long long)step, loss, milliseconds);
    write_line(metrics, line, length);
}

void trm_metrics_bad_step(struct trm_metrics *metrics, const struct trm_bad_step_metrics *bad)
{
    char line[LINE_BYTES];
    int length;

    if (metrics->fd < 0)
        return;
    length = snprintf(line, sizeof line,
                      "{\"step\": %lld, \"bad_step\": %lld, \"reason\": \"%s\", \"action\": "
                      "\"%s\", \"bad_samples\": [%lld, %lld], \"lineage\": %lld}\n",
                      (long long)bad->step, (long long)bad->bad_step, bad->reason, bad->action,
                      (long long)bad->first, (long long)(bad->next - bad->first),
                      (long long)bad->lineage);
    write_line(metrics, line, length);
}

void trm_metrics_diverged(struct trm_metrics *metrics, int64_t step, bool known, const char *ranks)
{
    char line[LINE_BYTES];
    int length;

    if (metrics->fd < 0)
        return;
    length = snprintf(line, sizeof line,
                      "{\"step\": %lld, \"diverged\": \"%s\", \"majority_is_right\": %s}\n",
                      (long long)step, ranks, known ? "true" : "false");
    write_line(metrics, line, length);
}
