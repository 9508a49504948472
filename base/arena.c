#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/human.h"
#include "base/machine.h"

#define HUGE_PAGE_BYTES   ((size_t)2 << 20)
#define DESCRIPTION_BYTES 512

static const char *const category_names[TRM_ARENA_CATEGORY_COUNT] = {
    [TRM_ARENA_PARAMETERS] = "parameters",       [TRM_ARENA_GRADIENTS] = "gradients",
    [TRM_ARENA_OPTIMIZER] = "optimizer",         [TRM_ARENA_ACTIVATIONS] = "activations",
    [TRM_ARENA_COMMUNICATION] = "communication", [TRM_ARENA_WORKSPACE] = "workspace",
    [TRM_ARENA_SNAPSHOT] = "snapshots",          [TRM_ARENA_SLOTS] = "copies in memory",
};

void trm_arena_init(struct trm_arena *arena)
{
    memset(arena, 0, sizeof *arena);
}

/* `a` + `b`, or SIZE_MAX, which no machine can commit. */
static size_t add_saturated(size_t a, size_t b)
{
    size_t sum;
    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

static size_t round_up(size_t bytes, size_t multiple)
{
    size_t padded = add_saturated(bytes, multiple - 1);
    return padded == SIZE_MAX ? SIZE_MAX : padded / multiple * multiple;
}

void *trm_arena_alloc(struct trm_arena *arena, enum trm_arena_category category, size_t bytes)
{
    TRM_ASSERT((unsigned)category < TRM_ARENA_CATEGORY_COUNT);
    size_t padded = round_up(bytes, TRM_ARENA_ALIGNMENT);
    if (!arena->base) {
        arena->used = add_saturated(arena->used, padded);
        arena->category_bytes[category] = add_saturated(arena->category_bytes[category], padded);
        return NULL;
    }
    TRM_ASSERT(padded <= arena->capacity - arena->used);
    void *piece = arena->base + arena->used;
    arena->used += padded;
    return piece;
}

void trm_arena_note(struct trm_arena *arena, enum trm_arena_category category, size_t bytes)
{
    if (arena->base)
        return;
    arena->noted = add_saturated(arena->noted, bytes);
    arena->category_bytes[category] = add_saturated(arena->category_bytes[category], bytes);
}

static enum trm_status refuse(const struct trm_arena *arena, uint64_t available,
                              struct trm_error *err)
{
    char description[DESCRIPTION_BYTES], room[32];
    trm_arena_describe(arena, description, sizeof description);
    return trm_error_set(err, TRM_ERR_MEMORY,
                         "this needs %s, but %s of memory are available: use a smaller micro batch "
                         "or sequence, activation recomputation, or more ranks on more nodes",
                         description, trm_human_bytes(room, sizeof room, available));
}

enum trm_status trm_arena_commit(struct trm_arena *arena, struct trm_error *err)
{
    TRM_ASSERT(!arena->base);
    bool is_large = arena->used >= HUGE_PAGE_BYTES;
    size_t alignment = is_large ? HUGE_PAGE_BYTES : TRM_ARENA_ALIGNMENT;
    size_t capacity = round_up(arena->used ? arena->used : 1, alignment);
    /* The kernel would grant more than there is, and kill somebody later. */
    uint64_t available = trm_machine_available_bytes();
    if (capacity == SIZE_MAX || (available > 0 && capacity > available))
        return refuse(arena, available, err);
    char *base = aligned_alloc(alignment, capacity);
    if (!base)
        return refuse(arena, available, err);
    if (is_large)
        madvise(base, capacity, MADV_HUGEPAGE); /* a wish: speed alone depends on it */
    memset(base, 0, capacity);
    arena->base = base;
    arena->capacity = arena->used;
    arena->used = 0;
    return TRM_OK;
}

void trm_arena_commit_at(struct trm_arena *arena, void *memory)
{
    TRM_ASSERT(!arena->base && memory);
    TRM_ASSERT((uintptr_t)memory % TRM_ARENA_ALIGNMENT == 0);
    arena->base = memory;
    arena->borrowed = true;
    arena->capacity = arena->used;
    arena->used = 0;
}

void trm_arena_describe(const struct trm_arena *arena, char *text, size_t text_bytes)
{
    char size[32];
    size_t total = add_saturated(arena->base ? arena->capacity : arena->used, arena->noted);
    int written =
        snprintf(text, text_bytes, "%s per rank", trm_human_bytes(size, sizeof size, total));
    size_t length = (size_t)written;
    const char *separator = ": ";
    for (int i = 0; i < TRM_ARENA_CATEGORY_COUNT && length < text_bytes; i++) {
        if (arena->category_bytes[i] == 0)
            continue;
        length += (size_t)snprintf(text + length, text_bytes - length, "%s%s %s", separator,
                                   category_names[i],
                                   trm_human_bytes(size, sizeof size, arena->category_bytes[i]));
        separator = ", ";
    }
}

void trm_arena_destroy(struct trm_arena *arena)
{
    if (!arena)
        return;
    if (!arena->borrowed)
        free(arena->base);
    trm_arena_init(arena);
}
