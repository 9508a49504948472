#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/slurm/batch.h"

static char *arguments[] = {"gpt2.yaml", "--run-dir", "a run's"};

static struct trm_batch sample(void)
{
    return (struct trm_batch){
        .made_by = "trireme slurm\ngpt2.yaml",
        .job_name = "gpt2",
        .directory = "/scratch/me",
        .nodes = 5,
        .tasks_per_node = 8,
        .spares = 1,
        .time = "1-00:00:00",
        .stop_before_s = 120,
        .output = "%x-%j.out",
        .program = "/opt/bin/trireme",
        .arguments = arguments,
        .argument_count = 3,
    };
}

static char *write_sample(const struct trm_batch *batch)
{
    struct trm_error err;
    char *text = NULL;

    if (trm_batch_write(batch, &text, &err) != TRM_OK)
        fail_msg("%s", err.text);
    return text;
}

static void expect(const char *text, const char *line)
{
    if (!strstr(text, line))
        fail_msg("\"%s\" is not in:\n%s", line, text);
}

static void a_script_asks_for_what_was_requested(void **state)
{
    struct trm_batch batch = sample();
    char *text = write_sample(&batch);

    (void)state;
    assert_int_equal(strncmp(text, "#!/bin/bash\n# Made by `trireme slurm gpt2.yaml`.\n", 48), 0);
    expect(text, "# Up to 32 ranks on 4 nodes; 1 more in reserve");
    expect(text, "\n#SBATCH --nodes=5\n#SBATCH --ntasks-per-node=8\n");
    expect(text, "\n#SBATCH --signal=B:USR1@120 ");
    expect(text, "\n#SBATCH --no-kill ");
    expect(text, "\n#SBATCH --requeue ");
    expect(text, "\n/opt/bin/trireme run --spares 1 gpt2.yaml --run-dir 'a run'\\''s' &\n");
    expect(text, "scontrol requeue \"$SLURM_JOB_ID\"");
    assert_null(strstr(text, "--array"));
    assert_null(strstr(text, "--gpus-per-node"));
    free(text);
}

/* A signal before the trap would end the job. */
static void nothing_is_run_before_the_trap(void **state)
{
    struct trm_batch batch = sample();
    batch.profile = "ib.sh";
    char *text = write_sample(&batch), *line, *rest = NULL;

    (void)state;
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (line[0] != '#' && strncmp(line, "stop() {", 8) != 0)
            break;
    assert_non_null(line);
    assert_int_equal(strncmp(line, "trap ", 5), 0);
    expect(rest, ". ib.sh\n");
    free(text);
}

static void a_chain_is_an_array_that_is_never_requeued(void **state)
{
    struct trm_batch batch = sample();
    batch.chain = 4;
    char *text = write_sample(&batch);

    (void)state;
    expect(text, "\n#SBATCH --array=1-4%1 ");
    expect(text, "\n#SBATCH --no-requeue\n");
    expect(text, "scancel --state=PENDING \"$SLURM_ARRAY_JOB_ID\"");
    assert_null(strstr(text, "scontrol"));
    free(text);
}

static void a_shell_understands_every_script(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct trm_batch batch = sample();
        batch.chain = i * 3;
        char *text = write_sample(&batch);
        FILE *shell = popen("bash -n", "w");
        assert_non_null(shell);
        fputs(text, shell);
        assert_int_equal(pclose(shell), 0);
        free(text);
    }
}

static void values_that_an_option_cannot_hold_are_refused(void **state)
{
    static const char *const values[] = {"", "a b", "a\"", "a\nb", "a#b", "$(id)"};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct trm_batch batch = sample();
        struct trm_error err;
        char *text = NULL;
        batch.account = values[i];
        assert_int_equal(trm_batch_write(&batch, &text, &err), TRM_ERR_CONFIG);
        assert_non_null(strstr(err.text, "--account"));
    }
}

static void times_are_read_as_slurm_reads_them(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {
        {"90", 5400},        {"1:30", 90},      {"2:00:00", 7200}, {"1-0", 86400},
        {"1-12:30", 131400}, {"0-00:00:07", 7}, {"UNLIMITED", -1}, {"infinite", -1},
    };
    static const char *const wrong[] = {"", "x", "1:", "1:2:3:4", "-1", "1-", "1d", "1-2-3", " 1"};
    struct trm_error err;
    int64_t seconds;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(trm_batch_parse_time(cases[i].text, &seconds, &err), TRM_OK);
        assert_int_equal(seconds, cases[i].seconds);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (trm_batch_parse_time(wrong[i], &seconds, &err) != TRM_ERR_CONFIG)
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void memory_is_read_as_slurm_reads_it(void **state)
{
    static const char *const wrong[] = {"", "G", "1GB", "-1", "1.5G", "9999999999999"};
    struct trm_error err;
    int64_t bytes;

    (void)state;
    assert_int_equal(trm_batch_parse_memory("100", &bytes, &err), TRM_OK);
    assert_int_equal(bytes, INT64_C(100) << 20);
    assert_int_equal(trm_batch_parse_memory("64g", &bytes, &err), TRM_OK);
    assert_int_equal(bytes, INT64_C(64) << 30);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (trm_batch_parse_memory(wrong[i], &bytes, &err) != TRM_ERR_CONFIG)
            fail_msg("\"%s\" was taken", wrong[i]);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_asks_for_what_was_requested),
        cmocka_unit_test(nothing_is_run_before_the_trap),
        cmocka_unit_test(a_chain_is_an_array_that_is_never_requeued),
        cmocka_unit_test(a_shell_understands_every_script),
        cmocka_unit_test(values_that_an_option_cannot_hold_are_refused),
        cmocka_unit_test(times_are_read_as_slurm_reads_them),
        cmocka_unit_test(memory_is_read_as_slurm_reads_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
