#include "tools/formats/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "trainer/config/text.h"
#include "trainer/model/model.h"

#define READ_ELEMENTS 32768
#define BLOCK_LINES   16 /* of a transposed matrix, read before they are scattered */

int64_t trm_foreign_type_bytes(enum trm_foreign_type type)
{
    return type == TRM_FOREIGN_F32 ? 4 : 2;
}

static uint32_t half_to_single(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31;
    uint32_t fraction = half & 1023;
    if (exponent == 31) /* infinity, NaN */
        return sign | 0x7f800000u | fraction << 13;
    if (exponent > 0)
        return sign | (exponent + 112) << 23 | fraction << 13;
    if (fraction == 0)
        return sign;
    /* Subnormal: float32 has room to make it normal. */
    for (exponent = 113; !(fraction & 1024); exponent--)
        fraction <<= 1;
    return sign | exponent << 23 | (fraction & 1023) << 13;
}

void trm_foreign_convert(const void *from, enum trm_foreign_type type, int64_t count, float *out)
{
    if (type == TRM_FOREIGN_F32) {
        memcpy(out, from, (size_t)count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const char *)from + i * 2, sizeof half);
        uint32_t bits = type == TRM_FOREIGN_BF16 ? (uint32_t)half << 16 : half_to_single(half);
        memcpy(&out[i], &bits, sizeof bits);
    }
}

/* `count` elements from element `first` of a tensor on. `raw` has room for them. */
static enum trm_status read_run(const struct trm_foreign *foreign,
                                const struct trm_foreign_tensor *tensor, int64_t first,
                                int64_t count, void *raw, float *out, struct trm_error *err)
{
    int64_t size = trm_foreign_type_bytes(tensor->type);
    enum trm_status status = trm_file_read_at(foreign->fd, raw, (size_t)(count * size),
                                              tensor->offset + first * size, foreign->path, err);
    if (status == TRM_OK)
        trm_foreign_convert(raw, tensor->type, count, out);
    return status;
}

/* Rows that lie in the file as they do here. */
static enum trm_status read_plain(const struct trm_foreign *foreign,
                                  const struct trm_foreign_tensor *tensor, struct trm_rect rect,
                                  char *raw, float *out, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    bool whole = rect.columns == tensor->line;
    int64_t length = whole ? rect.rows * rect.columns : rect.columns;
    for (int64_t row = 0; status == TRM_OK && row < (whole ? 1 : rect.rows); row++) {
        int64_t first = (rect.row + row) * tensor->line + rect.column;
        for (int64_t done = 0; status == TRM_OK && done < length; done += READ_ELEMENTS) {
            int64_t count = length - done < READ_ELEMENTS ? length - done : READ_ELEMENTS;
            status = read_run(foreign, tensor, first + done, count, raw,
                              out + row * rect.columns + done, err);
        }
    }
    return status;
}

/* The file's lines are our columns: a block of them at a time, so that what is written to a row of
 * ours are neighbours. */
static enum trm_status read_transposed(const struct trm_foreign *foreign,
                                       const struct trm_foreign_tensor *tensor,
                                       struct trm_rect rect, char *raw, float *out,
                                       struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    float *block = (float *)(void *)(raw + READ_ELEMENTS * sizeof(float));
    int64_t most = READ_ELEMENTS / BLOCK_LINES;
    for (int64_t row = 0; status == TRM_OK && row < rect.rows; row += most) {
        int64_t rows = rect.rows - row < most ? rect.rows - row : most;
        for (int64_t column = 0; status == TRM_OK && column < rect.columns; column += BLOCK_LINES) {
            int64_t lines =
                rect.columns - column < BLOCK_LINES ? rect.columns - column : BLOCK_LINES;
            for (int64_t l = 0; status == TRM_OK && l < lines; l++)
                status = read_run(foreign, tensor,
                                  (rect.column + column + l) * tensor->line + rect.row + row, rows,
                                  raw, block + l * most, err);
            for (int64_t r = 0; status == TRM_OK && r < rows; r++)
                for (int64_t l = 0; l < lines; l++)
                    out[(row + r) * rect.columns + column + l] = block[l * most + r];
        }
    }
    return status;
}

enum trm_status trm_foreign_read(const struct trm_foreign *foreign, int number,
                                 struct trm_rect rect, float *out, struct trm_error *err)
{
    const struct trm_foreign_tensor *tensor = &foreign->tensors[number];
    const struct trm_tensor_spec *spec = &foreign->specs[number];
    struct trm_rect whole = {0, 0, spec->rows, spec->columns};
    TRM_ASSERT(trm_rect_contains(whole, rect));
    char *raw = malloc(2 * READ_ELEMENTS * sizeof(float));
    if (raw == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for reading \"%s\"", foreign->path);
    enum trm_status status = tensor->transposed
                                 ? read_transposed(foreign, tensor, rect, raw, out, err)
                                 : read_plain(foreign, tensor, rect, raw, out, err);
    free(raw);
    return status;
}

