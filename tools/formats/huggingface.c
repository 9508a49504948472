#include "tools/formats/huggingface.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tools/formats/gpt2_names.h"
#include "tools/formats/safetensors.h"
#include "trainer/config/text.h"

#define CONFIG_MAX_BYTES ((size_t)1 << 20)
#define COMPARE_BYTES    65536
#define SHAPE_BYTES      192   /* 8 numbers of at most 19 digits */
#define END_OF_TEXT      50256 /* of GPT-2's own vocabulary */

/* Keys whose other values make another model than the one here. A missing one is the default. */
static enum trm_status check_switches(const json_t *config, struct trm_error *err)
{
    static const struct {
        const char *key;
        bool needed;
    } switches[] = {
        {"scale_attn_weights", true},
        {"tie_word_embeddings", true},
        {"scale_attn_by_inverse_layer_idx", false},
        {"add_cross_attention", false},
    };
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        const json_t *value = json_object_get(config, switches[i].key);
        if (value == NULL || (json_is_boolean(value) && json_is_true(value) == switches[i].needed))
            continue;
        return trm_error_set(err, TRM_ERR_INPUT, "\"%s\" is not %s, which models here need",
                             switches[i].key, switches[i].needed ? "true" : "false");
    }
    return TRM_OK;
}

static enum trm_status check_word(const json_t *config, const char *key, const char *first,
                                  const char *second, struct trm_error *err)
{
    const json_t *value = json_object_get(config, key);
    const char *text = json_string_value(value);
    if (value == NULL || (text && (strcmp(text, first) == 0 || strcmp(text, second) == 0)))
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_INPUT, "\"%s\" is \"%.40s\", and models here have \"%s\"",
                         key, text ? text : "?", first);
}

static enum trm_status read_sizes(const json_t *config, struct trm_gpt2_sizes *sizes,
                                  struct trm_error *err)
{
    const struct {
        const char *key;
        int64_t *value;
    } numbers[] = {
        {"n_layer", &sizes->layers},        {"n_embd", &sizes->hidden},
        {"n_head", &sizes->heads},          {"n_positions", &sizes->positions},
        {"vocab_size", &sizes->vocabulary},
    };
    enum trm_status status = check_word(config, "model_type", "gpt2", "gpt2", err);
    if (status == TRM_OK)
        status = check_word(config, "activation_function", "gelu_new", "gelu_pytorch_tanh", err);
    if (status == TRM_OK)
        status = check_switches(config, err);
    for (size_t i = 0; status == TRM_OK && i < sizeof numbers / sizeof *numbers; i++)
        status = trm_json_get_int(config, numbers[i].key, 1, INT32_MAX, numbers[i].value, err);
    sizes->ffn = 4 * sizes->hidden;
    if (status == TRM_OK && !json_is_null(json_object_get(config, "n_inner")) &&
        json_object_get(config, "n_inner") != NULL)
        status = trm_json_get_int(config, "n_inner", 1, INT32_MAX, &sizes->ffn, err);
    sizes->epsilon = 1e-5;
    if (status == TRM_OK && json_object_get(config, "layer_norm_epsilon") != NULL)
        status = trm_json_get_double(config, "layer_norm_epsilon", &sizes->epsilon, err);
    return status;
}

enum trm_status trm_huggingface_sizes(const char *text, size_t bytes, const char *name,
                                      struct trm_gpt2_sizes *sizes, struct trm_error *err)
{
    json_t *config = NULL;
    struct trm_error reason = {0};
    struct trm_gpt2_sizes read = {0};
    enum trm_status status = trm_json_parse(text, bytes, name, &config, &reason);
    if (status == TRM_OK)
        status = read_sizes(config, &read, &reason);
    json_decref(config);
    if (status == TRM_OK)
        *sizes = read;
    else
        status = trm_error_set(err, status == TRM_ERR_CORRUPT ? TRM_ERR_INPUT : status,
                               "could not read \"%s\": %s", name, reason.text);
    return status;
}

static const struct trm_safetensors_entry *find(const struct trm_safetensors *tensors,
                                                const char *name)
{
    char prefixed[TRM_SAFETENSORS_NAME_BYTES];
    const struct trm_safetensors_entry *entry = trm_safetensors_find(tensors, name);
    if (entry != NULL)
        return entry;
    snprintf(prefixed, sizeof prefixed, TRM_HUGGINGFACE_PREFIX "%s", name);
    return trm_safetensors_find(tensors, prefixed);
}

/* "[48, 144]" */
static char *shape_text(int dims, const int64_t *shape, char text[SHAPE_BYTES])
{
    int used = snprintf(text, SHAPE_BYTES, "[");
    for (int i = 0; i < dims; i++)
        used += snprintf(text + used, SHAPE_BYTES - (size_t)used, "%s%" PRId64, i ? ", " : "",
                         shape[i]);
    snprintf(text + used, SHAPE_BYTES - (size_t)used, "]");
    return text;
}

