#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Formats on the stack and writes by system call: the heap may be what is broken. */
_Noreturn void trm_assert_failed(const char *expression, const char *file, int line)
{
    char text[512];
    snprintf(text, sizeof text,
             "internal error: %s:%d: assertion failed: %s\n"
             "this is a bug in trireme; please report it with this line\n",
             file, line, expression);
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
    abort();
}
