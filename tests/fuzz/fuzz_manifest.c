/* A manifest's text: as it is, and sealed with the digest that the input cannot guess. What is
 * accepted is formatted again, and must come back the same. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "checkpoint/manifest.h"

static void check_round_trip(const struct trm_catalog *catalog)
{
    struct trm_catalog again = {0};
    char *first = NULL, *second = NULL;
    size_t first_bytes = 0, second_bytes = 0;
    struct trm_error err = {0};
    TRM_ASSERT(trm_manifest_format(catalog, &first, &first_bytes, &err) == TRM_OK);
    TRM_ASSERT(trm_manifest_parse(first, first_bytes, &again, &err) == TRM_OK);
    TRM_ASSERT(trm_manifest_format(&again, &second, &second_bytes, &err) == TRM_OK);
    TRM_ASSERT(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
    for (int i = 0; i < again.file_count; i++)
        TRM_ASSERT(strchr(again.files[i].name, '/') == NULL && again.files[i].bytes > 0);
    for (int i = 0; i < again.tensor_count; i++)
        TRM_ASSERT(trm_catalog_find(&again, again.tensors[i].name) == i);
    free(first);
    free(second);
    trm_catalog_destroy(&again);
}

static void try(const char *text, size_t bytes)
{
    struct trm_catalog catalog = {0};
    struct trm_error err = {0};
    if (trm_manifest_parse(text, bytes, &catalog, &err) != TRM_OK) {
        TRM_ASSERT(err.text[0] != '\0');
        return;
    }
    check_round_trip(&catalog);
    trm_catalog_destroy(&catalog);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *sealed = NULL;
    size_t sealed_bytes = 0;
    memcpy(text, data, size);
    text[size] = '\0';
    try(text, size);
    if (trm_manifest_seal(text, &sealed, &sealed_bytes, NULL) == TRM_OK)
        try(sealed, sealed_bytes);
    free(sealed);
    free(text);
    return 0;
}
