#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/formats/foreign.h"
#include "tools/formats/gpt2_names.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/llmc_model.h"

static void every_half_and_bfloat16_is_converted_exactly(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t half = (uint16_t)i;
        float single, bfloat;
        trm_foreign_convert(&half, TRM_FOREIGN_F16, 1, &single);
        trm_foreign_convert(&half, TRM_FOREIGN_BF16, 1, &bfloat);
        uint32_t bits, sign = i >> 15, exponent = (i >> 10) & 31, fraction = i & 1023;
        memcpy(&bits, &bfloat, sizeof bits);
        assert_int_equal(bits, i << 16);
        double expected =
            exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, (int)exponent - 25);
        if (exponent == 31)
            expected = fraction ? NAN : INFINITY;
        assert_int_equal(!!signbit(single), sign);
        if (isnan(expected))
            assert_true(isnan(single));
        else
            assert_true(fabs((double)single) == expected);
    }
}

static void names_are_those_of_hugging_face(void **state)
{
    (void)state;
    static const struct {
        const char *ours, *theirs;
        int part, group;
        bool transposed;
    } cases[] = {
        {"embedding.token.weight", "wte.weight", 0, 0, false},
        {"embedding.position.weight", "wpe.weight", 0, 1, false},
        {"layers.0.norm1.bias", "h.0.ln_1.bias", 0, 3, false},
        {"layers.11.attention.v.weight", "h.11.attn.c_attn.weight", 2, 4, true},
        {"layers.11.attention.k.bias", "h.11.attn.c_attn.bias", 1, 5, false},
        {"layers.7.attention.projection.weight", "h.7.attn.c_proj.weight", 0, 6, true},
        {"layers.7.mlp.up.weight", "h.7.mlp.c_fc.weight", 0, 10, true},
        {"layers.7.mlp.down.weight", "h.7.mlp.c_proj.weight", 0, 12, true},
        {"final_norm.bias", "ln_f.bias", 0, 15, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int layer = -1;
        char text[96];
        const struct trm_gpt2_name *name = trm_gpt2_name_find(cases[i].ours, &layer);
        assert_non_null(name);
        assert_string_equal(trm_gpt2_name_huggingface(name, layer, text, sizeof text),
                            cases[i].theirs);
        assert_int_equal(name->part, cases[i].part);
        assert_int_equal(name->llmc_group, cases[i].group);
        assert_int_equal(name->transposed, cases[i].transposed);
    }
    static const char *const none[] = {"layers.norm1.bias", "layers.0.norm3.bias", "norm1.bias",
                                       "layers.0.final_norm.bias", "layers.0"};
    int layer;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_null(trm_gpt2_name_find(none[i], &layer));
}

static const char sound[] = "\"n_layer\": 2, \"n_embd\": 8, \"n_head\": 2, \"n_positions\": 4, "
                            "\"vocab_size\": 11";

static void sizes_are_read_from_config_json(void **state)
{
    (void)state;
    static const struct {
        const char *more, *words; /* words NULL: sound, with ffn and epsilon */
        int64_t ffn;
        double epsilon;
    } cases[] = {
        {"", NULL, 32, 1e-5},
        {", \"n_inner\": null, \"n_ctx\": 4, \"model_type\": \"gpt2\"", NULL, 32, 1e-5},
        {", \"n_inner\": 24, \"layer_norm_epsilon\": 1e-06", NULL, 24, 1e-6},
        {", \"activation_function\": \"gelu_pytorch_tanh\"", NULL, 32, 1e-5},
        {", \"activation_function\": \"gelu\"", "\"gelu\", and models here have", 0, 0},
        {", \"model_type\": \"llama\"", "\"model_type\" is \"llama\"", 0, 0},
        {", \"tie_word_embeddings\": false", "\"tie_word_embeddings\" is not true", 0, 0},
        {", \"scale_attn_by_inverse_layer_idx\": true", "is not false", 0, 0},
        {", \"n_inner\": -1", "\"n_inner\" is -1", 0, 0},
        {", \"n_inner\": \"x\"", "\"n_inner\" holds a string", 0, 0},
        {", \"n_layer\": 3", "duplicate", 0, 0},
        {", ", "column", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        struct trm_gpt2_sizes sizes = {.layers = 77};
        struct trm_error err = {0};
        snprintf(text, sizeof text, "{%s%s}", sound, cases[i].more);
        enum trm_status status =
            trm_huggingface_sizes(text, strlen(text), "config.json", &sizes, &err);
        if (cases[i].words) {
            if (status != TRM_ERR_INPUT || !strstr(err.text, cases[i].words))
                fail_msg("%s: status %d, \"%s\"", cases[i].more, status, err.text);
            assert_int_equal(sizes.layers, 77);
            continue;
        }
        if (status != TRM_OK)
            fail_msg("%s: \"%s\"", cases[i].more, err.text);
        assert_int_equal(sizes.layers, 2);
        assert_int_equal(sizes.ffn, cases[i].ffn);
        assert_true(sizes.epsilon == cases[i].epsilon);
    }
}

static void a_written_config_is_read_back(void **state)
{
    (void)state;
    static const char yaml[] = "model: {num_layers: 3, hidden_size: 24, num_attention_heads: 6, "
                               "ffn_hidden_size: 50, seq_length: 9, vocab_size: 50304, "
                               "layernorm_epsilon: 3.3e-7}";
    struct trm_config *config = NULL, *again = NULL;
    struct trm_gpt2_sizes sizes = {0};
    struct trm_error err = {0};
    assert_int_equal(trm_foreign_config(yaml, "yaml", &config, &err), TRM_OK);
    char *text = trm_huggingface_config(config);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"eos_token_id\": 50256"));
    if (trm_huggingface_sizes(text, strlen(text), "config.json", &sizes, &err) != TRM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(sizes.layers, 3);
    assert_int_equal(sizes.hidden, 24);
    assert_int_equal(sizes.heads, 6);
    assert_int_equal(sizes.ffn, 50);
    assert_int_equal(sizes.positions, 9);
    assert_int_equal(sizes.vocabulary, 50304);
    assert_true(sizes.epsilon == 3.3e-7);
    free(text);
    text = trm_foreign_yaml(config);
    if (trm_foreign_config(text, "yaml", &again, &err) != TRM_OK)
        fail_msg("%s", err.text);
    assert_true(again->layernorm_epsilon == config->layernorm_epsilon);
    assert_int_equal(again->ffn_hidden_size, 50);
    free(text);
    trm_config_destroy(config);
    trm_config_destroy(again);
}

/* A file of `bytes` with the header of a llm.c model of 2 layers; its path. */
static char *make_llmc(const int32_t head[8], size_t bytes, char path[64])
{
    int32_t words[256] = {0};
    char zero[4096] = "";
    memcpy(words, head, 8 * sizeof *head);
    snprintf(path, 64, "/tmp/trm-llmc-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    fwrite(words, 1, bytes < sizeof words ? bytes : sizeof words, file);
    for (size_t done = sizeof words; done < bytes; done += sizeof zero)
        fwrite(zero, 1, bytes - done < sizeof zero ? bytes - done : sizeof zero, file);
    fclose(file);
    return path;
}

static void llmc_models_are_held_against_their_header(void **state)
{
    (void)state;
    /* 16 x 8 + 4 x 8, per layer 12 x 64 + 13 x 8, and 16 elements. */
    const size_t elements = 128 + 32 + 2 * (768 + 104) + 16;
    const struct {
        int32_t head[8];
        size_t bytes;
        const char *words; /* NULL: sound */
    } cases[] = {
        {{20240326, 3, 4, 11, 2, 2, 8, 16}, 1024 + elements * 4, NULL},
        {{20240326, 5, 4, 11, 2, 2, 8, 16}, 1024 + elements * 2, NULL},
        {{20240326, 3, 4, 11, 2, 2, 8, 16}, 1024 + elements * 4 - 1, "by its header it has"},
        {{20240326, 3, 4, 11, 2, 2, 8, 16}, 1024 + elements * 4 + 4, "by its header it has"},
        {{20240327, 3, 4, 11, 2, 2, 8, 16}, 1024, "begins with 20240327"},
        {{20240326, 1, 4, 11, 2, 2, 8, 0}, 1024, "of version 1;"},
        {{20240326, 3, 4, 11, 2, 2, 8, 10}, 1024, "padded vocabulary of 10 is below"},
        {{20240326, 3, 4, 11, 2, 3, 8, 16}, 1024, "num_attention_heads 3"},
        {{20240326, 3, 4, 11, -2, 2, 8, 16}, 1024, "num_layers"},
        {{20240326, 3, 4, 11, 2, 2, 0, 16}, 1024, "hidden_size"},
        {{20240326, 3, 4, 16777216, 1000, 1, 1048576, 2147483647}, 1024, "by its header it has"},
        {{20240326, 3, 4, 11, 2, 2, 8, 16}, 1023, "shorter than the header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[64];
        struct trm_error err = {0};
        struct trm_foreign foreign = {.fd = -1};
        make_llmc(cases[i].head, cases[i].bytes, path);
        enum trm_status status = trm_llmc_model_open(path, &foreign, &err);
        unlink(path);
        if ((cases[i].words == NULL) != (status == TRM_OK) ||
            (cases[i].words && (status != TRM_ERR_INPUT || !strstr(err.text, cases[i].words))))
            fail_msg("case %zu: status %d, \"%s\"", i, status, err.text);
        trm_foreign_close(&foreign);
    }
    struct trm_foreign foreign = {.fd = -1};
    assert_int_equal(trm_llmc_model_open("/nowhere/x.bin", &foreign, NULL), TRM_ERR_NOT_FOUND);
}

/* Every rectangle, of both orders, is what indexing says. */
static void rectangles_are_read_in_both_orders(void **state)
{
    (void)state;
    enum { ROWS = 37, COLUMNS = 21, PARTS = 3, LINE = ROWS * PARTS };
    char path[] = "/tmp/trm-foreign-XXXXXX";
    float *matrix = malloc(sizeof *matrix * LINE * COLUMNS), out[ROWS * COLUMNS];
    for (int i = 0; i < LINE * COLUMNS; i++)
        matrix[i] = (float)i;
    int fd = mkstemp(path);
    assert_int_equal(write(fd, matrix, sizeof *matrix * LINE * COLUMNS),
                     (ssize_t)(sizeof *matrix * LINE * COLUMNS));
    unlink(path);
    struct trm_tensor_spec spec = {.name = "t", .dims = 2, .rows = ROWS, .columns = COLUMNS};
    for (int turned = 0; turned < 2; turned++) {
        int64_t first = turned ? ROWS : ROWS * COLUMNS;
        struct trm_foreign_tensor tensor = {.offset = first * 4,
                                            .line = turned ? LINE : COLUMNS,
                                            .transposed = turned,
                                            .type = TRM_FOREIGN_F32};
        struct trm_foreign foreign = {
            .path = "m", .fd = fd, .tensor_count = 1, .specs = &spec, .tensors = &tensor};
        const struct trm_rect rects[] = {
            {0, 0, ROWS, COLUMNS}, {5, 0, 9, COLUMNS}, {3, 2, 30, 18}, {36, 20, 1, 1}};
        for (size_t i = 0; i < sizeof rects / sizeof *rects; i++) {
            struct trm_rect r = rects[i];
            assert_int_equal(trm_foreign_read(&foreign, 0, r, out, NULL), TRM_OK);
            for (int64_t row = 0; row < r.rows; row++)
                for (int64_t column = 0; column < r.columns; column++) {
                    int64_t a = r.row + row, b = r.column + column;
                    int64_t at = first + (turned ? b * LINE + a : a * COLUMNS + b);
                    assert_true(out[row * r.columns + column] == (float)at);
                }
        }
    }
    close(fd);
    free(matrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_and_bfloat16_is_converted_exactly),
        cmocka_unit_test(names_are_those_of_hugging_face),
        cmocka_unit_test(sizes_are_read_from_config_json),
        cmocka_unit_test(a_written_config_is_read_back),
        cmocka_unit_test(llmc_models_are_held_against_their_header),
        cmocka_unit_test(rectangles_are_read_in_both_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