/* Where the elements of one of our tensors lie in `entry`. */
static enum trm_status place_tensor(const struct trm_tensor_spec *spec,
                                    const struct trm_gpt2_name *name,
                                    const struct trm_safetensors_entry *entry,
                                    struct trm_foreign_tensor *out, struct trm_error *err)
{
    int64_t out_size = spec->rows * name->parts;
    int64_t shape[2] = {out_size, spec->columns};
    char there[SHAPE_BYTES], here[SHAPE_BYTES];
    if (name->transposed) {
        shape[0] = spec->columns;
        shape[1] = out_size;
    }
    if (entry->type == TRM_SAFETENSORS_OTHER)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "tensor \"%s\" is not float32, float16 or bfloat16", entry->name);
    if (entry->dims != spec->dims || entry->shape[0] != shape[0] ||
        (spec->dims == 2 && entry->shape[1] != shape[1]))
        return trm_error_set(err, TRM_ERR_INPUT,
                             "tensor \"%s\" has the shape %s; by " TRM_HUGGINGFACE_CONFIG
                             " it has %s",
                             entry->name, shape_text(entry->dims, entry->shape, there),
                             shape_text(spec->dims, spec->dims == 1 ? &out_size : shape, here));
    enum trm_foreign_type type = entry->type == TRM_SAFETENSORS_F32   ? TRM_FOREIGN_F32
                                 : entry->type == TRM_SAFETENSORS_F16 ? TRM_FOREIGN_F16
                                                                      : TRM_FOREIGN_BF16;
    *out = (struct trm_foreign_tensor){
        .offset = entry->offset + name->part * spec->rows * trm_foreign_type_bytes(type),
        .line = name->transposed ? out_size : spec->columns,
        .transposed = name->transposed,
        .type = type,
    };
    return TRM_OK;
}

/* Marks the file's tensors that the model is made of. */
static enum trm_status place_tensors(struct trm_foreign *foreign,
                                     const struct trm_safetensors *tensors, bool *used,
                                     struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    char text[TRM_TENSOR_NAME_BYTES];
    for (int i = 0; status == TRM_OK && i < foreign->tensor_count; i++) {
        int layer = -1;
        const struct trm_tensor_spec *spec = &foreign->specs[i];
        const struct trm_gpt2_name *name = trm_gpt2_name_find(spec->name, &layer);
        if (name == NULL)
            return trm_error_set(err, TRM_ERR_INTERNAL, "no foreign name for \"%s\"", spec->name);
        trm_gpt2_name_huggingface(name, layer, text, sizeof text);
        const struct trm_safetensors_entry *entry = find(tensors, text);
        if (entry == NULL)
            return trm_error_set(err, TRM_ERR_INPUT, "it has no tensor \"%s\"", text);
        status = place_tensor(spec, name, entry, &foreign->tensors[i], err);
        used[entry - tensors->entries] = true;
    }
    return status;
}

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* The head is the embedding; a copy of it in the file must say the same. */
static enum trm_status check_head(const struct trm_foreign *foreign,
                                  const struct trm_safetensors *tensors,
                                  const struct trm_safetensors_entry *head, struct trm_error *err)
{
    const struct trm_safetensors_entry *token = find(tensors, "wte.weight");
    bool same = token->type == head->type && token->bytes == head->bytes;
    char *a = malloc(COMPARE_BYTES), *b = malloc(COMPARE_BYTES);
    enum trm_status status = TRM_OK;
    if (a == NULL || b == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory to compare \"%s\"", head->name);
    for (int64_t done = 0; status == TRM_OK && same && done < head->bytes; done += COMPARE_BYTES) {
        int64_t left = head->bytes - done;
        size_t bytes = left < COMPARE_BYTES ? (size_t)left : COMPARE_BYTES;
        status = trm_file_read_at(foreign->fd, a, bytes, token->offset + done, foreign->path, err);
        if (status == TRM_OK)
            status =
                trm_file_read_at(foreign->fd, b, bytes, head->offset + done, foreign->path, err);
        same = status == TRM_OK && memcmp(a, b, bytes) == 0;
    }
    free(a);
    free(b);
    if (status == TRM_OK && !same)
        status = trm_error_set(err, TRM_ERR_INPUT,
                               "\"%s\" differs from \"%s\": models here have one matrix for both",
                               head->name, token->name);
    return status;
}

