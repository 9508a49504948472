#include "checkpoint/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "checkpoint/stream.h"
#include "checkpoint/writer.h"

#define AHEAD 2 /* slices: the one that is wanted now, and the next */

/* A slice that is read ahead. */
struct ahead {
    struct disk_source *disk;
    struct trm_task task;
    int64_t number; /* -1: none */
    size_t bytes;
    struct trm_stream stream; /* path NULL: not open */
    const void *data;         /* in the stream's buffer, once the task is done */
};

struct disk_source {
    struct trm_source base;
    const struct trm_ckpt_file *file;
    int64_t element_bytes;
    int fd;                    /* -1 until something is read */
    struct trm_writer *thread; /* reads ahead; NULL until it is asked to */
    struct ahead ahead[AHEAD];
};

static int64_t offset_of(const struct disk_source *disk, int64_t number)
{
    const struct trm_slice *slice = &disk->base.slices[number];
    return disk->file->data[slice->kind].offset + slice->offset * disk->element_bytes;
}

static enum trm_status read_now(struct disk_source *disk, int64_t number, void *data, size_t bytes,
                                struct trm_error *err)
{
    return trm_file_read_at(disk->fd, data, bytes, offset_of(disk, number), disk->base.name, err);
}

/* On the source's thread. */
static enum trm_status read_ahead(void *context, struct trm_error *err)
{
    struct ahead *ahead = context;
    return trm_stream_read(&ahead->stream, ahead->bytes, offset_of(ahead->disk, ahead->number),
                           &ahead->data, err);
}

static enum trm_status open_disk(struct disk_source *disk, struct trm_error *err)
{
    if (disk->fd < 0)
        disk->fd = open(disk->base.name, O_RDONLY | O_CLOEXEC);
    if (disk->fd < 0)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", disk->base.name);
    return TRM_OK;
}

/* Whatever it lacks for that, the slice is read when it is wanted. */
static void disk_ahead(struct trm_source *source, int64_t number, size_t bytes, bool alone)
{
    struct disk_source *disk = (struct disk_source *)source;
    if (disk->thread == NULL && trm_writer_create(&disk->thread, NULL) != TRM_OK)
        return;
    for (int i = 0; i < AHEAD; i++) {
        struct ahead *ahead = &disk->ahead[i];
        if (ahead->number >= 0)
            continue;
        if (ahead->stream.path == NULL &&
            trm_stream_open_read(source->name, false, &ahead->stream, NULL) != TRM_OK)
            return;
        ahead->stream.through_cache = !alone;
        ahead->disk = disk;
        ahead->number = number;
        ahead->bytes = bytes;
        ahead->task.run = read_ahead;
        ahead->task.context = ahead;
        trm_writer_submit(disk->thread, &ahead->task);
        return;
    }
}

static enum trm_status disk_read(struct trm_source *source, int64_t number, void *data,
                                 size_t bytes, struct trm_error *err)
{
    struct disk_source *disk = (struct disk_source *)source;
    enum trm_status status = open_disk(disk, err);
    if (status != TRM_OK)
        return status;
    for (int i = 0; i < AHEAD; i++) {
        struct ahead *ahead = &disk->ahead[i];
        if (ahead->number != number || ahead->bytes != bytes)
            continue;
        status = trm_writer_wait(disk->thread, &ahead->task);
        ahead->number = -1;
        if (status != TRM_OK)
            return trm_error_set(err, status, "%s", ahead->task.error.text);
        memcpy(data, ahead->data, bytes);
        return TRM_OK;
    }
    return read_now(disk, number, data, bytes, err);
}

static void disk_idle(struct trm_source *source)
{
    struct disk_source *disk = (struct disk_source *)source;
    trm_writer_destroy(disk->thread);
    disk->thread = NULL;
    for (int i = 0; i < AHEAD; i++) {
        if (disk->ahead[i].stream.path != NULL)
            (void)trm_stream_close(&disk->ahead[i].stream, NULL);
        disk->ahead[i].number = -1;
    }
    if (disk->fd >= 0)
        close(disk->fd);
    disk->fd = -1;
}

