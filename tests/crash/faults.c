/* libfaults.so: see faults.h. The real calls are made by number, so that none of ours is among
 * them. */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "image.h"

#define PRELOADED __attribute__((visibility("default")))

static struct fault_control *control;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv(FAULT_VARIABLE);
    int fd = path != NULL ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *data = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data != MAP_FAILED)
        control = data;
    syscall(SYS_close, fd);
}

static void die(void)
{
    atomic_store(&control->dead, true);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static bool path_of_fd(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return true;
}

static bool path_of_name(int folder, const char *name, char path[PATH_MAX])
{
    char base[PATH_MAX];
    if (name[0] == '/')
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    if (folder == AT_FDCWD ? getcwd(base, sizeof(base)) == NULL : !path_of_fd(folder, base))
        return false;
    return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX;
}

/* The part below root, or NULL. */
static const char *below_root(const char *path)
{
    size_t length = strlen(control->root);
    if (strncmp(path, control->root, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    return path[length] == '/' ? path + length + 1 : path + length;
}

/* What is to become of one call. */
struct decision {
    struct fault_call *call; /* NULL: not ours to meddle with */
    size_t bytes;            /* of a write: how many to write */
    int error;               /* to fail with; 0: go on */
    bool torn;               /* die after it */
};

/* An fsync is where delayed allocation fails. */
static bool takes_space(const char *name)
{
    static const char *const names[] = {"open",      "write",     "pwrite", "ftruncate",
                                        "fallocate", "mkdir",     "link",   "symlink",
                                        "truncate",  "renameat2", "rename", "fsync"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static void act(struct decision *decision, long number)
{
    const char *name = decision->call->name;
    bool here = number == control->target;
    bool write = strcmp(name, "write") == 0 || strcmp(name, "pwrite") == 0;
    switch (control->action) {
    case FAULT_NONE:
        break;
    case FAULT_KILL:
        if (here)
            die();
        break;
    case FAULT_TORN:
        decision->torn = here;
        if (here)
            decision->bytes /= 2;
        break;
    case FAULT_ERROR:
        if (control->onward ? number >= control->target && takes_space(name) : here)
            decision->error = control->error;
        break;
    case FAULT_SHORT:
        if (write && (here || control->target == 0) && decision->bytes > 1)
            decision->bytes /= 2;
        break;
    case FAULT_INTERRUPT:
        /* Every other one, where it is every one: else nothing would ever be written. */
        if (write && (here || (control->target == 0 && number % 2 == 1)))
            decision->error = EINTR;
        break;
    case FAULT_SLOW:
        if (write || strcmp(name, "fsync") == 0)
            usleep((useconds_t)control->delay_us);
        break;
    }
}

static struct decision decide(const char *name, const char *path, size_t bytes)
{
    struct decision decision = {.bytes = bytes};
    const char *below = path != NULL ? below_root(path) : NULL;
    if (below == NULL)
        return decision;
    if (atomic_load(&control->dead))
        die();
    long number = atomic_fetch_add(&control->count, 1) + 1;
    decision.call = &control->calls[(number - 1) % FAULT_CALLS_MAX];
    snprintf(decision.call->name, sizeof(decision.call->name), "%s", name);
    snprintf(decision.call->path, sizeof(decision.call->path), "%.191s", below);
    decision.call->bytes = (int64_t)bytes;
    decision.call->error = 0;
    act(&decision, number);
    decision.call->error = decision.error;
    return decision;
}

static struct decision decide_fd(const char *name, int fd, size_t bytes)
{
    char path[PATH_MAX];
    int kept = errno;
    struct decision decision = {.bytes = bytes};
    if (control != NULL && path_of_fd(fd, path))
        decision = decide(name, path, bytes);
    errno = kept;
    return decision;
}

static struct decision decide_name(const char *name, int folder, const char *file)
{
    char path[PATH_MAX];
    int kept = errno;
    struct decision decision = {0};
    if (control != NULL && path_of_name(folder, file, path))
        decision = decide(name, path, 0);
    errno = kept;
    return decision;
}

/* The number of an inode that is removed is not used again while the process lives: the image
 * knows files by it. The descriptor is never closed. */
static void pin(const struct decision *decision, int folder, const char *name)
{
    int kept = errno;
    if (decision->call != NULL && control->image[0] != '\0')
        syscall(SYS_openat, folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    errno = kept;
}

static long fail(int error)
{
    errno = error;
    return -1;
}

/* Notes how the call ended. */
static long ended(const struct decision *decision, long result)
{
    if (decision->call != NULL && result < 0)
        decision->call->error = errno;
    if (decision->torn)
        die();
    return result;
}

static int open_any(int folder, const char *path, int flags, mode_t mode)
{
    struct decision decision = {0};
    if (flags & (O_CREAT | O_TRUNC))
        decision = decide_name("open", folder, path);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_openat, folder, path, flags, mode));
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

PRELOADED int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_any(AT_FDCWD, path, flags, mode);
}

PRELOADED int openat(int folder, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_any(folder, path, flags, mode);
}

PRELOADED int creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

PRELOADED ssize_t write(int fd, const void *data, size_t bytes)
{
    struct decision decision = decide_fd("write", fd, bytes);
    if (decision.error != 0)
        return fail(decision.error);
    return ended(&decision, syscall(SYS_write, fd, data, decision.bytes));
}

PRELOADED ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    struct decision decision = decide_fd("pwrite", fd, bytes);
    if (decision.error != 0)
        return fail(decision.error);
    return ended(&decision, syscall(SYS_pwrite64, fd, data, decision.bytes, offset));
}

/* The first part alone, which is a short write and allowed. */
PRELOADED ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return count > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

PRELOADED ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return count > 0 ? pwrite(fd, parts[0].iov_base, parts[0].iov_len, offset) : 0;
}

PRELOADED int ftruncate(int fd, off_t size)
{
    struct decision decision = decide_fd("ftruncate", fd, 0);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_ftruncate, fd, size));
}

