#include "checkpoint/slot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "checkpoint/manifest.h"

#define BLOCK_BYTES 4096
#define PART_BYTES  64 /* parts before the data begin at multiples of this */

/* Room for skipped ranges is a multiple of this, with at least so many more than at the start. */
#define SKIPS_MORE 1024

_Static_assert(TRM_KIND_COUNT == 3, "a key has room for the elements of three kinds");
_Static_assert(sizeof(((struct trm_slot_key *)0)->run_id) == TRM_CKPT_RUN_ID_BYTES, "run ids");

static int64_t round_up(int64_t bytes, int64_t multiple)
{
    return (bytes + multiple - 1) / multiple * multiple;
}

enum trm_status trm_slot_layout_of(const struct trm_slot_key *key, struct trm_slot_layout *out,
                                   struct trm_error *err)
{
    const struct {
        const char *name;
        int64_t value, minimum, maximum;
    } bounds[] = {
        {"state_bytes", key->state_bytes, 1, 1 << 20},
        {"element_bytes", key->element_bytes, 1, 8},
        {"slice_count", key->slice_count, 0, TRM_CKPT_MAX_SLICES},
        {"skip_room", key->skip_room, 0, TRM_CKPT_MAX_SKIPS + 2 * SKIPS_MORE},
        {"manifest_bytes", key->manifest_bytes, 1, TRM_MANIFEST_MAX_BYTES},
        {"roster_bytes", key->roster_bytes, 0, TRM_MANIFEST_MAX_BYTES},
        {"elements[0]", key->elements[0], 0, TRM_CKPT_MAX_ELEMENTS},
        {"elements[1]", key->elements[1], 0, TRM_CKPT_MAX_ELEMENTS},
        {"elements[2]", key->elements[2], 0, TRM_CKPT_MAX_ELEMENTS},
    };
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        if (bounds[i].value < bounds[i].minimum || bounds[i].value > bounds[i].maximum)
            return trm_error_set(err, TRM_ERR_CORRUPT, "%s is %lld, not between %lld and %lld",
                                 bounds[i].name, (long long)bounds[i].value,
                                 (long long)bounds[i].minimum, (long long)bounds[i].maximum);
    struct trm_slot_layout made = {.state = TRM_SLOT_HEAD_BYTES};
    made.skips = round_up(made.state + key->state_bytes, PART_BYTES);
    made.checksums = made.skips + key->skip_room * (int64_t)sizeof(struct trm_ckpt_skip);
    made.manifest = made.checksums + key->slice_count * 8;
    made.roster = made.manifest + key->manifest_bytes;
    made.rows = round_up(made.roster + key->roster_bytes, PART_BYTES);
    int64_t next = round_up(made.rows + key->slice_count * TRM_SLICE_ROW_BYTES, BLOCK_BYTES);
    for (int kind = 0; kind < TRM_KIND_COUNT; kind++) {
        made.data[kind] =
            (struct trm_ckpt_range){next, key->elements[kind] * (int64_t)key->element_bytes};
        next = round_up(next + made.data[kind].bytes, BLOCK_BYTES);
    }
    made.image_bytes = next;
    *out = made;
    return TRM_OK;
}

/* Manifest text, roster and slice table as one run of bytes, with the gap between them zero. */
static enum trm_status make_fixed(struct trm_slot_form *form, const char *manifest,
                                  const char *roster, struct trm_error *err)
{
    const struct trm_slot_layout *at = &form->layout;
    const struct trm_slot_key *key = &form->key;
    int64_t bytes = at->rows + key->slice_count * TRM_SLICE_ROW_BYTES - at->manifest;
    uint64_t *checksums = malloc((size_t)key->slice_count * 8 + 1);
    form->fixed = calloc(1, (size_t)bytes);
    if (form->fixed == NULL || checksums == NULL) {
        free(checksums);
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a table of %lld slices",
                             (long long)key->slice_count);
    }
    memcpy(form->fixed, manifest, (size_t)key->manifest_bytes);
    memcpy(form->fixed + (at->roster - at->manifest), roster, (size_t)key->roster_bytes);
    trm_slices_encode(form->live->slices, key->slice_count,
                      (int64_t *)(void *)(form->fixed + (at->rows - at->manifest)), checksums);
    free(checksums);
    form->key.fixed_digest = trm_hash64(form->fixed, (size_t)bytes);
    return TRM_OK;
}

