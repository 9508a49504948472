/* Forming communicators, splitting them, and their orderly end. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "collectives/agree.h"
#include "collectives/nccl/internal.h"

static void unlink_state(struct nccl_state *state)
{
    struct nccl_state **link = &state->family->members;
    while (*link && *link != state)
        link = &(*link)->next;
    if (*link)
        *link = state->next;
}

/* Releases what make_state made; NCCL's communicator is gone by then. */
static void free_state(struct nccl_state *state)
{
    unlink_state(state);
    if (state->token)
        cudaFree(state->token);
    if (state->before)
        cudaEventDestroy(state->before);
    if (state->stream)
        cudaStreamDestroy(state->stream);
    if (state->is_world)
        free(state->family);
    else
        trm_comm_destroy(state->host);
    free(state);
}

static cudaError_t make_stream(struct nccl_state *state)
{
    int least = 0, greatest = 0;
    cudaError_t code = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (code == cudaSuccess)
        code = cudaStreamCreateWithPriority(&state->stream, cudaStreamNonBlocking, greatest);
    if (code == cudaSuccess)
        code = cudaEventCreateWithFlags(&state->before, cudaEventDisableTiming);
    if (code == cudaSuccess)
        code = cudaMalloc((void **)&state->token, sizeof *state->token);
    if (code == cudaSuccess)
        code = cudaMemsetAsync(state->token, 0, sizeof *state->token, state->stream);
    return code;
}

/* Takes `host` unless it is the world's, also on failure. */
static enum trm_status make_state(struct nccl_family *family, struct trm_comm *host, bool is_world,
                                  struct nccl_state **out, struct trm_error *err)
{
    struct nccl_state *state = calloc(1, sizeof *state);
    if (!state) {
        if (!is_world)
            trm_comm_destroy(host);
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communicator");
    }
    *state = (struct nccl_state){
        .family = family, .next = family->members, .host = host, .is_world = is_world};
    family->members = state;
    *out = state; /* freed by the caller from here on */
    return trm_nccl_check_cuda(family, make_stream(state), "preparing a stream", err);
}

static ncclConfig_t configuration(void)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return config;
}

static int64_t init_deadline(const struct nccl_family *family)
{
    return trm_clock_deadline_ns(family->settings.init_timeout_ms);
}

/* NCCL is left out where one rank needs copies alone. */
static bool wants_nccl(const struct nccl_state *state)
{
    return state->host->size > 1 || state->family->settings.alone;
}

static enum trm_status share_id(struct nccl_state *state, ncclUniqueId *id, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    if (state->host->rank == 0)
        status = trm_nccl_check(state->family, ncclGetUniqueId(id), "making NCCL's id", err);
    status = trm_agree(state->host, status, err);
    return status ? status : trm_comm_broadcast(state->host, id, sizeof *id, 0, NULL, err);
}

static enum trm_status form(struct nccl_state *state, const ncclUniqueId *id, struct trm_error *err)
{
    const char *what = "forming a communicator";
    const struct trm_comm *host = state->host;
    ncclConfig_t config = configuration();
    int64_t deadline_ns = init_deadline(state->family);
    ncclResult_t code =
        ncclCommInitRankConfig(&state->handle, host->size, *id, host->rank, &config);
    enum trm_status status = trm_nccl_check(state->family, code, what, err);
    return status ? status : trm_nccl_await(state, deadline_ns, what, err);
}

/* All ranks agree; whoever succeeded alone aborts what its peers don't have. */
static enum trm_status agree(struct trm_comm *host, struct nccl_family *family,
                             enum trm_status status, struct trm_error *err)
{
    struct trm_error words = {0};
    enum trm_status agreed;
    if (status && err)
        words = *err;
    agreed = trm_agree(host, status, &words);
    if (agreed && err)
        *err = words;
    if (agreed)
        trm_nccl_fail(family, NULL, agreed, "%s", words.text);
    return agreed;
}

static enum trm_status wrap(struct nccl_state *state, struct trm_comm **out, struct trm_error *err)
{
    struct trm_comm *comm = calloc(1, sizeof *comm);
    enum trm_status status;
    if (!comm)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for a communicator");
    comm->backend = &trm_nccl_backend;
    comm->rank = state->host->rank;
    comm->size = state->host->size;
    comm->state = state;
    status = trm_request_create(comm, 0, &comm->own_request, err);
    if (status) {
        free(comm);
        return status;
    }
    *out = comm;
    return TRM_OK;
}

