/*
 * Fibers: functions with stacks of their own that one thread of the host switches between. Known to
 * AddressSanitizer. Stacks are 128 KiB each, and live as long as the process.
 */
#ifndef TRM_TESTS_FAKE_GPU_FIBER_H
#define TRM_TESTS_FAKE_GPU_FIBER_H

struct fiber;

struct fiber *fiber_create(void);

/* The next fiber_enter starts `body`; the fiber must not be in the middle of another. */
void fiber_begin(struct fiber *fiber, void (*body)(void *context), void *context);

/* Runs the fiber until it leaves or its body returns. */
void fiber_enter(struct fiber *fiber);

/* Called by the running fiber: back to where it was entered. */
void fiber_leave(struct fiber *fiber);

#endif
