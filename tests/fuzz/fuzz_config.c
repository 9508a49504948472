/* A configuration's YAML. What is accepted is written out again, and must be read back the same. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "trainer/config/config.h"

static void check_round_trip(const struct trm_config *config)
{
    struct trm_config *again = NULL;
    struct trm_error err = {0};
    char *first = trm_config_to_yaml(config), *second = NULL;
    TRM_ASSERT(first != NULL && trm_config_create(&again, &err) == TRM_OK);
    TRM_ASSERT(trm_config_load_text(again, first, strlen(first), "written", &err) == TRM_OK);
    second = trm_config_to_yaml(again);
    TRM_ASSERT(second != NULL && strcmp(first, second) == 0);
    free(first);
    free(second);
    trm_config_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trm_config *config = NULL;
    struct trm_error err = {0};
    TRM_ASSERT(trm_config_create(&config, &err) == TRM_OK);
    enum trm_status status =
        trm_config_load_text(config, (const char *)data, size, "fuzz.yaml", &err);
    if (status == TRM_OK) {
        check_round_trip(config);
        status = trm_config_check(config, 4, &err);
        if (status == TRM_OK)
            check_round_trip(config);
    }
    TRM_ASSERT(status == TRM_OK || err.text[0] != '\0');
    trm_config_destroy(config);
    return 0;
}
