#include "trainer/data/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trainer/data/formats.h"

#define BLOCK_BYTES (1 << 20)
#define TEMPORARY   ".tmp"

/* Megatron's lengths are int32: a longer document becomes several sequences. */
#define SEQUENCE_TOKENS (INT64_C(1) << 30)

struct output {
    int fd;                    /* -1 when not open */
    char path[TRM_PATH_BYTES]; /* temporary */
    int64_t at;                /* bytes written */
};

static enum trm_status output_open(struct output *output, const char *path, struct trm_error *err)
{
    enum trm_status status = trm_file_path(output->path, err, "%s" TEMPORARY, path);
    if (status != TRM_OK)
        return status;
    output->fd = open(output->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (output->fd < 0)
        return trm_error_set_errno(err, errno, "could not create \"%s\"", output->path);
    return TRM_OK;
}

static enum trm_status output_write(struct output *output, const void *data, size_t bytes,
                                    struct trm_error *err)
{
    enum trm_status status =
        trm_file_write_at(output->fd, data, bytes, output->at, output->path, err);
    if (status == TRM_OK)
        output->at += (int64_t)bytes;
    return status;
}

static enum trm_status output_commit(struct output *output, const char *path, struct trm_error *err)
{
    struct stat there;
    enum trm_status status = trm_file_sync(output->fd, output->path, err);

    if (status == TRM_OK && lstat(path, &there) == 0 && !S_ISREG(there.st_mode))
        status = trm_error_set(err, TRM_ERR_INPUT,
                               "\"%s\" is there and is no regular file; give another name", path);
    if (status == TRM_OK && rename(output->path, path) != 0)
        status = trm_error_set_errno(err, errno, "could not rename \"%s\" to \"%s\"", output->path,
                                     path);
    if (status == TRM_OK) {
        close(output->fd);
        output->fd = -1;
    }
    return status;
}

static void output_discard(struct output *output)
{
    if (output->fd < 0)
        return;
    close(output->fd);
    unlink(output->path);
    output->fd = -1;
}

static bool is_same_file(const struct stat *info, const char *path)
{
    struct stat other;
    return stat(path, &other) == 0 && other.st_dev == info->st_dev && other.st_ino == info->st_ino;
}

/* Every name that is written to, temporary ones too, held against an input. */
static enum trm_status refuse_overwriting(const struct trm_prepare_result *outputs,
                                          const struct stat *input, struct trm_error *err)
{
    const char *const names[] = {outputs->token_path, outputs->index_path};
    for (int i = 0; i < 4; i++) {
        char path[TRM_PATH_BYTES];
        if (names[i / 2][0] == '\0')
            continue;
        enum trm_status status =
            trm_file_path(path, err, "%s%s", names[i / 2], i % 2 ? TEMPORARY : "");
        if (status != TRM_OK)
            return status;
        if (is_same_file(input, path))
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "output \"%s\" is one of the inputs; choose another name", path);
    }
    return TRM_OK;
}

/* sizes[input_count] in bytes. */
static enum trm_status measure_inputs(const struct trm_prepare_settings *settings,
                                      const struct trm_prepare_result *outputs, int64_t *sizes,
                                      int64_t *total, struct trm_error *err)
{
    *total = 0;
    if (settings->input_count <= 0)
        return trm_error_set(err, TRM_ERR_INPUT, "there is no input; name one or more text files");
    for (int i = 0; i < settings->input_count; i++) {
        struct stat info;
        const char *path = settings->inputs[i];
        if (stat(path, &info) != 0) {
            if (errno == ENOENT)
                return trm_error_set(err, TRM_ERR_INPUT,
                                     "input \"%s\": no such file; check the path", path);
            return trm_error_set_errno(err, errno, "could not read input \"%s\"", path);
        }
        if (!S_ISREG(info.st_mode))
            return trm_error_set(err, TRM_ERR_INPUT,
                                 "input \"%s\" is %s; name a regular file of text", path,
                                 S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
        if (info.st_size == 0)
            return trm_error_set(
                err, TRM_ERR_INPUT,
                "input \"%s\" is empty (0 bytes); name a file with text, or leave it "
                "out",
                path);
        if (refuse_overwriting(outputs, &info, err) != TRM_OK)
            return TRM_ERR_INPUT;
        sizes[i] = info.st_size;
        *total += info.st_size;
    }
    if (settings->format == TRM_TOKENS_LLMC && *total > INT32_MAX)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "the inputs have %" PRId64
                             " bytes, and an llm.c file holds at most %d "
                             "tokens; use another format or several files",
                             *total, INT32_MAX);
    return TRM_OK;
}

static enum trm_status name_outputs(const struct trm_prepare_settings *settings,
                                    struct trm_prepare_result *result, struct trm_error *err)
{
    const char *path = settings->output;
    size_t length = strlen(path);
    if (length > 4 &&
        (strcmp(path + length - 4, ".bin") == 0 || strcmp(path + length - 4, ".idx") == 0))
        length -= 4;
    enum trm_status status = trm_file_path(result->index_path, err, "%.*s.idx", (int)length, path);
    if (status != TRM_OK)
        return status;
    if (settings->format == TRM_TOKENS_MEGATRON)
        return trm_file_path(result->token_path, err, "%.*s.bin", (int)length, path);
    if (length != strlen(path) && trm_file_exists(result->index_path))
        return trm_error_set(err, TRM_ERR_INPUT,
                             "output \"%s\" would be read by the Megatron index \"%s\" next to it; "
                             "remove that or choose another name",
                             path, result->index_path);
    result->index_path[0] = '\0';
    return trm_file_path(result->token_path, err, "%s", path);
}

