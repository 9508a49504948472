/* Which of the library's algorithms multiplies: the first of its heuristics, or, in a search, the
 * fastest of a few; kept for good. */
#include <string.h>

#include "trainer/ops/cuda/product.h"

#define SEARCHED    8 /* algorithms that a search times */
#define SEARCH_RUNS 4

_Static_assert(sizeof(cublasLtMatmulAlgo_t) == TRM_CUDA_ALGORITHM_WORDS * sizeof(uint64_t),
               "the library's algorithm is what a choice holds");

/* Only a result whose state is success is one (cublasLt.h, cublasLtMatmulHeuristicResult_t). */
static int keep_good(cublasLtMatmulHeuristicResult_t *found, int count)
{
    int good = 0;

    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS)
            found[good++] = found[i];
    return good;
}

/* The library's suggestions, best first, all of which give the same bits run after run: those that
 * split the inner dimension with atomics are left out. None is no error here. */
static int suggest(struct trm_device *dev, const struct trm_cuda_call *call,
                   cublasLtMatmulHeuristicResult_t *found, int most)
{
    const uint64_t bytes = TRM_CUDA_LIBRARY_BYTES;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    struct trm_cuda_call c = *call;
    cublasLtMatmulPreferenceOpaque_t preference;
    int count = 0;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t bytes;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &c.left_bytes, sizeof c.left_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &c.right_bytes, sizeof c.right_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c.out_bytes, sizeof c.out_bytes},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c.out_bytes, sizeof c.out_bytes},
    };

    if (!trm_cuda_blas_check(dev, "matrix product", cublasLtMatmulPreferenceInit(&preference)))
        return 0;
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        if (!trm_cuda_blas_check(dev, "matrix product",
                                 cublasLtMatmulPreferenceSetAttribute(&preference, wishes[i].name,
                                                                      wishes[i].value,
                                                                      wishes[i].bytes)))
            return 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(trm_cuda_of(dev)->blas, &c.product, &c.left, &c.right,
                                       &c.out, &c.out, &preference, most, found, &count);
    return status == CUBLAS_STATUS_SUCCESS ? keep_good(found, count) : 0;
}

/* Milliseconds of SEARCH_RUNS products; infinite when the algorithm fails. */
static float time_of(struct trm_device *dev, const struct trm_cuda_call *call,
                     const cublasLtMatmulAlgo_t *algorithm, cudaEvent_t begin, cudaEvent_t end)
{
    struct trm_cuda *cuda = trm_cuda_of(dev);
    float ms = __builtin_inff();
    bool good = trm_cuda_call_run(dev, call, algorithm) == CUBLAS_STATUS_SUCCESS; /* warms up */

    cudaEventRecord(begin, cuda->stream);
    for (int i = 0; i < SEARCH_RUNS && good; i++)
        good = trm_cuda_call_run(dev, call, algorithm) == CUBLAS_STATUS_SUCCESS;
    cudaEventRecord(end, cuda->stream);
    if (cudaEventSynchronize(end) != cudaSuccess || !good ||
        cudaEventElapsedTime(&ms, begin, end) != cudaSuccess)
        return __builtin_inff();
    return ms;
}

static int fastest(struct trm_device *dev, const struct trm_cuda_call *call,
                   const cublasLtMatmulHeuristicResult_t *found, int count)
{
    cudaEvent_t begin = NULL, end = NULL;
    float best_ms = __builtin_inff();
    int best = 0;

    if (trm_cuda_check(dev, "search", cudaEventCreate(&begin)) &&
        trm_cuda_check(dev, "search", cudaEventCreate(&end)))
        for (int i = 0; i < count; i++) {
            float ms = time_of(dev, call, &found[i].algo, begin, end);
            if (ms < best_ms) {
                best_ms = ms;
                best = i;
            }
        }
    if (begin != NULL)
        cudaEventDestroy(begin);
    if (end != NULL)
        cudaEventDestroy(end);
    return best;
}

const struct trm_cuda_choice *trm_cuda_choose(struct trm_device *dev,
                                              const struct trm_cuda_call *call,
                                              struct trm_cuda_choice *room)
{
    struct trm_cuda_choices *choices = &trm_cuda_of(dev)->choices;
    const bool searching = trm_cuda_of(dev)->searching;
    cublasLtMatmulHeuristicResult_t found[SEARCHED];
    int count, best = 0;

    for (int64_t i = 0; i < choices->count; i++)
        if (memcmp(&choices->choice[i].key, &call->key, sizeof call->key) == 0)
            return &choices->choice[i];
    count = suggest(dev, call, found, searching ? SEARCHED : 1);
    if (dev->error.status == TRM_OK && searching && count > 1)
        best = fastest(dev, call, found, count);
    if (dev->error.status != TRM_OK)
        return NULL;
    *room = (struct trm_cuda_choice){.key = call->key, .found = count > 0};
    if (count > 0)
        memcpy(room->algorithm, &found[best].algo, sizeof room->algorithm);
    /* A full table costs time alone: the heuristics answer the same again. */
    if (choices->count == TRM_CUDA_CHOICES)
        return room;
    choices->choice[choices->count] = *room;
    return &choices->choice[choices->count++];
}
