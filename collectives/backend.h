/*
 * What a backend provides: the table behind struct trm_comm, and the head of its requests. For
 * backends and comm.c alone; everybody else calls comm.h.
 */
#ifndef TRM_COLLECTIVES_BACKEND_H
#define TRM_COLLECTIVES_BACKEND_H

#include "collectives/comm.h"

/* A backend puts its own fields behind this head. */
struct trm_request {
    struct trm_comm *comm;
    int max_messages;
    bool active;    /* started and not yet waited for; set and cleared by the backend */
    int64_t number; /* of the operation, in the flight record; set by comm.c, as the next */
    int operation;  /* enum trm_flight_operation */
};

/* A backend's table. Arguments are already checked; with r = NULL the operation is complete on
 * return. Communicators of one rank use the operations of trm_self_backend whatever made them. */
struct trm_comm_backend {
    const char *name; /* "self", "mpi", "nccl" */
    bool on_device;   /* one rank, too, uses this table: its buffers are not the host's */
    void (*destroy)(struct trm_comm *comm);
    enum trm_status (*request_create)(struct trm_comm *comm, int max_messages,
                                      struct trm_request **out, struct trm_error *err);
    void (*request_destroy)(struct trm_request *request);
    enum trm_status (*wait)(struct trm_request *request, struct trm_error *err);
    /* Whether `wait` would not have to; NULL: not known before. */
    enum trm_status (*done)(struct trm_request *request, bool *done, struct trm_error *err);
    /* NULL where the host can wait only: `wait` takes their place, and nothing is left to settle.
     */
    enum trm_status (*wait_stream)(struct trm_request *request, struct trm_error *err);
    enum trm_status (*wait_comm)(struct trm_request *request, struct trm_error *err);
    void (*detach)(struct trm_request *request);
    enum trm_status (*settle)(struct trm_comm *comm, struct trm_error *err);
    enum trm_status (*barrier)(struct trm_comm *comm, struct trm_request *r, struct trm_error *err);
    enum trm_status (*broadcast)(struct trm_comm *comm, void *data, size_t bytes, int root,
                                 struct trm_request *r, struct trm_error *err);
    enum trm_status (*all_gather)(struct trm_comm *comm, const void *mine, void *all, size_t bytes,
                                  struct trm_request *r, struct trm_error *err);
    enum trm_status (*all_to_all)(struct trm_comm *comm, const void *send, void *receive,
                                  size_t bytes, struct trm_request *r, struct trm_error *err);
    enum trm_status (*exchange)(struct trm_comm *comm, const struct trm_message *sends,
                                int send_count, const struct trm_message *receives,
                                int receive_count, struct trm_request *r, struct trm_error *err);
    enum trm_status (*all_reduce)(struct trm_comm *comm, void *data, size_t count,
                                  enum trm_reduction op, struct trm_request *r,
                                  struct trm_error *err);
    enum trm_status (*fastest_all_reduce)(struct trm_comm *comm, void *data, size_t count,
                                          enum trm_type type, struct trm_request *r,
                                          struct trm_error *err);
    enum trm_status (*fastest_reduce_scatter)(struct trm_comm *comm, const void *data, void *mine,
                                              size_t count, enum trm_type type,
                                              struct trm_request *r, struct trm_error *err);
    enum trm_status (*sum)(struct trm_comm *comm, void *const *operands,
                           const struct trm_lane_add *adds, int add_count, void *into, size_t count,
                           enum trm_type type, struct trm_request *r, struct trm_error *err);
    /* Collective: the ranks of one color form a new communicator, ordered by key. */
    enum trm_status (*split)(struct trm_comm *comm, int color, int key, struct trm_comm **out,
                             struct trm_error *err);
    /* Not collective: ends the whole job from one rank, when its peers can't be told otherwise. */
    void (*abort)(struct trm_comm *comm, int exit_code);
};

extern const struct trm_comm_backend trm_self_backend;

/* `sum` in host memory, by trm_ordered_sum. */
enum trm_status trm_host_sum(struct trm_comm *comm, void *const *operands,
                             const struct trm_lane_add *adds, int add_count, void *into,
                             size_t count, enum trm_type type, struct trm_request *r,
                             struct trm_error *err);

#endif
