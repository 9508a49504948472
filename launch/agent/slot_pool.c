#include "launch/agent/slot_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/human.h"
#include "checkpoint/slot_head.h"

#define PAGE_BYTES     4096
#define SLOT_MAX_BYTES ((int64_t)1 << 46)

struct entry {
    int fd;
    int64_t bytes;
    int64_t attempt; /* whose rank took it last, -1: nobody */
    bool chosen;     /* for the request at hand */
    struct trm_slot_head *head;
};

struct trm_slot_pool {
    int64_t limit_bytes, bytes;
    int count;
    struct entry *entries; /* owned, [TRM_SLOT_POOL_MAX_SLOTS], in the order they were made */
};

enum trm_status trm_slot_pool_create(int64_t limit_bytes, struct trm_slot_pool **out,
                                     struct trm_error *err)
{
    struct trm_slot_pool *pool = calloc(1, sizeof(*pool));
    if (pool != NULL)
        pool->entries = calloc(TRM_SLOT_POOL_MAX_SLOTS, sizeof(*pool->entries));
    if (pool == NULL || pool->entries == NULL) {
        free(pool);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of memory slots");
    }
    pool->limit_bytes = limit_bytes;
    *out = pool;
    return TRM_OK;
}

static void close_entry(struct entry *entry)
{
    munmap(entry->head, TRM_SLOT_HEAD_BYTES);
    close(entry->fd);
}

void trm_slot_pool_clear(struct trm_slot_pool *pool)
{
    for (int i = 0; i < pool->count; i++)
        close_entry(&pool->entries[i]);
    pool->count = 0;
    pool->bytes = 0;
}

void trm_slot_pool_destroy(struct trm_slot_pool *pool)
{
    if (pool == NULL)
        return;
    trm_slot_pool_clear(pool);
    free(pool->entries);
    free(pool);
}

bool trm_slot_pool_serves(enum trm_attach_kind kind)
{
    return kind == TRM_ATTACH_SLOT_LIST || kind == TRM_ATTACH_SLOT_TAKE ||
           kind == TRM_ATTACH_SETTLE;
}

int64_t trm_slot_pool_bytes(const struct trm_slot_pool *pool)
{
    return pool->bytes;
}

int trm_slot_pool_count(const struct trm_slot_pool *pool)
{
    return pool->count;
}

static bool is_complete(const struct entry *entry)
{
    return atomic_load_explicit(&entry->head->state, memory_order_acquire) == TRM_SLOT_COMPLETE;
}

static bool is_to_be_had(const struct entry *entry, int64_t attempt)
{
    return entry->attempt != attempt && !is_complete(entry);
}

/* Gives back the slots that `attempt` did not take, or those of them alone that hold nothing. */
static void drop(struct trm_slot_pool *pool, int64_t attempt, bool complete_too)
{
    int kept = 0;
    for (int i = 0; i < pool->count; i++) {
        struct entry *entry = &pool->entries[i];
        if (entry->attempt == attempt || entry->chosen || (!complete_too && is_complete(entry))) {
            pool->entries[kept++] = *entry;
            continue;
        }
        pool->bytes -= entry->bytes;
        close_entry(entry);
    }
    pool->count = kept;
}

static void list(const struct trm_slot_pool *pool, const struct trm_attach_message *request,
                 struct trm_attach_message *reply, int fds[TRM_ATTACH_MAX_FDS], int *fd_count)
{
    reply->kind = TRM_ATTACH_SLOTS;
    reply->first = request->first;
    reply->bytes = pool->bytes;
    for (int i = 0; i < pool->count; i++) {
        if (!is_complete(&pool->entries[i]))
            continue;
        if (reply->total++ >= request->first && *fd_count < TRM_ATTACH_MAX_FDS)
            fds[(*fd_count)++] = pool->entries[i].fd;
    }
    reply->count = *fd_count;
}

static void refuse(struct trm_attach_message *reply, const char *text)
{
    reply->kind = TRM_ATTACH_REFUSED;
    reply->count = 0;
    snprintf(reply->text, sizeof(reply->text), "%s", text);
}