char *trm_foreign_yaml(const struct trm_config *config)
{
    char epsilon[TRM_DOUBLE_BYTES], *text = NULL;
    int length =
        asprintf(&text,
                 "model:\n"
                 "  architecture: gpt2\n"
                 "  num_layers: %lld\n"
                 "  hidden_size: %lld\n"
                 "  ffn_hidden_size: %lld\n"
                 "  num_attention_heads: %lld\n"
                 "  seq_length: %lld\n"
                 "  vocab_size: %lld\n"
                 "  layernorm_epsilon: %s\n",
                 (long long)config->num_layers, (long long)config->hidden_size,
                 (long long)config->ffn_hidden_size, (long long)config->num_attention_heads,
                 (long long)config->seq_length, (long long)config->vocab_size,
                 trm_text_double(epsilon, config->layernorm_epsilon));
    return length < 0 ? NULL : text;
}

enum trm_status trm_foreign_config(const char *yaml, const char *name, struct trm_config **out,
                                   struct trm_error *err)
{
    static const char no_data[] = "data: {train_data_path: [none]}\n"; /* a check asks for some */
    struct trm_config *config = NULL;
    enum trm_status status = trm_config_create(&config, err);
    if (status == TRM_OK)
        status = trm_config_load_text(config, no_data, strlen(no_data), name, err);
    if (status == TRM_OK)
        status = trm_config_load_text(config, yaml, strlen(yaml), name, err);
    if (status == TRM_OK)
        status = trm_config_check(config, 0, err);
    if (status != TRM_OK) {
        trm_config_destroy(config);
        return status;
    }
    *out = config;
    return TRM_OK;
}

/* The sizes as a configuration, held against its ranges and against each other. */
static enum trm_status make_config(const struct trm_gpt2_sizes *sizes, struct trm_config **out,
                                   struct trm_error *err)
{
    struct trm_config given = {
        .num_layers = sizes->layers,
        .hidden_size = sizes->hidden,
        .ffn_hidden_size = sizes->ffn,
        .num_attention_heads = sizes->heads,
        .seq_length = sizes->positions,
        .vocab_size = sizes->vocabulary,
        .layernorm_epsilon = sizes->epsilon,
    };
    char *yaml = trm_foreign_yaml(&given);
    if (yaml == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a configuration");
    enum trm_status status = trm_foreign_config(yaml, "its sizes", out, err);
    free(yaml);
    return status;
}

static enum trm_status open_file(const char *path, int *out, struct trm_error *err)
{
    struct stat info;
    /* Without O_NONBLOCK a named pipe would hold up the open for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return trm_error_set(err, TRM_ERR_INPUT, "\"%s\" is not a regular file", path);
    }
    *out = fd;
    return TRM_OK;
}

enum trm_status trm_foreign_begin(const char *path, const struct trm_gpt2_sizes *sizes,
                                  struct trm_foreign *out, struct trm_error *err)
{
    struct trm_foreign made = {.fd = -1};
    enum trm_status status = trm_file_path(made.path, err, "%s", path);
    if (status == TRM_OK)
        status = open_file(path, &made.fd, err);
    if (status == TRM_OK) {
        status = make_config(sizes, &made.config, err);
        if (status == TRM_ERR_CONFIG) {
            trm_error_prefix(err, "\"%s\" is not a model that can be had here", path);
            status = err->status = TRM_ERR_INPUT;
        }
    }
    if (status == TRM_OK) {
        made.tensor_count = trm_model_declare(made.config, 1, NULL, 0);
        made.specs = calloc((size_t)made.tensor_count, sizeof *made.specs);
        made.tensors = calloc((size_t)made.tensor_count, sizeof *made.tensors);
        if (made.specs == NULL || made.tensors == NULL)
            status =
                trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d tensors", made.tensor_count);
    }
    if (status != TRM_OK) {
        trm_foreign_close(&made);
        return status;
    }
    trm_model_declare(made.config, 1, made.specs, made.tensor_count);
    *out = made;
    return TRM_OK;
}

void trm_foreign_close(struct trm_foreign *foreign)
{
    if (foreign->fd >= 0)
        close(foreign->fd);
    foreign->fd = -1;
    trm_config_destroy(foreign->config);
    free(foreign->specs);
    free(foreign->tensors);
    foreign->config = NULL;
    foreign->specs = NULL;
    foreign->tensors = NULL;
}
