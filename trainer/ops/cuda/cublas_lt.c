/*
 * cuBLASLt, loaded when it is first called: the functions of cublasLt.h that are used here, by
 * their own names.
 *
 * The library has half a gigabyte, and each process that links it relocates 100 MB before main: 64
 * ms and 25,000 page faults, for every rank and every health check, on nodes without a GPU as well.
 * A rank that recovers on CPUs has no use for that.
 *
 * What is loaded belongs to the process, as what is linked does, and stays. Any thread may come
 * first. A library that is missing is what cublasLtCreate then returns, and cublasLtGetStatusString
 * says why.
 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#define LIBRARY    "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

/* What the library offers, by the types of its header. */
#define FUNCTIONS(X)                         \
    X(cublasLtCreate)                        \
    X(cublasLtDestroy)                       \
    X(cublasLtGetStatusString)               \
    X(cublasLtGetVersion)                    \
    X(cublasLtMatmul)                        \
    X(cublasLtMatmulAlgoGetHeuristic)        \
    X(cublasLtMatmulDescInit_internal)       \
    X(cublasLtMatmulDescSetAttribute)        \
    X(cublasLtMatmulPreferenceInit_internal) \
    X(cublasLtMatmulPreferenceSetAttribute)  \
    X(cublasLtMatrixLayoutInit_internal)

#define POINTER(name) __typeof__(name) *name;
static struct {
    pthread_once_t once;
    bool loaded;
    char why[512];
    struct {
        FUNCTIONS(POINTER)
    } call;
} library = {.once = PTHREAD_ONCE_INIT, .why = "not loaded"};

static void load(void)
{
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const char *missing = handle == NULL ? LIBRARY : NULL;
    const char *said = handle == NULL ? dlerror() : NULL;

#define FIND(name)                                                         \
    if (missing == NULL) {                                                 \
        library.call.name = (__typeof__(name) *)dlsym(handle, #name);      \
        missing = library.call.name == NULL ? #name " in " LIBRARY : NULL; \
    }
    FUNCTIONS(FIND)
    library.loaded = missing == NULL;
    if (missing != NULL)
        snprintf(library.why, sizeof library.why, "could not load %s: %s", missing,
                 said != NULL ? said : "it is of another version");
}

static bool is_loaded(void)
{
    pthread_once(&library.once, load);
    return library.loaded;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    return is_loaded() ? library.call.cublasLtCreate(handle) : CUBLAS_STATUS_NOT_INITIALIZED;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return is_loaded() ? library.call.cublasLtGetStatusString(status) : library.why;
}

size_t cublasLtGetVersion(void)
{
    return is_loaded() ? library.call.cublasLtGetVersion() : 0;
}

/* The rest is called with a handle, or on the way to a call with one: it is loaded by then. */

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return library.call.cublasLtDestroy(handle);
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale)
{
    return library.call.cublasLtMatmulDescInit_internal(product, bytes, compute, scale);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    return library.call.cublasLtMatmulDescSetAttribute(product, attribute, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t stride)
{
    return library.call.cublasLtMatrixLayoutInit_internal(layout, bytes, type, rows, columns,
                                                          stride);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t bytes)
{
    return library.call.cublasLtMatmulPreferenceInit_internal(preference, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    return library.call.cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    return library.call.cublasLtMatmulAlgoGetHeuristic(handle, product, a, b, c, d, preference,
                                                       wanted, results, found);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    return library.call.cublasLtMatmul(handle, product, alpha, a, a_layout, b, b_layout, beta, c,
                                       c_layout, d, d_layout, algorithm, workspace, workspace_bytes,
                                       stream);
}
