/* `trireme ckpt list` and `trireme ckpt diff`, as a person sees them. */
#include "fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/tools.h"

/* Runs a command with both outputs in `text`; returns its exit code. */
static int run(const char *directory, char *text, size_t text_bytes, int argc, char **argv)
{
    char path[TRM_PATH_BYTES];
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
    return code;
}

static void list_shows_what_is_there_and_what_is_wrong(void **state)
{
    (void)state;
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES], text[8192];
    fixture_directory(directory);
    char *argv[] = {"ckpt", "list", directory};
    assert_int_equal(run(directory, text, sizeof(text), 3, argv), TRM_EXIT_NOT_FOUND);
    assert_non_null(strstr(text, "trireme ckpt: no checkpoint in \""));
    struct trm_ckpt_state training = fixture_state(10);
    fixture_save(directory, &training, 1, 2);
    training = fixture_state(1200);
    fixture_save(directory, &training, 1, 2);
    assert_int_equal(trm_file_path(path, NULL, "%s/step-00001200/shard-00001.h5", directory), 0);
    assert_int_equal(truncate(path, 77), 0);
    assert_int_equal(run(directory, text, sizeof(text), 3, argv), TRM_EXIT_OK);
    const char *newer = strstr(text, "1200  2026-03-01T12:04:31Z");
    const char *older = strstr(text, "10  2026-03-01T12:04:31Z");
    assert_true(newer != NULL && older > newer);
    assert_non_null(strstr(newer, "shard-00001.h5 has 77 bytes, the manifest says "));
    const char *const words[] = {"run-a1b2", "2 x 1", "2.8333", "sound\n"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        assert_non_null(strstr(older, words[i]));
    assert_non_null(strstr(text, " KiB"));
    fixture_directory_free(directory);
}

static void diff_says_identical_or_what_differs(void **state)
{
    (void)state;
    char a[TRM_PATH_BYTES], b[TRM_PATH_BYTES], path[TRM_PATH_BYTES], text[16384];
    fixture_directory(a);
    fixture_directory(b);
    struct trm_ckpt_state training = fixture_state(20);
    fixture_save(a, &training, 1, 3);
    fixture_save(b, &training, 2, 2);
    char *argv[] = {"ckpt", "diff", a, b};
    assert_int_equal(run(a, text, sizeof(text), 4, argv), TRM_EXIT_OK);
    assert_string_equal(text, "identical\n");
    training = fixture_state(24);
    fixture_save(b, &training, 2, 2);
    assert_int_equal(run(a, text, sizeof(text), 4, argv), TRM_EXIT_DIFFERENT);
    assert_non_null(strstr(text, "step: 20 and 24\n"));
    assert_non_null(
        strstr(text, "tok_embed exp_avg: 5117 of 5117 elements differ, by at most 0.5"));
    assert_null(strstr(text, "identical"));
    assert_int_equal(trm_file_path(path, NULL, "%s/step-00000020", b), 0);
    argv[3] = path;
    assert_int_equal(run(a, text, sizeof(text), 4, argv), TRM_EXIT_OK);
    argv[3] = "/nowhere";
    assert_int_equal(run(a, text, sizeof(text), 4, argv), TRM_EXIT_NOT_FOUND);
    assert_string_equal(text, "trireme ckpt: there is no \"/nowhere\"\n");
    assert_int_equal(run(a, text, sizeof(text), 3, argv), TRM_EXIT_USAGE);
    fixture_directory_free(a);
    fixture_directory_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_shows_what_is_there_and_what_is_wrong),
        cmocka_unit_test(diff_says_identical_or_what_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
