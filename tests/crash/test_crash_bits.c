/*
 * One bit flipped in each of 1,000 random places over all files of a checkpoint, and in 1,000 more
 * outside of the tensors.
 *
 * A flip in a tensor's bytes fails the load, which names file, tensor and kind; so does one in a
 * manifest or a slice table fail the opening, by file. Whatever else is flipped, the load is right
 * to the last bit. trm_verify, which opens the files with HDF5, must notice the former and survive
 * all. The places come from a seed that is printed; TRM_SEED sets it.
 */
#include "trial.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "checkpoint/parallel/load.h"
#include "checkpoint/store.h"
#include "checkpoint/verify.h"
#include "tests/unit/checkpoint/fixture.h"
#include "values.h"

#ifdef TRM_SANITIZED /* takes its time */
#define FLIPS      300
#define MORE_FLIPS 100
#else
#define FLIPS      1000
#define MORE_FLIPS 1000
#endif
#define STEP         20
#define RANKS        3
#define GROUP        2 /* of them share a shard */
#define FILES_MAX    8
#define TIME_LIMIT_S 500

/* In memory that the child which flips shares with the test. */
struct progress {
    int flips, in_tensors, in_tables, in_manifest, elsewhere;
    int seen_by_verify; /* of those elsewhere */
    char file[64];
    int64_t byte;
    int bit;
    char wrong[1500];
};

struct checkpoint {
    char directory[TRM_PATH_BYTES], path[TRM_PATH_BYTES];
    struct trm_stored *stored;
    struct trm_comm *self;
    char names[FILES_MAX][64];
    int64_t bytes[FILES_MAX], total_bytes;
    int file_count;
};

static void list_files(struct checkpoint *checkpoint)
{
    DIR *stream = opendir(checkpoint->path);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        char path[TRM_PATH_BYTES];
        struct stat info;
        if (entry->d_name[0] == '.')
            continue;
        int i = checkpoint->file_count++;
        assert_true(i < FILES_MAX);
        snprintf(checkpoint->names[i], sizeof(checkpoint->names[i]), "%.63s", entry->d_name);
        assert_int_equal(trm_file_path(path, NULL, "%s/%s", checkpoint->path, checkpoint->names[i]),
                         TRM_OK);
        assert_int_equal(stat(path, &info), 0);
        checkpoint->bytes[i] = info.st_size;
        checkpoint->total_bytes += info.st_size;
    }
    closedir(stream);
}

static bool is_inside(struct trm_ckpt_range range, int64_t byte)
{
    return byte >= range.offset && byte < range.offset + range.bytes;
}

/* The slice that a byte of a file belongs to, or NULL. */
static const struct trm_slice *slice_at(const struct trm_stored *stored, int file, int64_t byte)
{
    const struct trm_ckpt_file *shard = &stored->catalog.files[file];
    for (int64_t i = stored->file_begin[file]; i < stored->file_begin[file + 1]; i++) {
        const struct trm_slice *slice = &stored->slices[i];
        int64_t begin = shard->data[slice->kind].offset + slice->offset * (int64_t)sizeof(float);
        if (byte >= begin && byte < begin + trm_slice_bytes(slice, TRM_F32))
            return slice;
    }
    return NULL;
}

static enum trm_status verify(const struct checkpoint *checkpoint, struct trm_error *err)
{
    struct trm_stored *stored = NULL;
    enum trm_status status = trm_stored_open(checkpoint->path, &stored, err);
    if (status == TRM_OK)
        status = trm_verify(stored, NULL, err);
    trm_stored_close(stored);
    return status;
}

/* Loads all of it; `right` says whether every element is. */
static enum trm_status load(const struct checkpoint *checkpoint, bool *right, struct trm_error *err)
{
    char text[128];
    struct trm_checkpoint *opened = NULL;
    struct fixture_pieces all = fixture_pieces_of(1, 1, 0, -1);
    enum trm_status status = trm_checkpoint_open(checkpoint->self, checkpoint->directory, STEP,
                                                 NULL, NULL, &opened, err);
    if (status == TRM_OK)
        status = trm_checkpoint_load(checkpoint->self, opened, all.pieces, all.count, NULL, err);
    *right = status == TRM_OK && fixture_wrong(&all, STEP, text) == NULL;
    trm_checkpoint_close(opened);
    fixture_pieces_free(&all);
    return status;
}

static bool names(const struct trm_error *err, const char *file, const char *tensor,
                  const char *kind)
{
    return strstr(err->text, file) != NULL && (tensor == NULL || strstr(err->text, tensor)) &&
           (kind == NULL || strstr(err->text, kind));
}

