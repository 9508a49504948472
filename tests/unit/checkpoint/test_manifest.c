#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/manifest.h"

static const struct trm_ckpt_file sample_files[2] = {
    {"shard-00000.h5",
     0,
     3000000,
     7,
     0x1122334455667788u,
     {2048, 256},
     {4096, 392},
     {8192, 56},
     {{1 << 20, 4000}, {2 << 20, 4000}, {0, 0}}},
    {"shard-00002.h5", 2, 9000, 1, 1, {100, 256}, {400, 56}, {500, 8}, {{600, 8}, {0, 0}, {0, 0}}},
};

/* The fixture's tensors in two made-up files. Borrows; not to be destroyed, but for by_name. */
static struct trm_catalog sample_catalog(struct trm_ckpt_file files[2])
{
    memcpy(files, sample_files, sizeof(sample_files));
    return (struct trm_catalog){.state = fixture_state(1200),
                                .tensor_count = FIXTURE_TENSORS,
                                .tensors = (struct trm_ckpt_tensor *)fixture_tensors,
                                .file_count = 2,
                                .shard_count = 3,
                                .files = files,
                                .kinds = {true, true, true},
                                .nonce = 0xa5a5000000000001u,
                                .written_at = "2026-03-01T12:04:31Z"};
}

static char *sample_text(size_t *bytes)
{
    struct trm_ckpt_file files[2];
    struct trm_catalog catalog = sample_catalog(files);
    struct trm_error err = {0};
    char *text = NULL;
    assert_ok(trm_manifest_format(&catalog, &text, bytes, &err), err);
    return text;
}

static void a_manifest_comes_back_as_it_was(void **state)
{
    (void)state;
    size_t bytes = 0;
    char *text = sample_text(&bytes);
    struct trm_error err = {0};
    struct trm_catalog back;
    assert_ok(trm_manifest_parse(text, bytes, &back, &err), err);
    struct trm_ckpt_state expected = fixture_state(1200);
    assert_string_equal(back.state.run_id, expected.run_id);
    assert_int_equal(back.state.lineage, 1);
    assert_int_equal(back.state.attempt, 3);
    assert_int_equal(back.state.step, 1200);
    assert_int_equal(back.state.next_sample, expected.next_sample);
    assert_int_equal(back.state.data_hash, expected.data_hash);
    assert_true(back.state.last_loss == expected.last_loss);
    assert_true(isnan(back.state.valid_loss));
    assert_int_equal(back.state.skip_count, 2);
    assert_memory_equal(back.state.skips, expected.skips, 2 * sizeof(*expected.skips));
    assert_int_equal(back.state.recent_loss_count, 3);
    assert_memory_equal(back.state.recent_losses, expected.recent_losses, 3 * sizeof(double));
    assert_int_equal(back.state.skips_in_row, 2);
    assert_string_equal(back.state.config_yaml, expected.config_yaml);
    assert_string_equal(back.state.fingerprint, expected.fingerprint);
    assert_int_equal(back.state.data_parallel_size, 2);
    assert_int_equal(back.tensor_count, FIXTURE_TENSORS);
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        assert_string_equal(back.tensors[i].name, fixture_tensors[i].name);
        assert_int_equal(back.tensors[i].dims, fixture_tensors[i].dims);
        assert_int_equal(back.tensors[i].rows, fixture_tensors[i].rows);
        assert_int_equal(back.tensors[i].columns, fixture_tensors[i].columns);
        assert_int_equal(trm_catalog_find(&back, fixture_tensors[i].name), i);
    }
    assert_int_equal(trm_catalog_find(&back, "nothing"), -1);
    assert_int_equal(back.file_count, 2);
    assert_memory_equal(back.files, sample_files, sizeof(sample_files));
    assert_int_equal(back.shard_count, 3);
    assert_int_equal(back.nonce, 0xa5a5000000000001u);
    assert_string_equal(back.written_at, "2026-03-01T12:04:31Z");
    trm_catalog_destroy(&back);
    free(text);
}

