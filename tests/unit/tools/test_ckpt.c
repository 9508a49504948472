/* `trireme ckpt inspect`, `verify` and `reshard`, as a person sees them. */
#include "../checkpoint/fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "tools/tools.h"

#define WORDS_MAX 8

/* Runs a line of words with both outputs in `text`; returns its exit code. */
static int run(const char *directory, char *text, size_t text_bytes, const char *line)
{
    char path[TRM_PATH_BYTES], words[4096], *argv[WORDS_MAX] = {"ckpt"};
    int argc = 1;
    snprintf(words, sizeof words, "%s", line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    assert_int_equal(trm_file_path(path, NULL, "%s/output", directory), TRM_OK);
    fflush(stdout);
    fflush(stderr);
    int out = dup(1), error = dup(2), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    dup2(file, 1);
    dup2(file, 2);
    int code = trm_tool_ckpt(argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(out, 1);
    dup2(error, 2);
    ssize_t length = pread(file, text, text_bytes - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    close(file);
    close(out);
    close(error);
    unlink(path);
    return code;
}

struct place {
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], text[16384], line[3 * TRM_PATH_BYTES];
};

static struct place *place_create(void)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    fixture_directory(place->directory);
    return place;
}

static void place_destroy(struct place *place)
{
    fixture_directory_free(place->directory);
    free(place);
}

/* The path of a file in it, until the next call. */
static const char *inside(struct place *place, const char *name)
{
    assert_int_equal(trm_file_path(place->path, NULL, "%s/%s", place->directory, name), TRM_OK);
    return place->path;
}

/* In `format` an @ stands for the directory. */
static int run_in(struct place *place, const char *format)
{
    size_t used = 0;
    for (const char *c = format; *c; c++) {
        if (c[0] == '@')
            used += (size_t)snprintf(place->line + used, sizeof place->line - used, "%s",
                                     place->directory);
        else
            place->line[used++] = *c;
        assert_true(used + 1 < sizeof place->line);
    }
    place->line[used] = '\0';
    return run(place->directory, place->text, sizeof place->text, place->line);
}

static void expect(const struct place *place, const char *words)
{
    if (!strstr(place->text, words))
        fail_msg("no \"%s\" in:\n%s", words, place->text);
}

static void inspect_tells_what_is_in_it(void **state)
{
    (void)state;
    struct place *place = place_create();
    struct trm_ckpt_state training = fixture_state(1200);
    fixture_save(place->directory, &training, 1, 2);
    assert_int_equal(run_in(place, "inspect @"), TRM_EXIT_OK);
    expect(place, "step         1200\n");
    expect(place, "run          run-a1b2, lineage ");
    expect(place, "data-parallel 2 x tensor-parallel 1");
    expect(place, "loss         2.8333");
    expect(place, "in 2 files, ");
    expect(place, "each as parameter exp_avg exp_avg_sq\n");
    expect(place, "\ntok_embed ");
    assert_int_equal(run_in(place, "inspect @/step-00001200 --json"), TRM_EXIT_OK);
    json_t *root = json_loads(place->text, 0, NULL);
    assert_non_null(root);
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 1200);
    assert_string_equal(json_string_value(json_object_get(root, "run_id")), training.run_id);
    assert_string_equal(json_string_value(json_object_get(root, "config")), training.config_yaml);
    assert_int_equal(json_array_size(json_object_get(root, "tensors")), FIXTURE_TENSORS);
    assert_int_equal(json_array_size(json_object_get(root, "kinds")), 3);
    assert_int_equal(json_array_size(json_object_get(root, "files")), 2);
    json_decref(root);
    assert_int_equal(run_in(place, "inspect @ --colour"), TRM_EXIT_USAGE);
    expect(place, "unknown option \"--colour\"");
    assert_int_equal(run_in(place, "inspect"), TRM_EXIT_USAGE);
    assert_int_equal(run_in(place, "inspect @/none"), TRM_EXIT_NOT_FOUND);
    place_destroy(place);
}

static void verify_names_each_bad_slice_and_file(void **state)
{
    (void)state;
    struct place *place = place_create();
    struct trm_ckpt_state training = fixture_state(10);
    fixture_save(place->directory, &training, 1, 3);
    training = fixture_state(20);
    fixture_save(place->directory, &training, 2, 2);
    assert_int_equal(run_in(place, "verify @"), TRM_EXIT_OK);
    expect(place, "step-00000020: sound (");
    expect(place, "step-00000010: sound (");

    /* The last float of the last dataset, and of another shard. */
    assert_int_equal(run_in(place, "inspect @/step-00000010 --json"), TRM_EXIT_OK);
    json_t *root = json_loads(place->text, 0, NULL);
    json_t *file = json_array_get(json_object_get(root, "files"), 1);
    int64_t bytes = json_integer_value(json_object_get(file, "bytes"));
    json_decref(root);
    fixture_flip(inside(place, "step-00000010/shard-00001.h5"), bytes - 1, 3);
    assert_int_equal(run_in(place, "verify @"), TRM_EXIT_DIFFERENT);
    expect(place, "step-00000020: sound (");
    expect(place, "shard-00001.h5: ");
    expect(place, " of exp_avg_sq of \"");
    expect(place, "step-00000010: 1 fault\n");

    /* With a second shard gone and a third cut short, all three are named. */
    assert_int_equal(unlink(inside(place, "step-00000010/shard-00000.h5")), 0);
    assert_int_equal(truncate(inside(place, "step-00000010/shard-00002.h5"), 1000), 0);
    assert_int_equal(run_in(place, "verify @/step-00000010"), TRM_EXIT_DIFFERENT);
    expect(place, "shard-00000.h5\": no such file");
    expect(place, "shard-00002.h5 has 1000 bytes");
    expect(place, " of exp_avg_sq of \"");
    expect(place, "step-00000010: 3 faults\n");

    fixture_flip(inside(place, "step-00000020/manifest.json"), 100, 1);
    assert_int_equal(run_in(place, "verify @/step-00000020"), TRM_EXIT_DIFFERENT);
    expect(place, "manifest.json: ");
    expect(place, "step-00000020: 1 fault\n");
    assert_int_equal(run_in(place, "verify @/none"), TRM_EXIT_NOT_FOUND);
    place_destroy(place);
}

