/* `trireme ckpt diff A B`. */
#include <inttypes.h>
#include <stdio.h>

#include <unistd.h>

#include "base/human.h"
#include "checkpoint/compare.h"
#include "tools/ckpt.h"

#define PROGRESS_FROM_BYTES ((uint64_t)1 << 28) /* less is soon done: no lines in a log for it */

static void print_unequal(void *context, const char *what)
{
    (void)context;
    printf("%s\n", what);
}

static void print_difference(void *context, const struct trm_ckpt_tensor *tensor,
                             enum trm_ckpt_kind kind, const struct trm_difference *difference)
{
    (void)context;
    printf("%s %s: %" PRId64 " of %" PRId64 " elements differ, by at most %.3g (relative %.3g)\n",
           tensor->name, trm_ckpt_kind_name(kind), difference->different, difference->elements,
           difference->largest_absolute, difference->largest_relative);
}

static void show_progress(void *context, int64_t bytes)
{
    trm_progress_update(context, (uint64_t)bytes);
}

static void say_passed_over(void *context, const char *path, const char *reason)
{
    (void)context;
    fprintf(stderr, "trireme ckpt: passing over %s: %s\n", path, reason);
}

int trm_ckpt_diff(int argc, char **argv)
{
    (void)argc;
    struct trm_stored *stored[2] = {NULL, NULL};
    struct trm_error err = {0};
    struct trm_progress progress;
    bool identical = false;
    enum trm_status status = TRM_OK;
    for (int i = 0; status == TRM_OK && i < 2; i++)
        status = trm_stored_open_newest(argv[i], -1, say_passed_over, NULL, &stored[i], &err);
    if (status == TRM_OK) {
        uint64_t total = (uint64_t)trm_catalog_bytes(&stored[0]->catalog);
        bool shown = isatty(2) || total >= PROGRESS_FROM_BYTES;
        const struct trm_compare_report report = {&progress, print_unequal, print_difference,
                                                  shown ? show_progress : NULL};
        if (shown)
            trm_progress_begin(&progress, 2, "comparing", total);
        status = trm_compare(stored[0], stored[1], &report, &identical, &err);
        if (shown)
            trm_progress_end(&progress);
    }
    trm_stored_close(stored[0]);
    trm_stored_close(stored[1]);
    if (status != TRM_OK)
        return trm_ckpt_fail(&err);
    if (!identical)
        return TRM_EXIT_DIFFERENT;
    printf("identical\n");
    return TRM_EXIT_OK;
}