/* A new slot at the end of the table, zeroed and without pages yet. */
static bool make(struct trm_slot_pool *pool, int64_t bytes, struct trm_attach_message *reply)
{
    struct entry made = {.bytes = bytes, .attempt = -1, .chosen = true};
    char size[32], text[TRM_ATTACH_TEXT_BYTES];
    made.fd = memfd_create("trireme-slot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *head = MAP_FAILED;
    if (made.fd >= 0 && ftruncate(made.fd, bytes) == 0 &&
        fcntl(made.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        head = mmap(NULL, TRM_SLOT_HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);
    if (head == MAP_FAILED) {
        snprintf(text, sizeof(text), "could not make a memory slot of %s: %s",
                 trm_human_bytes(size, sizeof(size), (uint64_t)bytes), strerror(errno));
        refuse(reply, text);
        if (made.fd >= 0)
            close(made.fd);
        return false;
    }
    made.head = head;
    pool->entries[pool->count++] = made;
    pool->bytes += bytes;
    return true;
}

/* Chooses up to `count` that are to be had and fit, without wasting half of any; the smallest
 * first. Returns how many. */
static int choose(struct trm_slot_pool *pool, const struct trm_attach_message *request,
                  int64_t bytes)
{
    int chosen = 0;
    for (; chosen < request->count; chosen++) {
        struct entry *best = NULL;
        for (int i = 0; i < pool->count; i++) {
            struct entry *entry = &pool->entries[i];
            if (!entry->chosen && is_to_be_had(entry, request->attempt) && entry->bytes >= bytes &&
                entry->bytes / 2 <= bytes && (best == NULL || entry->bytes < best->bytes))
                best = entry;
        }
        if (best == NULL)
            break;
        best->chosen = true;
    }
    return chosen;
}

/* Whether `more` new slots fit; what is free and of other sizes goes first. */
static bool has_room(struct trm_slot_pool *pool, const struct trm_attach_message *request,
                     int64_t bytes, int more, struct trm_attach_message *reply)
{
    char size[32], held[32], limit[32], text[TRM_ATTACH_TEXT_BYTES];
    bool fits = more == 0;
    for (int try = 0; !fits && try < 2; try++) {
        if (try == 1)
            drop(pool, request->attempt, false);
        fits = more <= TRM_SLOT_POOL_MAX_SLOTS - pool->count &&
               bytes <= (pool->limit_bytes - pool->bytes) / more;
    }
    if (fits)
        return true;
    snprintf(text, sizeof(text),
             "%d memory slots of %s do not fit: %d slots hold %s, and this node's limit is %s",
             more, trm_human_bytes(size, sizeof(size), (uint64_t)bytes), pool->count,
             trm_human_bytes(held, sizeof(held), (uint64_t)pool->bytes),
             trm_human_bytes(limit, sizeof(limit), (uint64_t)pool->limit_bytes));
    refuse(reply, text);
    return false;
}

static void take(struct trm_slot_pool *pool, const struct trm_attach_message *request,
                 struct trm_attach_message *reply, int fds[TRM_ATTACH_MAX_FDS], int *fd_count)
{
    if (request->count < 1 || request->count > TRM_ATTACH_MAX_FDS || request->attempt < 0 ||
        request->bytes < TRM_SLOT_HEAD_BYTES || request->bytes > SLOT_MAX_BYTES) {
        refuse(reply, "a request for memory slots that makes no sense");
        return;
    }
    int64_t bytes = (request->bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    int chosen = choose(pool, request, bytes);
    bool done = has_room(pool, request, bytes, request->count - chosen, reply);
    for (; done && chosen < request->count; chosen++)
        done = make(pool, bytes, reply);
    for (int i = 0; i < pool->count; i++) {
        struct entry *entry = &pool->entries[i];
        if (done && entry->chosen) {
            entry->attempt = request->attempt;
            fds[(*fd_count)++] = entry->fd;
        }
        entry->chosen = false;
    }
    if (!done)
        return;
    reply->kind = TRM_ATTACH_TAKEN;
    reply->count = *fd_count;
}

void trm_slot_pool_answer(struct trm_slot_pool *pool, const struct trm_attach_message *request,
                          struct trm_attach_message *reply, int fds[TRM_ATTACH_MAX_FDS],
                          int *fd_count)
{
    *reply = (struct trm_attach_message){.version = TRM_ATTACH_VERSION,
                                         .sequence = request->sequence,
                                         .attempt = request->attempt,
                                         .rank = request->rank};
    *fd_count = 0;
    switch (request->kind) {
    case TRM_ATTACH_SLOT_LIST:
        list(pool, request, reply, fds, fd_count);
        break;
    case TRM_ATTACH_SLOT_TAKE:
        take(pool, request, reply, fds, fd_count);
        break;
    case TRM_ATTACH_SETTLE:
        drop(pool, request->attempt, true);
        reply->kind = TRM_ATTACH_DONE;
        break;
    default:
        refuse(reply, "not a request for memory slots");
    }
}
