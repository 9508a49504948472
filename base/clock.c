#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/assert.h"

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NEVER_NS  INT64_MAX

int64_t trm_clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t trm_clock_deadline_ns(int64_t timeout_ms)
{
    int64_t now_ns = trm_clock_now_ns();
    if (timeout_ms < 0 || timeout_ms > (NEVER_NS - now_ns) / NS_PER_MS)
        return NEVER_NS;
    return now_ns + timeout_ms * NS_PER_MS;
}

bool trm_clock_passed(int64_t deadline_ns)
{
    return deadline_ns != NEVER_NS && trm_clock_now_ns() >= deadline_ns;
}

void trm_clock_utc(char *text, size_t text_bytes)
{
    TRM_ASSERT(text_bytes >= sizeof "2026-03-01T12:04:31Z");
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc) || !strftime(text, text_bytes, "%Y-%m-%dT%H:%M:%SZ", &utc))
        snprintf(text, text_bytes, "1970-01-01T00:00:00Z");
}

double trm_clock_utc_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / (double)NS_PER_S;
}
