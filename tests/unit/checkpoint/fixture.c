#include "fixture.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/placement.h"
#include "checkpoint/shard.h"
#include "checkpoint/store.h"

/* Sides that no layout divides, a long row, one element. */
const struct trm_ckpt_tensor fixture_tensors[FIXTURE_TENSORS] = {
    {"tok_embed", TRM_F32, 2, 301, 17},   {"layers.0.attention.q.weight", TRM_F32, 2, 24, 40},
    {"layers.0.bias", TRM_F32, 1, 29, 1}, {"wide", TRM_F32, 2, 3, 5000},
    {"scalar", TRM_F32, 1, 1, 1},
};

float fixture_value(int64_t step, int tensor, enum trm_ckpt_kind kind, int64_t row, int64_t column)
{
    int64_t flat = row * fixture_tensors[tensor].columns + column;
    return (float)flat + 0.25f * (float)kind + 100000.0f * (float)tensor - 0.125f * (float)step;
}

struct trm_ckpt_state fixture_state(int64_t step)
{
    static struct trm_ckpt_skip skips[2] = {{5, 2}, {100, 1}};
    return (struct trm_ckpt_state){
        .run_id = "run-a1b2",
        .lineage = 1,
        .attempt = 3,
        .step = step,
        .next_sample = step * 8,
        .data_hash = 0xfedcba9876543210u + (uint64_t)step,
        .last_loss = 2.5 + 1.0 / 3.0,
        .valid_loss = NAN,
        .skips = skips,
        .skip_count = 2,
        .recent_losses = {3.0, 2.75 + 1.0 / 3.0, 2.5 + 1.0 / 3.0},
        .recent_loss_count = 3,
        .skips_in_row = 2,
        .config_yaml = "model:\n  name: \"tiny\"\n",
        .fingerprint = "avx2 \xc3\xa9",
        .data_parallel_size = 2,
        .tensor_model_parallel_size = 1,
    };
}

/* Part `part` of `count` of a side. */
static void cut(int64_t side, int count, int part, int64_t *begin, int64_t *size)
{
    *begin = side * part / count;
    *size = side * (part + 1) / count - *begin;
}

static void fill(const struct trm_ckpt_piece *piece, int64_t step)
{
    float *data = piece->data;
    for (int64_t r = 0; r < piece->rect.rows; r++)
        for (int64_t c = 0; c < piece->rect.columns; c++)
            *data++ = step < 0 ? NAN
                               : fixture_value(step, piece->tensor, piece->kind,
                                               piece->rect.row + r, piece->rect.column + c);
}

struct fixture_pieces fixture_pieces_of(int tensor_size, int data_size, int rank, int64_t step)
{
    struct fixture_pieces out = {0};
    out.pieces = calloc(FIXTURE_TENSORS * TRM_KIND_COUNT * TRM_RECT_SPLIT_MAX, sizeof(*out.pieces));
    int tensor_rank = rank % tensor_size, data_rank = rank / tensor_size;
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++)
        for (int t = 0; t < FIXTURE_TENSORS; t++) {
            const struct trm_ckpt_tensor *tensor = &fixture_tensors[t];
            struct trm_rect whole = trm_ckpt_tensor_rect(tensor), split[TRM_RECT_SPLIT_MAX];
            if (tensor->dims == 2 && t % 2 == 0)
                cut(tensor->rows, tensor_size, tensor_rank, &whole.row, &whole.rows);
            else if (tensor->dims == 2)
                cut(tensor->columns, tensor_size, tensor_rank, &whole.column, &whole.columns);
            else if (tensor_rank != 0)
                continue;
            int64_t begin, size;
            cut(trm_rect_elements(whole), data_size, data_rank, &begin, &size);
            int count = trm_rect_split(whole, begin, begin + size, split);
            for (int i = 0; i < count; i++) {
                out.pieces[out.count++] =
                    (struct trm_ckpt_piece){t, (enum trm_ckpt_kind)kind, split[i], NULL};
                out.elements += trm_rect_elements(split[i]);
            }
        }
    out.memory = malloc((size_t)out.elements * sizeof(float) + 1);
    float *next = out.memory;
    for (int i = 0; i < out.count; i++) {
        out.pieces[i].data = next;
        next += trm_rect_elements(out.pieces[i].rect);
        fill(&out.pieces[i], step);
    }
    return out;
}

void fixture_pieces_free(struct fixture_pieces *pieces)
{
    free(pieces->pieces);
    free(pieces->memory);
}

const char *fixture_wrong(const struct fixture_pieces *pieces, int64_t step, char text[128])
{
    for (int i = 0; i < pieces->count; i++) {
        const struct trm_ckpt_piece *piece = &pieces->pieces[i];
        const float *data = piece->data;
        for (int64_t r = 0; r < piece->rect.rows; r++)
            for (int64_t c = 0; c < piece->rect.columns; c++) {
                float found = *data++;
                float expected = fixture_value(step, piece->tensor, piece->kind,
                                               piece->rect.row + r, piece->rect.column + c);
                if (memcmp(&found, &expected, sizeof(found)) == 0)
                    continue;
                snprintf(text, 128, "piece %d, row %lld, column %lld: %g, not %g", i, (long long)r,
                         (long long)c, (double)found, (double)expected);
                return text;
            }
    }
    return NULL;
}

