/* trireme-train with the lanes added one after the other instead of along the tree: what the tests
 * of equal bits must notice. Linked with --wrap=trm_lanes_create. */
#include "collectives/lanes.h"

enum trm_status __real_trm_lanes_create(int lane_count, int rank_count, struct trm_lanes **out,
                                        struct trm_error *err);
enum trm_status __wrap_trm_lanes_create(int lane_count, int rank_count, struct trm_lanes **out,
                                        struct trm_error *err);

enum trm_status __wrap_trm_lanes_create(int lane_count, int rank_count, struct trm_lanes **out,
                                        struct trm_error *err)
{
    enum trm_status status = __real_trm_lanes_create(lane_count, rank_count, out, err);

    for (int i = 1; status == TRM_OK && i < (*out)->node_count; i++)
        (*out)->adds[i - 1] = (struct trm_lane_add){.target = 0, .source = i};
    return status;
}
