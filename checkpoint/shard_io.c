/* The half of a shard that is plain I/O at known places: no HDF5 here. */
#include "checkpoint/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/file.h"
#include "base/hash.h"
#include "checkpoint/stream.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "shards are little endian");

#define IDENTITY_FIRST "trireme shard\n"

struct trm_shard_identity trm_shard_identity_of(const struct trm_ckpt_state *state, uint64_t nonce,
                                                int shard, int shard_count)
{
    struct trm_shard_identity identity = {
        .lineage = state->lineage,
        .step = state->step,
        .nonce = nonce,
        .shard = shard,
        .shard_count = shard_count,
    };
    memcpy(identity.run_id, state->run_id, strnlen(state->run_id, sizeof(identity.run_id) - 1));
    return identity;
}

void trm_shard_identity_text(const struct trm_shard_identity *identity,
                             char text[TRM_SHARD_IDENTITY_BYTES])
{
    memset(text, 0, TRM_SHARD_IDENTITY_BYTES);
    int length =
        snprintf(text, TRM_SHARD_IDENTITY_BYTES,
                 IDENTITY_FIRST "format_version %d\nrun_id %s\nlineage %" PRId64 "\nstep %" PRId64
                                "\nnonce %016" PRIx64 "\nshard %d of %d\n",
                 TRM_CKPT_FORMAT_VERSION, identity->run_id, identity->lineage, identity->step,
                 identity->nonce, identity->shard, identity->shard_count);
    TRM_ASSERT(length > 0 && length < TRM_SHARD_IDENTITY_BYTES);
}

char *trm_shard_identity_describe(const char text[TRM_SHARD_IDENTITY_BYTES], char *words,
                                  size_t words_bytes)
{
    char bounded[TRM_SHARD_IDENTITY_BYTES + 1] = "";
    memcpy(bounded, text, TRM_SHARD_IDENTITY_BYTES);
    char run_id[TRM_CKPT_RUN_ID_BYTES];
    int64_t lineage, step;
    uint64_t nonce;
    int version, shard, shard_count;
    int fields = sscanf(bounded,
                        IDENTITY_FIRST "format_version %d run_id %39s lineage %" SCNd64
                                       " step %" SCNd64 " nonce %" SCNx64 " shard %d of %d",
                        &version, run_id, &lineage, &step, &nonce, &shard, &shard_count);
    if (fields == 7)
        snprintf(words, words_bytes,
                 "step %" PRId64 " of run %s (save %016" PRIx64 ", shard %d of %d)", step, run_id,
                 nonce, shard, shard_count);
    else
        snprintf(words, words_bytes, "nothing that can be read");
    return words;
}

uint64_t trm_shard_digest(const char identity[TRM_SHARD_IDENTITY_BYTES], const int64_t *rows,
                          const uint64_t *checksums, int64_t slice_count)
{
    uint64_t digest = trm_hash64(identity, TRM_SHARD_IDENTITY_BYTES);
    digest = trm_hash64_seeded(rows, (size_t)slice_count * TRM_SLICE_ROW_BYTES, digest);
    return trm_hash64_seeded(checksums, (size_t)slice_count * sizeof(*checksums), digest);
}

static enum trm_status write_slices(struct trm_stream *stream, enum trm_type type,
                                    struct trm_slice_set *set, const struct trm_ckpt_file *file,
                                    struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    int64_t element_bytes = (int64_t)trm_type_bytes(type);
    for (int64_t i = 0; status == TRM_OK && i < set->count; i++) {
        struct trm_slice *slice = &set->slices[i];
        size_t bytes = (size_t)trm_slice_bytes(slice, type);
        int64_t offset = file->data[slice->kind].offset + slice->offset * element_bytes;
        slice->checksum = trm_hash64(set->data[i], bytes);
        status = trm_stream_put(stream, set->data[i], bytes, offset, err);
    }
    return status == TRM_OK ? trm_stream_flush(stream, err) : status;
}

/* The table as it is stored; both arrays are returned owned. */
static enum trm_status encode(const struct trm_slice *slices, int64_t count, int64_t **rows,
                              uint64_t **checksums, struct trm_error *err)
{
    *rows = malloc((size_t)count * TRM_SLICE_ROW_BYTES + 1);
    *checksums = malloc((size_t)count * sizeof(**checksums) + 1);
    if (*rows == NULL || *checksums == NULL) {
        free(*rows);
        free(*checksums);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %lld slices",
                             (long long)count);
    }
    trm_slices_encode(slices, count, *rows, *checksums);
    return TRM_OK;
}

