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
            "look() {\n"
            "    said=$(scontrol show job -o $job 2>&1) ||\n"
            "        case $said in *'Invalid job id'*) exit 0 ;; *) exit 1 ;; esac\n"
            "    case $said in\n"
            "    *JobState=RUNNING' '*' Restarts=%d '*) ;;\n"
            "    *JobState=SUSPENDED' '* | *JobState=STOPPED' '*) exit 1 ;;\n"
            "    *) exit 0 ;;\n"
            "    esac\n"
            "}\n"
            "seen() { stat -c '%%i %%z' \"$status\" 2>/dev/null; }\n"
            "look; before=$(seen)\n"
            "sleep %" PRId64 "\n"
            "[ \"$(seen)\" = \"$before\" ] || exit 1\n"
            "look\n"
            "scontrol requeue $job || { look; scancel $job; }\n",
            job->restarts, wait_s);
    if (fclose(file) != 0 || length >= bytes) {
        free(command);
        return trm_error_set(err, TRM_ERR_CONFIG, "run_dir is too long: \"%.60s...\"", run_dir);
    }
    memcpy(text, command, length + 1);
    free(command);
    return TRM_OK;
}
