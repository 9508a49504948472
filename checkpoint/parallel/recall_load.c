/*
 * Loading from memory: in rounds, until nobody wants anything any more.
 *
 * In a round each rank plans what it still wants, takes what lies on its node, and asks others for
 * as many slices as it has room for. Those answer first which they can give, having looked at the
 * checksums, then with the slices. What fails is struck off and wanted again in the next round.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "checkpoint/parallel/recall_parts.h"
#include "collectives/agree.h"

#define ROOM_BYTES   ((size_t)32 << 20) /* for slices of one round */
#define REQUESTS_MAX 1024               /* of one round */

/* A slice of another node: asked of the rank that speaks for its slot. */
struct request {
    int64_t number;
    int32_t index; /* of the slot, among its node's */
    int32_t writer;
};

/* What this rank asked for. */
struct asked {
    int holder;
    int64_t begin, end; /* copies that want it */
    char *place;        /* in the room */
    size_t bytes;
};

struct load {
    struct trm_recall_checkpoint *open;
    struct trm_comm *comm;
    struct trm_restore *restore;
    const struct trm_ckpt_piece *pieces;
    struct trm_restore_want *wants;
    int64_t want_count;
    struct trm_restore_copy *copies; /* of the plan at hand */
    int64_t copy_count;
    struct trm_restore_want *next; /* [copy_count]: what is wanted again */
    int64_t next_count;

    char *room; /* ROOM_BYTES */
    size_t room_used;
    struct asked asked[REQUESTS_MAX]; /* by holder */
    struct request requests[REQUESTS_MAX];
    unsigned char answers[REQUESTS_MAX];
    int asked_count;
    int64_t *ask_counts, *serve_counts; /* [comm->size] */
    struct request *serve;              /* what others ask of this rank, by rank */
    unsigned char *serve_answers;
    int64_t serve_count;
    struct trm_message *sends, *receives;
    int64_t local_bytes, peer_bytes;
};

static const struct trm_recall_source *source_of(const struct load *load, int source)
{
    return (const struct trm_recall_source *)load->open->list[source];
}

static enum trm_type type_of(const struct load *load)
{
    return load->open->catalog.tensors[0].type;
}

/* TRM_OK when `data` has the slice's checksum. */
static enum trm_status check_slice(const struct load *load, const struct trm_recall_source *source,
                                   int64_t number, const void *data, struct trm_error *err)
{
    const struct trm_slice *slice = &source->base.slices[number];
    char words[256];
    if (trm_hash64(data, (size_t)trm_slice_bytes(slice, type_of(load))) == slice->checksum)
        return TRM_OK;
    return trm_error_set(
        err, TRM_ERR_CORRUPT, "%s fail their checksum",
        trm_slice_describe(words, sizeof(words), load->open->catalog.tensors, slice));
}

/* copies[begin, end) of a slice that failed here: struck off, told, and wanted again. */
static void fail(struct load *load, int64_t begin, int64_t end, const struct trm_error *reason)
{
    trm_restore_strike(load->restore, &load->copies[begin]);
    if (reason != NULL)
        trm_recall_note(load->open->recall, load->open->list[load->copies[begin].source]->name,
                        reason->text);
    for (int64_t i = begin; i < end; i++)
        load->next[load->next_count++] =
            (struct trm_restore_want){load->copies[i].piece, load->copies[i].rect};
}

