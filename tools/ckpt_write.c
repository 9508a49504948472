#include "tools/ckpt_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/machine.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"
#include "checkpoint/view.h"

struct writing {
    const char *directory;
    const struct trm_ckpt_content *content;
    struct trm_catalog catalog; /* borrows state and tensors */
    int64_t elements;           /* of all tensors, one kind */
    int64_t bytes;              /* filled so far */
    struct trm_slice *slices;   /* owned: the tables of the shards written, for the view */
    int64_t slice_count;
};

/* Elements before shard `number`, without overflow: they differ by at most one. */
static int64_t shard_begin(const struct writing *w, int64_t number)
{
    int64_t count = w->catalog.shard_count, each = w->elements / count, rest = w->elements % count;
    return number * each + (number < rest ? number : rest);
}

/* The pieces of flat elements [begin, end) of all tensors in one kind; their memory follows
 * `memory`. Appends to `pieces` unless that is NULL; returns how many. */
static int cut_pieces(const struct writing *w, int64_t begin, int64_t end, enum trm_ckpt_kind kind,
                      char *memory, struct trm_ckpt_piece *pieces)
{
    int count = 0;
    int64_t start = 0;
    size_t element_bytes = trm_type_bytes(w->content->tensors[0].type);
    for (int t = 0; t < w->content->tensor_count; t++) {
        struct trm_rect whole = trm_ckpt_tensor_rect(&w->content->tensors[t]);
        struct trm_rect rects[TRM_RECT_SPLIT_MAX];
        int64_t elements = trm_rect_elements(whole);
        int64_t low = begin > start ? begin - start : 0;
        int64_t high = end - start < elements ? end - start : elements;
        int parts = low < high ? trm_rect_split(whole, low, high, rects) : 0;
        for (int i = 0; i < parts && pieces != NULL; i++) {
            pieces[count + i] = (struct trm_ckpt_piece){t, kind, rects[i], memory};
            memory += (size_t)trm_rect_elements(rects[i]) * element_bytes;
        }
        count += parts;
        start += elements;
    }
    return count;
}

/* All pieces of a shard, and the memory they lie in. Both are returned owned. */
static enum trm_status make_pieces(const struct writing *w, int shard,
                                   struct trm_ckpt_piece **pieces, int *piece_count, char **memory,
                                   struct trm_error *err)
{
    int64_t begin = shard_begin(w, shard), end = shard_begin(w, shard + 1);
    size_t kind_bytes = (size_t)(end - begin) * trm_type_bytes(w->content->tensors[0].type);
    int each = cut_pieces(w, begin, end, TRM_KIND_PARAMETER, NULL, NULL), count = 0;
    struct trm_ckpt_piece *list = calloc((size_t)each * TRM_KIND_COUNT + 1, sizeof *list);
    size_t kinds = 0;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        kinds += w->content->kinds[kind];
    char *block = malloc(kind_bytes * kinds + 1), *next = block;
    if (list == NULL || block == NULL) {
        free(list);
        free(block);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for shard %d", shard);
    }
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++) {
        if (!w->content->kinds[kind])
            continue;
        count += cut_pieces(w, begin, end, (enum trm_ckpt_kind)kind, next, list + count);
        next += kind_bytes;
    }
    *pieces = list;
    *piece_count = count;
    *memory = block;
    return TRM_OK;
}

/* Tensor by tensor, so that whoever watches sees it move. */
static enum trm_status fill_pieces(struct writing *w, const struct trm_ckpt_piece *pieces,
                                   int piece_count, struct trm_error *err)
{
    const struct trm_ckpt_content *content = w->content;
    enum trm_status status = TRM_OK;
    int64_t element_bytes = (int64_t)trm_type_bytes(content->tensors[0].type);
    for (int begin = 0, end; status == TRM_OK && begin < piece_count; begin = end) {
        for (end = begin; end < piece_count && pieces[end].tensor == pieces[begin].tensor &&
                          pieces[end].kind == pieces[begin].kind;
             end++)
            w->bytes += trm_rect_elements(pieces[end].rect) * element_bytes;
        status = content->fill(content->context, pieces + begin, end - begin, err);
        if (status == TRM_OK && content->progress != NULL)
            content->progress(content->context, w->bytes);
    }
    return status;
}