/* What has to become of a flip in a place, and whether it did. */
static bool is_noticed(const struct checkpoint *checkpoint, int number, int64_t byte,
                       struct progress *progress)
{
    const struct trm_catalog *catalog = &checkpoint->stored->catalog;
    const char *name = checkpoint->names[number], *tensor = NULL, *kind = NULL;
    bool must_fail = strcmp(name, TRM_CKPT_MANIFEST) == 0, right = false;
    progress->in_manifest += must_fail;
    for (int i = 0; i < catalog->file_count; i++) {
        const struct trm_ckpt_file *file = &catalog->files[i];
        if (strcmp(file->name, name) != 0)
            continue;
        const struct trm_slice *slice = slice_at(checkpoint->stored, i, byte);
        bool table = is_inside(file->identity, byte) || is_inside(file->slices, byte) ||
                     is_inside(file->checksums, byte);
        if (slice != NULL) {
            tensor = catalog->tensors[slice->tensor].name;
            kind = trm_ckpt_kind_name((enum trm_ckpt_kind)slice->kind);
        }
        progress->in_tensors += slice != NULL;
        progress->in_tables += table;
        must_fail = slice != NULL || table;
    }
    struct trm_error of_verify = {0}, of_load = {0};
    enum trm_status verified = verify(checkpoint, &of_verify);
    enum trm_status loaded = load(checkpoint, &right, &of_load);
    progress->elsewhere += !must_fail;
    progress->seen_by_verify += !must_fail && verified != TRM_OK;
    bool done = must_fail ? loaded != TRM_OK && names(&of_load, name, tensor, kind) &&
                                verified != TRM_OK && names(&of_verify, name, tensor, kind)
                          : loaded == TRM_OK && right;
    if (!done)
        snprintf(progress->wrong, sizeof(progress->wrong),
                 "loading: %.400s; verifying: %.400s; it concerns %s of %s",
                 loaded == TRM_OK ? "no error" : of_load.text,
                 verified == TRM_OK ? "no error" : of_verify.text, kind != NULL ? kind : "no kind",
                 tensor != NULL ? tensor : "no tensor");
    return done;
}

/* The file and the byte in it of draw `drawn`. */
static int place_of(const struct checkpoint *checkpoint, uint64_t drawn, int64_t *byte)
{
    int number = 0;
    *byte = (int64_t)(drawn / 8 % (uint64_t)checkpoint->total_bytes);
    while (*byte >= checkpoint->bytes[number])
        *byte -= checkpoint->bytes[number++];
    return number;
}

static bool is_in_tensor(const struct checkpoint *checkpoint, int number, int64_t byte)
{
    const struct trm_catalog *catalog = &checkpoint->stored->catalog;
    for (int i = 0; i < catalog->file_count; i++)
        if (strcmp(catalog->files[i].name, checkpoint->names[number]) == 0)
            return slice_at(checkpoint->stored, i, byte) != NULL;
    return false;
}

/* In the child. */
static int flip_all(const struct checkpoint *checkpoint, uint64_t seed, struct progress *progress)
{
    alarm(TIME_LIMIT_S);
    for (uint64_t i = 0; progress->flips < FLIPS + MORE_FLIPS; i++) {
        char path[TRM_PATH_BYTES];
        uint64_t drawn = trm_random_bits(seed, i);
        int64_t byte = 0;
        int number = place_of(checkpoint, drawn, &byte);
        if (progress->flips >= FLIPS && is_in_tensor(checkpoint, number, byte))
            continue;
        memcpy(progress->file, checkpoint->names[number], sizeof(progress->file));
        progress->byte = byte;
        progress->bit = (int)(drawn % 8);
        if (trm_file_path(path, NULL, "%s/%s", checkpoint->path, progress->file) != TRM_OK)
            return 1;
        fixture_flip(path, byte, progress->bit);
        bool noticed = is_noticed(checkpoint, number, byte, progress);
        fixture_flip(path, byte, progress->bit);
        if (!noticed)
            return 1;
        progress->flips++;
    }
    return 0;
}

static uint64_t choose_seed(void)
{
    const char *given = getenv("TRM_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)trm_clock_now_ns();
    print_message("seed: TRM_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void a_flipped_bit_is_noticed_by_name_or_changes_nothing(void **state)
{
    struct trial trial;
    struct checkpoint checkpoint = {.total_bytes = 0};
    struct trm_error err = {0};
    int status = 0;
    uint64_t seed = choose_seed();
    (void)state;
    trial_start(&trial);
    trial_checkpoints(trial.before, checkpoint.directory);
    trial_save(checkpoint.directory, RANKS, GROUP, STEP, STEP);
    assert_ok(trm_store_step_path(checkpoint.directory, STEP, checkpoint.path, &err), err);
    assert_ok(trm_stored_open(checkpoint.path, &checkpoint.stored, &err), err);
    assert_ok(trm_comm_self(&checkpoint.self, &err), err);
    list_files(&checkpoint);
    assert_int_equal(checkpoint.file_count, (RANKS + GROUP - 1) / GROUP + 2); /* manifest, view */
    struct progress *progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(flip_all(&checkpoint, seed, progress));
    assert_int_equal(waitpid(child, &status, 0), child);
    print_message("%d flips: %d in tensors, %d in tables, %d in the manifest, all noticed by name; "
                  "%d elsewhere, of which trm_verify saw %d, and none changed a tensor\n",
                  progress->flips, progress->in_tensors, progress->in_tables, progress->in_manifest,
                  progress->elsewhere, progress->seen_by_verify);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("bit %d of byte %lld of %s: %s", progress->bit, (long long)progress->byte,
                 progress->file, WIFEXITED(status) ? progress->wrong : strsignal(WTERMSIG(status)));
    assert_true(progress->flips == FLIPS + MORE_FLIPS && progress->in_tensors > FLIPS / 2);
    munmap(progress, sizeof(*progress));
    trm_comm_destroy(checkpoint.self);
    trm_stored_close(checkpoint.stored);
    trial_finish(&trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_is_noticed_by_name_or_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
