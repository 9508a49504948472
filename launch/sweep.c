#include "launch/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum trm_status trm_agent_shared_memory_path(const char *runtime, char path[TRM_PATH_BYTES],
                                             struct trm_error *err)
{
    const char *slash = strrchr(runtime, '/');
    return trm_file_path(path, err, "/dev/shm/%s", slash ? slash + 1 : runtime);
}

/* Open MPI cuts a host's name at its first dot: "ompi.node1.0", "vader_segment.node1.0.8e30001.0".
 */
static bool is_of_host(const char *name, const char *hostname)
{
    size_t length = strcspn(hostname, ".");
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.'))
        if (strncmp(dot + 1, hostname, length) == 0 && dot[1 + length] == '.')
            return true;
    return false;
}

static enum trm_status remove_entries(const char *directory, const char *hostname,
                                      struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    DIR *folder = opendir(directory);
    if (!folder)
        return errno == ENOENT
                   ? TRM_OK
                   : trm_error_set_errno(err, errno, "could not look into \"%s\"", directory);
    for (struct dirent *entry; status == TRM_OK && (entry = readdir(folder)) != NULL;) {
        char path[TRM_PATH_BYTES];
        if (!is_of_host(entry->d_name, hostname))
            continue;
        status = trm_file_path(path, err, "%s/%s", directory, entry->d_name);
        if (status == TRM_OK && unlink(path) != 0 && errno != ENOENT)
            status = trm_file_remove_tree(path, err);
    }
    closedir(folder);
    return status;
}

enum trm_status trm_agent_sweep(const char *runtime, const char *hostname, bool more_to_come,
                                struct trm_error *err)
{
    char sessions[TRM_PATH_BYTES], memory[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(sessions, err, "%s-mpi", runtime);
    if (status == TRM_OK)
        status = trm_agent_shared_memory_path(runtime, memory, err);
    if (status == TRM_OK)
        status = remove_entries(sessions, hostname, err);
    if (status == TRM_OK)
        status = remove_entries(memory, hostname, err);
    if (status == TRM_OK && more_to_come && mkdir(memory, 0700) != 0 && errno != EEXIST)
        status = trm_error_set_errno(err, errno, "could not make \"%s\"", memory);
    if (status == TRM_OK && !more_to_come) {
        rmdir(sessions); /* stays where it is not empty */
        rmdir(memory);
    }
    return status;
}
