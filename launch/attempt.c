#include "launch/attempt.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

#define CLAIM_BYTES ((size_t)4096)
#define MAX_ATTEMPT INT64_C(99999999)
#define PATIENCE_MS 2000 /* more than a lease, of which a look is a second apart from the next */

static enum trm_status claim_path(const struct trm_attempts *attempts, const char *word,
                                  int64_t attempt, char path[TRM_PATH_BYTES], struct trm_error *err)
{
    return trm_file_path(path, err, "%s/%s-%08" PRId64, attempts->directory, word, attempt);
}

static enum trm_status draw(void *bytes, size_t count, struct trm_error *err)
{
    if (getrandom(bytes, count, 0) != (ssize_t)count)
        return trm_error_set(err, TRM_ERR_IO, "the system has no random numbers");
    return TRM_OK;
}

/* Gives durable content the name `path`, unless the name is taken (*won = false). */
static enum trm_status publish(const char *path, const char *text, uint64_t nonce, bool *won,
                               struct trm_error *err)
{
    char own[TRM_PATH_BYTES], *slash, *there = NULL;
    size_t bytes;
    enum trm_status status = trm_file_path(own, err, "%s.%016" PRIx64 ".tmp", path, nonce);

    if (status == TRM_OK)
        status = trm_file_write_all(own, text, strlen(text), true, err);
    if (status != TRM_OK)
        return status;
    int failed = link(own, path) == 0 ? 0 : errno;
    /* A lost reply looks like a failure: what lies under the name decides. */
    status = trm_file_read_all(path, CLAIM_BYTES, &there, &bytes, failed ? NULL : err);
    unlink(own);
    if (status != TRM_OK)
        return failed ? trm_error_set_errno(err, failed, "could not claim \"%s\"", path) : status;
    *won = strcmp(there, text) == 0;
    free(there);
    slash = strrchr(own, '/');
    *slash = '\0';
    return trm_file_sync_directory(own, err);
}

static enum trm_status read_key(struct trm_attempts *attempts, const char *path,
                                struct trm_error *err)
{
    json_t *object;
    const char *key;
    enum trm_status status = trm_json_load(path, CLAIM_BYTES, &object, err);

    if (status != TRM_OK)
        return status;
    status = trm_json_get_string(object, "key", &key, err);
    if (status == TRM_OK && (strlen(key) != 16 || strspn(key, "0123456789abcdef") != 16))
        status =
            trm_error_set(err, TRM_ERR_CORRUPT, "%s: \"%.32s\" is not the key of a run", path, key);
    if (status == TRM_OK)
        memcpy(attempts->key, key, sizeof attempts->key);
    json_decref(object);
    return status;
}

enum trm_status trm_attempts_open(const char *run_dir, struct trm_attempts *out,
                                  struct trm_error *err)
{
    struct trm_attempts attempts;
    char path[TRM_PATH_BYTES], text[64];
    uint64_t key, nonce;
    bool won;
    enum trm_status status =
        trm_file_path(attempts.directory, err, "%s/" TRM_ATTEMPT_DIRECTORY, run_dir);

    if (status == TRM_OK)
        status = trm_file_make_directories(attempts.directory, err);
    if (status == TRM_OK)
        status = trm_file_path(path, err, "%s/run.json", attempts.directory);
    if (status != TRM_OK)
        return status;
    if (!trm_file_exists(path)) {
        status = draw(&key, sizeof key, err);
        if (status == TRM_OK)
            status = draw(&nonce, sizeof nonce, err);
        snprintf(text, sizeof text, "{\"key\": \"%016" PRIx64 "\"}\n", key);
        if (status == TRM_OK)
            status = publish(path, text, nonce, &won, err);
    }
    if (status == TRM_OK)
        status = read_key(&attempts, path, err);
    if (status == TRM_OK)
        *out = attempts;
    return status;
}

/* The largest number of a claim, 0 for none. */
static enum trm_status find_newest(const struct trm_attempts *attempts, int64_t *newest,
                                   struct trm_error *err)
{
    DIR *directory = opendir(attempts->directory);
    struct dirent *entry;

    if (!directory)
        return trm_error_set_errno(err, errno, "could not open \"%s\"", attempts->directory);
    *newest = 0;
    while ((entry = readdir(directory))) {
        char *end;
        if (strncmp(entry->d_name, "attempt-", 8) != 0)
            continue;
        long long number = strtoll(entry->d_name + 8, &end, 10);
        if (*end == '\0' && number > *newest && number <= MAX_ATTEMPT)
            *newest = number;
    }
    closedir(directory);
    return TRM_OK;
}

static enum trm_status read_claim(const char *path, struct trm_claim *claim, struct trm_error *err)
{
    json_t *object;
    const char *host;
    int64_t preempted = 0;
    enum trm_status status = trm_json_load(path, CLAIM_BYTES, &object, err);

