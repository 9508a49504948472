/* What keys must fulfil together. Each check sets one sentence that says what would fit. */
#include <stdlib.h>
#include <string.h>

#include "trainer/config/config.h"
#include "trainer/config/text.h"

#define FIT_BYTES     64
#define DERIVED_BYTES 8192 /* by which what is derived may make the text longer */

/* What trm_config_check will write when everything fits. */
struct derived {
    int64_t ffn_hidden_size, lanes, accumulation, lr_decay_iters, lr_wsd_decay_iters;
    double train_fraction;
    char *save; /* owned; NULL: stays */
};

/* "768 or 780", or the one of them that is not 0. */
static const char *either(char out[FIT_BYTES], int64_t below, int64_t above)
{
    if (below > 0 && above > 0)
        snprintf(out, FIT_BYTES, "%lld or %lld", (long long)below, (long long)above);
    else
        snprintf(out, FIT_BYTES, "%lld", (long long)(below > 0 ? below : above));
    return out;
}

static const char *multiples(char out[FIT_BYTES], int64_t value, int64_t unit)
{
    return either(out, value / unit * unit, (value / unit + 1) * unit);
}

/* The nearest sizes that divide both a and b, below and above `value`. */
static const char *common_divisors(char out[FIT_BYTES], int64_t value, int64_t a, int64_t b)
{
    int64_t below = value - 1, above = value + 1, limit = a < b ? a : b;
    while (below > 0 && (a % below != 0 || b % below != 0))
        below--;
    while (above <= limit && (a % above != 0 || b % above != 0))
        above++;
    return either(out, below, above <= limit ? above : 0);
}

static enum trm_status check_model(const struct trm_config *config, struct derived *derived,
                                   struct trm_error *err)
{
    char fit[FIT_BYTES];
    int64_t hidden = config->hidden_size, heads = config->num_attention_heads;
    int64_t tensor = config->tensor_model_parallel_size;
    if (hidden % heads != 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "hidden_size %lld is not a multiple of num_attention_heads %lld; "
                             "hidden_size %s would fit",
                             (long long)hidden, (long long)heads, multiples(fit, hidden, heads));
    derived->ffn_hidden_size = config->ffn_hidden_size ? config->ffn_hidden_size : 4 * hidden;
    int64_t ffn = derived->ffn_hidden_size;
    if (heads % tensor != 0 || ffn % tensor != 0) {
        const char *name = heads % tensor != 0 ? "num_attention_heads" : "ffn_hidden_size";
        int64_t whole = heads % tensor != 0 ? heads : ffn;
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "tensor_model_parallel_size %lld does not divide %s %lld; "
                             "tensor_model_parallel_size %s would fit",
                             (long long)tensor, name, (long long)whole,
                             common_divisors(fit, tensor, heads, ffn));
    }
    return TRM_OK;
}

static enum trm_status check_batch(const struct trm_config *config, struct derived *derived,
                                   struct trm_error *err)
{
    char fit[FIT_BYTES];
    int64_t global = config->global_batch_size, micro = config->micro_batch_size;
    derived->lanes = config->lanes ? config->lanes : global / micro;
    if (config->lanes == 0 && global % micro != 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "global_batch_size %lld is not a multiple of micro_batch_size %lld; "
                             "global_batch_size %s would fit",
                             (long long)global, (long long)micro, multiples(fit, global, micro));
    int64_t unit = micro * derived->lanes;
    if (global % unit != 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "global_batch_size %lld is not a multiple of micro_batch_size %lld x "
                             "lanes %lld = %lld; global_batch_size %s would fit",
                             (long long)global, (long long)micro, (long long)derived->lanes,
                             (long long)unit, multiples(fit, global, unit));
    derived->accumulation = global / unit;
    return TRM_OK;
}

bool trm_config_shares_rows(const struct trm_config *config)
{
    return !config->sequence_parallel ||
           config->micro_batch_size * config->seq_length % config->tensor_model_parallel_size == 0;
}

