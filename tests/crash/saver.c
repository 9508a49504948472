/*
 * The program that is interrupted: a save, by as many ranks as asked for.
 *
 *   crash-saver save DIRECTORY RANKS STEP VALUES ATTEMPT [GROUP]
 *   crash-saver keep DIRECTORY RANKS STEP COUNT ATTEMPT [GROUP]
 *   crash-saver remove DIRECTORY STEP
 *
 * `save` saves the tests' small model as of step VALUES under the number STEP and waits for it.
 * `keep` saves COUNT steps from STEP on as training does: each is copied and then written by a
 * thread, while the state that it was copied from is overwritten by the next; the newest two are
 * kept. GROUP ranks write a shard together. `remove` removes a checkpoint. Exit code 0 when all is
 * durable, 1 with the reason on standard error; killed when a rank was.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/parallel/save.h"
#include "checkpoint/parallel/saver.h"
#include "checkpoint/snapshot.h"
#include "checkpoint/store.h"
#include "siblings.h"
#include "tests/unit/checkpoint/fixture.h"
#include "values.h"

#define TIME_LIMIT_S 60

static int report(enum trm_status status, const struct trm_error *err)
{
    if (status != TRM_OK)
        fprintf(stderr, "%s\n", err->text);
    return status == TRM_OK ? 0 : 1;
}

struct order {
    const char *directory;
    int ranks;
    int count; /* of `keep`; 0: `save` */
    int group; /* ranks that share a shard; 0: as the library likes it */
    struct trm_ckpt_state state;
};

static enum trm_status save(struct trm_comm *comm, const struct order *order, struct trm_error *err)
{
    struct fixture_pieces mine =
        fixture_pieces_of(1, comm->size, comm->rank, values_of(&order->state));
    enum trm_status status =
        trm_checkpoint_save(comm, order->directory, order->group, &order->state, fixture_tensors,
                            FIXTURE_TENSORS, mine.pieces, mine.count, NULL, err);
    fixture_pieces_free(&mine);
    return status;
}

static void note_failure(void *context, const struct trm_save_event *event)
{
    struct trm_error *first = context;
    if (event->error != NULL && first->status == TRM_OK)
        *first = *event->error;
}

static enum trm_status save_some(struct trm_saver *saver, const struct order *order,
                                 struct fixture_pieces *mine, int rank, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    for (int64_t i = 0; status == TRM_OK && i < order->count; i++) {
        int64_t step = order->state.step + i;
        struct trm_ckpt_state state = values_state(step, step);
        struct fixture_pieces now = fixture_pieces_of(1, order->ranks, rank, step);
        memcpy(mine->memory, now.memory, (size_t)now.elements * sizeof(float));
        fixture_pieces_free(&now);
        state.attempt = order->state.attempt;
        status = trm_saver_begin(saver, &state, err);
    }
    memset(mine->memory, 0, (size_t)mine->elements * sizeof(float));
    return status == TRM_OK ? trm_saver_wait(saver, err) : status;
}

static enum trm_status keep(struct trm_comm *comm, const struct order *order, struct trm_error *err)
{
    struct fixture_pieces mine = fixture_pieces_of(1, comm->size, comm->rank, -1);
    struct trm_error failed = {0};
    struct trm_saver *saver = NULL;
    size_t bytes = (trm_snapshot_bytes(mine.elements, mine.count, TRM_F32) + 4095) / 4096 * 4096;
    char *memory = aligned_alloc(4096, TRM_SAVER_SNAPSHOTS * bytes);
    const struct trm_saver_settings settings = {
        .comm = comm,
        .directory = order->directory,
        .tensors = fixture_tensors,
        .tensor_count = FIXTURE_TENSORS,
        .pieces = mine.pieces,
        .piece_count = mine.count,
        .snapshots = {memory, memory + bytes},
        .copy_threads = 1,
        .shard_group_size = order->group,
        .retention = {.keep_latest = 2},
        .replace_from = INT64_MAX,
        .event = note_failure,
        .context = &failed,
    };
    enum trm_status status = trm_saver_create(&settings, &saver, err);
    if (status == TRM_OK)
        status = save_some(saver, order, &mine, comm->rank, err);
    trm_saver_destroy(saver);
    free(memory);
    fixture_pieces_free(&mine);
    if (status == TRM_OK && failed.status != TRM_OK)
        status = trm_error_set(err, failed.status, "%s", failed.text);
    return status;
}

static int run_rank(struct siblings *siblings, int rank, const struct order *order)
{
    struct trm_comm *comm = NULL;
    struct trm_error err = {0};
    enum trm_status status = siblings_join(siblings, rank, &comm, &err);
    if (status == TRM_OK)
        status = order->count > 0 ? keep(comm, order, &err) : save(comm, order, &err);
    trm_comm_destroy(comm);
    return rank == 0 ? report(status, &err) : status != TRM_OK;
}

/* Ends the ranks that are left as soon as one was killed, and this process like it, once they are
 * gone: what they left is looked at then. */
static int wait_for_all(const pid_t *ranks, int count)
{
    int code = 0;
    for (int left = count; left > 0; left--) {
        int status = 0;
        if (wait(&status) < 0)
            return 1;
        if (WIFSIGNALED(status)) {
            for (int i = 0; i < count; i++)
                kill(ranks[i], SIGKILL);
            while (wait(NULL) > 0)
                ;
            raise(WTERMSIG(status));
        }
        if (WEXITSTATUS(status) != 0)
            code = 1;
    }
    return code;
}

static int run_ranks(const struct order *order)
{
    pid_t ranks[SIBLINGS_MAX];
    if (order->ranks < 1 || order->ranks > SIBLINGS_MAX)
        return 2;
    struct siblings *siblings = siblings_create(order->ranks);
    if (siblings == NULL)
        return 1;
    if (order->ranks == 1)
        return run_rank(siblings, 0, order);
    for (int rank = 0; rank < order->ranks; rank++) {
        ranks[rank] = fork();
        if (ranks[rank] == 0)
            exit(run_rank(siblings, rank, order));
        if (ranks[rank] < 0)
            return 1;
    }
    return wait_for_all(ranks, order->ranks);
}

int main(int argc, char **argv)
{
    bool has_order = argc == 7 || argc == 8;
    bool is_keep = has_order && strcmp(argv[1], "keep") == 0;
    alarm(TIME_LIMIT_S);
    if (is_keep || (has_order && strcmp(argv[1], "save") == 0)) {
        struct order order = {.directory = argv[2],
                              .ranks = atoi(argv[3]),
                              .count = is_keep ? atoi(argv[5]) : 0,
                              .group = argc == 8 ? atoi(argv[7]) : 0,
                              .state = values_state(atoll(argv[4]), atoll(argv[5]))};
        order.state.attempt = atoll(argv[6]);
        return run_ranks(&order);
    }
    if (argc == 4 && strcmp(argv[1], "remove") == 0) {
        struct trm_error err = {0};
        return report(trm_store_remove(argv[2], atoll(argv[3]), VALUES_ATTEMPT, &err), &err);
    }
    fprintf(stderr, "usage: crash-saver save DIRECTORY RANKS STEP VALUES ATTEMPT [GROUP]\n"
                    "       crash-saver keep DIRECTORY RANKS STEP COUNT ATTEMPT [GROUP]\n"
                    "       crash-saver remove DIRECTORY STEP\n");
    return 2;
}
