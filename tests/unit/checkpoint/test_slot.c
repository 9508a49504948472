/* A shard in a memory slot: what is written is read, whatever is damaged is noticed. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/restore.h"
#include "checkpoint/slot.h"

/* One rank's shard, live and in a slot. */
struct shard {
    struct fixture_pieces pieces;
    struct trm_slice_set live;
    struct trm_slot_form form;
    struct trm_slot slot;
};

static const char roster[] = "n1\0n2\0n2\0n1"; /* and a last NUL */

static void open_shard(struct shard *shard, int data_rank, int64_t step)
{
    struct trm_error err = {0};
    struct trm_catalog catalog = {
        .state = fixture_state(3), /* of the attempt's start: the counters of the slot count */
        .tensor_count = FIXTURE_TENSORS,
        .tensors = (struct trm_ckpt_tensor *)fixture_tensors,
        .shard_count = 2,
        .kinds = {true, true, true},
    };
    struct trm_ckpt_state state = fixture_state(step);
    shard->pieces = fixture_pieces_of(1, 2, data_rank, step);
    assert_ok(trm_slice_set_cut(fixture_tensors, FIXTURE_TENSORS, shard->pieces.pieces,
                                shard->pieces.count, &shard->live, &err),
              err);
    assert_ok(trm_slot_form_create(&catalog, &shard->live, roster, sizeof(roster), data_rank, 2, 9,
                                   &shard->form, &err),
              err);
    int fd = memfd_create("slot", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, shard->form.layout.image_bytes) == 0);
    assert_ok(trm_slot_map(fd, true, &shard->slot, &err), err);
    close(fd);
    trm_slot_begin(&shard->slot, &shard->form, &state);
    trm_slot_fill(&shard->slot, &shard->form);
}

static void close_shard(struct shard *shard)
{
    trm_slot_unmap(&shard->slot);
    trm_slot_form_destroy(&shard->form);
    trm_slice_set_destroy(&shard->live);
    fixture_pieces_free(&shard->pieces);
}

/* A slot as a source; everything is owned by the struct. */
struct reading {
    struct trm_catalog catalog;
    struct trm_slice *slices;
    const void **data;
    struct trm_source *source;
};

static enum trm_status open_reading(const struct trm_slot *slot, struct reading *reading,
                                    struct trm_error *err)
{
    struct trm_slot_layout layout;
    *reading = (struct reading){0};
    enum trm_status status = trm_slot_check(slot, &layout, err);
    if (status != TRM_OK)
        return status;
    int64_t count = trm_slot_head(slot)->key.slice_count;
    reading->slices = calloc((size_t)count + 1, sizeof(*reading->slices));
    reading->data = calloc((size_t)count + 1, sizeof(*reading->data));
    status = trm_slot_catalog(slot, &layout, &reading->catalog, err);
    if (status == TRM_OK)
        status =
            trm_slot_slices(slot, &layout, &reading->catalog, reading->slices, reading->data, err);
    if (status == TRM_OK)
        status = trm_source_memory("a slot", reading->slices, reading->data, count, TRM_F32,
                                   &reading->source, err);
    return status;
}

static void close_reading(struct reading *reading)
{
    trm_source_destroy(reading->source);
    trm_catalog_destroy(&reading->catalog);
    free(reading->slices);
    free(reading->data);
}

static void two_shards_in_slots_are_the_state_at_any_layout(void **state)
{
    (void)state;
    struct shard shards[2];
    struct reading readings[2];
    struct trm_source *sources[2];
    struct trm_restore *restore = NULL;
    struct trm_error err = {0};
    char text[128];
    for (int i = 0; i < 2; i++) {
        open_shard(&shards[i], i, 7);
        /* What becomes of the live state has no part in it. */
        memset(shards[i].pieces.memory, 0, (size_t)shards[i].pieces.elements * sizeof(float));
        assert_ok(open_reading(&shards[i].slot, &readings[i], &err), err);
        sources[i] = readings[i].source;
    }
    assert_ok(trm_restore_create(readings[0].catalog.tensors, FIXTURE_TENSORS, sources, 2, NULL,
                                 NULL, &restore, &err),
              err);
    for (int rank = 0; rank < 3; rank++) {
        struct fixture_pieces wanted = fixture_pieces_of(3, 1, rank, -1);
        assert_ok(trm_restore_run(restore, wanted.pieces, wanted.count, NULL, &err), err);
        assert_null(fixture_wrong(&wanted, 7, text));
        fixture_pieces_free(&wanted);
    }
    trm_restore_destroy(restore);
    for (int i = 0; i < 2; i++) {
        close_reading(&readings[i]);
        close_shard(&shards[i]);
    }
}