PRELOADED int truncate(const char *path, off_t size)
{
    struct decision decision = decide_name("truncate", AT_FDCWD, path);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_truncate, path, size));
}

PRELOADED int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    struct decision decision = decide_fd("fallocate", fd, 0);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_fallocate, fd, mode, offset, bytes));
}

PRELOADED int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    return fallocate(fd, 0, offset, bytes) == 0 ? 0 : errno;
}

/* One after the other: an older copy of a file that two processes sync must not come last. The lock
 * goes with a process that is killed. */
static bool record(int fd)
{
    int folder = (int)syscall(SYS_openat, AT_FDCWD, control->image, O_RDONLY | O_CLOEXEC);
    bool done = folder >= 0 && flock(folder, LOCK_EX) == 0 && image_record(control->image, fd);
    if (folder >= 0)
        syscall(SYS_close, folder);
    return done;
}

static int sync_any(int fd, long number)
{
    struct decision decision = decide_fd("fsync", fd, 0);
    if (decision.error != 0)
        return (int)fail(decision.error);
    if (decision.call != NULL && control->image[0] != '\0')
        return (int)ended(&decision, record(fd) ? 0 : -1);
    return (int)ended(&decision, syscall(number, fd));
}

PRELOADED int fsync(int fd)
{
    return sync_any(fd, SYS_fsync);
}

PRELOADED int fdatasync(int fd)
{
    return sync_any(fd, SYS_fdatasync);
}

PRELOADED int close(int fd)
{
    struct decision decision = {0};
    if (control != NULL) {
        int kept = errno, flags = fcntl(fd, F_GETFL);
        errno = kept;
        if (flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY)
            decision = decide_fd("close", fd, 0);
    }
    long result = syscall(SYS_close, fd);
    return (int)(decision.error != 0 ? fail(decision.error) : ended(&decision, result));
}

PRELOADED int renameat2(int old_folder, const char *old, int new_folder, const char *new,
                        unsigned flags)
{
    struct decision decision = decide_name(flags ? "renameat2" : "rename", new_folder, new);
    if (decision.error != 0)
        return (int)fail(decision.error);
    if (decision.call != NULL && flags != 0 && control->no_exchange)
        return (int)ended(&decision, fail(EINVAL));
    pin(&decision, new_folder, new);
    return (int)ended(&decision, syscall(SYS_renameat2, old_folder, old, new_folder, new, flags));
}

PRELOADED int renameat(int old_folder, const char *old, int new_folder, const char *new)
{
    return renameat2(old_folder, old, new_folder, new, 0);
}

PRELOADED int rename(const char *old, const char *new)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

PRELOADED int linkat(int old_folder, const char *old, int new_folder, const char *new, int flags)
{
    struct decision decision = decide_name("link", new_folder, new);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_linkat, old_folder, old, new_folder, new, flags));
}

PRELOADED int link(const char *old, const char *new)
{
    return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

PRELOADED int symlink(const char *target, const char *path)
{
    struct decision decision = decide_name("symlink", AT_FDCWD, path);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_symlinkat, target, AT_FDCWD, path));
}

PRELOADED int unlinkat(int folder, const char *path, int flags)
{
    struct decision decision = decide_name(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path);
    if (decision.error != 0)
        return (int)fail(decision.error);
    pin(&decision, folder, path);
    return (int)ended(&decision, syscall(SYS_unlinkat, folder, path, flags));
}

PRELOADED int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

PRELOADED int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

PRELOADED int remove(const char *path)
{
    struct stat info;
    bool folder = lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
    return unlinkat(AT_FDCWD, path, folder ? AT_REMOVEDIR : 0);
}

PRELOADED int mkdirat(int folder, const char *path, mode_t mode)
{
    struct decision decision = decide_name("mkdir", folder, path);
    if (decision.error != 0)
        return (int)fail(decision.error);
    return (int)ended(&decision, syscall(SYS_mkdirat, folder, path, mode));
}

PRELOADED int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* The names of programs built for large files; the types are the same where files are large. */
_Static_assert(sizeof(off_t) == 8, "the two families of names take the same arguments");
#define ALSO(alias_name, name) \
    PRELOADED extern __typeof__(name) alias_name __attribute__((alias(#name)))
ALSO(open64, open);
ALSO(openat64, openat);
ALSO(creat64, creat);
ALSO(pwrite64, pwrite);
ALSO(pwritev64, pwritev);
ALSO(ftruncate64, ftruncate);
ALSO(truncate64, truncate);
ALSO(fallocate64, fallocate);
ALSO(posix_fallocate64, posix_fallocate);