static void every_flipped_bit_and_every_cut_is_noticed(void **state)
{
    (void)state;
    size_t bytes = 0;
    char *text = sample_text(&bytes);
    struct trm_error err;
    struct trm_catalog back;
    for (size_t i = 0; i < bytes; i++) {
        text[i] ^= (char)(1 << i % 8);
        assert_int_equal(trm_manifest_parse(text, bytes, &back, &err), TRM_ERR_CORRUPT);
        text[i] ^= (char)(1 << i % 8);
    }
    for (size_t length = 0; length < bytes; length++)
        assert_int_equal(trm_manifest_parse(text, length, &back, &err), TRM_ERR_CORRUPT);
    assert_int_equal(trm_manifest_parse(text, 0, &back, &err), TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "it does not end in its digest: cut short or not a manifest");
    free(text);
}

/* `text` with the first `from` replaced by `to`, the digest left off; owned. */
static char *edited(const char *text, size_t bytes, const char *from, const char *to)
{
    size_t length = bytes - TRM_MANIFEST_SEAL_BYTES;
    char *copy = calloc(1, length + strlen(to) + 1);
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t before = (size_t)(at - text), after = before + strlen(from);
    assert_true(after <= length);
    memcpy(copy, text, before);
    memcpy(copy + before, to, strlen(to));
    memcpy(copy + before + strlen(to), text + after, length - after);
    return copy;
}

struct hostile {
    const char *from, *to;
    enum trm_status status;
    const char *sentence; /* NULL: Jansson's own words, not ours to fix */
};