static void a_slot_has_the_counters_of_its_step(void **state)
{
    (void)state;
    struct shard shard;
    struct reading reading;
    struct trm_error err = {0};
    struct trm_ckpt_state expected = fixture_state(7);
    open_shard(&shard, 1, 7);
    assert_ok(open_reading(&shard.slot, &reading, &err), err);
    const struct trm_ckpt_state *found = &reading.catalog.state;
    assert_string_equal(found->run_id, expected.run_id);
    assert_int_equal(found->step, 7);
    assert_int_equal(found->lineage, expected.lineage);
    assert_int_equal(found->attempt, expected.attempt);
    assert_int_equal(found->next_sample, expected.next_sample);
    assert_true(found->data_hash == expected.data_hash);
    assert_true(found->last_loss == expected.last_loss);
    assert_int_equal(found->skip_count, 2);
    assert_memory_equal(found->skips, expected.skips, 2 * sizeof(*expected.skips));
    assert_string_equal(found->config_yaml, expected.config_yaml);
    assert_string_equal(found->fingerprint, expected.fingerprint);
    close_reading(&reading);
    close_shard(&shard);
}

static bool is_refused(const struct trm_slot *slot, enum trm_status expected)
{
    struct trm_slot_layout layout;
    struct trm_error err = {0};
    return trm_slot_check(slot, &layout, &err) == expected && err.text[0] != '\0';
}

static void every_flipped_bit_in_front_of_the_data_is_noticed(void **state)
{
    (void)state;
    struct shard shard;
    struct trm_slot_layout layout;
    open_shard(&shard, 0, 7);
    int64_t rows_end = shard.form.layout.rows + shard.live.count * TRM_SLICE_ROW_BYTES;
    for (int64_t byte = TRM_SLOT_OWN_BYTES; byte < rows_end; byte++) {
        /* The rest of the head's page is not used. */
        if (byte >= (int64_t)sizeof(struct trm_slot_head) && byte < TRM_SLOT_HEAD_BYTES)
            continue;
        for (int bit = 0; bit < 8; bit++) {
            shard.slot.memory[byte] ^= (char)(1 << bit);
            assert_int_not_equal(trm_slot_check(&shard.slot, &layout, NULL), TRM_OK);
            shard.slot.memory[byte] ^= (char)(1 << bit);
        }
    }
    assert_int_equal(trm_slot_check(&shard.slot, &layout, NULL), TRM_OK);
    close_shard(&shard);
}

static void every_flipped_byte_of_the_data_fails_the_checksum_of_its_slice(void **state)
{
    (void)state;
    struct shard shard;
    struct reading reading;
    struct trm_error err = {0};
    static char data[TRM_CKPT_SLICE_BYTES];
    open_shard(&shard, 0, 7);
    assert_ok(open_reading(&shard.slot, &reading, &err), err);
    for (int64_t i = 0; i < shard.live.count; i++) {
        int64_t bytes = trm_slice_bytes(&reading.slices[i], TRM_F32);
        char *place = (char *)(uintptr_t)reading.data[i];
        for (int64_t byte = 0; byte < bytes; byte += byte == bytes - 2 ? 1 : 1 + byte % 61) {
            place[byte] ^= 0x10;
            assert_int_equal(trm_restore_read_slice(reading.source, i, fixture_tensors, data, &err),
                             TRM_ERR_CORRUPT);
            assert_non_null(strstr(err.text, "a slot: "));
            place[byte] ^= 0x10;
        }
        assert_ok(trm_restore_read_slice(reading.source, i, fixture_tensors, data, &err), err);
    }
    close_reading(&reading);
    close_shard(&shard);
}

static void a_slot_that_is_cut_short_is_refused_at_every_length(void **state)
{
    (void)state;
    struct shard shard;
    open_shard(&shard, 1, 7);
    for (int64_t bytes = TRM_SLOT_HEAD_BYTES; bytes < shard.form.layout.image_bytes; bytes += 997) {
        struct trm_slot cut = {shard.slot.memory, (size_t)bytes};
        assert_true(is_refused(&cut, TRM_ERR_CORRUPT));
    }
    close_shard(&shard);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct shard shard;
    open_shard(&shard, 1, 7);
    struct trm_slot_key *key = &trm_slot_head(&shard.slot)->key;
    int64_t *const sizes[] = {&key->slice_count,  &key->skip_room,   &key->manifest_bytes,
                              &key->roster_bytes, &key->elements[0], &key->elements[2],
                              &key->image_bytes};
    static const int64_t values[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 8, (int64_t)1 << 40};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
            int64_t kept = *sizes[i];
            *sizes[i] = values[v];
            assert_true(is_refused(&shard.slot, TRM_ERR_CORRUPT));
            *sizes[i] = kept;
        }
    close_shard(&shard);
}

