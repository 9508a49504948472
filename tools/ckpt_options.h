/* What the commands under `trireme ckpt` that take options share. */
#ifndef TRM_TOOLS_CKPT_OPTIONS_H
#define TRM_TOOLS_CKPT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/human.h"
#include "checkpoint/stored.h"

struct trm_ckpt_options {
    const char *source; /* the one argument that is no option */
    const char *output; /* -o */
    int shards;         /* --shards; 0: not given */
    bool json;          /* --json */
};

/* The words behind the command's name. `accepted` are the letters of the options it has: 'o'
 * (needed then), 's', 'j'. False after one sentence on standard error. */
bool trm_ckpt_parse(const char *command, const char *accepted, int argc, char **argv,
                    struct trm_ckpt_options *out);

/* One checkpoint, or the newest sound one of a directory; those passed over are named on standard
 * error. */
enum trm_status trm_ckpt_open(const char *where, struct trm_stored **out, struct trm_error *err);

/* A progress line on standard error, for what takes long or when a person looks. */
struct trm_ckpt_progress {
    struct trm_progress line;
    bool shown;
};

void trm_ckpt_progress_begin(struct trm_ckpt_progress *progress, const char *label, int64_t bytes);
void trm_ckpt_progress_show(struct trm_ckpt_progress *progress, int64_t bytes);
void trm_ckpt_progress_end(struct trm_ckpt_progress *progress);

#endif
