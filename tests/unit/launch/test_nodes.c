#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "launch/nodes.h"

/* Five nodes of two slots, all ready. */
static struct trm_nodes make(void)
{
    struct trm_host hosts[5] = {{{0}, {0}, 0}};
    struct trm_nodes nodes;
    struct trm_error err;

    for (int i = 0; i < 5; i++) {
        snprintf(hosts[i].name, sizeof hosts[i].name, "node%d", i + 1);
        hosts[i].slots = 2;
    }
    assert_int_equal(trm_nodes_create(hosts, 5, &nodes, &err), TRM_OK);
    for (int i = 0; i < 5; i++) {
        nodes.items[i].state = TRM_NODE_READY;
        nodes.items[i].healthy = true;
    }
    return nodes;
}

static const struct trm_nodes_want eight = {
    .ranks = 8, .tensor_size = 2, .quarantine_after = 2, .forget_ns = 1000};

static void assert_ranks(const struct trm_nodes *nodes, const int expected[5])
{
    int next = 0;

    for (int i = 0; i < 5; i++) {
        assert_int_equal(nodes->items[i].ranks, expected[i]);
        assert_int_equal(nodes->items[i].first_rank, next);
        next += expected[i];
    }
}

static void the_first_nodes_work_and_the_last_one_is_the_spare(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    assert_int_equal(trm_nodes_fit(&nodes, &eight), 8);
    trm_nodes_assign(&nodes, 8);
    assert_ranks(&nodes, (int[]){2, 2, 2, 2, 0});
    assert_ptr_equal(trm_nodes_of_rank(&nodes, 5), &nodes.items[2]);
    assert_null(trm_nodes_of_rank(&nodes, 8));
    trm_nodes_destroy(&nodes);
}

static void a_spare_takes_the_place_of_a_lost_node_and_keeps_it(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    trm_nodes_assign(&nodes, 8);
    trm_nodes_blame(&nodes.items[1], &eight, 5000, "was lost");
    assert_int_equal(nodes.items[1].state, TRM_NODE_AWAY);
    assert_int_equal(trm_nodes_fit(&nodes, &eight), 8);
    trm_nodes_assign(&nodes, 8);
    assert_ranks(&nodes, (int[]){2, 0, 2, 2, 2});
    /* The lost one returns: those that work hold the snapshots, and go on. */
    nodes.items[1].state = TRM_NODE_READY;
    trm_nodes_assign(&nodes, 8);
    assert_ranks(&nodes, (int[]){2, 0, 2, 2, 2});
    trm_nodes_destroy(&nodes);
}

static void no_rank_runs_on_a_node_whose_health_is_not_known(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    nodes.items[0].healthy = false;
    assert_int_equal(trm_nodes_fit_healthy(&nodes, &eight), 8);
    trm_nodes_assign(&nodes, 8);
    assert_ranks(&nodes, (int[]){0, 2, 2, 2, 2});
    nodes.items[1].healthy = false;
    assert_int_equal(trm_nodes_fit(&nodes, &eight), 8); /* it may be worth a check */
    assert_int_equal(trm_nodes_fit_healthy(&nodes, &eight), 0);
    trm_nodes_destroy(&nodes);
}

static void without_a_spare_the_data_parallel_size_shrinks_if_it_may(void **state)
{
    struct trm_nodes nodes = make();
    struct trm_nodes_want want = eight;

    (void)state;
    nodes.items[0].state = nodes.items[4].state = TRM_NODE_AWAY;
    assert_int_equal(trm_nodes_fit(&nodes, &want), 0);
    want.min_data_size = 3;
    assert_int_equal(trm_nodes_fit(&nodes, &want), 6);
    want.min_data_size = 4;
    assert_int_equal(trm_nodes_fit(&nodes, &want), 0);
    /* Whole tensor-parallel groups only. */
    want = (struct trm_nodes_want){.ranks = 8, .tensor_size = 4, .min_data_size = 1};
    assert_int_equal(trm_nodes_fit(&nodes, &want), 4);
    trm_nodes_assign(&nodes, 4);
    assert_ranks(&nodes, (int[]){0, 2, 2, 0, 0});
    trm_nodes_destroy(&nodes);
}

static void a_node_that_fails_twice_is_quarantined(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    trm_nodes_blame(&nodes.items[2], &eight, 5000, "was lost");
    nodes.items[2].state = TRM_NODE_READY;
    trm_nodes_blame(&nodes.items[2], &eight, 6000, "was lost again");
    assert_int_equal(nodes.items[2].state, TRM_NODE_QUARANTINED);
    assert_string_equal(nodes.items[2].reason, "was lost again");
    trm_nodes_destroy(&nodes);
}

/* A run of months must not lose its nodes one by one. */
static void failures_of_long_ago_are_forgotten(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    for (int64_t now_ns = 0; now_ns < 10000; now_ns += 1001) {
        trm_nodes_blame(&nodes.items[2], &eight, now_ns, "was lost");
        assert_int_equal(nodes.items[2].state, TRM_NODE_AWAY);
        nodes.items[2].state = TRM_NODE_READY;
    }
    trm_nodes_blame(&nodes.items[2], &eight, 9500, "was lost again");
    assert_int_equal(nodes.items[2].state, TRM_NODE_QUARANTINED);
    trm_nodes_destroy(&nodes);
}

static void nodes_are_listed_as_people_do(void **state)
{
    struct trm_nodes nodes = make();
    char text[256];

    (void)state;
    trm_nodes_assign(&nodes, 2);
    assert_string_equal(trm_nodes_describe(&nodes, text, sizeof text), "node1");
    trm_nodes_assign(&nodes, 4);
    assert_string_equal(trm_nodes_describe(&nodes, text, sizeof text), "node1 and node2");
    trm_nodes_assign(&nodes, 5);
    assert_string_equal(trm_nodes_describe(&nodes, text, sizeof text), "node1, node2 and node3");
    trm_nodes_destroy(&nodes);
}

/* Sixteen thousand ranks at the usual five beats a second would take all of a core to hear. */
static void many_ranks_are_heard_of_more_seldom(void **state)
{
    struct trm_nodes nodes = make();

    (void)state;
    assert_int_equal(trm_nodes_heartbeat_ms(&nodes, 200, 3000), 200);
    for (int i = 0; i < 5; i++)
        nodes.items[i].host.slots = 1024;
    assert_int_equal(trm_nodes_heartbeat_ms(&nodes, 200, 3000), 256);
    assert_int_equal(trm_nodes_heartbeat_ms(&nodes, 1000, 3000), 1000);
    for (int i = 0; i < 5; i++)
        nodes.items[i].host.slots = 3200;
    assert_int_equal(trm_nodes_heartbeat_ms(&nodes, 200, 8000), 800);
    assert_int_equal(trm_nodes_heartbeat_ms(&nodes, 200, 3000), 750);
    trm_nodes_destroy(&nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_nodes_work_and_the_last_one_is_the_spare),
        cmocka_unit_test(a_spare_takes_the_place_of_a_lost_node_and_keeps_it),
        cmocka_unit_test(no_rank_runs_on_a_node_whose_health_is_not_known),
        cmocka_unit_test(without_a_spare_the_data_parallel_size_shrinks_if_it_may),
        cmocka_unit_test(a_node_that_fails_twice_is_quarantined),
        cmocka_unit_test(failures_of_long_ago_are_forgotten),
        cmocka_unit_test(nodes_are_listed_as_people_do),
        cmocka_unit_test(many_ranks_are_heard_of_more_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