static void disk_destroy(struct trm_source *source)
{
    disk_idle(source);
    free(source);
}

static const struct trm_source_operations disk_operations = {disk_read, disk_idle, disk_destroy,
                                                             disk_ahead};

enum trm_status trm_source_disk(const struct trm_stored *stored, int file, struct trm_source **out,
                                struct trm_error *err)
{
    TRM_ASSERT(file >= 0 && file < stored->catalog.file_count);
    struct disk_source *disk = calloc(1, sizeof(*disk));
    if (disk == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading \"%s\"", stored->path);
    disk->fd = -1;
    for (int i = 0; i < AHEAD; i++)
        disk->ahead[i].number = -1;
    disk->file = &stored->catalog.files[file];
    disk->element_bytes = (int64_t)trm_type_bytes(stored->catalog.tensors[0].type);
    disk->base.operations = &disk_operations;
    disk->base.slices = &stored->slices[stored->file_begin[file]];
    disk->base.slice_count = disk->file->slice_count;
    enum trm_status status =
        trm_file_path(disk->base.name, err, "%s/%s", stored->path, disk->file->name);
    if (status != TRM_OK) {
        disk_destroy(&disk->base);
        return status;
    }
    *out = &disk->base;
    return TRM_OK;
}

struct memory_source {
    struct trm_source base;
    const void *const *data;
    enum trm_type type;
};

static enum trm_status memory_read(struct trm_source *source, int64_t number, void *data,
                                   size_t bytes, struct trm_error *err)
{
    (void)err;
    const struct memory_source *memory = (const struct memory_source *)source;
    TRM_ASSERT((int64_t)bytes == trm_slice_bytes(&source->slices[number], memory->type));
    memcpy(data, memory->data[number], bytes);
    return TRM_OK;
}

static void memory_idle(struct trm_source *source)
{
    (void)source;
}

static void memory_destroy(struct trm_source *source)
{
    free(source);
}

static const struct trm_source_operations memory_operations = {memory_read, memory_idle,
                                                               memory_destroy, NULL};

enum trm_status trm_source_memory(const char *name, const struct trm_slice *slices,
                                  const void *const *data, int64_t slice_count, enum trm_type type,
                                  struct trm_source **out, struct trm_error *err)
{
    struct memory_source *memory = calloc(1, sizeof(*memory));
    if (memory == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading \"%s\"", name);
    memory->base.operations = &memory_operations;
    memory->base.slices = slices;
    memory->base.slice_count = slice_count;
    memory->data = data;
    memory->type = type;
    enum trm_status status = trm_file_path(memory->base.name, err, "%s", name);
    if (status != TRM_OK) {
        memory_destroy(&memory->base);
        return status;
    }
    *out = &memory->base;
    return TRM_OK;
}

void trm_source_destroy(struct trm_source *source)
{
    if (source != NULL)
        source->operations->destroy(source);
}

enum trm_status trm_sources_of_stored(const struct trm_stored *stored, struct trm_source ***out,
                                      struct trm_error *err)
{
    int count = stored->catalog.file_count;
    struct trm_source **sources = calloc((size_t)count + 1, sizeof(struct trm_source *));
    if (sources == NULL)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for reading \"%s\"", stored->path);
    for (int i = 0; i < count; i++) {
        enum trm_status status = trm_source_disk(stored, i, &sources[i], err);
        if (status != TRM_OK) {
            trm_sources_destroy(sources, count);
            return status;
        }
    }
    *out = sources;
    return TRM_OK;
}

void trm_sources_destroy(struct trm_source **sources, int count)
{
    if (sources == NULL)
        return;
    for (int i = 0; i < count; i++)
        trm_source_destroy(sources[i]);
    free(sources);
}