enum trm_status trm_slot_form_create(const struct trm_catalog *catalog,
                                     const struct trm_slice_set *live, const char *roster,
                                     size_t roster_bytes, int writer, int world_size,
                                     int64_t attempt, struct trm_slot_form *out,
                                     struct trm_error *err)
{
    struct trm_slot_form made = {.live = live};
    struct trm_catalog fixed = *catalog;
    char *manifest = NULL;
    size_t manifest_bytes = 0;
    /* The counters of a slot are beside the text; without any in it, the sizes of slots do not
     * change from attempt to attempt. */
    fixed.state = (struct trm_ckpt_state){.last_loss = NAN,
                                          .valid_loss = NAN,
                                          .config_yaml = catalog->state.config_yaml,
                                          .fingerprint = catalog->state.fingerprint,
                                          .data_parallel_size = 1,
                                          .tensor_model_parallel_size = 1};
    memcpy(fixed.state.run_id, catalog->state.run_id, sizeof(fixed.state.run_id));
    fixed.by_name = NULL;
    enum trm_status status = trm_manifest_format(&fixed, &manifest, &manifest_bytes, err);
    if (status != TRM_OK)
        return status;
    made.key = (struct trm_slot_key){
        .version = TRM_SLOT_VERSION,
        .state_bytes = sizeof(struct trm_ckpt_state),
        .attempt = attempt,
        .writer = writer,
        .world_size = world_size,
        .element_bytes = (int32_t)trm_type_bytes(catalog->tensors[0].type),
        .slice_count = live->count,
        .skip_room = (catalog->state.skip_count / SKIPS_MORE + 2) * SKIPS_MORE,
        .manifest_bytes = (int64_t)manifest_bytes,
        .roster_bytes = (int64_t)roster_bytes,
    };
    memcpy(made.key.elements, live->elements, sizeof(made.key.elements));
    status = trm_slot_layout_of(&made.key, &made.layout, err);
    if (status == TRM_OK)
        status = make_fixed(&made, manifest, roster, err);
    free(manifest);
    if (status != TRM_OK) {
        trm_slot_form_destroy(&made);
        return status;
    }
    made.key.image_bytes = made.layout.image_bytes;
    *out = made;
    return TRM_OK;
}

void trm_slot_form_destroy(struct trm_slot_form *form)
{
    if (form == NULL)
        return;
    free(form->fixed);
    form->fixed = NULL;
}

bool trm_slot_form_fits(const struct trm_slot_form *form, const struct trm_ckpt_state *state)
{
    return state->skip_count <= form->key.skip_room;
}

/* Of all that changes from step to step but the data. Seeds chain the parts. */
static uint64_t digest_of(const struct trm_slot_head *head, const char *memory,
                          const struct trm_slot_layout *at)
{
    size_t changing = (size_t)(at->checksums + head->key.slice_count * 8 - at->state);
    uint64_t digest = trm_hash64(&head->key, sizeof(head->key));
    return trm_hash64_seeded(memory + at->state, changing, digest);
}

static void set_state(struct trm_slot *slot, enum trm_slot_state state)
{
    atomic_store_explicit(&trm_slot_head(slot)->state, state, memory_order_release);
}

void trm_slot_begin(struct trm_slot *slot, const struct trm_slot_form *form,
                    const struct trm_ckpt_state *state)
{
    struct trm_slot_head *head = trm_slot_head(slot);
    struct trm_ckpt_state plain = *state;
    TRM_ASSERT(slot->bytes >= (size_t)form->layout.image_bytes && trm_slot_form_fits(form, state));
    set_state(slot, TRM_SLOT_WRITING);
    head->magic = TRM_SLOT_MAGIC;
    head->copy = TRM_SLOT_OWN;
    head->key = form->key;
    memcpy(head->key.run_id, state->run_id, sizeof(head->key.run_id));
    head->key.lineage = state->lineage;
    head->key.step = state->step;
    plain.skips = NULL;
    plain.config_yaml = plain.fingerprint = NULL;
    memcpy(slot->memory + form->layout.state, &plain, sizeof(plain));
    size_t skip_bytes = (size_t)state->skip_count * sizeof(*state->skips);
    char *skips = slot->memory + form->layout.skips;
    if (skip_bytes > 0)
        memcpy(skips, state->skips, skip_bytes);
    memset(skips + skip_bytes, 0, (size_t)form->key.skip_room * sizeof(*state->skips) - skip_bytes);
}

void trm_slot_fill(struct trm_slot *slot, const struct trm_slot_form *form)
{
    struct trm_slot_head *head = trm_slot_head(slot);
    const struct trm_slot_layout *at = &form->layout;
    const struct trm_slice_set *live = form->live;
    uint64_t *checksums = (uint64_t *)(void *)(slot->memory + at->checksums);
    int64_t element_bytes = form->key.element_bytes;
    memcpy(slot->memory + at->manifest, form->fixed,
           (size_t)(at->rows + live->count * TRM_SLICE_ROW_BYTES - at->manifest));
    for (int64_t i = 0; i < live->count; i++) {
        const struct trm_slice *slice = &live->slices[i];
        int64_t place = at->data[slice->kind].offset + slice->offset * element_bytes;
        checksums[i] = trm_hash64_copy(slot->memory + place, live->data[i],
                                       (size_t)(trm_rect_elements(slice->rect) * element_bytes));
    }
    head->digest = digest_of(head, slot->memory, at);
    set_state(slot, TRM_SLOT_COMPLETE);
}

void *trm_slot_message(const struct trm_slot *slot, int64_t image_bytes, size_t *bytes)
{
    TRM_ASSERT(slot->bytes >= (size_t)image_bytes);
    *bytes = (size_t)image_bytes - TRM_SLOT_OWN_BYTES;
    return slot->memory + TRM_SLOT_OWN_BYTES;
}

void trm_slot_receive_begin(struct trm_slot *slot)
{
    set_state(slot, TRM_SLOT_WRITING);
    trm_slot_head(slot)->magic = TRM_SLOT_MAGIC;
    trm_slot_head(slot)->copy = TRM_SLOT_PARTNER;
}

void trm_slot_free(struct trm_slot *slot)
{
    set_state(slot, TRM_SLOT_FREE);
}