static void assert_table(const struct trm_ckpt_file *file)
{
    TRM_ASSERT(file->slices.bytes == file->slice_count * TRM_SLICE_ROW_BYTES &&
               file->checksums.bytes == file->slice_count * (int64_t)sizeof(uint64_t) &&
               file->identity.bytes == TRM_SHARD_IDENTITY_BYTES);
}

enum trm_status trm_shard_write_table(const char *path, const struct trm_shard_identity *identity,
                                      const struct trm_slice *slices,
                                      const struct trm_ckpt_file *file, struct trm_error *err)
{
    char text[TRM_SHARD_IDENTITY_BYTES];
    int64_t *rows = NULL;
    uint64_t *checksums = NULL;
    assert_table(file);
    trm_shard_identity_text(identity, text);
    enum trm_status status = encode(slices, file->slice_count, &rows, &checksums, err);
    if (status != TRM_OK)
        return status;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        status = trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    if (status == TRM_OK)
        status = trm_file_write_at(fd, text, sizeof(text), file->identity.offset, path, err);
    if (status == TRM_OK)
        status =
            trm_file_write_at(fd, rows, (size_t)file->slices.bytes, file->slices.offset, path, err);
    if (fd >= 0 && close(fd) != 0 && status == TRM_OK)
        status = trm_error_set_errno(err, errno, "could not close \"%s\"", path);
    free(rows);
    free(checksums);
    return status;
}

enum trm_status trm_shard_digest_table(const struct trm_shard_identity *identity,
                                       const struct trm_slice *slices, struct trm_ckpt_file *file,
                                       struct trm_error *err)
{
    char text[TRM_SHARD_IDENTITY_BYTES];
    int64_t *rows = NULL;
    uint64_t *checksums = NULL;
    trm_shard_identity_text(identity, text);
    enum trm_status status = encode(slices, file->slice_count, &rows, &checksums, err);
    if (status != TRM_OK)
        return status;
    file->table_digest = trm_shard_digest(text, rows, checksums, file->slice_count);
    free(rows);
    free(checksums);
    return TRM_OK;
}

/* Rows that follow each other leave as one. */
static enum trm_status write_checksums(int fd, const char *path, const struct trm_slice_set *set,
                                       const int64_t *rows, const struct trm_ckpt_file *file,
                                       struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    uint64_t *checksums = malloc((size_t)set->count * sizeof(*checksums) + 1);
    if (checksums == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld checksums",
                             (long long)set->count);
    for (int64_t i = 0; i < set->count; i++)
        checksums[i] = set->slices[i].checksum;
    for (int64_t begin = 0, end = 1; status == TRM_OK && begin < set->count; begin = end++) {
        while (end < set->count && rows[end] == rows[end - 1] + 1)
            end++;
        TRM_ASSERT(rows[begin] >= 0 && rows[end - 1] < file->slice_count);
        status = trm_file_write_at(
            fd, &checksums[begin], (size_t)(end - begin) * sizeof(*checksums),
            file->checksums.offset + rows[begin] * (int64_t)sizeof(*checksums), path, err);
    }
    free(checksums);
    return status;
}

enum trm_status trm_shard_write_part(const char *path, enum trm_type type,
                                     struct trm_slice_set *set, const int64_t *rows,
                                     const struct trm_ckpt_file *file, struct trm_error *err)
{
    struct trm_stream stream;
    assert_table(file);
    enum trm_status status = trm_stream_open(path, &stream, err);
    if (status != TRM_OK)
        return status;
    status = write_slices(&stream, type, set, file, err);
    if (status == TRM_OK)
        status = write_checksums(stream.fd, path, set, rows, file, err);
    if (status == TRM_OK)
        status = trm_file_sync(stream.fd, path, err);
    struct stat info;
    if (status == TRM_OK && fstat(stream.fd, &info) != 0)
        status = trm_error_set_errno(err, errno, "could not stat \"%s\"", path);
    if (status == TRM_OK && info.st_size != file->bytes)
        status = trm_error_set(err, TRM_ERR_IO,
                               "\"%s\" has %lld bytes after writing, not the %lld it was made with",
                               path, (long long)info.st_size, (long long)file->bytes);
    enum trm_status closed = trm_stream_close(&stream, status == TRM_OK ? err : NULL);
    return status == TRM_OK ? closed : status;
}