static void verify_draws_its_progress_on_a_terminal(void **state)
{
    (void)state;
    struct place *place = place_create();
    struct trm_ckpt_state training = fixture_state(10);
    char shown[4096] = "", words[3 * TRM_PATH_BYTES];
    size_t length = 0;
    fixture_save(place->directory, &training, 1, 3);
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), kept = dup(2);
    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    assert_true(end >= 0);
    snprintf(words, sizeof words, "%s", place->directory);
    char *argv[] = {"ckpt", "verify", words};
    fflush(stderr);
    dup2(end, 2);
    int code = trm_tool_ckpt(3, argv);
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    close(end);
    /* To its end, which with the other side closed is an error. */
    for (ssize_t got; (got = read(terminal, shown + length, sizeof shown - 1 - length)) > 0;)
        length += (size_t)got;
    close(terminal);
    assert_int_equal(code, TRM_EXIT_OK);
    assert_non_null(strstr(shown, "0 %"));
    assert_non_null(strstr(shown, "[========================] 100 %"));
    place_destroy(place);
}

static void verify_notices_a_checkpoint_under_another_name(void **state)
{
    (void)state;
    struct place *place = place_create();
    char from[TRM_PATH_BYTES];
    struct trm_ckpt_state training = fixture_state(10);
    fixture_save(place->directory, &training, 1, 1);
    memcpy(from, inside(place, "step-00000010"), sizeof from);
    assert_int_equal(rename(from, inside(place, "step-00000011")), 0);
    assert_int_equal(run_in(place, "verify @"), TRM_EXIT_DIFFERENT);
    expect(place, "its manifest is of step 10");
    place_destroy(place);
}

static void reshard_keeps_tensors_and_counters(void **state)
{
    (void)state;
    struct place *place = place_create();
    struct trm_ckpt_state training = fixture_state(24);
    fixture_save(place->directory, &training, 2, 2);
    static const int counts[] = {1, 3, 7, 64};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char words[128];
        snprintf(words, sizeof words, "reshard @/step-00000024 -o @/to%d --shards %d", counts[i],
                 counts[i]);
        if (run_in(place, words) != TRM_EXIT_OK)
            fail_msg("%s", place->text);
        snprintf(words, sizeof words, "diff @/step-00000024 @/to%d", counts[i]);
        assert_int_equal(run_in(place, words), TRM_EXIT_OK);
        assert_string_equal(place->text, "identical\n");
        snprintf(words, sizeof words, "verify @/to%d", counts[i]);
        assert_int_equal(run_in(place, words), TRM_EXIT_OK);
        snprintf(words, sizeof words, " in %d file%s, ", counts[i], counts[i] > 1 ? "s" : "");
        expect(place, words);
        snprintf(words, sizeof words, "inspect @/to%d", counts[i]);
        assert_int_equal(run_in(place, words), TRM_EXIT_OK);
        expect(place, "run          run-a1b2, lineage ");
        expect(place, "samples      192 consumed, 3 skipped, hash fedcba9876543228");
        snprintf(words, sizeof words, "to%d/step-00000024/checkpoint.h5", counts[i]);
        assert_true(trm_file_exists(inside(place, words)));
    }
    place_destroy(place);
}

static void reshard_replaces_nothing_and_leaves_nothing_half_done(void **state)
{
    (void)state;
    struct place *place = place_create();
    struct trm_ckpt_state training = fixture_state(24);
    fixture_save(place->directory, &training, 1, 2);
    assert_int_equal(run_in(place, "reshard @ -o @ --shards 2"), TRM_EXIT_CONFIG);
    expect(place, "step-00000024\" is there already; name another directory");
    assert_int_equal(run_in(place, "reshard @ -o @/x --shards 0"), TRM_EXIT_USAGE);
    assert_int_equal(run_in(place, "reshard @ -o @/x"), TRM_EXIT_USAGE);
    assert_int_equal(run_in(place, "reshard @ --shards 2"), TRM_EXIT_USAGE);
    assert_int_equal(run_in(place, "inspect @ --json"), TRM_EXIT_OK);
    json_t *root = json_loads(place->text, 0, NULL);
    json_t *file = json_array_get(json_object_get(root, "files"), 1);
    fixture_flip(inside(place, "step-00000024/shard-00001.h5"),
                 json_integer_value(json_object_get(file, "bytes")) - 1, 0);
    json_decref(root);
    assert_int_equal(run_in(place, "reshard @ -o @/x --shards 2"), TRM_EXIT_CORRUPT);
    expect(place, "have checksum ");
    assert_int_equal(rmdir(inside(place, "x")), 0); /* empty */
    place_destroy(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspect_tells_what_is_in_it),
        cmocka_unit_test(verify_names_each_bad_slice_and_file),
        cmocka_unit_test(verify_draws_its_progress_on_a_terminal),
        cmocka_unit_test(verify_notices_a_checkpoint_under_another_name),
        cmocka_unit_test(reshard_keeps_tensors_and_counters),
        cmocka_unit_test(reshard_replaces_nothing_and_leaves_nothing_half_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
