/*
 * slot_agent PREFIX...: an agent's part in keeping memory slots, for tests of trireme-train without
 * `trireme run`: one node for each prefix, until standard input ends. Prints "ready". A line "lose
 * PREFIX" replaces that node by an empty one, and is answered with "lost".
 */
#include <stdio.h>
#include <string.h>

#include "slot_node.h"

#define NODES_MAX   8
#define LIMIT_BYTES ((int64_t)4 << 30)

int main(int argc, char **argv)
{
    struct slot_node *nodes[NODES_MAX] = {NULL};
    char line[TRM_PATH_BYTES];
    if (argc < 2 || argc > NODES_MAX) {
        fprintf(stderr, "usage: slot_agent PREFIX...\n");
        return 64;
    }
    for (int i = 1; i < argc; i++)
        nodes[i] = slot_node_start(argv[i], LIMIT_BYTES);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        for (int i = 1; i < argc; i++)
            if (strncmp(line, "lose ", 5) == 0 && strcmp(line + 5, argv[i]) == 0) {
                slot_node_stop(nodes[i]);
                nodes[i] = slot_node_start(argv[i], LIMIT_BYTES);
                puts("lost");
                fflush(stdout);
            }
    }
    for (int i = 1; i < argc; i++)
        slot_node_stop(nodes[i]);
    return 0;
}
