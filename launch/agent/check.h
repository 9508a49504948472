/*
 * A node's health check: the self-test and the operator's command as child processes, side by side,
 * each a session of its own, killed with all its children at the deadline. What they print is
 * bounded; what is beyond is read and dropped. Descriptors: three per child. Only the children wait
 * for files, the loop never does.
 */
#ifndef TRM_LAUNCH_AGENT_CHECK_H
#define TRM_LAUNCH_AGENT_CHECK_H

#include <uv.h>

#include "launch/link/message.h"

struct trm_agent_check;

/* Called once, from the loop. */
typedef void trm_agent_check_fn(const struct trm_message_health *health, void *context);

/* Starts it; the answer comes within the request's time-out and a moment. *check is valid until
 * the answer has come. */
enum trm_status trm_agent_check_start(uv_loop_t *loop, const struct trm_message_check *request,
                                      trm_agent_check_fn *answer, void *context,
                                      struct trm_agent_check **check, struct trm_error *err);

/* Kills the children; no answer comes. NULL is fine. */
void trm_agent_check_cancel(struct trm_agent_check *check);

#endif