/* What a shard of ranks [first, end) holds, in `memory`. */
struct shared {
    struct fixture_pieces pieces[64];
    struct trm_slice_set set;
};

static void share_shard(struct shared *shared, int tensor_size, int data_size, int first, int end,
                        int64_t step)
{
    struct trm_error err = {0};
    struct trm_slice_set *all = &shared->set;
    int64_t counts[64], origins[4096];
    all->slices = calloc(4096, sizeof(*all->slices));
    all->data = calloc(4096, sizeof(*all->data));
    const void **data = calloc(4096, sizeof(*data));
    for (int rank = first; rank < end; rank++) {
        struct fixture_pieces *pieces = &shared->pieces[rank - first];
        struct trm_slice_set mine;
        *pieces = fixture_pieces_of(tensor_size, data_size, rank, step);
        assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, pieces->pieces, pieces->count,
                                    &mine, &err),
                  err);
        counts[rank - first] = mine.count;
        for (int64_t i = 0; i < mine.count; i++, all->count++) {
            assert_true(all->count < 4096);
            all->slices[all->count] = mine.slices[i];
            data[all->count] = mine.data[i];
        }
        trm_slice_set_destroy(&mine);
    }
    assert_ok(trm_placement_make(all->slices, counts, end - first, origins, all->elements, &err),
              err);
    for (int64_t row = 0; row < all->count; row++)
        all->data[row] = data[origins[row]];
    free(data);
}

static void save_all(const char *directory, const struct trm_ckpt_state *state, int64_t value_step,
                     int tensor_size, int data_size, int group)
{
    struct trm_error err = {0};
    struct trm_ckpt_file files[64] = {0};
    int ranks = tensor_size * data_size;
    struct trm_catalog catalog = {.state = *state,
                                  .tensor_count = FIXTURE_TENSORS,
                                  .tensors = (struct trm_ckpt_tensor *)fixture_tensors,
                                  .shard_count = (ranks + group - 1) / group,
                                  .files = files,
                                  .kinds = {true, true, true},
                                  .nonce = (uint64_t)state->step * 77 + (uint64_t)state->attempt,
                                  .written_at = "2026-03-01T12:04:31Z"};
    char stage[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    assert_ok(trm_store_stage(directory, state->step, state->attempt, &err), err);
    assert_ok(trm_store_stage_path(directory, state->step, state->attempt, stage, &err), err);
    for (int shard = 0; shard < catalog.shard_count; shard++) {
        struct shared shared = {0};
        int first = shard * group, end = first + group < ranks ? first + group : ranks;
        share_shard(&shared, tensor_size, data_size, first, end, value_step);
        if (shared.set.count > 0) {
            struct trm_ckpt_file *file = &files[catalog.file_count++];
            struct trm_shard_identity identity =
                trm_shard_identity_of(state, catalog.nonce, shard, catalog.shard_count);
            snprintf(file->name, sizeof(file->name), "shard-%05d.h5", shard);
            assert_ok(trm_file_path(path, &err, "%s/%s", stage, file->name), err);
            assert_ok(trm_shard_create(path, &identity, TRM_F32, &shared.set, file, &err), err);
            assert_ok(trm_shard_write(path, &identity, TRM_F32, &shared.set, file, &err), err);
        }
        trm_slice_set_destroy(&shared.set);
        for (int i = 0; i < end - first; i++)
            fixture_pieces_free(&shared.pieces[i]);
    }
    assert_ok(trm_store_commit(directory, &catalog, &err), err);
}

void fixture_save(const char *directory, const struct trm_ckpt_state *state, int tensor_size,
                  int data_size)
{
    save_all(directory, state, state->step, tensor_size, data_size, 1);
}

void fixture_save_grouped(const char *directory, const struct trm_ckpt_state *state,
                          int tensor_size, int data_size, int group)
{
    save_all(directory, state, state->step, tensor_size, data_size, group);
}

void fixture_save_values(const char *directory, const struct trm_ckpt_state *state,
                         int64_t value_step, int tensor_size, int data_size)
{
    save_all(directory, state, value_step, tensor_size, data_size, 1);
}

void fixture_directory(char path[TRM_PATH_BYTES])
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, TRM_PATH_BYTES, "%s/trireme-test-XXXXXX", parent != NULL ? parent : "/tmp");
    assert_non_null(mkdtemp(path));
}

void fixture_directory_free(const char *path)
{
    assert_int_equal(trm_file_remove_tree(path, NULL), TRM_OK);
}

void fixture_flip(const char *path, int64_t byte, int bit)
{
    unsigned char value = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &value, 1, byte), 1);
    value ^= (unsigned char)(1 << bit);
    assert_int_equal(pwrite(fd, &value, 1, byte), 1);
    close(fd);
}