enum trm_status trm_shard_write(const char *path, const struct trm_shard_identity *identity,
                                enum trm_type type, struct trm_slice_set *set,
                                struct trm_ckpt_file *file, struct trm_error *err)
{
    TRM_ASSERT(file->slice_count == set->count);
    int64_t *rows = malloc((size_t)set->count * sizeof(*rows) + 1);
    if (rows == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the slice table of \"%s\"",
                             path);
    for (int64_t i = 0; i < set->count; i++)
        rows[i] = i;
    enum trm_status status = trm_shard_write_table(path, identity, set->slices, file, err);
    if (status == TRM_OK)
        status = trm_shard_write_part(path, type, set, rows, file, err);
    if (status == TRM_OK)
        status = trm_shard_digest_table(identity, set->slices, file, err);
    free(rows);
    return status;
}

static enum trm_status check_table(const char *path, const struct trm_catalog *catalog,
                                   const struct trm_ckpt_file *file, const char *identity,
                                   const int64_t *rows, const uint64_t *checksums,
                                   struct trm_slice *slices, struct trm_error *err)
{
    struct trm_shard_identity mine =
        trm_shard_identity_of(&catalog->state, catalog->nonce, file->shard, catalog->shard_count);
    char expected[TRM_SHARD_IDENTITY_BYTES];
    trm_shard_identity_text(&mine, expected);
    uint64_t digest = trm_shard_digest(identity, rows, checksums, file->slice_count);
    if (memcmp(identity, expected, sizeof(expected)) != 0) {
        char there[160], here[160];
        return trm_error_set(err, TRM_ERR_MISMATCH, "%s: it says %s; the manifest is of %s", path,
                             trm_shard_identity_describe(identity, there, sizeof(there)),
                             trm_shard_identity_describe(expected, here, sizeof(here)));
    }
    if (digest != file->table_digest)
        return trm_error_set(err, TRM_ERR_CORRUPT,
                             "%s: its slice table has digest %016" PRIx64
                             ", the manifest says %016" PRIx64,
                             path, digest, file->table_digest);
    if (trm_slices_decode(catalog, file, rows, checksums, slices, err) != TRM_OK)
        return trm_error_prefix(err, "%s", path);
    return TRM_OK;
}

enum trm_status trm_shard_read_table(const char *path, const struct trm_catalog *catalog,
                                     const struct trm_ckpt_file *file, struct trm_slice *slices,
                                     struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    char identity[TRM_SHARD_IDENTITY_BYTES];
    int64_t *rows = NULL;
    uint64_t *checksums = NULL;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", path);
    if (fstat(fd, &info) != 0) {
        status = trm_error_set_errno(err, errno, "could not stat \"%s\"", path);
        goto cleanup;
    }
    /* The size is checked first: it bounds the table, and so the memory asked for. */
    if (!S_ISREG(info.st_mode) || info.st_size != file->bytes) {
        status = trm_error_set(err, TRM_ERR_CORRUPT, "%s has %lld bytes, the manifest says %lld",
                               path, (long long)info.st_size, (long long)file->bytes);
        goto cleanup;
    }
    rows = malloc((size_t)file->slices.bytes + 1);
    checksums = malloc((size_t)file->checksums.bytes + 1);
    if (rows == NULL || checksums == NULL) {
        status =
            trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the slice table of \"%s\"", path);
        goto cleanup;
    }
    status = trm_file_read_at(fd, identity, sizeof(identity), file->identity.offset, path, err);
    if (status == TRM_OK)
        status =
            trm_file_read_at(fd, rows, (size_t)file->slices.bytes, file->slices.offset, path, err);
    if (status == TRM_OK)
        status = trm_file_read_at(fd, checksums, (size_t)file->checksums.bytes,
                                  file->checksums.offset, path, err);
    if (status == TRM_OK)
        status = check_table(path, catalog, file, identity, rows, checksums, slices, err);
cleanup:
    close(fd);
    free(rows);
    free(checksums);
    return status;
}