static enum trm_status keep_table(struct writing *w, const struct trm_slice_set *set,
                                  struct trm_error *err)
{
    size_t count = (size_t)(w->slice_count + set->count);
    struct trm_slice *larger = realloc(w->slices, count * sizeof *larger);
    if (larger == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for %zu slices", count);
    memcpy(larger + w->slice_count, set->slices, (size_t)set->count * sizeof *larger);
    w->slices = larger;
    w->slice_count += set->count;
    return TRM_OK;
}

static enum trm_status write_shard(struct writing *w, const char *stage, int shard,
                                   struct trm_error *err)
{
    struct trm_catalog *catalog = &w->catalog;
    struct trm_ckpt_file *file = &catalog->files[catalog->file_count];
    struct trm_shard_identity identity =
        trm_shard_identity_of(&catalog->state, catalog->nonce, shard, catalog->shard_count);
    enum trm_type type = w->content->tensors[0].type;
    struct trm_slice_set set = {0};
    struct trm_ckpt_piece *pieces = NULL;
    char path[TRM_PATH_BYTES], *memory = NULL;
    int piece_count = 0;
    if (shard_begin(w, shard) == shard_begin(w, shard + 1))
        return TRM_OK;
    snprintf(file->name, sizeof file->name, "shard-%05d.h5", shard);
    enum trm_status status = trm_file_path(path, err, "%s/%s", stage, file->name);
    if (status == TRM_OK)
        status = make_pieces(w, shard, &pieces, &piece_count, &memory, err);
    if (status == TRM_OK)
        status = fill_pieces(w, pieces, piece_count, err);
    if (status == TRM_OK)
        status = trm_slice_set_cut(w->content->tensors, w->content->tensor_count, pieces,
                                   piece_count, &set, err);
    if (status == TRM_OK)
        status = trm_shard_create(path, &identity, type, &set, file, err);
    if (status == TRM_OK)
        status = trm_shard_write(path, &identity, type, &set, file, err);
    if (status == TRM_OK)
        status = keep_table(w, &set, err);
    if (status == TRM_OK)
        catalog->file_count++;
    trm_slice_set_destroy(&set);
    free(pieces);
    free(memory);
    return status;
}

static enum trm_status write_all(struct writing *w, const char *stage, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int i = 0; status == TRM_OK && i < w->catalog.shard_count; i++)
        status = write_shard(w, stage, i, err);
    /* The file for people can be made anew at any time: no reason to give up. */
    if (status == TRM_OK)
        (void)trm_view_write(&w->catalog, w->slices, stage, NULL);
    trm_clock_utc(w->catalog.written_at, sizeof w->catalog.written_at);
    if (status == TRM_OK)
        status = trm_store_commit(w->directory, &w->catalog, err);
    return status;
}

/* A shard is filled in memory: better said now than by the kernel later. */
static enum trm_status check_memory(const struct writing *w, struct trm_error *err)
{
    int64_t total = trm_catalog_bytes(&w->catalog), count = w->catalog.shard_count;
    uint64_t have = trm_machine_available_bytes(), need = (uint64_t)(total / count);
    char need_text[32], have_text[32];
    if (have == 0 || need <= have / 2)
        return TRM_OK;
    return trm_error_set(err, TRM_ERR_MEMORY,
                         "a shard of %s is too large for the %s of memory that is available; "
                         "--shards %llu would fit",
                         trm_human_bytes(need_text, sizeof need_text, need),
                         trm_human_bytes(have_text, sizeof have_text, have),
                         (unsigned long long)((uint64_t)total / (have / 2) + 1));
}

static enum trm_status begin(struct writing *w, char path[TRM_PATH_BYTES], struct trm_error *err)
{
    const struct trm_ckpt_content *content = w->content;
    for (int t = 0; t < content->tensor_count; t++)
        w->elements += trm_rect_elements(trm_ckpt_tensor_rect(&content->tensors[t]));
    enum trm_status status = trm_catalog_check(&w->catalog, err);
    if (status == TRM_OK)
        status = check_memory(w, err);
    if (status == TRM_OK)
        status = trm_store_step_path(w->directory, content->state->step, path, err);
    if (status == TRM_OK && trm_file_exists(path))
        status = trm_error_set(err, TRM_ERR_CONFIG,
                               "\"%s\" is there already; name another directory", path);
    if (status == TRM_OK && getrandom(&w->catalog.nonce, sizeof w->catalog.nonce, 0) !=
                                (ssize_t)sizeof w->catalog.nonce)
        w->catalog.nonce = (uint64_t)trm_clock_now_ns();
    return status;
}

enum trm_status trm_ckpt_write(const char *directory, const struct trm_ckpt_content *content,
                               int shard_count, char path[TRM_PATH_BYTES], struct trm_error *err)
{
    char stage[TRM_PATH_BYTES];
    int64_t step = content->state->step, attempt = content->state->attempt;
    struct writing w = {.directory = directory,
                        .content = content,
                        .catalog = {.state = *content->state,
                                    .tensors = (struct trm_ckpt_tensor *)content->tensors,
                                    .tensor_count = content->tensor_count,
                                    .shard_count = shard_count}};
    memcpy(w.catalog.kinds, content->kinds, sizeof w.catalog.kinds);
    enum trm_status status = begin(&w, path, err);
    if (status == TRM_OK &&
        (w.catalog.files = calloc((size_t)shard_count, sizeof *w.catalog.files)) == NULL)
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for %d shards", shard_count);
    if (status == TRM_OK)
        status = trm_store_stage_path(directory, step, attempt, stage, err);
    if (status == TRM_OK) {
        status = trm_store_stage(directory, step, attempt, err);
        if (status == TRM_OK)
            status = write_all(&w, stage, err);
        if (status != TRM_OK)
            (void)trm_store_discard(directory, step, attempt, NULL);
    }
    free(w.slices);
    free(w.catalog.files);
    free(w.catalog.by_name);
    return status;
}
