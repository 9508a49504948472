#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[] = "/tmp/trm-file-XXXXXX";

static int make_scratch(void **state)
{
    (void)state;
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    return trm_file_remove_tree(scratch, NULL) == TRM_OK ? 0 : -1;
}

/* A path inside the scratch folder; good until the fourth next call. */
static const char *inside(const char *name)
{
    static char paths[4][TRM_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(trm_file_path(path, NULL, "%s/%s", scratch, name), TRM_OK);
    return path;
}

static void assert_content(const char *path, const char *expected)
{
    char *data = NULL;
    size_t bytes = 0;
    struct trm_error err;
    assert_int_equal(trm_file_read_all(path, 1 << 20, &data, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void assert_error(const struct trm_error *err, const char *path, const char *reason)
{
    if (!strstr(err->text, path) || !strstr(err->text, reason))
        fail_msg("the error \"%s\" should name \"%s\" and say \"%s\"", err->text, path, reason);
}

static void paths_are_formatted_or_refused(void **state)
{
    (void)state;
    char path[TRM_PATH_BYTES] = "before", longer[2 * TRM_PATH_BYTES];
    struct trm_error err;
    assert_int_equal(trm_file_path(path, &err, "%s/step-%08d", "run", 1200), TRM_OK);
    assert_string_equal(path, "run/step-00001200");
    memset(longer, 'p', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(trm_file_path(path, &err, "%.*s", TRM_PATH_BYTES - 1, longer), TRM_OK);
    assert_int_equal(strlen(path), TRM_PATH_BYTES - 1);
    strcpy(path, "before");
    assert_int_equal(trm_file_path(path, &err, "%.*s", TRM_PATH_BYTES, longer), TRM_ERR_INPUT);
    assert_error(&err, "ppp...", "has 1024 bytes, more than the 1023 allowed");
    assert_string_equal(path, "before");
}

static void plain_names_cannot_leave_their_directory(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool is_plain;
    } cases[] = {
        {"shard-00003.h5", true},
        {"a", true},
        {"...", true},
        {".hidden", true},
        {"a b", true},
        {"\xC3\xA9", true},
        {"", false},
        {".", false},
        {"..", false},
        {"/", false},
        {"../x", false},
        {"a/b", false},
        {"/etc/passwd", false},
        {"a\nb", false},
        {"a\x7f", false},
        {"\x01", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(trm_file_name_is_plain(cases[i].name), cases[i].is_plain);
}

static void transfers_at_an_offset_meet(void **state)
{
    (void)state;
    const char *path = inside("at");
    struct trm_error err;
    char data[4] = "";
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(trm_file_write_at(fd, "abcdef", 6, 2, path, &err), TRM_OK);
    assert_int_equal(trm_file_write_at(fd, "XY", 2, 0, path, &err), TRM_OK);
    assert_int_equal(trm_file_read_at(fd, data, 3, 4, path, &err), TRM_OK);
    assert_string_equal(data, "cde");
    assert_int_equal(trm_file_read_at(fd, data, 0, 1000, path, &err), TRM_OK);
    assert_int_equal(trm_file_sync(fd, path, &err), TRM_OK);
    close(fd);
    assert_content(path, "XYabcdef");
}

static void reading_past_the_end_says_how_much_is_missing(void **state)
{
    (void)state;
    const char *path = inside("short");
    struct trm_error err;
    char data[16];
    assert_int_equal(trm_file_write_all(path, "12345", 5, false, &err), TRM_OK);
    int fd = open(path, O_RDONLY);
    assert_int_equal(trm_file_read_at(fd, data, 10, 2, path, &err), TRM_ERR_CORRUPT);
    assert_error(&err, path, "ends at byte 5, 7 bytes short");
    close(fd);
}

static void failing_calls_name_path_and_reason(void **state)
{
    (void)state;
    struct trm_error err;
    char data[4] = "abc";
    char *all = data;
    size_t bytes = 77;

    int full = open("/dev/full", O_RDWR);
    assert_true(full >= 0);
    assert_int_equal(trm_file_write_at(full, data, 3, 0, "/dev/full", &err), TRM_ERR_IO);
    assert_error(&err, "could not write \"/dev/full\" at byte 0", "no space left on device");
    close(full);
    assert_int_equal(trm_file_write_all("/dev/full", data, 3, true, &err), TRM_ERR_IO);
    assert_error(&err, "/dev/full", "no space left on device");

    assert_int_equal(trm_file_read_at(-1, data, 3, 9, "gone.h5", &err), TRM_ERR_IO);
    assert_error(&err, "could not read \"gone.h5\" at byte 9", "bad file descriptor");
    assert_int_equal(trm_file_sync(-1, "gone.h5", &err), TRM_ERR_IO);
    assert_error(&err, "could not sync \"gone.h5\"", "bad file descriptor");

    const char *missing = inside("no/such");
    assert_int_equal(trm_file_read_all(missing, 10, &all, &bytes, &err), TRM_ERR_NOT_FOUND);
    assert_error(&err, missing, "no such file or directory");
    assert_int_equal(trm_file_read_all(scratch, 10, &all, &bytes, &err), TRM_ERR_IO);
    assert_error(&err, scratch, "is a directory");
    assert_ptr_equal(all, data);
    assert_int_equal(bytes, 77);
    assert_int_equal(trm_file_write_all(missing, data, 3, false, &err), TRM_ERR_NOT_FOUND);
    assert_error(&err, missing, "no such file or directory");
    assert_int_equal(trm_file_sync_directory(missing, &err), TRM_ERR_NOT_FOUND);
    assert_error(&err, missing, "no such file or directory");
}

static void read_all_keeps_its_limit(void **state)
{
    (void)state;
    const char *path = inside("limit");
    struct trm_error err;
    char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(trm_file_write_all(path, "0123456789", 10, true, &err), TRM_OK);
    assert_int_equal(trm_file_read_all(path, 9, &data, &bytes, &err), TRM_ERR_INPUT);
    assert_error(&err, path, "is larger than the 9 B allowed");
    assert_null(data);
    assert_int_equal(trm_file_read_all(path, 10, &data, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, 10);
    assert_int_equal(data[10], '\0');
    free(data);
    data = NULL;
    /* A file without a size: the limit counts what is read. */
    assert_int_equal(trm_file_read_all("/dev/zero", 1 << 20, &data, &bytes, &err), TRM_ERR_INPUT);
    assert_error(&err, "/dev/zero", "is larger than the 1 MiB allowed");
    assert_null(data);
    assert_int_equal(trm_file_read_all("/dev/null", 0, &data, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, 0);
    assert_string_equal(data, "");
    free(data);
}

static void large_files_come_back_whole(void **state)
{
    (void)state;
    enum { BYTES = 3000001 };
    const char *path = inside("large");
    struct trm_error err;
    char *data = malloc(BYTES), *back = NULL;
    size_t bytes = 0;
    assert_non_null(data);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (char)(i * 31 >> 3);
    assert_int_equal(trm_file_write_all(path, data, BYTES, true, &err), TRM_OK);
    assert_int_equal(trm_file_read_all(path, BYTES, &back, &bytes, &err), TRM_OK);
    assert_int_equal(bytes, BYTES);
    assert_memory_equal(data, back, BYTES);
    free(back);
    free(data);
}

static void write_all_shortens_a_longer_file(void **state)
{
    (void)state;
    const char *path = inside("shorter");
    struct trm_error err;
    assert_int_equal(trm_file_write_all(path, "a long text", 11, false, &err), TRM_OK);
    assert_int_equal(trm_file_write_all(path, "ab", 2, false, &err), TRM_OK);
    assert_content(path, "ab");
}

static void replace_swaps_the_content_and_leaves_no_temporary(void **state)
{
    (void)state;
    const char *path = inside("replaced");
    struct trm_error err;
    assert_int_equal(trm_file_replace(path, "old", 3, &err), TRM_OK);
    assert_int_equal(trm_file_replace(path, "newer", 5, &err), TRM_OK);
    assert_content(path, "newer");
    assert_false(trm_file_exists(inside("replaced.tmp")));
}

static void a_failed_replace_keeps_the_old_file(void **state)
{
    (void)state;
    const char *path = inside("kept");
    struct trm_error err;
    assert_int_equal(trm_file_replace(path, "old", 3, &err), TRM_OK);
    assert_int_equal(mkdir(inside("kept.tmp"), 0700), 0);
    assert_int_equal(trm_file_replace(path, "new", 3, &err), TRM_ERR_IO);
    assert_error(&err, "kept.tmp", "is a directory");
    assert_content(path, "old");

    /* The rename fails: its target is a directory that holds something. */
    assert_int_equal(trm_file_make_directories(inside("target/inner"), &err), TRM_OK);
    assert_int_equal(trm_file_replace(inside("target"), "new", 3, &err), TRM_ERR_IO);
    assert_error(&err, "could not rename", "is a directory");
    assert_false(trm_file_exists(inside("target.tmp")));
}

static void replace_works_on_a_name_without_directory(void **state)
{
    (void)state;
    char before[TRM_PATH_BYTES];
    struct trm_error err;
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(scratch), 0);
    enum trm_status status = trm_file_replace("bare", "x", 1, &err);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(status, TRM_OK);
    assert_content(inside("bare"), "x");
}

static void directories_are_made_with_their_parents(void **state)
{
    (void)state;
    struct trm_error err;
    struct stat info;
    static const char *const names[] = {"a/b/c", "a/b/c", "a/b//d/", "a"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(trm_file_make_directories(inside(names[i]), &err), TRM_OK);
        assert_int_equal(stat(inside(names[i]), &info), 0);
        assert_true(S_ISDIR(info.st_mode));
    }
    assert_int_equal(trm_file_make_directories("/", &err), TRM_OK);
    assert_int_equal(trm_file_make_directories("", &err), TRM_ERR_NOT_FOUND);

    const char *file = inside("a/file");
    assert_int_equal(trm_file_write_all(file, "", 0, false, &err), TRM_OK);
    assert_int_equal(trm_file_make_directories(inside("a/file/x"), &err), TRM_ERR_IO);
    assert_error(&err, file, "not a directory");
    assert_int_equal(trm_file_make_directories(file, &err), TRM_ERR_IO);
    assert_error(&err, file, "not a directory");
}

static void remove_tree_takes_all_and_follows_no_link(void **state)
{
    (void)state;
    struct trm_error err;
    assert_int_equal(trm_file_make_directories(inside("tree/x/y/z"), &err), TRM_OK);
    assert_int_equal(trm_file_make_directories(inside("outside"), &err), TRM_OK);
    assert_int_equal(trm_file_write_all(inside("outside/keep"), "k", 1, false, &err), TRM_OK);
    for (int i = 0; i < 100; i++) {
        char name[64];
        snprintf(name, sizeof name, "tree/x/file-%d", i);
        assert_int_equal(trm_file_write_all(inside(name), "x", 1, false, &err), TRM_OK);
    }
    assert_int_equal(symlink(inside("outside"), inside("tree/link")), 0);
    assert_int_equal(symlink("/nowhere", inside("tree/x/dangling")), 0);
    assert_int_equal(mkfifo(inside("tree/x/fifo"), 0600), 0);

    assert_int_equal(trm_file_remove_tree(inside("tree"), &err), TRM_OK);
    assert_false(trm_file_exists(inside("tree")));
    assert_content(inside("outside/keep"), "k");
    assert_int_equal(trm_file_remove_tree(inside("tree"), &err), TRM_OK);

    /* Neither a link nor a file is a tree. */
    const char *link = inside("link");
    assert_int_equal(symlink(inside("outside"), link), 0);
    assert_int_equal(trm_file_remove_tree(link, &err), TRM_ERR_IO);
    assert_int_equal(trm_file_remove_tree(inside("outside/keep"), &err), TRM_ERR_IO);
    assert_error(&err, "outside/keep", "not a directory");
    assert_content(inside("outside/keep"), "k");
}

static void remove_tree_gives_up_on_endless_depth(void **state)
{
    (void)state;
    struct trm_error err;
    char deep[TRM_PATH_BYTES] = "deep";
    for (int i = 0; i < 70; i++)
        strcat(deep, "/d");
    assert_int_equal(trm_file_make_directories(inside(deep), &err), TRM_OK);
    assert_int_equal(trm_file_remove_tree(inside("deep"), &err), TRM_ERR_IO);
    assert_error(&err, "deep/d/d/d", "too many levels");
    /* From further in, it is shallow enough. */
    assert_int_equal(trm_file_remove_tree(inside("deep/d/d/d/d/d/d/d/d/d/d/d"), &err), TRM_OK);
}

static void exists_tells_what_is_there(void **state)
{
    (void)state;
    struct trm_error err;
    assert_true(trm_file_exists(scratch));
    assert_false(trm_file_exists(inside("absent")));
    assert_int_equal(trm_file_write_all(inside("present"), "", 0, false, &err), TRM_OK);
    assert_true(trm_file_exists(inside("present")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_formatted_or_refused),
        cmocka_unit_test(plain_names_cannot_leave_their_directory),
        cmocka_unit_test(transfers_at_an_offset_meet),
        cmocka_unit_test(reading_past_the_end_says_how_much_is_missing),
        cmocka_unit_test(failing_calls_name_path_and_reason),
        cmocka_unit_test(read_all_keeps_its_limit),
        cmocka_unit_test(large_files_come_back_whole),
        cmocka_unit_test(write_all_shortens_a_longer_file),
        cmocka_unit_test(replace_swaps_the_content_and_leaves_no_temporary),
        cmocka_unit_test(a_failed_replace_keeps_the_old_file),
        cmocka_unit_test(replace_works_on_a_name_without_directory),
        cmocka_unit_test(directories_are_made_with_their_parents),
        cmocka_unit_test(remove_tree_takes_all_and_follows_no_link),
        cmocka_unit_test(remove_tree_gives_up_on_endless_depth),
        cmocka_unit_test(exists_tells_what_is_there),
    };
    return cmocka_run_group_tests_name("base/file", tests, make_scratch, remove_scratch);
}
