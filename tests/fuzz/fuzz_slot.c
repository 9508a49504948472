/*
 * A sound memory slot, changed: two bytes of input say how much is cut off its end, each four more
 * a place (three bytes) and what is written there. Read once with its digests as they are and once
 * with digests that agree, so that what lies behind them is reached. What is accepted lies inside
 * the slot.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "checkpoint/slot.h"

#define TENSORS 2

static void read_slot(const struct trm_slot *slot)
{
    struct trm_slot_layout layout;
    struct trm_catalog catalog;
    struct trm_error err = {0};
    const char *node, *partner;
    if (trm_slot_check(slot, &layout, &err) != TRM_OK) {
        TRM_ASSERT(err.text[0] != '\0');
        return;
    }
    const struct trm_slot_key *key = &trm_slot_head(slot)->key;
    TRM_ASSERT(layout.image_bytes >= 0 && (size_t)layout.image_bytes <= slot->bytes);
    for (int rank = 0; rank < 3; rank++)
        if (trm_slot_roster_entry(slot->memory + layout.roster, (size_t)key->roster_bytes, rank,
                                  &node, &partner))
            TRM_ASSERT(strlen(node) + strlen(partner) + 2 <= (size_t)key->roster_bytes);
    if (trm_slot_catalog(slot, &layout, &catalog, &err) != TRM_OK)
        return;
    struct trm_slice *slices = calloc((size_t)key->slice_count + 1, sizeof(*slices));
    const void **data = calloc((size_t)key->slice_count + 1, sizeof(*data));
    if (trm_slot_slices(slot, &layout, &catalog, slices, data, &err) == TRM_OK)
        for (int64_t i = 0; i < key->slice_count; i++) {
            const char *place = data[i];
            TRM_ASSERT(place >= slot->memory + TRM_SLOT_HEAD_BYTES);
            TRM_ASSERT(place + trm_slice_bytes(&slices[i], catalog.tensors[0].type) <=
                       slot->memory + slot->bytes);
        }
    free(slices);
    free(data);
    trm_catalog_destroy(&catalog);
}

/* Digests that agree, where sizes let them be taken. */
static void seal(struct trm_slot *slot)
{
    struct trm_slot_head *head = trm_slot_head(slot);
    struct trm_slot_layout at;
    head->key.version = TRM_SLOT_VERSION;
    head->key.state_bytes = sizeof(struct trm_ckpt_state);
    if (trm_slot_layout_of(&head->key, &at, NULL) != TRM_OK || (size_t)at.image_bytes > slot->bytes)
        return;
    head->key.image_bytes = at.image_bytes;
    head->key.fixed_digest =
        trm_hash64(slot->memory + at.manifest,
                   (size_t)(at.rows + head->key.slice_count * TRM_SLICE_ROW_BYTES - at.manifest));
    head->digest = trm_hash64_seeded(slot->memory + at.state,
                                     (size_t)(at.checksums + head->key.slice_count * 8 - at.state),
                                     trm_hash64(&head->key, sizeof(head->key)));
}

/* Returned owned. */
static struct trm_slot make_slot(void)
{
    static struct trm_ckpt_tensor tensors[TENSORS] = {{"a", TRM_F32, 2, 5, 3},
                                                      {"b", TRM_F32, 1, 7, 1}};
    static struct trm_ckpt_skip skips[1] = {{4, 2}};
    struct trm_catalog catalog = {
        .state = {.run_id = "run",
                  .step = 3,
                  .skips = skips,
                  .skip_count = 1,
                  .config_yaml = (char[]){"a: 1\n"},
                  .fingerprint = (char[]){"x"},
                  .data_parallel_size = 1,
                  .tensor_model_parallel_size = 1},
        .tensor_count = TENSORS,
        .tensors = tensors,
        .shard_count = 1,
        .kinds = {true, true, true},
    };
    float values[16] = {1, 2, 3};
    struct trm_ckpt_piece pieces[TENSORS * TRM_KIND_COUNT];
    for (int i = 0; i < TENSORS * TRM_KIND_COUNT; i++)
        pieces[i] = (struct trm_ckpt_piece){i % TENSORS, (enum trm_ckpt_kind)(i / TENSORS),
                                            trm_ckpt_tensor_rect(&tensors[i % TENSORS]), values};
    struct trm_slice_set live;
    struct trm_slot_form form;
    TRM_ASSERT(trm_slice_set_cut(tensors, TENSORS, pieces, TENSORS * TRM_KIND_COUNT, &live, NULL) ==
               TRM_OK);
    TRM_ASSERT(trm_slot_form_create(&catalog, &live, "n1\0n2", 6, 0, 1, 1, &form, NULL) == TRM_OK);
    size_t bytes = (size_t)form.layout.image_bytes;
    struct trm_slot slot = {aligned_alloc(4096, bytes), bytes};
    memset(slot.memory, 0, bytes);
    trm_slot_begin(&slot, &form, &catalog.state);
    trm_slot_fill(&slot, &form);
    trm_slot_form_destroy(&form);
    trm_slice_set_destroy(&live);
    return slot;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trm_slot slot = make_slot(), cut;
    size_t less = size >= 2 ? (size_t)(data[0] << 8 | data[1]) : 0;
    for (size_t i = 2; i + 4 <= size; i += 4) {
        size_t place = (size_t)(data[i] << 16 | data[i + 1] << 8 | data[i + 2]) % slot.bytes;
        slot.memory[place] = (char)data[i + 3];
    }
    /* In memory of just that size, where a sanitizer sees what is read behind it. */
    cut.bytes = slot.bytes - less < slot.bytes && slot.bytes - less >= TRM_SLOT_HEAD_BYTES
                    ? slot.bytes - less
                    : slot.bytes;
    cut.memory = malloc(cut.bytes);
    memcpy(cut.memory, slot.memory, cut.bytes);
    read_slot(&cut);
    seal(&cut);
    read_slot(&cut);
    free(cut.memory);
    free(slot.memory);
    return 0;
}
