#include "tests/fake/gpu/fiber.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ANNOTATE 1
#else
#define ANNOTATE 0
#endif

#define STACK_BYTES (128 * 1024)

struct fiber {
    char *stack;
    void (*body)(void *context);
    void *context;
#if defined(__x86_64__)
    void *inside, *outside; /* stack pointers */
#else
    ucontext_t inside, outside;
#endif
#if ANNOTATE
    void *inside_frames, *outside_frames;
    const void *outside_stack;
    size_t outside_bytes;
#endif
};

struct fiber *fiber_create(void)
{
    struct fiber *fiber = calloc(1, sizeof(*fiber));
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber == NULL || stack == MAP_FAILED) {
        fprintf(stderr, "emulated GPU: no memory for a fiber\n");
        abort();
    }
    fiber->stack = stack;
    return fiber;
}

static void before_enter(struct fiber *fiber)
{
#if ANNOTATE
    __sanitizer_start_switch_fiber(&fiber->outside_frames, fiber->stack, STACK_BYTES);
#else
    (void)fiber;
#endif
}

static void after_enter(struct fiber *fiber)
{
#if ANNOTATE
    __sanitizer_finish_switch_fiber(fiber->outside_frames, NULL, NULL);
#else
    (void)fiber;
#endif
}

static void before_leave(struct fiber *fiber, int for_good)
{
#if ANNOTATE
    __sanitizer_start_switch_fiber(for_good ? NULL : &fiber->inside_frames, fiber->outside_stack,
                                   fiber->outside_bytes);
#else
    (void)fiber;
    (void)for_good;
#endif
}

static void after_leave(struct fiber *fiber)
{
#if ANNOTATE
    __sanitizer_finish_switch_fiber(fiber->inside_frames, &fiber->outside_stack,
                                    &fiber->outside_bytes);
    fiber->inside_frames = NULL;
#else
    (void)fiber;
#endif
}

#if defined(__x86_64__)
/* Stores the stack pointer of here and goes on with another: what a call must keep lies on the
 * stacks. */
void trm_fake_gpu_switch(void **here, void *there);
__asm__(".text\n"
        ".globl trm_fake_gpu_switch\n"
        ".type trm_fake_gpu_switch, @function\n"
        "trm_fake_gpu_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size trm_fake_gpu_switch, .-trm_fake_gpu_switch\n");

static struct fiber *begun; /* the fiber that is entered for the first time */

static void first_entry(void)
{
    struct fiber *fiber = begun;
    after_leave(fiber);
    fiber->body(fiber->context);
    before_leave(fiber, 1);
    trm_fake_gpu_switch(&fiber->inside, fiber->outside);
}

void fiber_begin(struct fiber *fiber, void (*body)(void *context), void *context)
{
    /* As if first_entry had been called: its return address would lie at a multiple of 16. */
    void **top = (void **)(fiber->stack + STACK_BYTES - 64);
    *top = (void *)(uintptr_t)first_entry;
    for (int i = 1; i <= 6; i++)
        top[-i] = NULL;
    fiber->inside = top - 6;
    fiber->body = body;
    fiber->context = context;
}

void fiber_enter(struct fiber *fiber)
{
    begun = fiber;
    before_enter(fiber);
    trm_fake_gpu_switch(&fiber->outside, fiber->inside);
    after_enter(fiber);
}

void fiber_leave(struct fiber *fiber)
{
    before_leave(fiber, 0);
    trm_fake_gpu_switch(&fiber->inside, fiber->outside);
    after_leave(fiber);
}
#else
static struct fiber *begun;

static void first_entry(void)
{
    struct fiber *fiber = begun;
    after_leave(fiber);
    fiber->body(fiber->context);
    before_leave(fiber, 1);
    setcontext(&fiber->outside);
}

void fiber_begin(struct fiber *fiber, void (*body)(void *context), void *context)
{
    getcontext(&fiber->inside);
    fiber->inside.uc_stack.ss_sp = fiber->stack;
    fiber->inside.uc_stack.ss_size = STACK_BYTES;
    fiber->inside.uc_link = NULL;
    makecontext(&fiber->inside, first_entry, 0);
    fiber->body = body;
    fiber->context = context;
}

void fiber_enter(struct fiber *fiber)
{
    begun = fiber;
    before_enter(fiber);
    swapcontext(&fiber->outside, &fiber->inside);
    after_enter(fiber);
}

void fiber_leave(struct fiber *fiber)
{
    before_leave(fiber, 0);
    swapcontext(&fiber->inside, &fiber->outside);
    after_leave(fiber);
}
#endif
