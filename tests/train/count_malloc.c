/*
 * Preloaded into trireme-train: counts the allocations that its own code asks for (the caller's
 * address lies in the program, not in a library) and writes the number to $COUNT_MALLOC_FILE at
 * exit.
 */
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
__attribute__((visibility("default"))) void *malloc(size_t bytes);
__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes);
__attribute__((visibility("default"))) void *realloc(void *old, size_t bytes);

static uintptr_t program_begin, program_end;
static unsigned long count;

/* The first object is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t bytes, void *context)
{
    (void)bytes;
    (void)context;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X))
            continue;
        program_begin = info->dlpi_addr + header->p_vaddr;
        program_end = program_begin + header->p_memsz;
    }
    return 1;
}

__attribute__((constructor)) static void begin(void)
{
    dl_iterate_phdr(find_program, NULL);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("COUNT_MALLOC_FILE");
    if (path && count > 0)
        dprintf(open(path, O_WRONLY | O_CREAT | O_APPEND, 0644), "%lu\n", count);
}

static void note(const void *caller)
{
    uintptr_t address = (uintptr_t)caller;
    if (address >= program_begin && address < program_end)
        __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_calloc(number, bytes);
}

void *realloc(void *old, size_t bytes)
{
    note(__builtin_return_address(0));
    return __libc_realloc(old, bytes);
}
