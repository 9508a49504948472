/*
 * Assertions for bugs in this program alone, on in release builds; never for input, files, peers or
 * devices. A failure prints the expression and its place and aborts.
 */
#ifndef TRM_BASE_ASSERT_H
#define TRM_BASE_ASSERT_H

void trm_assert_failed(const char *expression, const char *file, int line)
    __attribute__((noreturn));

#define TRM_ASSERT(condition)                                  \
    do {                                                       \
        if (__builtin_expect(!(condition), 0))                 \
            trm_assert_failed(#condition, __FILE__, __LINE__); \
    } while (0)

#endif
