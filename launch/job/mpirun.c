#include "launch/job/mpirun.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/sweep.h"

/* What Open MPI returns when a node's daemon is lost. */
#define LOST_NODE_STATUS 205

/* It draws 74; ranks may draw shorter ones, which are theirs to show. */
#define RULE_DASHES 70

void trm_words_add(struct trm_words *words, const char *format, ...)
{
    va_list arguments;
    char *word = NULL;

    va_start(arguments, format);
    if (vasprintf(&word, format, arguments) < 0)
        word = NULL;
    va_end(arguments);
    if (word && words->count + 1 >= words->room) {
        int room = words->room ? words->room * 2 : 32;
        void *larger = realloc(words->items, (size_t)room * sizeof *words->items);
        if (larger) {
            words->items = larger;
            words->room = room;
        }
    }
    if (!word || words->count + 1 >= words->room) {
        free(word);
        words->failed = true;
        return;
    }
    words->items[words->count++] = word;
    words->items[words->count] = NULL;
}

void trm_words_destroy(struct trm_words *words)
{
    for (int i = 0; i < words->count; i++)
        free(words->items[i]);
    free(words->items);
    *words = (struct trm_words){0};
}

static void add_parameter(struct trm_words *words, const char *name, const char *value)
{
    trm_words_add(words, "--mca");
    trm_words_add(words, "%s", name);
    trm_words_add(words, "%s", value);
}

/* "-H node1:4,node2:4": in the order in which ranks are numbered. */
static void add_hosts(const struct trm_nodes *nodes, struct trm_words *words)
{
    size_t bytes = 1, length = 0;
    char *list;

    for (int i = 0; i < nodes->count; i++)
        bytes += TRM_HOST_NAME_BYTES + 8;
    list = malloc(bytes);
    if (!list) {
        words->failed = true;
        return;
    }
    list[0] = '\0';
    for (int i = 0; i < nodes->count; i++)
        if (nodes->items[i].ranks > 0)
            length += (size_t)snprintf(list + length, bytes - length, "%s%s:%d", length ? "," : "",
                                       nodes->items[i].host.name, nodes->items[i].ranks);
    trm_words_add(words, "-H");
    trm_words_add(words, "%s", list);
    free(list);
}

static int count_ranks(const struct trm_nodes *nodes)
{
    int ranks = 0;

    for (int i = 0; i < nodes->count; i++)
        ranks += nodes->items[i].ranks;
    return ranks;
}

void trm_mpirun_words(const struct trm_mpirun_settings *settings, struct trm_words *words)
{
    char text[TRM_PATH_BYTES + 8], memory[TRM_PATH_BYTES];

    trm_words_add(words, "mpirun");
    trm_words_add(words, "-np");
    trm_words_add(words, "%d", count_ranks(settings->nodes));
    if (settings->local)
        trm_words_add(words, "--oversubscribe");
    else
        add_hosts(settings->nodes, words);
    trm_words_add(words, "--map-by");
    trm_words_add(words, "slot");
    trm_words_add(words, "--bind-to");
    trm_words_add(words, "none");
    add_parameter(words, "odls_base_sigkill_timeout", "0");
    /* A cable that is pulled is noticed by TCP too, should our own heartbeats be stuck. A link that
     * loses 1 % of its packets loses two probes in a row within hours. */
    add_parameter(words, "oob_tcp_keepalive_time", "2");
    add_parameter(words, "oob_tcp_keepalive_intvl", "1");
    add_parameter(words, "oob_tcp_keepalive_probes", "6");
    /* What a killed attempt leaves lies where the agent finds it. */
    snprintf(text, sizeof text, "%s-mpi", settings->runtime);
    add_parameter(words, "orte_tmpdir_base", text);
    if (trm_agent_shared_memory_path(settings->runtime, memory, NULL) == TRM_OK)
        add_parameter(words, "btl_vader_backing_directory", memory);
    if (settings->local) {
        add_parameter(words, "plm", "isolated");
    } else if (settings->remote_shell) {
        add_parameter(words, "plm", "rsh");
        add_parameter(words, "plm_rsh_agent", settings->remote_shell);
        add_parameter(words, "plm_rsh_no_tree_spawn", "1");
    }
    for (int i = 0; i < settings->extra_count; i++)
        trm_words_add(words, "%s", settings->extra[i]);
    trm_words_add(words, "-x");
    trm_words_add(words, "TRIREME_RUNTIME=%s", settings->runtime);
    trm_words_add(words, "-x");
    trm_words_add(words, "TRIREME_ATTEMPT=%lld", (long long)settings->attempt);
    trm_words_add(words, "%s", settings->trainer);
    for (int i = 0; i < settings->trainer_argument_count; i++)
        trm_words_add(words, "%s", settings->trainer_arguments[i]);
}

bool trm_mpirun_is_rule(const char *line)
{
    size_t dashes = strspn(line, "-");

    return dashes >= RULE_DASHES && line[dashes + strspn(line + dashes, "\r")] == '\0';
}

bool trm_mpirun_parse_signal(const char *line, int *rank, int *signal_number)
{
    const char *at = strstr(line, "process rank "), *signal_at = strstr(line, "exited on signal ");

    return at && signal_at && sscanf(at, "process rank %d", rank) == 1 &&
           sscanf(signal_at, "exited on signal %d", signal_number) == 1;
}

char *trm_mpirun_describe(int64_t exit_status, int term_signal, char *text, size_t text_bytes)
{
    if (term_signal)
        snprintf(text, text_bytes, "mpirun was killed (signal %d, %s)", term_signal,
                 strsignal(term_signal));
    else if (exit_status == LOST_NODE_STATUS)
        snprintf(text, text_bytes, "mpirun lost a node's daemon (status %d)", LOST_NODE_STATUS);
    else if (exit_status > 128 && exit_status < 128 + NSIG)
        snprintf(text, text_bytes, "mpirun says that a rank died of signal %d (%s)",
                 (int)exit_status - 128, strsignal((int)exit_status - 128));
    else
        snprintf(text, text_bytes, "mpirun ended with status %lld", (long long)exit_status);
    return text;
}
