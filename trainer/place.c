#include "trainer/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "trainer/bind/bind.h"
#include "trainer/ops/cuda/cuda.h"

/* What ranks of a node tell each other. Plain bytes. */
struct card {
    struct trm_bind_place place;
    unsigned char gpu[TRM_CUDA_UUID_BYTES];
    int32_t has_gpu, looked; /* `gpu`, `place.mask` are filled in */
};

static void take_gpu(const struct trm_config *config, int local_rank, struct card *mine, int *gpu)
{
    struct trm_cuda_identity identity;
    int count = config->device == TRM_DEVICE_CPU ? 0 : trm_cuda_count(NULL);

    *gpu = count == 1 ? 0 : local_rank;
    if (*gpu >= count || !trm_cuda_identify(*gpu, &identity))
        return;
    mine->has_gpu = 1;
    memcpy(mine->gpu, identity.uuid, sizeof mine->gpu);
    snprintf(mine->place.gpu, sizeof mine->place.gpu, "%s", identity.bus_id);
}

/* A GPU for each rank, or for none. */
static enum trm_status check_gpus(const struct trm_config *config, struct card *cards, int count,
                                  bool *all, struct trm_error *err)
{
    *all = true;
    for (int i = 0; i < count; i++) {
        *all = *all && cards[i].has_gpu;
        for (int j = 0; j < i && cards[i].has_gpu; j++) {
            if (!cards[j].has_gpu || memcmp(cards[i].gpu, cards[j].gpu, sizeof cards[i].gpu) != 0)
                continue;
            *all = false;
            if (config->device == TRM_DEVICE_CUDA)
                return trm_error_set(err, TRM_ERR_CONFIG,
                                     "ranks number %d and %d of this node would drive one GPU "
                                     "(%s); start one rank per GPU",
                                     j + 1, i + 1, cards[i].place.gpu);
        }
    }
    for (int i = 0; i < count && !*all; i++)
        cards[i].place.gpu[0] = '\0';
    return TRM_OK;
}

static void bind_cores(const struct trm_config *config, const struct card *cards, int count,
                       int mine, struct trm_place *place)
{
    struct trm_bind_place *places = calloc((size_t)count, sizeof *places);
    struct trm_bound bound;
    struct trm_error why = {0};
    enum trm_status status = TRM_OK;

    if (!places)
        status = trm_error_set(&why, TRM_ERR_MEMORY, "no memory for %d ranks", count);
    for (int i = 0; i < count && status == TRM_OK; i++) {
        places[i] = cards[i].place;
        if (!cards[i].looked)
            status = trm_error_set(&why, TRM_ERR_UNSUPPORTED, "a rank can't tell its cores");
    }
    if (status == TRM_OK)
        status = trm_bind(places, count, mine, config->binding == TRM_BINDING_AUTO, &bound, &why);
    free(places);
    if (status == TRM_OK) {
        place->threads = bound.threads;
        if (bound.bound)
            snprintf(place->text, sizeof place->text, "%s", bound.text);
        return;
    }
    place->threads = trm_machine_cores() / count > 1 ? trm_machine_cores() / count : 1;
    place->warns = true;
    snprintf(place->text, sizeof place->text, "ranks are not bound to cores: %.400s", why.text);
}

enum trm_status trm_place_choose(const struct trm_config *config, struct trm_comm *node,
                                 struct trm_place *out, struct trm_error *err)
{
    int count = node ? node->size : 1, rank = node ? node->rank : 0;
    struct card mine = {0}, *cards = calloc((size_t)count, sizeof *cards);
    struct trm_place place = {0};
    bool all = false;
    enum trm_status status = TRM_OK;

    if (!cards)
        return trm_error_set(err, TRM_ERR_MEMORY, "no memory for the %d ranks of a node", count);
    mine.looked = trm_bind_look(&mine.place, NULL) == TRM_OK;
    take_gpu(config, rank, &mine, &place.gpu);
    cards[0] = mine;
    if (node)
        status = trm_comm_all_gather(node, &mine, cards, sizeof mine, NULL, err);
    if (status == TRM_OK)
        status = check_gpus(config, cards, count, &all, err);
    if (status == TRM_OK) {
        if (!all)
            place.gpu = -1;
        bind_cores(config, cards, count, rank, &place);
        *out = place;
    }
    free(cards);
    return status;
}
