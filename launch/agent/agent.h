/*
 * The agent of a node: it outlives attempts and is no child of mpirun. It follows the node's ranks
 * (their flight records, their processes), beats to the supervisor, holds the memory slots, checks
 * health, kills, cleans, and proves that no rank of the node lives. docs/recovery.md has the
 * protocol and what it promises.
 *
 * One thread and one libuv loop, the caller's; nothing in it waits for a file system. (Health
 * checks are child processes; names of hosts are looked up by libuv's threads.) It uses one
 * descriptor per slot and two per rank.
 */
#ifndef TRM_LAUNCH_AGENT_AGENT_H
#define TRM_LAUNCH_AGENT_AGENT_H

#include <stdbool.h>
#include <uv.h>

#include "base/log.h"
#include "base/status.h"
#include "launch/agent/options.h"

struct trm_agent;

/* Called once, from the loop, when everything is given back: why, in words. */
typedef void trm_agent_end_fn(void *context, const char *why);

/* Makes the node's directory and starts. TRM_ERR_MISMATCH: an agent serves this run here already
 * (hand over to it, place.h). Blocks on the file system for that moment. `options` is
 * copied, `log` borrowed. *agent is returned owned; it frees itself after `on_end` returned. */
enum trm_status trm_agent_create(uv_loop_t *loop, const struct trm_agent_options *options,
                                 const char *version, const struct trm_log *log,
                                 trm_agent_end_fn *on_end, void *context, struct trm_agent **agent,
                                 struct trm_error *err);

/* A signal asks the whole run to stop: passes it on. False when there is no supervisor to tell. */
bool trm_agent_ask_stop(struct trm_agent *agent, int signal_number);

/* Kills the node's ranks, says goodbye, cleans up and ends: on_end comes. */
void trm_agent_leave(struct trm_agent *agent, const char *why);

#endif
