#include "trainer/data/mixture.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "trainer/data/order.h"

#define WEIGHT_MAX  1e12
#define BLANKS      " \t"
#define WEIGHT_FORM "write it as \"WEIGHT PATH\", e.g. \"0.3 data/code.bin\""

/* A first word that starts like a number is meant as a weight, so "0.3x a.bin" is a mistake. */
static bool looks_like_weight(const char *word, size_t length)
{
    static const char *const names[] = {"nan", "inf", "infinity"};
    size_t sign = length > 0 && (word[0] == '-' || word[0] == '+');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == length - sign &&
            strncasecmp(word + sign, names[i], length - sign) == 0)
            return true;
    return length > sign && strspn(word + sign, "0123456789.") > 0;
}

static enum trm_status parse_item(const char *text, struct trm_mixture_item *item,
                                  struct trm_error *err)
{
    text += strspn(text, BLANKS);
    size_t length = strcspn(text, BLANKS);
    const char *path = text + length + strspn(text + length, BLANKS);
    if (*text == '\0')
        return trm_error_set(err, TRM_ERR_INPUT,
                             "the list of token files has an empty item; "
                             "remove it or name a file");
    item->path = text;
    item->weight = 0;
    if (trm_file_exists(text))
        return TRM_OK;
    char *end;
    double weight = strtod(text, &end);
    if (*path == '\0') {
        if (end == text + length)
            return trm_error_set(
                err, TRM_ERR_INPUT,
                "item \"%s\" of the list of token files is a weight without a path; " WEIGHT_FORM,
                text);
        return TRM_OK;
    }
    if (!looks_like_weight(text, length)) {
        if (trm_file_exists(path))
            return trm_error_set(
                err, TRM_ERR_INPUT,
                "weight \"%.*s\" of token file \"%s\" is not a number; " WEIGHT_FORM, (int)length,
                text, path);
        return TRM_OK;
    }
    if (end != text + length)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "weight \"%.*s\" of token file \"%s\" is not a number; " WEIGHT_FORM,
                             (int)length, text, path);
    if (!(weight > 0 && weight <= WEIGHT_MAX))
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "weight \"%.*s\" of token file \"%s\" is not above 0 and at most %.0e; "
            "correct it, or leave the file out",
            (int)length, text, path, WEIGHT_MAX);
    item->path = path;
    item->weight = weight;
    return TRM_OK;
}

enum trm_status trm_mixture_parse(const char *const *texts, int count,
                                  struct trm_mixture_item *items, struct trm_error *err)
{
    if (count <= 0)
        return trm_error_set(err, TRM_ERR_INPUT,
                             "the list of token files is empty; name one or more");
    if (count > TRM_ORDER_BLOCK)
        return trm_error_set(
            err, TRM_ERR_INPUT,
            "the list of token files has %d items, over the limit of %d; join files", count,
            TRM_ORDER_BLOCK);
    for (int i = 0; i < count; i++) {
        enum trm_status status = parse_item(texts[i], &items[i], err);
        if (status != TRM_OK)
            return status;
        if ((items[i].weight > 0) != (items[0].weight > 0))
            return trm_error_set(
                err, TRM_ERR_INPUT,
                "token file \"%s\" has %s weight, but \"%s\" has %s; give all files a "
                "weight or none",
                items[i].path, items[i].weight > 0 ? "a" : "no", items[0].path,
                items[0].weight > 0 ? "one" : "none");
    }
    return TRM_OK;
}

enum trm_status trm_mixture_deal(const struct trm_mixture_item *items, int count,
                                 int32_t *slot_begin, struct trm_error *err)
{
    enum trm_status status = TRM_OK;
    double *weights = calloc((size_t)count, sizeof *weights);
    int32_t *quotas = calloc((size_t)count, sizeof *quotas);
    if (!weights || !quotas) {
        status = trm_error_set(err, TRM_ERR_MEMORY, "no memory for the weights of %d files", count);
        goto done;
    }
    double total = 0;
    for (int i = 0; i < count; i++) {
        weights[i] = items[i].weight;
        total += weights[i];
    }
    trm_order_quotas(weights, count, quotas);
    slot_begin[0] = 0;
    for (int i = 0; i < count; i++) {
        slot_begin[i + 1] = slot_begin[i] + quotas[i];
        if (quotas[i] == 0) {
            status = trm_error_set(err, TRM_ERR_INPUT,
                                   "weight %g of token file \"%s\" is under 1 of %d samples, the "
                                   "smallest share; raise it to %.3g or leave the file out",
                                   weights[i], items[i].path, TRM_ORDER_BLOCK,
                                   total / (TRM_ORDER_BLOCK - count));
            goto done;
        }
    }
done:
    free(weights);
    free(quotas);
    return status;
}
