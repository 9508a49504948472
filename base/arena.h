/*
 * Memory that is planned before it is allocated.
 *
 * The same set-up code runs twice over an arena: first measuring (every call returns NULL and adds
 * to the total of its category), then, after trm_arena_commit, handing out pieces of one
 * allocation, in the same order and with the same sizes. Pieces are aligned to 64 bytes. Nothing is
 * freed singly. The memory is touched at commit, so a machine that is too small fails then and not
 * at step 5,000. One thread at a time.
 */
#ifndef TRM_BASE_ARENA_H
#define TRM_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define TRM_ARENA_ALIGNMENT 64

enum trm_arena_category {
    TRM_ARENA_PARAMETERS,
    TRM_ARENA_GRADIENTS,
    TRM_ARENA_OPTIMIZER,
    TRM_ARENA_ACTIVATIONS,
    TRM_ARENA_COMMUNICATION,
    TRM_ARENA_WORKSPACE,
    TRM_ARENA_SNAPSHOT,
    TRM_ARENA_SLOTS, /* memory of another process, which is only noted */
    TRM_ARENA_CATEGORY_COUNT
};

struct trm_arena {
    char *base;      /* NULL while measuring */
    size_t capacity; /* bytes committed */
    size_t used;     /* bytes handed out since creation or commit */
    bool borrowed;   /* `base` belongs to the caller */
    size_t noted;    /* bytes that are needed elsewhere */
    size_t category_bytes[TRM_ARENA_CATEGORY_COUNT];
};

/* Starts measuring. */
void trm_arena_init(struct trm_arena *arena);

/* Measuring: counts and returns NULL. Committed: returns `bytes` zeroed bytes; asking for more than
 * was measured is a bug and asserts. `bytes` = 0 gives a valid non-NULL pointer once committed. */
void *trm_arena_alloc(struct trm_arena *arena, enum trm_arena_category category, size_t bytes);

/* Counts memory that somebody else allocates for this process, so that plans tell of it. Measuring;
 * later calls do nothing. */
void trm_arena_note(struct trm_arena *arena, enum trm_arena_category category, size_t bytes);

/* Allocates what was measured, touches every page, and rewinds. TRM_ERR_MEMORY when the machine has
 * not got that much. */
enum trm_status trm_arena_commit(struct trm_arena *arena, struct trm_error *err);

/* The same over `memory` of the caller's, a device's for instance: as many bytes as were measured,
 * aligned and zeroed. It must outlive the arena. */
void trm_arena_commit_at(struct trm_arena *arena, void *memory);

/* "1.9 GiB per rank: parameters 475 MiB, gradients ..." into `text`; empty categories left out. */
void trm_arena_describe(const struct trm_arena *arena, char *text, size_t text_bytes);

/* Frees everything but memory of the caller's; NULL-safe, idempotent. */
void trm_arena_destroy(struct trm_arena *arena);

#endif
