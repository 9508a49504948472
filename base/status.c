#include "base/status.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum trm_exit exit_code;
} statuses[TRM_STATUS_COUNT] = {
    [TRM_OK] = {"ok", TRM_EXIT_OK},
    [TRM_ERR_CONFIG] = {"config", TRM_EXIT_CONFIG},
    [TRM_ERR_INPUT] = {"input", TRM_EXIT_CONFIG},
    [TRM_ERR_NOT_FOUND] = {"not found", TRM_EXIT_NOT_FOUND},
    [TRM_ERR_IO] = {"i/o", TRM_EXIT_IO},
    [TRM_ERR_CORRUPT] = {"corrupt", TRM_EXIT_CORRUPT},
    [TRM_ERR_MISMATCH] = {"mismatch", TRM_EXIT_CONFIG},
    [TRM_ERR_MEMORY] = {"memory", TRM_EXIT_OS},
    [TRM_ERR_COMM] = {"communication", TRM_EXIT_UNAVAILABLE},
    [TRM_ERR_TIMEOUT] = {"timeout", TRM_EXIT_UNAVAILABLE},
    [TRM_ERR_STOPPED] = {"stopped", TRM_EXIT_REQUEUE},
    [TRM_ERR_NUMERICS] = {"numerics", TRM_EXIT_NUMERICS},
    [TRM_ERR_DIVERGED] = {"diverged", TRM_EXIT_DIVERGED},
    [TRM_ERR_UNSUPPORTED] = {"unsupported", TRM_EXIT_CONFIG},
    [TRM_ERR_INTERNAL] = {"internal", TRM_EXIT_SOFTWARE},
};

/* Ends `text` in "..." within `capacity` bytes, between two UTF-8 characters. */
static void cut(char *text, size_t capacity)
{
    size_t end = capacity - sizeof "...";
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, "...", sizeof "...");
}

/* vsnprintf that shows where it had to cut. */
__attribute__((format(printf, 3, 0))) static void format_into(char *text, size_t capacity,
                                                              const char *format, va_list arguments)
{
    int length = vsnprintf(text, capacity, format, arguments);
    if (length < 0)
        snprintf(text, capacity, "an error whose text could not be formatted");
    else if ((size_t)length >= capacity)
        cut(text, capacity);
}

/* Appends `tail` to `text`, cutting when it does not fit. */
static void append(char *text, size_t capacity, const char *tail)
{
    size_t length = strlen(text);
    int added = snprintf(text + length, capacity - length, "%s", tail);
    if (added >= 0 && (size_t)added >= capacity - length)
        cut(text, capacity);
}

/* Every text is put together in a buffer of its own: an argument may point into the error itself.
 */
enum trm_status trm_error_set(struct trm_error *err, enum trm_status status, const char *format,
                              ...)
{
    if (!err)
        return status;
    char text[TRM_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_into(text, sizeof text, format, arguments);
    va_end(arguments);
    err->status = status;
    memcpy(err->text, text, sizeof text);
    return status;
}

enum trm_status trm_error_set_errno(struct trm_error *err, int errno_value, const char *format, ...)
{
    enum trm_status status = errno_value == ENOENT   ? TRM_ERR_NOT_FOUND
                             : errno_value == ENOMEM ? TRM_ERR_MEMORY
                                                     : TRM_ERR_IO;
    if (!err)
        return status;
    char text[TRM_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_into(text, sizeof text, format, arguments);
    va_end(arguments);

    char buffer[256];
    char reason[256];
    snprintf(reason, sizeof reason, ": %s", strerror_r(errno_value, buffer, sizeof buffer));
    if (islower((unsigned char)reason[3]))
        reason[2] = (char)tolower((unsigned char)reason[2]);
    append(text, sizeof text, reason);
    err->status = status;
    memcpy(err->text, text, sizeof text);
    return status;
}

enum trm_status trm_error_prefix(struct trm_error *err, const char *format, ...)
{
    if (!err)
        return TRM_ERR_INTERNAL;
    char text[TRM_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_into(text, sizeof text, format, arguments);
    va_end(arguments);
    append(text, sizeof text, ": ");
    append(text, sizeof text, err->text);
    memcpy(err->text, text, sizeof text);
    return err->status;
}

const char *trm_status_name(enum trm_status status)
{
    return (unsigned)status < TRM_STATUS_COUNT ? statuses[status].name : "unknown";
}

enum trm_exit trm_status_exit_code(enum trm_status status)
{
    return (unsigned)status < TRM_STATUS_COUNT ? statuses[status].exit_code : TRM_EXIT_SOFTWARE;
}