static const struct hostile hostile[] = {
    {"\"format\": \"trireme checkpoint\"", "\"format\": \"something\"", TRM_ERR_MISMATCH,
     "its format is \"something\", not \"trireme checkpoint\""},
    {"\"format_version\": 1", "\"format_version\": 2", TRM_ERR_MISMATCH,
     "it has format version 2; this program reads version 1"},
    {"\"format_version\": 1", "\"format_version\": \"1\"", TRM_ERR_CORRUPT,
     "the key \"format_version\" holds a string, but needs an integer"},
    {"\"step\": 1200,\n", "", TRM_ERR_CORRUPT, "the key \"step\" is missing"},
    {"\"step\": 1200", "\"step\": -1", TRM_ERR_CORRUPT,
     "the key \"step\" is -1, outside 0 to 9223372036854775807"},
    {"\"step\": 1200", "\"step\": 1200.5", TRM_ERR_CORRUPT,
     "the key \"step\" holds a fraction, but needs an integer"},
    {"\"step\": 1200", "\"step\": 99999999999999999999", TRM_ERR_CORRUPT, NULL},
    {"\"step\": 1200", "\"step\": 1200,\n\"step\": 1201", TRM_ERR_CORRUPT, NULL},
    {"\"next_sample\": 9600", "\"next_sample\": -5", TRM_ERR_CORRUPT,
     "the key \"next_sample\" is -5, outside 0 to 9223372036854775807"},
    {"\"run_id\": \"run-a1b2\"", "\"run_id\": \"../run\"", TRM_ERR_CORRUPT,
     "run_id \"../run\" is not made of letters, digits, '.', '_' and '-'"},
    {"\"run_id\": \"run-a1b2\"",
     "\"run_id\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", TRM_ERR_CORRUPT,
     "\"run_id\" has 50 characters, over 39"},
    {"\"run_id\": \"run-a1b2\"", "\"run_id\": \"a\\u0000b\"", TRM_ERR_CORRUPT, NULL},
    {"\"data_hash\": \"fedc", "\"data_hash\": \"FEDC", TRM_ERR_CORRUPT,
     "the key \"data_hash\" is \"FEDCba98765436c0\", not 16 hexadecimal digits in lower case"},
    {"\"last_loss\": 2.8", "\"last_loss\": \"low\", \"x\": 2.8", TRM_ERR_CORRUPT,
     "the key \"last_loss\" holds a string, but needs a number"},
    {"\"data_parallel_size\": 2", "\"data_parallel_size\": 0", TRM_ERR_CORRUPT,
     "the key \"data_parallel_size\" is 0, outside 1 to 2147483647"},
    {"[[5, 2], [100, 1]]", "[[5, 2], [6, 1]]", TRM_ERR_CORRUPT,
     "skip 1 [6, 1] is not a range behind the one before it"},
    {"[[5, 2], [100, 1]]", "[[5, 9223372036854775807]]", TRM_ERR_CORRUPT,
     "skip 0 [5, 9223372036854775807] is not a range behind the one before it"},
    {"[[5, 2], [100, 1]]", "[[5]]", TRM_ERR_CORRUPT, "a skip is not a pair of integers"},
    {"{\"recent_losses\": [3.0, ", "{\"recent_losses\": [\"3\", ", TRM_ERR_CORRUPT,
     "recent loss 0 is not a number"},
    {"\"skips_in_row\": 2", "\"skips_in_row\": -2", TRM_ERR_CORRUPT,
     "the key \"skips_in_row\" is -2, outside 0 to 2147483647"},
    {"\"guard\": {", "\"guard\": 1, \"more\": {", TRM_ERR_CORRUPT,
     "the key \"guard\" holds an integer, but needs an object"},
    {"\"kinds\": [\"parameter\"", "\"kinds\": [\"gradient\"", TRM_ERR_CORRUPT,
     "kinds: \"gradient\" is not a kind of state"},
    {"\"kinds\": [\"parameter\", ", "\"kinds\": [", TRM_ERR_CORRUPT,
     "kinds: \"parameter\" is missing"},
    {"\"shard_count\": 3", "\"shard_count\": 70000", TRM_ERR_CORRUPT,
     "shard_count is 70000, not between 1 and 65536"},
    {"\"name\": \"tok_embed\"", "\"name\": \"../../etc/passwd\"", TRM_ERR_CORRUPT,
     "tensor 0: name \"../../etc/passwd\" is not made of letters, digits, '.', '_' and '-'"},
    {"\"name\": \"tok_embed\"", "\"name\": \"\"", TRM_ERR_CORRUPT,
     "tensor 0: name \"\" is not made of letters, digits, '.', '_' and '-'"},
    {"\"name\": \"tok_embed\"", "\"name\": \"scalar\"", TRM_ERR_CORRUPT,
     "tensor \"scalar\" is listed twice"},
    {"\"name\": \"tok_embed\"", "\"name\": 7", TRM_ERR_CORRUPT,
     "tensor 0: the key \"name\" holds an integer, but needs a string"},
    {"\"type\": \"float32\"", "\"type\": \"float16\"", TRM_ERR_CORRUPT,
     "tensor 0: type \"float16\" is not known"},
    {"\"type\": \"float32\"", "\"type\": \"float64\"", TRM_ERR_CORRUPT,
     "tensor \"layers.0.attention.q.weight\" is float32 but tensor \"tok_embed\" is float64: all "
     "must have one type"},
    {"[301, 17]", "[301, -17]", TRM_ERR_CORRUPT,
     "tensor \"tok_embed\": dimension 1 is -17, not between 1 and 2^36"},
    {"[301, 17]", "[0, 17]", TRM_ERR_CORRUPT,
     "tensor \"tok_embed\": dimension 0 is 0, not between 1 and 2^36"},
    {"[301, 17]", "[9223372036854775807, 2]", TRM_ERR_CORRUPT,
     "tensor \"tok_embed\": dimension 0 is 9223372036854775807, not between 1 and 2^36"},
    {"[301, 17]", "[68719476736, 68719476736]", TRM_ERR_CORRUPT,
     "tensor \"tok_embed\" of 68719476736 x 68719476736 brings the tensors to over 2^44 elements"},
    {"[301, 17]", "[301, 17.0]", TRM_ERR_CORRUPT,
     "tensor 0: \"shape\" holds something else than integers"},
    {"[301, 17]", "[]", TRM_ERR_CORRUPT, "tensor \"tok_embed\" has 0 dimensions, not 1 or 2"},
    {"[301, 17]", "[3, 3, 3]", TRM_ERR_CORRUPT,
     "tensor 0: the key \"shape\" holds 3 entries, more than the 2 allowed"},
    {"\"name\": \"shard-00000.h5\"", "\"name\": \"../shard-00000.h5\"", TRM_ERR_CORRUPT,
     "file name \"../shard-00000.h5\" is not a plain name inside the checkpoint"},
    {"\"name\": \"shard-00000.h5\"", "\"name\": \"/etc/shadow\"", TRM_ERR_CORRUPT,
     "file name \"/etc/shadow\" is not a plain name inside the checkpoint"},
    {"\"name\": \"shard-00000.h5\"", "\"name\": \"other.h5\"", TRM_ERR_CORRUPT,
     "file \"other.h5\" is not called \"shard-00000.h5\""},
    {"\"name\": \"shard-00000.h5\"", "\"name\": \"shard-00002.h5\"", TRM_ERR_CORRUPT,
     "file \"shard-00002.h5\" is listed twice or out of order"},
    {"\"name\": \"shard-00000.h5\"", "\"name\": \"shard-00003.h5\"", TRM_ERR_CORRUPT,
     "file \"shard-00003.h5\": shard 3 is not between 0 and 2"},
    {"\"bytes\": 3000000", "\"bytes\": -3", TRM_ERR_CORRUPT,
     "file 0: the key \"bytes\" is -3, outside 1 to 9223372036854775807"},
    {"\"slice_count\": 7", "\"slice_count\": 4194305", TRM_ERR_CORRUPT,
     "file 0: the key \"slice_count\" is 4194305, outside 1 to 4194304"},
    {"\"slice_count\": 7", "\"slice_count\": 8", TRM_ERR_CORRUPT,
     "file \"shard-00000.h5\": slices has 392 bytes, not 448"},
    {"\"slices\": [4096, 392]", "\"slices\": [9223372036854775800, 392]", TRM_ERR_CORRUPT,
     "file \"shard-00000.h5\": slices at [9223372036854775800, 392] lies outside its 3000000 "
     "bytes"},
    {"\"checksums\": [8192, 56]", "\"checksums\": [-8, 56]", TRM_ERR_CORRUPT,
     "file \"shard-00000.h5\": checksums at [-8, 56] lies outside its 3000000 bytes"},
    {"\"identity\": [2048, 256]", "\"identity\": [2048, 255]", TRM_ERR_CORRUPT,
     "file \"shard-00000.h5\": identity has 255 bytes, not 256"},
    {"\"parameter\": [1048576, 4000]", "\"parameter\": [2999000, 4000]", TRM_ERR_CORRUPT,
     "file \"shard-00000.h5\": parameter at [2999000, 4000] lies outside its 3000000 bytes"},
    {"\"parameter\": [1048576, 4000]", "\"parameter\": 5", TRM_ERR_CORRUPT,
     "file 0: parameter is not a pair of integers"},
    {"\"table_digest\": \"1122334455667788\"", "\"table_digest\": 1", TRM_ERR_CORRUPT,
     "file 0: the key \"table_digest\" holds an integer, but needs a string"},
    {"\"files\": [\n{", "\"files\": [\n5, {", TRM_ERR_CORRUPT,
     "file 0: an integer stands where an object with \"name\" should"},
    {"{\n", "[\n", TRM_ERR_CORRUPT, NULL},
};

