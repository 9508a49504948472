#include "trainer/data/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum trm_status refuse(struct trm_error *err, int errno_value, const char *path)
{
    if (errno_value == ENOENT || errno_value == ENOTDIR)
        return trm_error_set(err, TRM_ERR_INPUT, "token file \"%s\": no such file; check the path",
                             path);
    char reason[128];
    return trm_error_set(err, TRM_ERR_INPUT, "could not read token file \"%s\": %s", path,
                         strerror_r(errno_value, reason, sizeof reason));
}

enum trm_status trm_mapping_open(const char *path, struct trm_mapping *mapping,
                                 struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    struct stat info;
    /* Without O_NONBLOCK a named pipe would hold up the open for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return refuse(err, errno, path);
    if (fstat(fd, &info) != 0) {
        status = refuse(err, errno, path);
    } else if (S_ISDIR(info.st_mode)) {
        status = trm_error_set(err, TRM_ERR_INPUT,
                               "token file \"%s\" is a directory; name a file in it, or the prefix "
                               "of a Megatron .bin and .idx pair",
                               path);
    } else if (!S_ISREG(info.st_mode)) {
        status = trm_error_set(err, TRM_ERR_INPUT,
                               "token file \"%s\" is not a regular file; copy its tokens into one",
                               path);
    } else if (info.st_size == 0) {
        status =
            trm_error_set(err, TRM_ERR_INPUT,
                          "token file \"%s\" is empty (0 bytes); copy or write it again", path);
    } else {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            status = refuse(err, errno, path);
        } else {
            mapping->data = data;
            mapping->bytes = info.st_size;
        }
    }
    close(fd);
    return status;
}

void trm_mapping_close(struct trm_mapping *mapping)
{
    if (mapping->data)
        munmap((void *)mapping->data, (size_t)mapping->bytes);
    mapping->data = NULL;
    mapping->bytes = 0;
}
