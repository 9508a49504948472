/*
 * A node of a test: a directory with the socket and lock of an agent, and a thread that answers as
 * an agent does for memory slots. Several ranks of this machine play ranks of one node by meeting
 * at one of these; a node that is lost loses its slots.
 */
#ifndef TRM_TESTS_MPI_SLOT_NODE_H
#define TRM_TESTS_MPI_SLOT_NODE_H

#include "base/file.h"

struct slot_node;

/* Serves "<prefix>-<hostname>", which it makes; asserts success. */
struct slot_node *slot_node_start(const char *prefix, int64_t limit_bytes);

/* Slots and bytes that it holds; between requests. */
int slot_node_slots(struct slot_node *node);

/* Ends the thread, closes all slots and connections, removes the directory. Takes NULL. */
void slot_node_stop(struct slot_node *node);

#endif
