/*
 * One shard: an HDF5 file whose layout is made by HDF5 and whose bytes are written around it.
 *
 * Datasets: /identity (256 bytes of text), /slices, /checksums, and one flat dataset for each kind
 * of state that it holds. All are contiguous and allocated early, so their places in the file are
 * known when the empty file is closed; from then on plain pwrite and pread at those places are
 * enough, and neither the writer nor a restart calls HDF5 again (docs/checkpoint-format.md). Large
 * datasets start at multiples of 1 MiB.
 *
 * HDF5 takes one global lock, so creation and inspection are serial within a process; writing is
 * plain I/O and may run on any thread. A failure leaves the file behind: it lies in
 * a stage, which its owner removes.
 */
#ifndef TRM_CHECKPOINT_SHARD_H
#define TRM_CHECKPOINT_SHARD_H

#include "checkpoint/slice.h"

#define TRM_SHARD_IDENTITY_BYTES 256

/* Which save a shard belongs to: bound to its table by the digest. */
struct trm_shard_identity {
    char run_id[TRM_CKPT_RUN_ID_BYTES];
    int64_t lineage, step;
    uint64_t nonce; /* of the save, drawn by its committer */
    int shard, shard_count;
};

/* The identity of shard `shard` of a save. */
struct trm_shard_identity trm_shard_identity_of(const struct trm_ckpt_state *state, uint64_t nonce,
                                                int shard, int shard_count);

/* The text that /identity holds, padded with NULs. */
void trm_shard_identity_text(const struct trm_shard_identity *identity,
                             char text[TRM_SHARD_IDENTITY_BYTES]);

/* "step 10 of run a1b2, shard 1 of 2", from such a text, or that it is none. Returns `words`. */
char *trm_shard_identity_describe(const char text[TRM_SHARD_IDENTITY_BYTES], char *words,
                                  size_t words_bytes);

/* The digest that a manifest lists: XXH3-64 of the identity, seeding that of the table's rows,
 * seeding that of the checksums. */
uint64_t trm_shard_digest(const char identity[TRM_SHARD_IDENTITY_BYTES], const int64_t *rows,
                          const uint64_t *checksums, int64_t slice_count);

/* Makes `path` with room for the set, closed and sparse. Fills `file` but for name and digest. */
enum trm_status trm_shard_create(const char *path, const struct trm_shard_identity *identity,
                                 enum trm_type type, const struct trm_slice_set *set,
                                 struct trm_ckpt_file *file, struct trm_error *err);

/* The same in an open file, whose content it replaces; the file stays open. */
enum trm_status trm_shard_create_in(int fd, const struct trm_shard_identity *identity,
                                    enum trm_type type, const struct trm_slice_set *set,
                                    struct trm_ckpt_file *file, struct trm_error *err);

/* What trm_shard_create made room for is written in two halves, by whoever has them: by one process
 * or by several of one machine (their page cache is where odd ends meet; stream.h). No HDF5.
 *
 * The identity and the table but for its checksums, `slices` being all of the shard's. Not durable
 * yet: a part's writer syncs the file. */
enum trm_status trm_shard_write_table(const char *path, const struct trm_shard_identity *identity,
                                      const struct trm_slice *slices,
                                      const struct trm_ckpt_file *file, struct trm_error *err);

/* The set's data and checksums, fsync, close. rows[i]: the row of the table that slice i of the set
 * is, ascending. Checksums are taken from memory before the bytes are handed to the system, and
 * stored in the set. Goes past the page cache where it can; needs 8 MiB. An empty set syncs what
 * others wrote. */
enum trm_status trm_shard_write_part(const char *path, enum trm_type type,
                                     struct trm_slice_set *set, const int64_t *rows,
                                     const struct trm_ckpt_file *file, struct trm_error *err);

/* file->table_digest, from all of the shard's slices with their checksums. */
enum trm_status trm_shard_digest_table(const struct trm_shard_identity *identity,
                                       const struct trm_slice *slices, struct trm_ckpt_file *file,
                                       struct trm_error *err);

/* All three, by one process whose set is the whole table. */
enum trm_status trm_shard_write(const char *path, const struct trm_shard_identity *identity,
                                enum trm_type type, struct trm_slice_set *set,
                                struct trm_ckpt_file *file, struct trm_error *err);

/* Reads and checks the slice table of `path` without HDF5: size by stat, identity, digest, every
 * number. slices[file->slice_count] is the caller's. TRM_ERR_CORRUPT, TRM_ERR_NOT_FOUND or
 * TRM_ERR_MISMATCH, the path in front. */
enum trm_status trm_shard_read_table(const char *path, const struct trm_catalog *catalog,
                                     const struct trm_ckpt_file *file, struct trm_slice *slices,
                                     struct trm_error *err);

/* Opens `path` with HDF5 and holds what a person would see there (attributes, datasets, their types
 * and places) against the catalog. TRM_ERR_CORRUPT, the path in front. */
enum trm_status trm_shard_inspect(const char *path, const struct trm_catalog *catalog,
                                  const struct trm_ckpt_file *file, struct trm_error *err);

#endif
