#include "tests/unit/config/support.h"

#include "trainer/config/text.h"

static void check_finds_the_first_byte_that_is_not_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        bool breaks;
        long bad; /* -1: none */
    } cases[] = {
        {"", 0, false, -1},
        {"plain ~", 7, false, -1},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\xa3", 9, false, -1},
        {"a\tb", 3, true, -1},
        {"a\tb", 3, false, 1},
        {"ab\n", 3, false, 2},
        {"ab\r\n", 4, true, -1},
        {"\0", 1, true, 0},
        {"a\x7f", 2, true, 1},
        {"a\xc2\x80", 3, true, 1},        /* C1 control */
        {"\xc2\x85", 2, false, 0},        /* next line */
        {"\xe2\x80\xa8", 3, false, 0},    /* line separator */
        {"\x80", 1, true, 0},             /* stray continuation */
        {"\xc0\xaf", 2, true, 0},         /* overlong */
        {"\xe0\x80\xaf", 3, true, 0},     /* overlong */
        {"\xed\xa0\x80", 3, true, 0},     /* surrogate */
        {"\xef\xbf\xbe", 3, true, 0},     /* U+FFFE */
        {"\xef\xbb\xbf", 3, true, 0},     /* byte-order mark */
        {"\xf4\x90\x80\x80", 4, true, 0}, /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 5, true, 0},
        {"ab\xe2\x82", 4, true, 2}, /* cut short */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t offset = 99;
        bool good = trm_text_check(cases[i].text, cases[i].bytes, cases[i].breaks, &offset);
        assert_int_equal(good, cases[i].bad < 0);
        assert_int_equal(offset, cases[i].bad < 0 ? 99 : cases[i].bad);
    }
}

static void show_escapes_and_cuts(void **state)
{
    (void)state;
    char out[TRM_SHOW_BYTES], long_text[1001], noise[301];
    assert_string_equal(trm_text_show(out, "caf\xc3\xa9\n\xff"), "caf\xc3\xa9\\x0a\\xff");
    memset(long_text, 'a', 1000);
    long_text[1000] = '\0';
    assert_int_equal(strlen(trm_text_show(out, long_text)), 63);
    assert_string_equal(out + 60, "...");
    memset(noise, 0xff, 300);
    noise[300] = '\0';
    assert_int_equal(strlen(trm_text_show(out, noise)), 243);
}

static void doubles_are_short_and_read_back_equal(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0, "0"},
        {0.1, "0.1"},
        {6e-4, "0.0006"},
        {1e-5, "1e-05"},
        {100, "100"},
        {1e6, "1e+06"},
        {0.999999, "0.999999"},
        {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1e-20, "1e-20"},
    };
    char out[TRM_DOUBLE_BYTES];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_string_equal(trm_text_double(out, cases[i].value), cases[i].text);
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        double value;
        uint64_t finite = bits & ~(UINT64_C(1) << 62); /* below 2 */
        memcpy(&value, &finite, sizeof(value));
        assert_true(strtod(trm_text_double(out, value), NULL) == value);
    }
}

static const char *suggest(const char *word)
{
    static const char *const words[] = {
        "lr", "min_lr", "hidden_size", "ffn_hidden_size", "num_layers", "num_attention_heads"};
    struct trm_suggestion suggestion;
    trm_suggestion_begin(&suggestion, word);
    for (size_t i = 0; i < COUNT_OF(words); i++)
        trm_suggestion_consider(&suggestion, words[i]);
    const char *found = trm_suggestion_end(&suggestion);
    return found ? found : "none";
}

static void suggestion_is_the_nearest_word_or_none(void **state)
{
    (void)state;
    char long_word[500];
    assert_string_equal(suggest("rl"), "lr");
    assert_string_equal(suggest("hiden_size"), "hidden_size");
    assert_string_equal(suggest("hidden_sizes"), "hidden_size");
    assert_string_equal(suggest("layers"), "num_layers");
    assert_string_equal(suggest("heads"), "num_attention_heads");
    assert_string_equal(suggest("size"), "none"); /* two have it */
    assert_string_equal(suggest("batch"), "none");
    assert_string_equal(suggest(""), "none");
    memset(long_word, 'a', sizeof(long_word) - 1);
    long_word[sizeof(long_word) - 1] = '\0';
    assert_string_equal(suggest(long_word), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_finds_the_first_byte_that_is_not_text),
        cmocka_unit_test(show_escapes_and_cuts),
        cmocka_unit_test(doubles_are_short_and_read_back_equal),
        cmocka_unit_test(suggestion_is_the_nearest_word_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