/* Reads exactly `size` bytes of an input, so that a file that grows meanwhile does no harm. */
static enum trm_status copy_input(const struct trm_prepare_settings *settings, const char *path,
                                  int64_t size, unsigned char *bytes, struct output *output,
                                  int64_t *done, int64_t total, struct trm_error *err)
{
    uint16_t *tokens = (uint16_t *)(bytes + BLOCK_BYTES);
    enum trm_status status = TRM_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open input \"%s\"", path);
    for (int64_t at = 0; status == TRM_OK && at < size; at += BLOCK_BYTES) {
        size_t block = (size_t)(size - at < BLOCK_BYTES ? size - at : BLOCK_BYTES);
        status = trm_file_read_at(fd, bytes, block, at, path, err);
        if (status != TRM_OK)
            break;
        for (size_t i = 0; i < block; i++)
            tokens[i] = bytes[i];
        status = output_write(output, tokens, block * sizeof *tokens, err);
        *done += (int64_t)block;
        if (settings->progress)
            settings->progress(settings->progress_context, *done, total);
    }
    close(fd);
    return status;
}

static enum trm_status write_tokens(const struct trm_prepare_settings *settings,
                                    const int64_t *sizes, int64_t total, struct output *output,
                                    struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    unsigned char *buffer = malloc(BLOCK_BYTES + BLOCK_BYTES * sizeof(uint16_t));
    if (!buffer)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory to read %d bytes", BLOCK_BYTES);
    if (settings->format == TRM_TOKENS_LLMC) {
        int32_t header[LLMC_HEADER_BYTES / 4] = {LLMC_MAGIC_UINT16, LLMC_VERSION_UINT16,
                                                 (int32_t)total};
        status = output_write(output, header, sizeof header, err);
    }
    int64_t done = 0;
    for (int i = 0; status == TRM_OK && i < settings->input_count; i++)
        status =
            copy_input(settings, settings->inputs[i], sizes[i], buffer, output, &done, total, err);
    free(buffer);
    return status;
}

static int64_t sequences_of(int64_t size)
{
    return (size + SEQUENCE_TOKENS - 1) / SEQUENCE_TOKENS;
}

/* Header, lengths, pointers, documents: see megatron.c. */
static enum trm_status write_index(const int64_t *sizes, int count, struct output *output,
                                   struct trm_error *err)
{
    int64_t sequences = 0;
    for (int i = 0; i < count; i++)
        sequences += sequences_of(sizes[i]);
    size_t bytes = MEGATRON_HEADER_BYTES + 12 * (size_t)sequences + 8 * ((size_t)count + 1);
    unsigned char *data = calloc(1, bytes);
    if (!data)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for an index of %zu bytes", bytes);
    int64_t version = 1, documents = (int64_t)count + 1, pointer = 0, sequence = 0;
    memcpy(data, MEGATRON_MAGIC, MEGATRON_MAGIC_BYTES);
    memcpy(data + 9, &version, 8);
    data[17] = TRM_TOKEN_UINT16;
    memcpy(data + 18, &sequences, 8);
    memcpy(data + 26, &documents, 8);
    unsigned char *lengths = data + MEGATRON_HEADER_BYTES;
    unsigned char *pointers = lengths + 4 * sequences, *document = pointers + 8 * sequences;
    for (int i = 0; i < count; i++) {
        for (int64_t at = 0; at < sizes[i]; at += SEQUENCE_TOKENS, sequence++) {
            int64_t left = sizes[i] - at;
            int32_t length = (int32_t)(left < SEQUENCE_TOKENS ? left : SEQUENCE_TOKENS);
            memcpy(lengths + 4 * sequence, &length, 4);
            memcpy(pointers + 8 * sequence, &pointer, 8);
            pointer += (int64_t)length * (int64_t)sizeof(uint16_t);
        }
        memcpy(document + 8 * (i + 1), &sequence, 8);
    }
    enum trm_status status = output_write(output, data, bytes, err);
    free(data);
    return status;
}

enum trm_status trm_prepare_bytes(const struct trm_prepare_settings *settings,
                                  struct trm_prepare_result *result, struct trm_error *err)
{
    struct trm_prepare_result made = {0};
    struct output tokens = {.fd = -1}, index = {.fd = -1};
    enum trm_status status;
    int count = settings->input_count;
    int64_t *sizes = calloc(count > 0 ? (size_t)count : 1, sizeof *sizes);
    if (!sizes)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a list of %d inputs", count);
    if ((status = name_outputs(settings, &made, err)) != TRM_OK ||
        (status = measure_inputs(settings, &made, sizes, &made.tokens, err)) != TRM_OK ||
        (status = output_open(&tokens, made.token_path, err)) != TRM_OK ||
        (status = write_tokens(settings, sizes, made.tokens, &tokens, err)) != TRM_OK)
        goto done;
    if (made.index_path[0] && ((status = output_open(&index, made.index_path, err)) != TRM_OK ||
                               (status = write_index(sizes, count, &index, err)) != TRM_OK))
        goto done;
    /* The index last: tokens without one are refused or read raw, never by a wrong index's lengths
     * unnoticed, since those must add up. */
    if ((status = output_commit(&tokens, made.token_path, err)) != TRM_OK ||
        (made.index_path[0] && (status = output_commit(&index, made.index_path, err)) != TRM_OK))
        goto done;
    *result = made;
done:
    output_discard(&tokens);
    output_discard(&index);
    free(sizes);
    return status;
}
