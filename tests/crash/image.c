#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool join(char path[PATH_MAX], const char *folder, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    errno = ENAMETOOLONG;
    return length > 0 && length < PATH_MAX;
}

/* The file of an inode. */
static bool entry_of(char path[PATH_MAX], const char *image, unsigned long long inode)
{
    char name[32];
    snprintf(name, sizeof(name), "%llu", inode);
    return join(path, image, name);
}

static bool copy_range(int from, int to, off_t begin, off_t end)
{
    char buffer[65536];
    while (begin < end) {
        size_t wanted =
            end - begin < (off_t)sizeof(buffer) ? (size_t)(end - begin) : sizeof(buffer);
        ssize_t got = pread(from, buffer, wanted, begin);
        if (got <= 0 || pwrite(to, buffer, (size_t)got, begin) != got)
            return got == 0;
        begin += got;
    }
    return true;
}

/* Bytes, holes and size of `from`; `size` -1: its own. */
static bool copy_content(int from, const char *path, off_t size)
{
    struct stat info;
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool done = to >= 0;
    if (done && from >= 0 && (done = fstat(from, &info) == 0)) {
        for (off_t end = 0; done && end < info.st_size;) {
            off_t begin = lseek(from, end, SEEK_DATA);
            if (begin < 0)
                break;
            end = lseek(from, begin, SEEK_HOLE);
            done = end > begin && copy_range(from, to, begin, end);
        }
        if (size < 0)
            size = info.st_size;
    }
    done = done && ftruncate(to, size < 0 ? 0 : size) == 0;
    if (to >= 0)
        close(to);
    return done;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* "d INODE NAME" or "f INODE NAME", a line each. */
static bool write_names(int fd, const char *path)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = again >= 0 ? fdopendir(again) : NULL;
    FILE *out = stream != NULL ? fopen(path, "we") : NULL;
    bool done = out != NULL;
    for (struct dirent *entry; done && (entry = readdir(stream)) != NULL;) {
        struct stat info;
        if (is_dots(entry->d_name))
            continue;
        done = fstatat(again, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
               fprintf(out, "%c %llu %s\n", S_ISDIR(info.st_mode) ? 'd' : 'f',
                       (unsigned long long)info.st_ino, entry->d_name) > 0;
    }
    if (out != NULL && fclose(out) != 0)
        done = false;
    if (stream != NULL)
        closedir(stream);
    return done;
}

bool image_record(const char *image, int fd)
{
    struct stat info;
    char path[PATH_MAX], half[PATH_MAX], name[64];
    snprintf(name, sizeof(name), "half.%d.%ld", getpid(), syscall(SYS_gettid));
    if (fstat(fd, &info) != 0 || !entry_of(path, image, info.st_ino) || !join(half, image, name))
        return false;
    bool done = false;
    if (S_ISDIR(info.st_mode)) {
        done = write_names(fd, half);
    } else {
        /* The descriptor may be for writing alone. */
        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        int from = open(name, O_RDONLY | O_CLOEXEC);
        done = from >= 0 && copy_content(from, half, -1);
        if (from >= 0)
            close(from);
    }
    return done && rename(half, path) == 0;
}

static bool for_each_name(const char *root, bool (*visit)(void *, const char *, const char *),
                          void *context)
{
    DIR *stream = opendir(root);
    bool done = stream != NULL;
    for (struct dirent *entry; done && (entry = readdir(stream)) != NULL;)
        if (!is_dots(entry->d_name))
            done = visit(context, root, entry->d_name);
    if (stream != NULL)
        closedir(stream);
    return done;
}

static bool record_one(void *image, const char *folder, const char *name)
{
    char path[PATH_MAX];
    return join(path, folder, name) && image_record_tree(image, path);
}

bool image_record_tree(const char *image, const char *root)
{
    struct stat info;
    int fd = open(root, O_RDONLY | O_CLOEXEC);
    bool done = fd >= 0 && fstat(fd, &info) == 0 && image_record(image, fd);
    if (fd >= 0)
        close(fd);
    if (done && S_ISDIR(info.st_mode))
        done = for_each_name(root, record_one, (void *)(size_t)image);
    return done;
}

static bool lost(const char *image, unsigned long long inode, bool is_folder, const char *to)
{
    char path[PATH_MAX];
    if (!entry_of(path, image, inode))
        return false;
    if (!is_folder) {
        int from = open(path, O_RDONLY | O_CLOEXEC);
        bool done = copy_content(from, to, -1);
        if (from >= 0)
            close(from);
        return done;
    }
    if (mkdir(to, 0777) != 0)
        return false;
    FILE *names = fopen(path, "re");
    bool done = true;
    char kind, name[NAME_MAX + 1], inner[PATH_MAX];
    while (done && names != NULL && fscanf(names, "%c %llu %255[^\n]\n", &kind, &inode, name) == 3)
        done = join(inner, to, name) && lost(image, inode, kind == 'd', inner);
    if (names != NULL)
        fclose(names);
    return done;
}

bool image_lost(const char *image, const char *root, const char *to)
{
    struct stat info;
    return stat(root, &info) == 0 && lost(image, info.st_ino, true, to);
}

struct copying {
    const char *image; /* NULL: a plain copy */
    const char *to;
};

static bool copy_one(void *context, const char *folder, const char *name);

static bool copy_tree(const char *image, const char *root, const char *to)
{
    struct copying copying = {image, to};
    return mkdir(to, 0777) == 0 && for_each_name(root, copy_one, &copying);
}

static bool copy_one(void *context, const char *folder, const char *name)
{
    const struct copying *copying = context;
    char from[PATH_MAX], to[PATH_MAX], durable[PATH_MAX];
    struct stat info;
    if (!join(from, folder, name) || !join(to, copying->to, name) || lstat(from, &info) != 0)
        return false;
    if (S_ISDIR(info.st_mode))
        return copy_tree(copying->image, from, to);
    if (copying->image != NULL && !entry_of(durable, copying->image, info.st_ino))
        return false;
    int fd = open(copying->image != NULL ? durable : from, O_RDONLY | O_CLOEXEC);
    bool done = (fd >= 0 || copying->image != NULL) && copy_content(fd, to, info.st_size);
    if (fd >= 0)
        close(fd);
    return done;
}

bool image_hollow(const char *image, const char *root, const char *to)
{
    return copy_tree(image, root, to);
}

bool image_copy(const char *root, const char *to)
{
    return copy_tree(NULL, root, to);
}