static void what_is_not_complete_or_of_another_build_is_not_read(void **state)
{
    (void)state;
    struct shard shard;
    struct trm_ckpt_state next = fixture_state(8);
    open_shard(&shard, 1, 7);
    trm_slot_head(&shard.slot)->key.state_bytes += 8;
    assert_true(is_refused(&shard.slot, TRM_ERR_MISMATCH));
    trm_slot_begin(&shard.slot, &shard.form, &next);
    assert_true(is_refused(&shard.slot, TRM_ERR_NOT_FOUND));
    trm_slot_fill(&shard.slot, &shard.form);
    assert_false(is_refused(&shard.slot, TRM_ERR_NOT_FOUND));
    trm_slot_free(&shard.slot);
    assert_true(is_refused(&shard.slot, TRM_ERR_NOT_FOUND));
    close_shard(&shard);
}

/* With digests that are right: of a build whose state has other fields in the same room, say. */
static void more_losses_than_a_state_has_room_for_are_refused(void **state)
{
    (void)state;
    struct shard shard;
    struct reading reading;
    struct trm_error err = {0};
    struct trm_ckpt_state next = fixture_state(8);
    open_shard(&shard, 1, 7);
    for (int i = 0; i < 2; i++) {
        next.recent_loss_count = i == 0 ? 100000000 : -1;
        trm_slot_begin(&shard.slot, &shard.form, &next);
        trm_slot_fill(&shard.slot, &shard.form);
        assert_int_equal(open_reading(&shard.slot, &reading, &err), TRM_ERR_CORRUPT);
        assert_non_null(strstr(err.text, "recent losses, not 0 to 256"));
        close_reading(&reading);
    }
    close_shard(&shard);
}

static void a_copy_that_arrived_whole_is_the_same_shard(void **state)
{
    (void)state;
    struct shard shard, other;
    struct trm_error err = {0};
    struct reading reading;
    size_t bytes, other_bytes;
    open_shard(&shard, 0, 7);
    open_shard(&other, 0, 3);
    int64_t image_bytes = shard.form.layout.image_bytes;
    char *from = trm_slot_message(&shard.slot, image_bytes, &bytes);
    char *to = trm_slot_message(&other.slot, image_bytes, &other_bytes);
    assert_int_equal(bytes, other_bytes);
    trm_slot_receive_begin(&other.slot);
    assert_true(is_refused(&other.slot, TRM_ERR_NOT_FOUND));
    memcpy(to, from, bytes);
    to[TRM_SLOT_HEAD_BYTES] ^= 1;
    assert_int_equal(trm_slot_receive_end(&other.slot, &err), TRM_ERR_CORRUPT);
    assert_true(is_refused(&other.slot, TRM_ERR_NOT_FOUND));
    to[TRM_SLOT_HEAD_BYTES] ^= 1;
    assert_ok(trm_slot_receive_end(&other.slot, &err), err);
    assert_int_equal(trm_slot_head(&other.slot)->copy, TRM_SLOT_PARTNER);
    assert_ok(open_reading(&other.slot, &reading, &err), err);
    assert_int_equal(reading.catalog.state.step, 7);
    close_reading(&reading);
    close_shard(&other);
    close_shard(&shard);
}

static void a_roster_names_nodes_and_partners_of_its_ranks_alone(void **state)
{
    (void)state;
    const char *node = NULL, *partner = NULL;
    assert_true(trm_slot_roster_entry(roster, sizeof(roster), 1, &node, &partner));
    assert_string_equal(node, "n2");
    assert_string_equal(partner, "n1");
    assert_false(trm_slot_roster_entry(roster, sizeof(roster), 2, &node, &partner));
    assert_false(trm_slot_roster_entry(roster, sizeof(roster) - 1, 1, &node, &partner));
    assert_false(trm_slot_roster_entry(roster, 0, 0, &node, &partner));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_shards_in_slots_are_the_state_at_any_layout),
        cmocka_unit_test(a_slot_has_the_counters_of_its_step),
        cmocka_unit_test(every_flipped_bit_in_front_of_the_data_is_noticed),
        cmocka_unit_test(every_flipped_byte_of_the_data_fails_the_checksum_of_its_slice),
        cmocka_unit_test(a_slot_that_is_cut_short_is_refused_at_every_length),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(what_is_not_complete_or_of_another_build_is_not_read),
        cmocka_unit_test(more_losses_than_a_state_has_room_for_are_refused),
        cmocka_unit_test(a_copy_that_arrived_whole_is_the_same_shard),
        cmocka_unit_test(a_roster_names_nodes_and_partners_of_its_ranks_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
