/*
 * What supervisor and agents tell each other: JSON objects as C structs, both ways, pure.
 * docs/recovery.md lists the keys. Decoding checks type and range of every key, bounds every string
 * and list, and refuses a message that the other side never sends; unknown keys are passed over.
 *
 * A decoded struct owns the memory behind its pointers (trm_message_clear); for encoding it may
 * borrow them. No state.
 */
#ifndef TRM_LAUNCH_LINK_MESSAGE_H
#define TRM_LAUNCH_LINK_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "launch/link/report.h"

#define TRM_MESSAGE_PROTOCOL       1
#define TRM_MESSAGE_NAME_BYTES     256  /* host names, versions, ids of runs */
#define TRM_MESSAGE_TEXT_BYTES     1024 /* reasons and notes */
#define TRM_MESSAGE_REPORT_BYTES   8192 /* what a self-test printed */
#define TRM_MESSAGE_MAX_ARGUMENTS  64
#define TRM_MESSAGE_ARGUMENT_BYTES 4096

enum trm_message_type {
    /* agent to supervisor */
    TRM_MESSAGE_HELLO, /* first of a connection; counts as a beat, its number is acknowledged */
    TRM_MESSAGE_BEAT,
    TRM_MESSAGE_BEGUN,  /* the answer to BEGIN */
    TRM_MESSAGE_GONE,   /* a rank's connection closed without an exit record */
    TRM_MESSAGE_DEAD,   /* proof: no rank lives, and none up to `attempt` will be admitted */
    TRM_MESSAGE_HEALTH, /* the answer to CHECK */
    TRM_MESSAGE_NOTE,   /* something unusual, for people */
    TRM_MESSAGE_BYE,    /* the agent ends now */
    TRM_MESSAGE_ASKED,  /* a signal, `number`, asked this node to stop: all of the run shall */
    /* supervisor to agent */
    TRM_MESSAGE_ACK,   /* of a beat or hello: the lease runs from when that one was sent */
    TRM_MESSAGE_BEGIN, /* admit ranks of `attempt` */
    TRM_MESSAGE_KILL,  /* end and prove the end of every attempt up to `attempt` */
    TRM_MESSAGE_STOP,  /* ranks shall save and exit with 75 */
    TRM_MESSAGE_CHECK, /* check the node's health */
    TRM_MESSAGE_QUIT,  /* kill, clean, end */
    TRM_MESSAGE_TYPES
};

const char *trm_message_type_name(enum trm_message_type type); /* "hello", ...; static */
/* The launcher: the parent of the node's ranks (orted; mpirun on its own node). */
enum trm_launcher {
    TRM_LAUNCHER_NONE, /* no rank was admitted yet */
    TRM_LAUNCHER_RUNNING,
    TRM_LAUNCHER_STOPPED,
    TRM_LAUNCHER_GONE,
    TRM_LAUNCHERS
};

const char *trm_launcher_name(enum trm_launcher launcher); /* "running", ...; static */

struct trm_message_hello {
    int protocol;
    int64_t number;  /* of beats, going on over connections */
    int64_t attempt; /* the newest begun, 0: none */
    int64_t dead;    /* proved for attempts up to this one, 0: none */
    bool orphans;    /* somebody holds ranks.lock: ranks of a time before this agent */
    int64_t pid, cores, memory_bytes, slots, slot_bytes;
    char run_id[TRM_MESSAGE_NAME_BYTES], hostname[TRM_MESSAGE_NAME_BYTES];
    char boot_id[TRM_MESSAGE_NAME_BYTES], version[TRM_MESSAGE_NAME_BYTES];
};

struct trm_message_beat {
    int64_t number, attempt, dead;
    int64_t slots, slot_bytes; /* memory slots held, and their size together */
    enum trm_launcher launcher;
    int rank_count; /* <= TRM_FLIGHT_MAX_RANKS: records in use */
    struct trm_rank_report *ranks;
};

struct trm_message_begun {
    int64_t attempt;
    bool ok;
    char reason[TRM_MESSAGE_TEXT_BYTES]; /* unless ok */
};

struct trm_message_gone {
    int64_t attempt, pid, step;
    int rank;
    enum trm_phase phase;
};

struct trm_message_health {
    int64_t id;
    bool ok;
    int64_t took_ms;
    char reason[TRM_MESSAGE_TEXT_BYTES];   /* unless ok */
    char report[TRM_MESSAGE_REPORT_BYTES]; /* of the self-test's standard output, the beginning */
};

struct trm_message_note {
    char text[TRM_MESSAGE_TEXT_BYTES];
};

struct trm_message_begin {
    int64_t attempt;
    int capacity;                        /* records: local ranks at most */
    char domain[TRM_MESSAGE_NAME_BYTES]; /* what is lost with this node; ranks are told */
};

struct trm_message_kill {
    int64_t attempt;
    char reason[TRM_MESSAGE_TEXT_BYTES]; /* may be empty */
};

struct trm_message_check {
    int64_t id, timeout_ms;
    int64_t memory_bytes; /* that must be available on the node; 0: any will do */
    int argument_count;   /* 0: no self-test */
    char **arguments;     /* self-test, without a NULL at the end; found by PATH */
    char *command;        /* the operator's, for /bin/sh -c; NULL or empty: none */
};

struct trm_message {
    enum trm_message_type type;
    union {
        struct trm_message_hello hello;
        struct trm_message_beat beat;
        struct trm_message_begun begun;
        struct trm_message_gone gone;
        struct trm_message_health health;
        struct trm_message_note note;
        struct trm_message_begin begin;
        struct trm_message_kill kill;
        struct trm_message_check check;
        int64_t attempt; /* DEAD, STOP */
        int64_t number;  /* ACK, ASKED */
    };
};

/* *text is returned owned (free). Strings are cut to valid UTF-8 without control characters but
 * line feeds. TRM_ERR_MEMORY. */
enum trm_status trm_message_encode(const struct trm_message *message, char **text, size_t *bytes,
                                   struct trm_error *err);

/* Reads a message that came from an agent, or else from a supervisor. TRM_ERR_CORRUPT with the
 * key and what is wrong with it. On success the message is to be cleared. */
enum trm_status trm_message_decode(bool from_agent, const char *text, size_t bytes,
                                   struct trm_message *message, struct trm_error *err);
void trm_message_clear(struct trm_message *message);

#endif
