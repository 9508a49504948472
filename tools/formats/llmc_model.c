#include "tools/formats/llmc_model.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/formats/gpt2_names.h"

#define MAGIC           20240326
#define VERSION_FLOAT32 3
#define VERSION_BF16    5
#define HEADER_WORDS    256
#define EPSILON         1e-5

struct header {
    int32_t magic, version, positions, vocabulary, layers, heads, channels, padded_vocabulary;
};

static enum trm_status read_header(const char *path, struct header *out, struct trm_error *err)
{
    int32_t words[HEADER_WORDS];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    ssize_t got = pread(fd, words, sizeof words, 0);
    close(fd);
    if (got != (ssize_t)sizeof words)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "\"%s\" is shorter than the header of a llm.c model", path);
    for (int i = 0; i < 8; i++)
        words[i] = (int32_t)le32toh((uint32_t)words[i]);
    memcpy(out, words, sizeof *out);
    if (out->magic != MAGIC)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "\"%s\" is no llm.c model: it begins with %" PRId32 ", not %d; a "
                             "Hugging Face model is given as its directory",
                             path, out->magic, MAGIC);
    if (out->version != VERSION_FLOAT32 && out->version != VERSION_BF16)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "\"%s\" is a llm.c model of version %" PRId32
                             "; %d (float32) and %d (bfloat16) can be read",
                             path, out->version, VERSION_FLOAT32, VERSION_BF16);
    if (out->padded_vocabulary < out->vocabulary)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "\"%s\": its padded vocabulary of %" PRId32
                             " is below its vocabulary of %" PRId32,
                             path, out->padded_vocabulary, out->vocabulary);
    return TRM_OK;
}

/* Where each tensor lies: by group, in it by layer, in that by part. */
static enum trm_status place_tensors(struct trm_foreign *foreign, const struct header *header,
                                     int64_t *end, struct trm_error *err)
{
    enum trm_foreign_type type =
        header->version == VERSION_BF16 ? TRM_FOREIGN_BF16 : TRM_FOREIGN_F32;
    int64_t begin[TRM_LLMC_GROUPS + 1] = {0}, size[TRM_LLMC_GROUPS] = {0};
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < foreign->tensor_count; i++) {
            const struct trm_tensor_spec *spec = &foreign->specs[i];
            int layer = -1;
            const struct trm_gpt2_name *name = trm_gpt2_name_find(spec->name, &layer);
            if (name == NULL)
                return trm_error_set(err, TRM_ERR_INTERNAL, "no foreign name for \"%s\"",
                                     spec->name);
            int64_t rows = name->llmc_group == 0 ? header->padded_vocabulary : spec->rows;
            int64_t elements = rows * spec->columns;
            if (pass == 0) {
                size[name->llmc_group] += elements;
                continue;
            }
            int64_t before = name->in_layer ? (int64_t)layer * name->parts + name->part : 0;
            foreign->tensors[i] = (struct trm_foreign_tensor){
                .offset =
                    begin[name->llmc_group] + before * elements * trm_foreign_type_bytes(type),
                .line = spec->columns,
                .type = type,
            };
        }
        begin[0] = HEADER_WORDS * (int64_t)sizeof(int32_t);
        for (int g = 0; g < TRM_LLMC_GROUPS; g++)
            begin[g + 1] = begin[g] + size[g] * trm_foreign_type_bytes(type);
    }
    *end = begin[TRM_LLMC_GROUPS];
    return TRM_OK;
}

enum trm_status trm_llmc_model_open(const char *path, struct trm_foreign *out,
                                    struct trm_error *err)
{
    struct header header = {0};
    struct stat info;
    struct trm_foreign made = {.fd = -1};
    int64_t bytes = 0;
    enum trm_status status = read_header(path, &header, err);
    if (status != TRM_OK)
        return status;
    struct trm_gpt2_sizes sizes = {
        .layers = header.layers,
        .hidden = header.channels,
        .ffn = 4 * (int64_t)header.channels,
        .heads = header.heads,
        .positions = header.positions,
        .vocabulary = header.vocabulary,
        .epsilon = EPSILON,
    };
    status = trm_foreign_begin(path, &sizes, &made, err);
    if (status == TRM_OK)
        status = place_tensors(&made, &header, &bytes, err);
    if (status == TRM_OK && fstat(made.fd, &info) != 0)
        status = trm_error_set_errno(err, errno, "could not stat \"%s\"", path);
    if (status == TRM_OK && info.st_size != bytes)
        status = trm_error_set(err, TRM_ERR_INPUT,
                               "\"%s\" has %lld bytes; by its header it has %" PRId64, path,
                               (long long)info.st_size, bytes);
    if (status != TRM_OK) {
        trm_foreign_close(&made);
        return status;
    }
    *out = made;
    return TRM_OK;
}
