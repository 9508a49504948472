#include "checkpoint/retention.h"

#include <math.h>

#define VERIFIED_MIN 2

/* How many items come before `item`: newer ones, or newer verified ones. */
static int64_t newer_than(const struct trm_retention_item *items, int count,
                          const struct trm_retention_item *item, bool verified_only)
{
    int64_t newer = 0;
    for (int i = 0; i < count; i++)
        newer += items[i].step > item->step && (items[i].verified || !verified_only);
    return newer;
}

/* How many have a lower validation loss, or the same and are older. */
static int64_t better_than(const struct trm_retention_item *items, int count,
                           const struct trm_retention_item *item)
{
    int64_t better = 0;
    for (int i = 0; i < count; i++) {
        if (isnan(items[i].valid_loss))
            continue;
        better += items[i].valid_loss < item->valid_loss ||
                  (items[i].valid_loss == item->valid_loss && items[i].step < item->step);
    }
    return better;
}

int trm_retention_decide(const struct trm_retention *rules, struct trm_retention_item *items,
                         int count)
{
    int verified = 0, may_go = 0;
    for (int i = 0; i < count; i++)
        verified += items[i].verified;
    bool none_goes = rules->keep_latest <= 0 || verified < VERIFIED_MIN;
    for (int i = 0; i < count; i++) {
        struct trm_retention_item *item = &items[i];
        item->keep =
            none_goes || newer_than(items, count, item, false) < rules->keep_latest ||
            (item->verified && newer_than(items, count, item, true) < VERIFIED_MIN) ||
            (rules->keep_every > 0 && item->step % rules->keep_every == 0) ||
            (!isnan(item->valid_loss) && better_than(items, count, item) < rules->keep_best);
        may_go += !item->keep;
    }
    return may_go;
}
