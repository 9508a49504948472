/* The NCCL backend on one GPU: NCCL itself as a group of one rank, the kernels of sum.cu, the order
 * of real streams, and an abort of a communicator whose stream is stuck. What needs a second GPU is
 * not here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "base/random.h"
#include "collectives/nccl/nccl.h"
#include "collectives/nccl/sum_kernel.h"
#include "collectives/ordered.h"

#define BYTES (1 << 20)

struct device_world {
    struct trm_comm *host, *device;
    cudaStream_t stream;
};

static int device_world_start(void **state)
{
    struct device_world *world = calloc(1, sizeof *world);
    struct trm_error err = {0};
    if (cudaSetDevice(0) || cudaStreamCreateWithFlags(&world->stream, cudaStreamNonBlocking) ||
        trm_comm_self(&world->host, &err))
        return -1;
    const struct trm_nccl_settings settings = {.init_timeout_ms = 120000,
                                               .operation_timeout_ms = 60000,
                                               .stream = world->stream,
                                               .alone = true};
    if (trm_nccl_start(world->host, &settings, &world->device, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    *state = world;
    return 0;
}

static int device_world_finish(void **state)
{
    struct device_world *world = *state;
    if (!world)
        return 0;
    trm_comm_destroy(world->device);
    trm_comm_destroy(world->host);
    cudaStreamDestroy(world->stream);
    free(world);
    return 0;
}

static void *allocate(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(cudaMalloc(&memory, bytes), cudaSuccess);
    return memory;
}

/* Copies from pageable memory may end after the call, sets do so anyway (CUDA runtime API, "API
 * synchronization behavior"), and the communicators' streams don't wait for the default stream. */
