/*
 * manifest.json: a catalog as text.
 *
 * One JSON object, written last and so the proof that a checkpoint is complete. Its size grows with
 * tensors and files, not with slices. The last member, "digest", is XXH3-64 over the text before
 * it, so damage is noticed before the text is understood. Reading is bounded and trusts nothing:
 * what the text says is checked against limits and against itself before it is believed.
 */
#ifndef TRM_CHECKPOINT_MANIFEST_H
#define TRM_CHECKPOINT_MANIFEST_H

#include "checkpoint/catalog.h"

#define TRM_MANIFEST_FORMAT    "trireme checkpoint"
#define TRM_MANIFEST_MAX_BYTES ((size_t)64 << 20)

/* The end of the text, 16 hexadecimal digits between head and tail; the digest is of all before. */
#define TRM_MANIFEST_SEAL_HEAD ",\n\"digest\": \""
#define TRM_MANIFEST_SEAL_TAIL "\"\n}\n"
#define TRM_MANIFEST_SEAL_BYTES \
    (sizeof(TRM_MANIFEST_SEAL_HEAD) - 1 + 16 + sizeof(TRM_MANIFEST_SEAL_TAIL) - 1)

/* The text of a catalog, sealed with its digest. TRM_ERR_CORRUPT when the catalog itself is not
 * sound. *text (NUL-terminated) is returned owned. */
enum trm_status trm_manifest_format(const struct trm_catalog *catalog, char **text, size_t *bytes,
                                    struct trm_error *err);

/* The reverse. TRM_ERR_CORRUPT for text that is damaged or contradicts itself, TRM_ERR_MISMATCH for
 * another format version. *catalog is to be destroyed by the caller. */
enum trm_status trm_manifest_parse(const char *text, size_t bytes, struct trm_catalog *catalog,
                                   struct trm_error *err);

/* Appends the digest member and closing brace to text that ends behind the last other member:
 * `{...,\n"files": []`. *sealed is returned owned. */
enum trm_status trm_manifest_seal(const char *text, char **sealed, size_t *bytes,
                                  struct trm_error *err);

#endif
