/* Time that never goes back, in nanoseconds, and deadlines on it. */
#ifndef TRM_BASE_CLOCK_H
#define TRM_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC. */
int64_t trm_clock_now_ns(void);

/* now + timeout; a negative timeout is never. */
int64_t trm_clock_deadline_ns(int64_t timeout_ms);
bool trm_clock_passed(int64_t deadline_ns);

/* "2026-03-01T12:04:31Z" (UTC). `text` holds 21 bytes or more. */
void trm_clock_utc(char *text, size_t text_bytes);

/* Seconds since 1970 (UTC): to compare what several programs wrote down, never to wait by. */
double trm_clock_utc_s(void);

#endif