static void take_local(struct load *load, int64_t begin, int64_t end)
{
    const struct trm_restore_copy *copy = &load->copies[begin];
    const struct trm_recall_source *source = source_of(load, copy->source);
    const void *data = source->data[copy->number];
    struct trm_error reason = {0};
    if (check_slice(load, source, copy->number, data, &reason) != TRM_OK) {
        fail(load, begin, end, &reason);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        trm_restore_place(load->restore, load->pieces, &load->copies[i], data);
    load->local_bytes += trm_slice_bytes(&source->base.slices[copy->number], type_of(load));
}

/* Asks for it where there is room, else puts it off. */
static void take_remote(struct load *load, int64_t begin, int64_t end)
{
    const struct trm_restore_copy *copy = &load->copies[begin];
    const struct trm_recall_source *source = source_of(load, copy->source);
    size_t bytes = (size_t)trm_slice_bytes(&source->base.slices[copy->number], type_of(load));
    if (source->offer->holder == load->comm->rank) {
        /* A slot of this rank's share that changed since it was announced. */
        const struct trm_error reason = {TRM_ERR_CORRUPT, "it is not what it was"};
        fail(load, begin, end, &reason);
        return;
    }
    if (load->asked_count == REQUESTS_MAX || bytes > ROOM_BYTES - load->room_used) {
        for (int64_t i = begin; i < end; i++)
            load->next[load->next_count++] =
                (struct trm_restore_want){load->copies[i].piece, load->copies[i].rect};
        return;
    }
    load->asked[load->asked_count++] =
        (struct asked){source->offer->holder, begin, end, load->room + load->room_used, bytes};
    load->room_used += bytes;
}

static int by_holder(const void *left, const void *right)
{
    const struct asked *a = left, *b = right;
    if (a->holder != b->holder)
        return a->holder - b->holder;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Plans what is wanted; takes what lies here, and lists the rest by whom to ask. */
static enum trm_status plan(struct load *load, struct trm_error *err)
{
    load->asked_count = 0;
    load->room_used = 0;
    load->next_count = 0;
    memset(load->ask_counts, 0, (size_t)load->comm->size * sizeof(*load->ask_counts));
    enum trm_status status =
        trm_restore_plan(load->restore, load->pieces, load->wants, load->want_count, &load->copies,
                         &load->copy_count, err);
    if (status != TRM_OK)
        return status;
    load->next = malloc((size_t)load->copy_count * sizeof(*load->next) + 1);
    if (load->next == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for a restore plan");
    const struct trm_restore_copy *copies = load->copies;
    for (int64_t begin = 0, end; begin < load->copy_count; begin = end) {
        for (end = begin + 1; end < load->copy_count; end++)
            if (copies[end].source != copies[begin].source ||
                copies[end].number != copies[begin].number)
                break;
        if (source_of(load, copies[begin].source)->data != NULL)
            take_local(load, begin, end);
        else
            take_remote(load, begin, end);
    }
    qsort(load->asked, (size_t)load->asked_count, sizeof(*load->asked), by_holder);
    for (int i = 0; i < load->asked_count; i++) {
        const struct trm_restore_copy *copy = &copies[load->asked[i].begin];
        const struct trm_recall_offer *offer = source_of(load, copy->source)->offer;
        load->requests[i] = (struct request){copy->number, offer->index, offer->writer};
        load->ask_counts[offer->holder]++;
    }
    return TRM_OK;
}

/* Both sides of a round trip: `ask` holds asked_count items of `bytes` each, in the order of ranks;
 * `serve` serve_count. */
static enum trm_status exchange(struct load *load, void *ask, void *serve, size_t bytes,
                                bool to_server, struct trm_error *err)
{
    int ask_messages = 0, serve_messages = 0;
    char *ask_at = ask, *serve_at = serve;
    struct trm_message *asks = to_server ? load->sends : load->receives;
    struct trm_message *serves = to_server ? load->receives : load->sends;
    for (int r = 0; r < load->comm->size; r++) {
        size_t ask_bytes = (size_t)load->ask_counts[r] * bytes;
        size_t serve_bytes = (size_t)load->serve_counts[r] * bytes;
        if (ask_bytes > 0)
            asks[ask_messages++] = (struct trm_message){r, ask_at, ask_bytes};
        if (serve_bytes > 0)
            serves[serve_messages++] = (struct trm_message){r, serve_at, serve_bytes};
        ask_at += ask_bytes;
        serve_at += serve_bytes;
    }
    return trm_comm_exchange(load->comm, load->sends, to_server ? ask_messages : serve_messages,
                             load->receives, to_server ? serve_messages : ask_messages, NULL, err);
}

/* Room for what others ask this round. */
static enum trm_status make_room(struct load *load, struct trm_error *err)
{
    int64_t messages = load->comm->size + load->asked_count;
    load->serve_count = 0;
    for (int r = 0; r < load->comm->size; r++)
        load->serve_count += load->serve_counts[r];
    free(load->serve);
    free(load->serve_answers);
    free(load->sends);
    free(load->receives);
    load->serve = calloc((size_t)load->serve_count + 1, sizeof(*load->serve));
    load->serve_answers = calloc((size_t)load->serve_count + 1, 1);
    load->sends = calloc((size_t)(load->comm->size + load->serve_count), sizeof(*load->sends));
    load->receives = calloc((size_t)(messages + load->serve_count), sizeof(*load->receives));
    if (load->serve == NULL || load->serve_answers == NULL || load->sends == NULL ||
        load->receives == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for %lld requests of other ranks",
                             (long long)load->serve_count);
    return TRM_OK;
}

/* The source that a request means, where this rank speaks for it and can read it; else NULL. */
static const struct trm_recall_source *find_served(const struct load *load,
                                                   const struct request *request)
{
    for (int i = 0; i < load->open->source_count; i++) {
        const struct trm_recall_source *source = &load->open->sources[i];
        if (source->data != NULL && source->offer->index == request->index &&
            source->offer->holder == load->comm->rank && source->offer->writer == request->writer &&
            request->number >= 0 && request->number < source->base.slice_count)
            return source;
    }
    return NULL;
}

/* Looks at what others ask for, and lists what can be sent. Returns the number of messages. */
static int serve(struct load *load)
{
    int messages = 0;
    int64_t i = 0;
    for (int r = 0; r < load->comm->size; r++)
        for (int64_t end = i + load->serve_counts[r]; i < end; i++) {
            const struct request *request = &load->serve[i];
            const struct trm_recall_source *source = find_served(load, request);
            struct trm_error reason = {0};
            enum trm_status status = TRM_ERR_NOT_FOUND;
            if (source != NULL)
                status = check_slice(load, source, request->number, source->data[request->number],
                                     &reason);
            if (source != NULL && status != TRM_OK)
                trm_recall_note(load->open->recall, source->base.name, reason.text);
            load->serve_answers[i] = status == TRM_OK;
            if (status == TRM_OK)
                load->sends[messages++] = (struct trm_message){
                    r, (void *)(uintptr_t)source->data[request->number],
                    (size_t)trm_slice_bytes(&source->base.slices[request->number], type_of(load))};
        }
    return messages;
}

/* What arrived is checked again, and goes where it is wanted. */
static void take_arrived(struct load *load)
{
    for (int i = 0; i < load->asked_count; i++) {
        const struct asked *asked = &load->asked[i];
        const struct trm_restore_copy *copy = &load->copies[asked->begin];
        struct trm_error reason = {0};
        if (!load->answers[i]) { /* its rank told why */
            fail(load, asked->begin, asked->end, NULL);
        } else if (check_slice(load, source_of(load, copy->source), copy->number, asked->place,
                               &reason) != TRM_OK) {
            trm_error_prefix(&reason, "on the way here");
            fail(load, asked->begin, asked->end, &reason);
        } else {
            for (int64_t c = asked->begin; c < asked->end; c++)
                trm_restore_place(load->restore, load->pieces, &load->copies[c], asked->place);
            load->peer_bytes += (int64_t)asked->bytes;
        }
    }
}

/* Collective. One round of questions and answers. */
static enum trm_status ask_others(struct load *load, struct trm_error *err)
{
    enum trm_status status = trm_comm_all_to_all(load->comm, load->ask_counts, load->serve_counts,
                                                 sizeof(*load->ask_counts), NULL, err);
    if (status == TRM_OK)
        status = trm_agree(load->comm, make_room(load, err), err);
    if (status == TRM_OK)
        status = exchange(load, load->requests, load->serve, sizeof(*load->serve), true, err);
    if (status != TRM_OK)
        return status;
    int sends = serve(load), receives = 0;
    /* The list of slices to send waits in `sends` for its turn behind the answers. */
    struct trm_message *slices = load->sends;
    load->sends = calloc((size_t)load->comm->size + 1, sizeof(*load->sends));
    status = trm_agree(load->comm,
                       load->sends != NULL
                           ? TRM_OK
                           : trm_error_set(err, TRM_ERR_MEMORY, "out of memory for answers"),
                       err);
    if (status == TRM_OK)
        status = exchange(load, load->answers, load->serve_answers, 1, false, err);
    for (int i = 0; status == TRM_OK && i < load->asked_count; i++)
        if (load->answers[i])
            load->receives[receives++] = (struct trm_message){
                load->asked[i].holder, load->asked[i].place, load->asked[i].bytes};
    if (status == TRM_OK)
        status = trm_comm_exchange(load->comm, slices, sends, load->receives, receives, NULL, err);
    free(slices);
    if (status == TRM_OK)
        take_arrived(load);
    return status;
}

/* Collective. *left: somebody wants more. */
static enum trm_status run_round(struct load *load, bool *left, struct trm_error *err)
{
    enum trm_status status = trm_agree(load->comm, plan(load, err), err);
    bool any = false;
    if (status == TRM_OK)
        status = trm_agree_any(load->comm, load->asked_count > 0, &any, err);
    if (status == TRM_OK && any)
        status = ask_others(load, err);
    free(load->copies);
    load->copies = NULL;
    free(load->wants);
    load->wants = load->next;
    load->want_count = load->next_count;
    load->next = NULL;
    if (status == TRM_OK)
        status = trm_agree_any(load->comm, load->want_count > 0, left, err);
    return status;
}

/* Not collective. */
static enum trm_status prepare(struct load *load, int piece_count, struct trm_error *err)
{
    const struct trm_recall_checkpoint *open = load->open;
    load->wants = malloc((size_t)piece_count * sizeof(*load->wants) + 1);
    load->room = malloc(ROOM_BYTES);
    load->ask_counts = calloc((size_t)load->comm->size, sizeof(*load->ask_counts));
    load->serve_counts = calloc((size_t)load->comm->size, sizeof(*load->serve_counts));
    if (load->wants == NULL || load->room == NULL || load->ask_counts == NULL ||
        load->serve_counts == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading from memory");
    for (int p = 0; p < piece_count; p++)
        load->wants[p] = (struct trm_restore_want){p, load->pieces[p].rect};
    load->want_count = piece_count;
    enum trm_status status =
        trm_restore_create(open->catalog.tensors, open->catalog.tensor_count, open->list,
                           open->source_count, NULL, NULL, &load->restore, err);
    if (status == TRM_OK)
        status = trm_restore_check_pieces(load->restore, load->pieces, piece_count, err);
    return status;
}

static void clean_up(struct load *load)
{
    if (load == NULL)
        return;
    trm_restore_destroy(load->restore);
    free(load->wants);
    free(load->copies);
    free(load->next);
    free(load->room);
    free(load->ask_counts);
    free(load->serve_counts);
    free(load->serve);
    free(load->serve_answers);
    free(load->sends);
    free(load->receives);
    free(load);
}

enum trm_status trm_recall_load(struct trm_comm *comm, struct trm_checkpoint *checkpoint,
                                const struct trm_ckpt_piece *pieces, int piece_count,
                                int64_t *bytes_read, struct trm_error *err)
{
    struct trm_recall_checkpoint *open = (struct trm_recall_checkpoint *)checkpoint;
    struct load *load = calloc(1, sizeof(*load));
    enum trm_status status = TRM_OK;
    bool left = true;
    if (load == NULL) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading from memory");
    } else {
        load->open = open;
        load->comm = comm;
        load->pieces = pieces;
        status = prepare(load, piece_count, err);
    }
    status = trm_agree(comm, status, err);
    /* Ends: each round takes something, or strikes off a slice. */
    while (status == TRM_OK && left)
        status = run_round(load, &left, err);
    if (status == TRM_OK) {
        int64_t bytes[2] = {load->local_bytes, load->peer_bytes};
        *bytes_read = bytes[0] + bytes[1];
        status = trm_comm_all_reduce(comm, bytes, 2, TRM_SUM_I64, NULL, err);
        open->recall->own_node_bytes += bytes[0];
        open->recall->peer_bytes += bytes[1];
    }
    /* A failure to communicate can't be talked about. */
    if (status != TRM_ERR_COMM && status != TRM_ERR_TIMEOUT) {
        struct trm_error ignored;
        enum trm_status told = trm_recall_tell(open->recall, status == TRM_OK ? err : &ignored);
        status = status == TRM_OK ? told : status;
    }
    clean_up(load);
    return status;
}