static void upload(void *to, const void *from, size_t bytes)
{
    assert_int_equal(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

static void clear(void *data, size_t bytes)
{
    assert_int_equal(cudaMemset(data, 0, bytes), cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

static void download(void *to, const void *from, size_t bytes)
{
    assert_int_equal(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}

static void blocks_of_one_rank_go_to_their_places(void **state)
{
    struct device_world *world = *state;
    unsigned char *host = malloc(BYTES), *back = malloc(BYTES);
    void *from = allocate(BYTES), *to = allocate(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        host[i] = (unsigned char)trm_random_bits(1, i);
    upload(from, host, BYTES);
    assert_int_equal(trm_comm_barrier(world->device, NULL, NULL), TRM_OK);
    assert_int_equal(trm_comm_all_gather(world->device, from, to, BYTES, NULL, NULL), TRM_OK);
    download(back, to, BYTES);
    assert_memory_equal(back, host, BYTES);
    clear(to, BYTES);
    assert_int_equal(trm_comm_all_to_all(world->device, from, to, BYTES, NULL, NULL), TRM_OK);
    download(back, to, BYTES);
    assert_memory_equal(back, host, BYTES);
    assert_int_equal(trm_comm_broadcast(world->device, to, BYTES, 0, NULL, NULL), TRM_OK);
    assert_int_equal(trm_comm_all_reduce(world->device, to, BYTES / 8, TRM_SUM_I64, NULL, NULL),
                     TRM_OK);
    assert_int_equal(trm_comm_exchange(world->device, NULL, 0, NULL, 0, NULL, NULL), TRM_OK);
    download(back, to, BYTES);
    assert_memory_equal(back, host, BYTES);
    cudaFree(from);
    cudaFree(to);
    free(host);
    free(back);
}

/* The kernels' keys there and back: only NaNs change, to the quiet one. */
static void maxima_of_one_rank_keep_all_but_nan(void **state)
{
    struct device_world *world = *state;
    enum { COUNT = 10007 };
    uint32_t *host = malloc(COUNT * 4), *back = malloc(COUNT * 4);
    void *data = allocate(COUNT * 4);
    for (size_t i = 0; i < COUNT; i++)
        host[i] = i % 7 ? (uint32_t)trm_random_bits(2, i) : 0x7f800001u + (uint32_t)i;
    upload(data, host, COUNT * 4);
    assert_int_equal(trm_comm_all_reduce(world->device, data, COUNT, TRM_MAX_F32, NULL, NULL),
                     TRM_OK);
    download(back, data, COUNT * 4);
    for (size_t i = 0; i < COUNT; i++) {
        bool is_nan = (host[i] & 0x7fffffffu) > 0x7f800000u;
        assert_int_equal(back[i], is_nan ? 0x7fc00000u : host[i]);
    }
    cudaFree(data);
    free(host);
    free(back);
}

/* Operands one behind the other, `shift` elements off a vector's alignment. */
static void check_sum(struct trm_comm *comm, enum trm_type type, int operand_count, size_t count,
                      size_t shift)
{
    size_t width = trm_type_bytes(type), stride = (count + shift + 31) / 16 * 16;
    size_t bytes = (size_t)(operand_count + 1) * stride * width;
    char *host = calloc(1, bytes), *expected = malloc(count * width), *sum = malloc(count * width);
    char *device = allocate(bytes);
    void **on_host = malloc((size_t)operand_count * sizeof *on_host);
    void **on_device = malloc((size_t)operand_count * sizeof *on_device);
    struct trm_lanes *lanes = NULL;
    assert_int_equal(trm_lanes_create(operand_count, operand_count, &lanes, NULL), TRM_OK);
    for (int o = 0; o < operand_count; o++) {
        on_host[o] = host + ((size_t)o * stride + shift) * width;
        on_device[o] = device + ((size_t)o * stride + shift) * width;
        for (size_t i = 0; i < count; i++) {
            double value = trm_random_normal((uint64_t)o, i) * (1 << o % 9);
            if (type == TRM_F32)
                ((float *)on_host[o])[i] = (float)value;
            else if (type == TRM_F64)
                ((double *)on_host[o])[i] = value;
            else
                ((uint16_t *)on_host[o])[i] = trm_sum_round_bf16((float)value);
        }
    }
    upload(device, host, bytes);
    void *into = device + ((size_t)operand_count * stride + shift) * width;
    assert_int_equal(trm_comm_sum(comm, on_device, lanes->adds, operand_count - 1, into, count,
                                  type, NULL, NULL),
                     TRM_OK);
    download(sum, into, count * width);
    if (type == TRM_BF16) { /* the body of the kernel, on the host */
        struct trm_sum plan = {
            .operands = on_host, .adds = lanes->adds, .add_count = operand_count - 1};
        struct trm_sum_program program;
        trm_sum_translate(&plan, &program);
        for (size_t i = 0; i < count; i++)
            trm_sum_bf16(&program, 0, i);
    } else {
        trm_ordered_sum(on_host, lanes->adds, operand_count - 1, count, type);
    }
    memcpy(expected, on_host[0], count * width);
    assert_memory_equal(sum, expected, count * width);
    trm_lanes_destroy(lanes);
    cudaFree(device);
    free(on_host);
    free(on_device);
    free(host);
    free(expected);
    free(sum);
}

static void ordered_sums_have_the_bits_of_the_host(void **state)
{
    struct device_world *world = *state;
    static const size_t counts[] = {1, 3, 4, 255, 1024, 100003};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t shift = 0; shift < 2; shift++) {
            for (int operands = 1; operands <= 17; operands += 4) {
                check_sum(world->device, TRM_F32, operands, counts[c], shift);
                check_sum(world->device, TRM_F64, operands, counts[c], shift);
                check_sum(world->device, TRM_BF16, operands, counts[c], shift);
            }
        }
    }
    check_sum(world->device, TRM_F32, 1500, 1000, 0); /* longer than a program */
}

static void splits_form_by_nccl(void **state)
{
    struct device_world *world = *state;
    struct trm_comm *part = NULL;
    struct trm_error err = {0};
    assert_int_equal(trm_comm_split(world->device, 3, 0, &part, &err), TRM_OK);
    assert_int_equal(part->size, 1);
    assert_int_equal(trm_comm_barrier(part, NULL, NULL), TRM_OK);
    trm_comm_destroy(part);
}

static void nap(void *milliseconds)
{
    usleep(*(const useconds_t *)milliseconds * 1000);
}

/* The caller's stream is held up; what it writes then is what is gathered, and what is gathered is
 * what it reads. */
static void operations_lie_between_the_work_of_the_callers_stream(void **state)
{
    struct device_world *world = *state;
    unsigned char *mine = allocate(BYTES), *all = allocate(BYTES), *read = allocate(BYTES);
    unsigned char *back = malloc(BYTES);
    useconds_t held_ms = 100;
    struct trm_request *r = NULL;
    assert_int_equal(trm_request_create(world->device, 0, &r, NULL), TRM_OK);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(cudaLaunchHostFunc(world->stream, nap, &held_ms), cudaSuccess);
        cudaMemsetAsync(mine, i, BYTES, world->stream);
        assert_int_equal(trm_comm_all_gather(world->device, mine, all, BYTES, r, NULL), TRM_OK);
        assert_int_equal(trm_request_wait_stream(r, NULL), TRM_OK);
        cudaMemcpyAsync(read, all, BYTES, cudaMemcpyDeviceToDevice, world->stream);
        cudaMemsetAsync(mine, 99, BYTES, world->stream);
        assert_int_equal(trm_comm_settle(world->device, NULL), TRM_OK);
        assert_int_equal(cudaStreamSynchronize(world->stream), cudaSuccess);
        download(back, read, BYTES);
        for (size_t j = 0; j < BYTES; j++)
            assert_int_equal(back[j], i);
    }
    trm_request_destroy(r);
    cudaFree(mine);
    cudaFree(all);
    cudaFree(read);
    free(back);
}

/* The deadline passes while the operation stands behind the caller's stream: its communicators are
 * aborted, and another family is unharmed. */
static void an_operation_past_its_deadline_aborts_its_family_alone(void **state)
{
    struct device_world *world = *state;
    const struct trm_nccl_settings settings = {.init_timeout_ms = 120000,
                                               .operation_timeout_ms = 300,
                                               .stream = world->stream,
                                               .alone = true};
    struct trm_comm *other = NULL, *part = NULL;
    struct trm_error err = {0};
    useconds_t held_ms = 2000;
    int64_t *data = allocate(8);
    assert_int_equal(trm_nccl_start(world->host, &settings, &other, &err), TRM_OK);
    assert_int_equal(trm_comm_split(other, 0, 0, &part, &err), TRM_OK);
    assert_int_equal(trm_comm_barrier(part, NULL, NULL), TRM_OK);
    assert_int_equal(cudaLaunchHostFunc(world->stream, nap, &held_ms), cudaSuccess);
    assert_int_equal(trm_comm_all_reduce(other, data, 1, TRM_SUM_I64, NULL, &err), TRM_ERR_TIMEOUT);
    assert_non_null(strstr(err.text, "did not complete in time"));
    assert_int_equal(trm_comm_barrier(part, NULL, &err), TRM_ERR_TIMEOUT);
    trm_comm_destroy(part);
    trm_comm_destroy(other);
    assert_int_equal(trm_comm_barrier(world->device, NULL, NULL), TRM_OK);
    assert_int_equal(cudaStreamSynchronize(world->stream), cudaSuccess);
    cudaFree(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_one_rank_go_to_their_places),
        cmocka_unit_test(maxima_of_one_rank_keep_all_but_nan),
        cmocka_unit_test(ordered_sums_have_the_bits_of_the_host),
        cmocka_unit_test(splits_form_by_nccl),
        cmocka_unit_test(operations_lie_between_the_work_of_the_callers_stream),
        cmocka_unit_test(an_operation_past_its_deadline_aborts_its_family_alone),
    };
    return cmocka_run_group_tests(tests, device_world_start, device_world_finish);
}
