#include "collectives/node_flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collectives/agree.h"

#define NAME_BYTES 64

/* Fully allocated, since a page that does not fit would end a rank at its first store. */
static enum trm_status create(const char *name, int capacity, int *out, struct trm_error *err)
{
    size_t bytes = trm_flight_segment_bytes(capacity);
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int code = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)bytes);
    void *memory = MAP_FAILED;

    if (code == 0) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        code = memory == MAP_FAILED ? errno : 0;
    }
    if (code != 0) {
        if (fd >= 0) {
            close(fd);
            unlink(name);
        }
        return trm_error_set_errno(err, code, "making flight records in \"%s\"", name);
    }
    trm_flight_segment_init(memory, capacity, 0);
    munmap(memory, bytes);
    *out = fd;
    return TRM_OK;
}

/* Somebody else's file can't be meant: names are random, and its owner is checked. */
static enum trm_status open_existing(const char *name, int *out, struct trm_error *err)
{
    struct stat info;
    int fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return trm_error_set_errno(err, errno, "opening flight records \"%s\"", name);
    if (fstat(fd, &info) != 0 || info.st_uid != geteuid()) {
        close(fd);
        return trm_error_set(err, TRM_ERR_MISMATCH, "\"%s\" belongs to another user", name);
    }
    *out = fd;
    return TRM_OK;
}

enum trm_status trm_node_flight_open(struct trm_comm *node, int rank, struct trm_flight *out,
                                     struct trm_error *err)
{
    struct trm_flight flight = {0};
    char name[NAME_BYTES] = "";
    uint64_t number = 0;
    int fd = -1;
    enum trm_status status = TRM_OK;

    if (node->rank == 0) {
        if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
            status = trm_error_set_errno(err, errno, "drawing a name for flight records");
        snprintf(name, sizeof name, "/dev/shm/trireme-flight-%016llx", (unsigned long long)number);
        if (status == TRM_OK && node->size > TRM_FLIGHT_MAX_RANKS)
            status = trm_error_set(err, TRM_ERR_UNSUPPORTED,
                                   "%d ranks on one node; flight records are for up to %d",
                                   node->size, TRM_FLIGHT_MAX_RANKS);
        if (status == TRM_OK)
            status = create(name, node->size, &fd, err);
    }
    status = trm_agree(node, status, err);
    if (status == TRM_OK)
        status = trm_comm_broadcast(node, name, sizeof name, 0, NULL, err);
    if (status == TRM_OK && node->rank != 0)
        status = open_existing(name, &fd, err);
    if (status == TRM_OK)
        status = trm_flight_map(fd, node->rank, rank, &flight, err);
    if (fd >= 0)
        close(fd);
    status = trm_agree(node, status, err);
    if (node->rank == 0 && fd >= 0)
        unlink(name);
    if (status == TRM_OK)
        *out = flight;
    else
        trm_flight_unmap(&flight);
    return status;
}