    if (status != TRM_OK)
        return status;
    status = trm_json_get_hex64(object, "nonce", &claim->nonce, err);
    if (status == TRM_OK)
        status = trm_json_get_string(object, "host", &host, err);
    if (status == TRM_OK)
        status = trm_json_get_int(object, "pid", 0, INT64_MAX, &claim->pid, err);
    if (status == TRM_OK)
        status = trm_json_get_int(object, "step", -1, INT64_MAX, &claim->step, err);
    if (status == TRM_OK)
        status =
            trm_json_get_int(object, "lease_ms", 0, INT64_MAX / 2000000, &claim->lease_ms, err);
    if (status == TRM_OK)
        status = trm_json_get_int(object, "preempted", 0, 1, &preempted, err);
    if (status == TRM_OK) {
        snprintf(claim->host, sizeof claim->host, "%s", host);
        claim->preempted = preempted != 0;
    } else {
        trm_error_prefix(err, "%s", path);
    }
    json_decref(object);
    return status;
}

enum trm_status trm_attempts_newest(const struct trm_attempts *attempts, struct trm_claim *claim,
                                    struct trm_error *err)
{
    struct trm_claim found = {.step = -1};
    char path[TRM_PATH_BYTES];
    enum trm_status status = find_newest(attempts, &found.attempt, err);

    if (status == TRM_OK && found.attempt > 0) {
        status = claim_path(attempts, "attempt", found.attempt, path, err);
        if (status == TRM_OK)
            status = read_claim(path, &found, err);
        if (status == TRM_OK)
            status = claim_path(attempts, "ended", found.attempt, path, err);
        found.ended = status == TRM_OK && trm_file_exists(path);
    }
    if (status == TRM_OK)
        *claim = found;
    return status;
}

static enum trm_status give_way(const struct trm_claim *newest, struct trm_error *err)
{
    return trm_error_set(err, TRM_ERR_MISMATCH,
                         "attempt %" PRId64 " of this run was started by a supervisor on %s "
                         "(process %" PRId64 ")",
                         newest->attempt, newest->host, newest->pid);
}

static bool is_newest(const struct trm_claim *claim, const struct trm_claim *newest)
{
    return newest->attempt == claim->attempt && newest->nonce == claim->nonce;
}

static enum trm_status publish_claim(const struct trm_attempts *attempts,
                                     const struct trm_claim *claim, struct trm_error *err)
{
    char path[TRM_PATH_BYTES], text[CLAIM_BYTES], now[32];
    bool won = false;
    enum trm_status status = claim_path(attempts, "attempt", claim->attempt, path, err);

    if (status != TRM_OK)
        return status;
    trm_clock_utc(now, sizeof now);
    snprintf(text, sizeof text,
             "{\"attempt\": %" PRId64 ", \"nonce\": \"%016" PRIx64 "\", \"host\": \"%s\", "
             "\"pid\": %" PRId64 ", \"step\": %" PRId64 ", \"lease_ms\": %" PRId64
             ", \"preempted\": %d, \"time\": \"%s\"}\n",
             claim->attempt, claim->nonce, claim->host, claim->pid, claim->step, claim->lease_ms,
             claim->preempted, now);
    status = publish(path, text, claim->nonce, &won, err);
    if (status == TRM_OK && !won)
        status =
            trm_error_set(err, TRM_ERR_MISMATCH,
                          "attempt %" PRId64 " was claimed by another supervisor", claim->attempt);
    return status;
}

enum trm_status trm_attempts_claim(const struct trm_attempts *attempts, struct trm_claim *claim,
                                   struct trm_claim *before, struct trm_error *err)
{
    struct trm_claim newest = {0}, next = *claim;
    enum trm_status status = trm_attempts_newest(attempts, &newest, err);

    if (status == TRM_OK && claim->attempt > 0 && !is_newest(claim, &newest))
        status = give_way(&newest, err);
    if (status == TRM_OK && newest.attempt >= MAX_ATTEMPT)
        status = trm_error_set(err, TRM_ERR_UNSUPPORTED, "a run has at most %" PRId64 " attempts",
                               MAX_ATTEMPT);
    if (status == TRM_OK)
        status = draw(&next.nonce, sizeof next.nonce, err);
    next.attempt = newest.attempt + 1;
    if (status == TRM_OK)
        status = publish_claim(attempts, &next, err);
    if (status != TRM_OK)
        return status;
    *before = newest;
    *claim = next;
    return TRM_OK;
}

enum trm_status trm_attempts_check(const struct trm_attempts *attempts,
                                   const struct trm_claim *claim, struct trm_error *err)
{
    struct trm_claim newest;
    enum trm_status status = trm_attempts_newest(attempts, &newest, err);

    if (status == TRM_OK && !is_newest(claim, &newest))
        status = give_way(&newest, err);
    return status;
}

int64_t trm_attempts_owned_ms(int64_t lease_ms)
{
    return lease_ms + PATIENCE_MS;
}

int64_t trm_attempts_wait_ms(const struct trm_claim *before)
{
    int64_t lives_ms = trm_attempts_owned_ms(before->lease_ms) + before->lease_ms;

    if (before->attempt == 0 || before->ended)
        return 0;
    return lives_ms + lives_ms / 10 + 200; /* clocks of two hosts */
}

enum trm_status trm_attempts_end(const struct trm_attempts *attempts, const struct trm_claim *claim,
                                 struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    enum trm_status status = claim_path(attempts, "ended", claim->attempt, path, err);

    if (status == TRM_OK)
        status = trm_file_write_all(path, "", 0, true, err);
    return status;
}