/* Collective where the family is sound: NCCL ends a communicator together. */
static void finalize(struct nccl_state *state)
{
    struct nccl_family *family = state->family;
    const char *what = "ending a communicator";
    enum trm_status status;

    if (!state->handle)
        return;
    status = trm_nccl_check(family, ncclCommFinalize(state->handle), what, NULL);
    if (status == TRM_OK)
        status = trm_nccl_await(state, init_deadline(family), what, NULL);
    if (status == TRM_OK)
        ncclCommDestroy(state->handle);
    state->handle = NULL;
}

void trm_nccl_destroy(struct trm_comm *comm)
{
    trm_request_destroy(comm->own_request);
    finalize(comm->state);
    free_state(comm->state);
    free(comm);
}

enum trm_status trm_nccl_start(struct trm_comm *host, const struct trm_nccl_settings *settings,
                               struct trm_comm **world, struct trm_error *err)
{
    struct nccl_family *family = calloc(1, sizeof *family);
    struct nccl_state *state = NULL;
    struct trm_comm *made = NULL;
    ncclUniqueId id = {{0}};
    enum trm_status status = TRM_OK;

    if (!family)
        return trm_agree(host, trm_error_set(err, TRM_ERR_MEMORY, "no memory for NCCL"), err);
    family->settings = *settings;
    status = make_state(family, host, true, &state, err);
    if (status == TRM_OK)
        status = wrap(state, &made, err);
    status = trm_agree(host, status, err);
    if (status == TRM_OK && wants_nccl(state)) {
        status = share_id(state, &id, err);
        if (status == TRM_OK)
            status = agree(host, family, form(state, &id, err), err);
    }
    if (status == TRM_OK) {
        *world = made;
        return TRM_OK;
    }
    trm_error_prefix(err, "starting NCCL");
    if (made)
        trm_nccl_destroy(made);
    else if (state)
        free_state(state);
    else
        free(family);
    return status;
}

/* NCCL writes the new handle from a thread of its own, at the latest when the child is ready: the
 * parent may be done before (nccl#1472). */
static enum trm_status await_child(struct nccl_state *parent, struct nccl_state *child,
                                   int64_t deadline_ns, const char *what, struct trm_error *err)
{
    enum trm_status status = trm_nccl_await(parent, deadline_ns, what, err);
    ncclComm_t made = NULL;

    for (int turns = 0; status == TRM_OK && !made; turns++) {
        made = __atomic_load_n(&child->handle, __ATOMIC_ACQUIRE);
        if (!made)
            status = trm_nccl_poll(parent->family, err);
        if (!made && status == TRM_OK)
            status = trm_nccl_pause(parent, deadline_ns, what, turns, err);
    }
    return status ? status : trm_nccl_await(child, deadline_ns, what, err);
}

/* NCCL is asked where any of the parts wants it. Then every rank gets a communicator of it, those
 * that are alone, too: a rank without a color has none for NCCL to write to when the split fails,
 * and NCCL 2.28.9 does so all the same (ncclCommInitRankFunc). */
static enum trm_status split_nccl(struct nccl_state *parent, struct nccl_state *child, int color,
                                  int key, struct trm_error *err)
{
    const char *what = "splitting a communicator";
    ncclConfig_t config = configuration();
    int64_t deadline_ns = init_deadline(parent->family), any = wants_nccl(child);
    enum trm_status status = trm_comm_all_reduce(parent->host, &any, 1, TRM_MAX_I64, NULL, err);

    if (status)
        return status;
    if (!parent->handle || !any)
        return trm_nccl_sound(parent->family, err);
    status = trm_nccl_check(parent->family,
                            ncclCommSplit(parent->handle, color, key, &child->handle, &config),
                            what, err);
    return status ? status : await_child(parent, child, deadline_ns, what, err);
}

enum trm_status trm_nccl_split(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                               struct trm_error *err)
{
    struct nccl_state *parent = comm->state, *child = NULL;
    struct nccl_family *family = parent->family;
    struct trm_comm *host = NULL, *made = NULL;
    enum trm_status status = trm_comm_split(parent->host, color, key, &host, err);

    if (status)
        return status;
    status = make_state(family, host, false, &child, err);
    if (status == TRM_OK)
        status = wrap(child, &made, err);
    status = trm_agree(parent->host, status, err);
    if (status == TRM_OK)
        status = agree(parent->host, family, split_nccl(parent, child, color, key, err), err);
    if (status == TRM_OK) {
        *out = made;
        return TRM_OK;
    }
    if (made)
        trm_nccl_destroy(made);
    else if (child)
        free_state(child);
    return status;
}

void trm_nccl_version(char *text, size_t text_bytes)
{
    int version = 0;
    if (ncclGetVersion(&version) == ncclSuccess)
        snprintf(text, text_bytes, "NCCL %d.%d.%d", version / 10000, version / 100 % 100,
                 version % 100);
    else
        snprintf(text, text_bytes, "NCCL");
}
