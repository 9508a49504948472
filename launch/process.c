#include "launch/process.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LOCK_HOLDERS 4096

/* struct pidfd_info of linux/pidfd.h (Linux 6.13), its first version; older headers lack it. */
struct pidfd_info {
    uint64_t mask, control_group;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
#define GET_INFO  _IOWR(0xFF, 11, struct pidfd_info)
#define INFO_EXIT (UINT64_C(1) << 3)
_Static_assert(sizeof(struct pidfd_info) == 64, "the kernel's first version of this struct");

/* Reads up to capacity - 1 bytes of a small file below /proc; the length, 0 when it is not there.
 */
static size_t read_small(const char *path, char *out, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, out, capacity - 1);
    close(fd);
    size_t length = got > 0 ? (size_t)got : 0;
    out[length] = '\0';
    return length;
}

bool trm_process_parse(const char *text, struct trm_process *out)
{
    struct trm_process process = {0};
    const char *begin = strchr(text, '('), *end = strrchr(text, ')');
    char *rest = NULL;
    process.pid = (pid_t)strtol(text, &rest, 10);
    if (rest == text || !begin || !end || end < begin)
        return false;
    size_t length = (size_t)(end - begin) - 1;
    if (length >= sizeof process.name)
        length = sizeof process.name - 1;
    memcpy(process.name, begin + 1, length);
    /* state, parent, 17 fields that are of no use here, and the start time. */
    int parent = 0;
    if (sscanf(
            end + 1,
            " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
            &process.state, &parent, &process.start_time) != 3)
        return false;
    process.parent = (pid_t)parent;
    *out = process;
    return true;
}

bool trm_process_read(pid_t pid, struct trm_process *out)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    return read_small(path, text, sizeof text) > 0 && trm_process_parse(text, out);
}

int trm_process_open(pid_t pid)
{
    return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

bool trm_process_is_over(int pidfd)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

void trm_process_kill(int pidfd)
{
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

int trm_process_death_signal(int pidfd)
{
    struct pidfd_info info = {.mask = INFO_EXIT};
    if (ioctl(pidfd, GET_INFO, &info) != 0 || !(info.mask & INFO_EXIT))
        return 0;
    return WIFSIGNALED(info.exit_code) ? WTERMSIG(info.exit_code) : 0;
}

/* Whether a process has the file open; it is looked at through /proc/PID/fd. */
static bool has_open(pid_t pid, const struct stat *file)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(folder)) != NULL;) {
        struct stat info;
        found = entry->d_name[0] != '.' && fstatat(dirfd(folder), entry->d_name, &info, 0) == 0 &&
                info.st_dev == file->st_dev && info.st_ino == file->st_ino;
    }
    closedir(folder);
    return found;
}

/* Opened before it is looked at, so what was looked at is what is killed. */
static int kill_if_open(pid_t pid, const struct stat *file)
{
    int pidfd = pid == getpid() ? -1 : trm_process_open(pid), killed = 0;
    if (pidfd < 0)
        return 0;
    if (has_open(pid, file)) {
        trm_process_kill(pidfd);
        killed = 1;
    }
    close(pidfd);
    return killed;
}

int trm_process_kill_lock_holders(int fd)
{
    struct stat file;
    char line[256], wanted[80];
    int killed = 0;
    FILE *locks = fstat(fd, &file) == 0 ? fopen("/proc/locks", "re") : NULL;
    if (!locks)
        return 0;
    snprintf(wanted, sizeof wanted, " %02x:%02x:%" PRIu64 " ", major(file.st_dev),
             minor(file.st_dev), (uint64_t)file.st_ino);
    for (int i = 0; i < MAX_LOCK_HOLDERS && fgets(line, sizeof line, locks); i++) {
        const char *at = strstr(line, wanted), *pid = at;
        if (!at || !strstr(line, "FLOCK"))
            continue;
        while (pid > line && pid[-1] != ' ')
            pid--;
        killed += kill_if_open((pid_t)atoi(pid), &file);
    }
    fclose(locks);
    return killed;
}

/* `text` not followed by more of a name: "/tmp/run-1" is not in "/tmp/run-12-mpi". */
static bool names(const char *argument, const char *text)
{
    for (const char *at = argument; (at = strstr(at, text)) != NULL; at++) {
        unsigned char after = (unsigned char)at[strlen(text)];
        if (!isalnum(after) && after != '_' && after != '.')
            return true;
    }
    return false;
}

static bool argument_contains(pid_t pid, const char *text)
{
    char path[40], words[16384];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    size_t length = read_small(path, words, sizeof words);
    for (size_t i = 0; i < length; i += strlen(words + i) + 1)
        if (names(words + i, text))
            return true;
    return false;
}

static int kill_if_argument(pid_t pid, const char *name, const char *text)
{
    struct trm_process process;
    struct stat owner;
    char path[32];
    /* A cheap look first; the one that counts is made with the process held. */
    if (!trm_process_read(pid, &process) || strcmp(process.name, name) != 0)
        return 0;
    int pidfd = pid == getpid() ? -1 : trm_process_open(pid), killed = 0;
    if (pidfd < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (trm_process_read(pid, &process) && strcmp(process.name, name) == 0 &&
        stat(path, &owner) == 0 && owner.st_uid == geteuid() && argument_contains(pid, text)) {
        trm_process_kill(pidfd);
        killed = 1;
    }
    close(pidfd);
    return killed;
}

int trm_process_kill_by_argument(const char *name, const char *text)
{
    int killed = 0;
    DIR *folder = opendir("/proc");
    if (!folder)
        return 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            killed += kill_if_argument((pid_t)atoi(entry->d_name), name, text);
    closedir(folder);
    return killed;
}
