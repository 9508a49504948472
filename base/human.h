/* Numbers as people read them. Each writes into `text` and returns it. */
#ifndef TRM_BASE_HUMAN_H
#define TRM_BASE_HUMAN_H

#include <stddef.h>
#include <stdint.h>

/* "475 MiB", "1.9 GiB", "12 B". */
char *trm_human_bytes(char *text, size_t text_bytes, uint64_t bytes);

/* "850 ms", "12.4 s", "3 min 20 s", "2 h 05 min". */
char *trm_human_duration(char *text, size_t text_bytes, double seconds);

/* "124.4M", "1.56B", "50,257" below a million. */
char *trm_human_count(char *text, size_t text_bytes, uint64_t count);

/* A progress line "[=====>    ]  52 %  1.2 GiB of 2.3 GiB  3 s left" that redraws itself with '\r'
 * on a terminal, and prints a plain line every 10 % elsewhere. */
struct trm_progress {
    int fd;
    int is_terminal;
    uint64_t total;
    int last_percent;
    int64_t start_ns, last_draw_ns;
    const char *label; /* borrowed */
};

void trm_progress_begin(struct trm_progress *progress, int fd, const char *label, uint64_t total);
void trm_progress_update(struct trm_progress *progress, uint64_t done);
void trm_progress_end(struct trm_progress *progress);

#endif