static void hostile_manifests_are_refused_each_in_its_own_words(void **state)
{
    (void)state;
    size_t bytes = 0;
    char *text = sample_text(&bytes);
    int wrong = 0;
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
        char *plain = edited(text, bytes, hostile[i].from, hostile[i].to), *sealed = NULL;
        size_t sealed_bytes = 0;
        struct trm_error err = {0};
        struct trm_catalog back = {0};
        assert_ok(trm_manifest_seal(plain, &sealed, &sealed_bytes, &err), err);
        enum trm_status status = trm_manifest_parse(sealed, sealed_bytes, &back, &err);
        if (status != hostile[i].status ||
            (hostile[i].sentence != NULL && strcmp(err.text, hostile[i].sentence) != 0)) {
            print_error("%s -> %s: %s: %s\n", hostile[i].from, hostile[i].to,
                        trm_status_name(status), err.text);
            wrong++;
        }
        if (status == TRM_OK)
            trm_catalog_destroy(&back);
        free(plain);
        free(sealed);
    }
    assert_int_equal(wrong, 0);
    free(text);
}

/* Checkpoints from before there was such a member are read, and what keeps nothing writes none. */
static void a_manifest_without_a_guard_keeps_no_losses(void **state)
{
    (void)state;
    struct trm_ckpt_file files[2];
    struct trm_error err = {0};
    struct trm_catalog catalog = sample_catalog(files), back;
    char *text = NULL;
    size_t bytes = 0;
    catalog.state.recent_loss_count = catalog.state.skips_in_row = 0;
    assert_ok(trm_manifest_format(&catalog, &text, &bytes, &err), err);
    assert_null(strstr(text, "guard"));
    assert_ok(trm_manifest_parse(text, bytes, &back, &err), err);
    assert_int_equal(back.state.recent_loss_count, 0);
    assert_int_equal(back.state.skips_in_row, 0);
    trm_catalog_destroy(&back);
    free(text);
}