static enum trm_status check_rows(const struct trm_config *config, struct trm_error *err)
{
    char fit[FIT_BYTES];
    int64_t micro = config->micro_batch_size, seq_length = config->seq_length;
    int64_t tensor = config->tensor_model_parallel_size;
    if (!trm_config_shares_rows(config))
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "micro_batch_size %lld x seq_length %lld = %lld rows are not a "
                             "multiple of tensor_model_parallel_size %lld, which sequence_parallel "
                             "needs; %s rows would fit",
                             (long long)micro, (long long)seq_length,
                             (long long)(micro * seq_length), (long long)tensor,
                             multiples(fit, micro * seq_length, tensor));
    return TRM_OK;
}

static enum trm_status check_ranks(const struct trm_config *config, const struct derived *derived,
                                   int64_t world, struct trm_error *err)
{
    char fit[FIT_BYTES];
    int64_t tensor = config->tensor_model_parallel_size, data = config->data_parallel_size;
    int64_t lanes = derived->lanes;
    if (world > 0 && world % tensor != 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "the number of ranks, %lld, is not a multiple of "
                             "tensor_model_parallel_size %lld; %s ranks would fit",
                             (long long)world, (long long)tensor, multiples(fit, world, tensor));
    if (world > 0 && data > 0 && data * tensor != world)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "data_parallel_size %lld x tensor_model_parallel_size %lld = %lld is "
                             "not the number of ranks, %lld; start %lld ranks, or use "
                             "data_parallel_size %lld",
                             (long long)data, (long long)tensor, (long long)(data * tensor),
                             (long long)world, (long long)(data * tensor),
                             (long long)(world / tensor));
    if (world > 0)
        data = world / tensor;
    if (data > lanes)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "%lld data-parallel ranks are more than the %lld lanes; start at most "
                             "%lld ranks, or give a new run more lanes",
                             (long long)data, (long long)lanes, (long long)(lanes * tensor));
    return TRM_OK;
}

static enum trm_status check_schedule(const struct trm_config *config, struct derived *derived,
                                      struct trm_error *err)
{
    char lr[TRM_DOUBLE_BYTES], min_lr[TRM_DOUBLE_BYTES];
    int64_t decay = config->lr_decay_iters ? config->lr_decay_iters : config->train_iters;
    int64_t warmup = config->lr_warmup_iters, last = config->lr_wsd_decay_iters;
    bool wsd = config->lr_decay_style == TRM_DECAY_WSD;
    if (wsd && last == 0)
        last = decay > 0 && decay < 10 ? 1 : decay / 10;
    derived->lr_decay_iters = decay;
    derived->lr_wsd_decay_iters = last;
    if (config->min_lr > config->lr)
        return trm_error_set(err, TRM_ERR_CONFIG, "min_lr %s is above lr %s; min_lr 0 to %s fits",
                             trm_text_double(min_lr, config->min_lr),
                             trm_text_double(lr, config->lr), lr);
    if (config->lr_decay_style == TRM_DECAY_CONSTANT || decay == 0)
        return TRM_OK;
    if (warmup > decay)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "lr_warmup_iters %lld is above lr_decay_iters %lld (0 means "
                             "train_iters); warm up for at most %lld steps, or decay for longer",
                             (long long)warmup, (long long)decay, (long long)decay);
    if (wsd && last > decay - warmup)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "lr_warmup_iters %lld and lr_wsd_decay_iters %lld exceed "
                             "lr_decay_iters %lld; lr_wsd_decay_iters may be at most %lld",
                             (long long)warmup, (long long)last, (long long)decay,
                             (long long)(decay - warmup));
    return TRM_OK;
}

/* One proportion: digits with at most one point. */
static bool read_proportion(const char **text, char behind, double *value)
{
    size_t length = strspn(*text, "0123456789.");
    char *end = NULL;
    *value = strtod(*text, &end);
    if (length == 0 || length > 20 || end != *text + length || *end != behind)
        return false;
    *text = end + 1;
    return true;
}

