#include "launch/slurm/requeue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/attempt.h"
#include "launch/quote.h"

#define LEAST_WAIT_S 2 /* status.json is written every second */

enum trm_status trm_requeue_command(const struct trm_slurm_job *job, const char *run_dir,
                                    int64_t lease_ms, char *text, size_t bytes,
                                    struct trm_error *err)
{
    int64_t wait_s = (lease_ms + 999) / 1000 + LEAST_WAIT_S;
    char *command = NULL;
    size_t length;
    FILE *file = open_memstream(&command, &length);

    if (!file)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a command");
    fprintf(file, "job=%s; status=", job->id);
    trm_quote_word(file, run_dir);
    fprintf(file,
            "/" TRM_ATTEMPT_DIRECTORY "/status.json\n"
            "same() { scontrol show job -o $job | grep -q 'JobState=RUNNING .*Restarts=%d '; }\n"
            "seen() { stat -c '%%i %%z' \"$status\" 2>/dev/null; }\n"
            "same || exit 1\n"
            "before=$(seen); sleep %" PRId64 "\n"
            "[ \"$(seen)\" = \"$before\" ] && same || exit 1\n"
            "scontrol requeue $job || { same && scancel $job; }\n",
            job->restarts, wait_s);
    if (fclose(file) != 0 || length >= bytes) {
        free(command);
        return trm_error_set(err, TRM_ERR_CONFIG, "run_dir is too long: \"%.60s...\"", run_dir);
    }
    memcpy(text, command, length + 1);
    free(command);
    return TRM_OK;
}