static void more_losses_than_are_kept_are_refused(void **state)
{
    (void)state;
    size_t bytes = 0, sealed_bytes = 0, used = 0, room = 4096;
    char *text = sample_text(&bytes), *many = calloc(1, room), *sealed = NULL;
    struct trm_error err = {0};
    struct trm_catalog back;
    used += (size_t)snprintf(many, room, "\"recent_losses\": [");
    for (int i = 0; i < TRM_CKPT_MAX_LOSSES; i++)
        used += (size_t)snprintf(many + used, room - used, "1.5, ");
    char *plain = edited(text, bytes, "\"recent_losses\": [", many);
    assert_ok(trm_manifest_seal(plain, &sealed, &sealed_bytes, &err), err);
    assert_int_equal(trm_manifest_parse(sealed, sealed_bytes, &back, &err), TRM_ERR_CORRUPT);
    assert_string_equal(err.text, "the key \"recent_losses\" holds 259 entries, more than the 256 "
                                  "allowed");
    free(plain);
    free(sealed);
    free(many);
    free(text);
}

static void a_million_tensors_are_refused(void **state)
{
    (void)state;
    size_t bytes = 0, sealed_bytes = 0, room = (size_t)64 << 20;
    char *text = sample_text(&bytes), *many = malloc(room), *sealed = NULL;
    size_t used = 0;
    many[0] = '\0';
    for (int i = 0; i < 1000000; i++)
        used += (size_t)snprintf(many + used, room - used, "{\"name\":\"t%d\"},", i);
    snprintf(many + used, room - used, "\n{\"name\": \"tok_embed\"");
    char *plain = edited(text, bytes, "{\"name\": \"tok_embed\"", many);
    struct trm_error err = {0};
    struct trm_catalog back;
    assert_ok(trm_manifest_seal(plain, &sealed, &sealed_bytes, &err), err);
    assert_int_equal(trm_manifest_parse(sealed, sealed_bytes, &back, &err), TRM_ERR_CORRUPT);
    assert_string_equal(err.text,
                        "the key \"tensors\" holds 1000005 entries, more than the 100000 allowed");
    free(plain);
    free(sealed);
    free(many);
    free(text);
}

static void what_would_not_be_read_back_is_not_written(void **state)
{
    (void)state;
    struct trm_ckpt_file files[2];
    struct trm_error err;
    char *text = NULL;
    size_t bytes = 0;
    struct trm_catalog catalog = sample_catalog(files);
    catalog.state.step = -4;
    assert_int_equal(trm_manifest_format(&catalog, &text, &bytes, &err), TRM_ERR_CORRUPT);
    assert_null(text);
    catalog = sample_catalog(files);
    catalog.state.config_yaml = (char[]){"latin1: \xe9"};
    assert_int_not_equal(trm_manifest_format(&catalog, &text, &bytes, &err), TRM_OK);
    assert_non_null(strstr(err.text, "UTF-8"));
    assert_null(text);
}

/* Slices are no part of it: a hundred times as many change a number's digits. */
static void its_size_does_not_grow_with_slices(void **state)
{
    (void)state;
    struct trm_ckpt_file files[2];
    struct trm_error err = {0};
    char *few = NULL, *many = NULL;
    size_t few_bytes = 0, many_bytes = 0;
    struct trm_catalog catalog = sample_catalog(files);
    assert_ok(trm_manifest_format(&catalog, &few, &few_bytes, &err), err);
    files[0].slice_count = 4000;
    files[0].slices = (struct trm_ckpt_range){4096, 4000 * 56};
    files[0].checksums = (struct trm_ckpt_range){500000, 4000 * 8};
    assert_ok(trm_manifest_format(&catalog, &many, &many_bytes, &err), err);
    assert_in_range(many_bytes, few_bytes, few_bytes + 16);
    free(few);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_comes_back_as_it_was),
        cmocka_unit_test(every_flipped_bit_and_every_cut_is_noticed),
        cmocka_unit_test(hostile_manifests_are_refused_each_in_its_own_words),
        cmocka_unit_test(a_manifest_without_a_guard_keeps_no_losses),
        cmocka_unit_test(more_losses_than_are_kept_are_refused),
        cmocka_unit_test(a_million_tensors_are_refused),
        cmocka_unit_test(what_would_not_be_read_back_is_not_written),
        cmocka_unit_test(its_size_does_not_grow_with_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
