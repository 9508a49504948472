/*
 * ordered_sum_cuda [MiB per operand]: the ordered sum's kernel on one GPU against its memory floor.
 * A sum of n operands reads n and writes 1; the floor is that many bytes at the rate at which the
 * device copies within its own memory, measured in the same run.
 */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "collectives/lanes.h"
#include "collectives/nccl/nccl.h"

#define REPEATS      20
#define OPERANDS_MAX 16

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

/* Seconds of one of REPEATS sums of `count` floats from each operand. */
static double time_sums(struct trm_comm *comm, void *const *operands, int operand_count,
                        size_t count)
{
    struct trm_lanes *lanes = NULL;
    struct trm_request *r = NULL;
    check(!trm_lanes_create(operand_count, operand_count, &lanes, NULL), "planning");
    check(!trm_request_create(comm, 0, &r, NULL), "making a request");
    check(!trm_comm_settle(comm, NULL), "settling");
    int64_t begin_ns = trm_clock_now_ns();
    for (int i = 0; i < REPEATS; i++) {
        check(!trm_comm_sum(comm, operands, lanes->adds, operand_count - 1, operands[operand_count],
                            count, TRM_F32, r, NULL),
              "adding");
        check(!trm_request_wait_comm(r, NULL), "adding");
    }
    check(!trm_comm_settle(comm, NULL), "settling");
    double seconds = (double)(trm_clock_now_ns() - begin_ns) * 1e-9 / REPEATS;
    trm_request_destroy(r);
    trm_lanes_destroy(lanes);
    return seconds;
}

/* Bytes read and written in a second by copies within the device. */
static double copy_rate(void *to, const void *from, size_t bytes)
{
    check(!cudaDeviceSynchronize(), "synchronising");
    int64_t begin_ns = trm_clock_now_ns();
    for (int i = 0; i < REPEATS; i++)
        check(!cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, NULL), "copying");
    check(!cudaDeviceSynchronize(), "synchronising");
    return 2.0 * (double)bytes * REPEATS / ((double)(trm_clock_now_ns() - begin_ns) * 1e-9);
}

int main(int argc, char **argv)
{
    const size_t bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 64) << 20;
    const struct trm_nccl_settings settings = {.init_timeout_ms = 60000,
                                               .operation_timeout_ms = 60000};
    struct trm_comm *host = NULL, *comm = NULL;
    struct trm_error err = {0};
    void *operands[OPERANDS_MAX + 1];
    int devices = 0;

    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("nothing was measured: no GPU\n");
        return 77;
    }
    check(!cudaSetDevice(0), "choosing the device");
    check(!trm_comm_self(&host, &err) && !trm_nccl_start(host, &settings, &comm, &err), err.text);
    for (int i = 0; i <= OPERANDS_MAX; i++) {
        check(!cudaMalloc(&operands[i], bytes), "allocating");
        check(!cudaMemset(operands[i], 0, bytes), "clearing");
    }
    copy_rate(operands[0], operands[1], bytes);
    double rate = copy_rate(operands[0], operands[1], bytes);
    printf("copy within the device: %.0f GB/s (read and written)\n", rate * 1e-9);
    printf("operands   ms   GB/s   of the floor\n");
    for (int n = 2; n <= OPERANDS_MAX; n *= 2) {
        time_sums(comm, operands, n, bytes / 4);
        double seconds = time_sums(comm, operands, n, bytes / 4);
        double moved = (double)(n + 1) * (double)bytes;
        printf("%8d %6.3f %6.0f %6.0f %%\n", n, seconds * 1e3, moved / seconds * 1e-9,
               100 * moved / seconds / rate);
    }
    for (int i = 0; i <= OPERANDS_MAX; i++)
        cudaFree(operands[i]);
    trm_comm_destroy(comm);
    trm_comm_destroy(host);
    return 0;
}
