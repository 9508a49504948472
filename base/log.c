#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 2000

/* An info line carries no word for its level: it is what a reader expects. */
static const char *const level_words[] = {
    [TRM_LOG_ERROR] = "error: ",
    [TRM_LOG_WARNING] = "warning: ",
    [TRM_LOG_INFO] = "",
    [TRM_LOG_DEBUG] = "debug: ",
};

/* Writes "12:04:31 rank 3  warning: " (local time) and returns its length. */
static size_t write_head(const struct trm_log *log, enum trm_log_level level, char *line)
{
    time_t now = time(NULL);
    struct tm local;
    size_t length = 0;
    if (localtime_r(&now, &local))
        length = strftime(line, LINE_BYTES, "%H:%M:%S ", &local);
    if (log->rank >= 0)
        length += (size_t)snprintf(line + length, LINE_BYTES - length, "rank %d  ", log->rank);
    length += (size_t)snprintf(line + length, LINE_BYTES - length, "%s", level_words[level]);
    return length;
}

/* One write per line; what a full or closed terminal does not take is lost. */
static void put(const struct trm_log *log, const struct iovec *pieces, int count)
{
    ssize_t written;
    do {
        written = writev(log->fd, pieces, count);
    } while (written < 0 && errno == EINTR);
    if (written < 0 && log->lost)
        __atomic_fetch_add(log->lost, 1, __ATOMIC_RELAXED);
}

void trm_log(const struct trm_log *log, enum trm_log_level level, const char *format, ...)
{
    if (level > log->level)
        return;
    int saved_errno = errno;
    char line[LINE_BYTES];
    size_t head = write_head(log, level, line);

    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + head, sizeof line - head - 1, format, arguments);
    va_end(arguments);
    size_t length = head + strlen(line + head);
    if (wanted > 0 && head + (size_t)wanted > length)
        memcpy(line + length - 3, "...", 3);

    for (size_t i = head; i < length; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    line[length++] = '\n';

    struct iovec piece = {line, length};
    put(log, &piece, 1);
    errno = saved_errno;
}

void trm_log_pass(const struct trm_log *log, const char *line)
{
    char end[] = "\n";
    int saved_errno = errno;
    struct iovec pieces[] = {{(void *)(uintptr_t)line, strlen(line)}, {end, 1}};
    put(log, pieces, 2);
    errno = saved_errno;
}