static enum trm_status check_data(const struct trm_config *config, struct derived *derived,
                                  struct trm_error *err)
{
    double train = 0, valid = 0;
    char shown[TRM_SHOW_BYTES];
    const char *text = config->split;
    if (config->train_data_path.count == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "train_data_path is not set; name token files in section 'data' or "
                             "with --train-data-path FILE");
    if (!read_proportion(&text, ',', &train) || !read_proportion(&text, '\0', &valid) || train <= 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "split '%s' is not two proportions TRAIN,VALID with TRAIN above 0; "
                             "95,5 would fit",
                             trm_text_show(shown, config->split));
    if (valid == 0 && config->valid_data_path.count == 0 && config->eval_iters > 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "split '%s' leaves nothing to validate on; give VALID above 0, "
                             "valid_data_path, or eval_iters 0",
                             trm_text_show(shown, config->split));
    derived->train_fraction = train / (train + valid);
    return TRM_OK;
}

static enum trm_status check_guard(const struct trm_config *config, struct trm_error *err)
{
    char factor[TRM_DOUBLE_BYTES];
    if (config->loss_spike_factor != 0 && config->loss_spike_factor <= 1)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "loss_spike_factor %s would call losses of every day spikes; 0 (none) "
                             "or above 1, such as 1.5, would fit",
                             trm_text_double(factor, config->loss_spike_factor));
    return TRM_OK;
}

static enum trm_status check_run(const struct trm_config *config, struct derived *derived,
                                 struct trm_error *err)
{
    if (config->run_dir[0] == '\0')
        return trm_error_set(err, TRM_ERR_CONFIG, "run_dir is empty; name a directory");
    if (config->load[0] == '\0')
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "load is empty; give auto, none or the path of a checkpoint");
    if (config->ckpt_step >= 0 && strcmp(config->load, "none") == 0)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "ckpt_step %lld asks for a checkpoint, but load is none; use load "
                             "auto or a path, or ckpt_step -1",
                             (long long)config->ckpt_step);
    if (config->save[0] == '\0' &&
        asprintf(&derived->save, "%s/checkpoints", config->run_dir) < 0) {
        derived->save = NULL;
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the configuration");
    }
    return TRM_OK;
}

/* A longer text would be found out by the first save. */
static enum trm_status check_length(const struct trm_config *config, struct trm_error *err)
{
    char *text = trm_config_to_yaml(config);
    size_t bytes = text ? strlen(text) : 0;
    free(text);
    if (!text)
        return trm_error_set(err, TRM_ERR_MEMORY, "out of memory for the configuration");
    if (bytes > TRM_CONFIG_TEXT_BYTES - DERIVED_BYTES)
        return trm_error_set(err, TRM_ERR_CONFIG,
                             "as text this configuration has %zu bytes, and a checkpoint carries "
                             "at most %d: name fewer token files, by joining them, or by shorter "
                             "paths",
                             bytes, TRM_CONFIG_TEXT_BYTES - DERIVED_BYTES);
    return TRM_OK;
}

enum trm_status trm_config_check(struct trm_config *config, int world_size, struct trm_error *err)
{
    struct derived derived = {0};
    enum trm_status status = check_model(config, &derived, err);
    if (status == TRM_OK)
        status = check_batch(config, &derived, err);
    if (status == TRM_OK)
        status = check_rows(config, err);
    if (status == TRM_OK)
        status = check_ranks(config, &derived, world_size, err);
    if (status == TRM_OK)
        status = check_schedule(config, &derived, err);
    if (status == TRM_OK)
        status = check_data(config, &derived, err);
    if (status == TRM_OK)
        status = check_guard(config, err);
    if (status == TRM_OK)
        status = check_length(config, err);
    if (status == TRM_OK)
        status = check_run(config, &derived, err);
    if (status != TRM_OK)
        return status;
    config->ffn_hidden_size = derived.ffn_hidden_size;
    config->lanes = derived.lanes;
    config->accumulation = derived.accumulation;
    config->lr_decay_iters = derived.lr_decay_iters;
    config->lr_wsd_decay_iters = derived.lr_wsd_decay_iters;
    config->train_fraction = derived.train_fraction;
    if (derived.save) {
        free(config->save);
        config->save = derived.save;
    }
    return TRM_OK;
}