/* What is in the file besides the model's tensors. */
static enum trm_status check_others(const struct trm_foreign *foreign,
                                    const struct trm_safetensors *tensors, const bool *used,
                                    struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    const struct trm_safetensors_entry *head = find(tensors, "lm_head.weight");
    if (head != NULL)
        status = check_head(foreign, tensors, head, err);
    for (int64_t i = 0; status == TRM_OK && i < tensors->count; i++) {
        const struct trm_safetensors_entry *entry = &tensors->entries[i];
        if (!used[i] && entry != head && !ends_in(entry->name, ".attn.bias") &&
            !ends_in(entry->name, ".attn.masked_bias"))
            status = trm_error_set(err, TRM_ERR_INPUT,
                                   "it has a tensor \"%s\", and a GPT-2 of its sizes has none",
                                   entry->name);
    }
    return status;
}

/* The tensors of an open file that make up the model. */
static enum trm_status read_tensors(struct trm_foreign *foreign, struct trm_error *err)
{
    struct trm_safetensors tensors = {0};
    enum trm_status status = trm_safetensors_open_file(foreign->fd, foreign->path, &tensors, err);
    if (status != TRM_OK)
        return status;
    bool *used = calloc((size_t)tensors.count + 1, sizeof *used);
    if (used == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for its tensors");
    if (status == TRM_OK)
        status = place_tensors(foreign, &tensors, used, err);
    if (status == TRM_OK)
        status = check_others(foreign, &tensors, used, err);
    if (status != TRM_OK)
        trm_error_prefix(err, "could not import \"%s\"", foreign->path);
    free(used);
    trm_safetensors_destroy(&tensors);
    return status;
}

static enum trm_status read_directory(const char *directory, const char *path,
                                      struct trm_gpt2_sizes *sizes, struct trm_error *err)
{
    char config[TRM_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    enum trm_status status = trm_file_path(config, err, "%s/" TRM_HUGGINGFACE_CONFIG, directory);
    if (status == TRM_OK && trm_file_exists(config) && !trm_file_exists(path))
        return trm_error_set(err, TRM_ERR_INPUT,
                             "\"%s\" holds no " TRM_HUGGINGFACE_TENSORS
                             ": save the model as one safetensors file",
                             directory);
    if (status == TRM_OK)
        status = trm_file_read_all(config, CONFIG_MAX_BYTES, &text, &bytes, err);
    if (status == TRM_OK)
        status = trm_huggingface_sizes(text, bytes, config, sizes, err);
    free(text);
    return status;
}

enum trm_status trm_huggingface_open(const char *directory, struct trm_foreign *out,
                                     struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    struct trm_gpt2_sizes sizes = {0};
    struct trm_foreign made = {.fd = -1};
    enum trm_status status = trm_file_path(path, err, "%s/" TRM_HUGGINGFACE_TENSORS, directory);
    if (status == TRM_OK)
        status = read_directory(directory, path, &sizes, err);
    if (status == TRM_OK)
        status = trm_foreign_begin(path, &sizes, &made, err);
    if (status != TRM_OK)
        return status;
    status = read_tensors(&made, err);
    if (status != TRM_OK) {
        trm_foreign_close(&made);
        return status;
    }
    *out = made;
    return TRM_OK;
}

char *trm_huggingface_config(const struct trm_config *config)
{
    char epsilon[TRM_DOUBLE_BYTES], deviation[TRM_DOUBLE_BYTES], end[16] = "null", *text = NULL;
    if (config->vocab_size > END_OF_TEXT)
        snprintf(end, sizeof end, "%d", END_OF_TEXT);
    int length = asprintf(&text,
                          "{\n"
                          "  \"activation_function\": \"gelu_new\",\n"
                          "  \"architectures\": [\"GPT2LMHeadModel\"],\n"
                          "  \"attn_pdrop\": 0.0,\n"
                          "  \"bos_token_id\": %s,\n"
                          "  \"embd_pdrop\": 0.0,\n"
                          "  \"eos_token_id\": %s,\n"
                          "  \"initializer_range\": %s,\n"
                          "  \"layer_norm_epsilon\": %s,\n"
                          "  \"model_type\": \"gpt2\",\n"
                          "  \"n_ctx\": %" PRId64 ",\n"
                          "  \"n_embd\": %" PRId64 ",\n"
                          "  \"n_head\": %" PRId64 ",\n"
                          "  \"n_inner\": %" PRId64 ",\n"
                          "  \"n_layer\": %" PRId64 ",\n"
                          "  \"n_positions\": %" PRId64 ",\n"
                          "  \"resid_pdrop\": 0.0,\n"
                          "  \"scale_attn_weights\": true,\n"
                          "  \"tie_word_embeddings\": true,\n"
                          "  \"torch_dtype\": \"float32\",\n"
                          "  \"use_cache\": true,\n"
                          "  \"vocab_size\": %" PRId64 "\n"
                          "}\n",
                          end, end, trm_text_double(deviation, config->init_method_std),
                          trm_text_double(epsilon, config->layernorm_epsilon), config->seq_length,
                          config->hidden_size, config->num_attention_heads, config->ffn_hidden_size,
                          config->num_layers, config->seq_length, config->vocab_size);
    return length < 0 ? NULL : text;
}
