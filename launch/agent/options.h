/* How an agent is started: one line of JSON on its standard input, which holds the run's token and
 * so stands in no process list. */
#ifndef TRM_LAUNCH_AGENT_OPTIONS_H
#define TRM_LAUNCH_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "launch/link/wire.h"

#define TRM_AGENT_MAX_ADDRESSES 8
#define TRM_AGENT_HOST_BYTES    256
#define TRM_AGENT_RUN_ID_BYTES  128
#define TRM_AGENT_COMMAND_BYTES 8192
#define TRM_AGENT_LINE_BYTES    24576 /* the longest line, with its line feed */

struct trm_agent_address {
    char host[TRM_AGENT_HOST_BYTES]; /* a name, or better a numeric address */
    int port;
};

struct trm_agent_options {
    struct trm_wire_token token;
    char run_id[TRM_AGENT_RUN_ID_BYTES];
    char node[TRM_WIRE_NAME_BYTES]; /* what the supervisor calls this node */
    char runtime[TRM_PATH_BYTES];   /* prefix of node-local paths; absolute */
    struct trm_agent_address addresses[TRM_AGENT_MAX_ADDRESSES]; /* tried in turn */
    int address_count;
    int64_t lease_ms;     /* ranks live on so long after the last beat that was acknowledged */
    int64_t heartbeat_ms; /* between beats */
    int64_t linger_ms;    /* the agent lives on so long without a supervisor; >= lease_ms */
    int64_t memory_limit; /* bytes of all memory slots together */
    bool foreground;      /* does not leave its terminal or job step, which ends with it */
    /* For /bin/sh, once there has been no supervisor for two leases and this long; empty: none.
     * Killed when the supervisor comes back; tried again when it fails. When it succeeds there is
     * nothing left to wait for, and the agent leaves. */
    char orphan_command[TRM_AGENT_COMMAND_BYTES];
    int64_t orphan_delay_ms;
};

/* Reads the line; *options is written on success. TRM_ERR_CONFIG with the key. */
enum trm_status trm_agent_options_parse(const char *line, size_t bytes,
                                        struct trm_agent_options *options, struct trm_error *err);

/* The line, with its line feed and a NUL; it holds the token. *line is returned owned (free, after
 * overwriting it). */
enum trm_status trm_agent_options_format(const struct trm_agent_options *options, char **line,
                                         struct trm_error *err);

#endif
