#include "launch/job/srun.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/sweep.h"

/* Ranks per node where all that work have as many, else 0. */
static int equal_ranks(const struct trm_nodes *nodes)
{
    int ranks = 0;

    for (int i = 0; i < nodes->count; i++) {
        int here = nodes->items[i].ranks;
        if (here > 0 && ranks > 0 && here != ranks)
            return 0;
        if (here > 0)
            ranks = here;
    }
    return ranks;
}

/* "node1,node2"; with `each`, a name for each of its ranks. Slurm numbers ranks in its own order of
 * the nodes, which is the one that it listed them in. */
static void add_nodes(const struct trm_nodes *nodes, bool each, struct trm_words *words)
{
    char *list = NULL;
    size_t bytes;
    FILE *file = open_memstream(&list, &bytes);
    const char *separator = "";

    if (!file) {
        words->failed = true;
        return;
    }
    for (int i = 0; i < nodes->count; i++)
        for (int r = 0; r < (each ? nodes->items[i].ranks : nodes->items[i].ranks > 0); r++) {
            fprintf(file, "%s%s", separator, nodes->items[i].host.name);
            separator = ",";
        }
    if (fclose(file) == 0)
        trm_words_add(words, "--nodelist=%s", list);
    else
        words->failed = true;
    free(list);
}

static void add_layout(const struct trm_nodes *nodes, struct trm_words *words)
{
    int count = 0, ranks = 0, equal = equal_ranks(nodes);

    for (int i = 0; i < nodes->count; i++) {
        count += nodes->items[i].ranks > 0;
        ranks += nodes->items[i].ranks;
    }
    trm_words_add(words, "--nodes=%d", count);
    trm_words_add(words, "--ntasks=%d", ranks);
    if (equal > 0)
        trm_words_add(words, "--ntasks-per-node=%d", equal);
    else
        trm_words_add(words, "--distribution=arbitrary");
    add_nodes(nodes, equal == 0, words);
}

void trm_srun_words(const struct trm_mpirun_settings *settings, struct trm_words *words)
{
    /* Two errors of Slurm's PMIx plugin, in 22.05 and 26.11. When a rank asks for another's
     * address, the number of a node in the step is taken for its number in the job: behind a node
     * that was lost the wrong one is asked, for ever. A step that is not told the job's nodes takes
     * its own for them (pmixp_dmdx.c; env_array_for_step). And barriers by its tree, which MPI_Init
     * ends with, wait for nobody on fewer nodes than TreeWidth (reverse_tree_info), so that
     * messages reach ranks that cannot take them yet and crash; those by its ring do wait. That a
     * rank died is for the supervisor to judge: Slurm would end the others, with SIGTERM. */
    static const char *const fixed[] = {"env",
                                        "-u",
                                        "SLURM_JOB_NODELIST",
                                        "SLURM_PMIX_FENCE=ring",
                                        "srun",
                                        "--quiet",
                                        "--mpi=pmix",
                                        "--overlap",
                                        "--no-kill",
                                        "--kill-on-bad-exit=0",
                                        "--wait=0",
                                        "--input=none"};
    char memory[TRM_PATH_BYTES];

    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        trm_words_add(words, "%s", fixed[i]);
    add_layout(settings->nodes, words);
    for (int i = 0; i < settings->extra_count; i++)
        trm_words_add(words, "%s", settings->extra[i]);
    trm_words_add(words, "env");
    trm_words_add(words, "TRIREME_RUNTIME=%s", settings->runtime);
    trm_words_add(words, "TRIREME_ATTEMPT=%lld", (long long)settings->attempt);
    /* What a killed attempt leaves lies where the agent finds it. */
    if (trm_agent_shared_memory_path(settings->runtime, memory, NULL) == TRM_OK)
        trm_words_add(words, "OMPI_MCA_btl_vader_backing_directory=%s", memory);
    trm_words_add(words, "%s", settings->trainer);
    for (int i = 0; i < settings->trainer_argument_count; i++)
        trm_words_add(words, "%s", settings->trainer_arguments[i]);
}

/* Behind "srun: error: n2: task 3: " or "...: tasks 0-2,5: "; NULL for every other line. */
static const char *parse_tasks(const char *line, int *rank, bool *alone)
{
    const char *at = strncmp(line, "srun: error: ", 13) == 0 ? strstr(line, ": task") : NULL;

    if (!at)
        return NULL;
    at += strlen(": task");
    *alone = *at != 's';
    if (sscanf(at + !*alone, " %d", rank) != 1)
        return NULL;
    at = strstr(at, ": ");
    return at ? at + strlen(": ") : NULL;
}

static int parse_signal_name(const char *text)
{
    for (int number = 1; number < 32; number++) {
        const char *name = strsignal(number);
        if (strncmp(text, name, strlen(name)) == 0) /* "(core dumped)" may follow */
            return number;
    }
    return 0;
}

bool trm_srun_parse_signal(const char *line, int *rank, int *signal_number)
{
    bool alone = false;
    const char *how = parse_tasks(line, rank, &alone);

    return how && alone && (*signal_number = parse_signal_name(how)) > 0;
}

bool trm_srun_parse_end(const char *line, struct trm_srun_end *end)
{
    bool alone = false;
    const char *how = parse_tasks(line, &end->rank, &alone);

    end->exit_code = 0;
    end->signal = how ? parse_signal_name(how) : 0;
    return end->signal > 0 ||
           (how && sscanf(how, "Exited with exit code %d", &end->exit_code) == 1);
}

char *trm_srun_describe(int64_t exit_status, int term_signal, char *text, size_t text_bytes)
{
    if (term_signal)
        snprintf(text, text_bytes, "srun was killed (signal %d, %s)", term_signal,
                 strsignal(term_signal));
    else if (exit_status > 128 && exit_status < 128 + NSIG)
        snprintf(text, text_bytes, "srun says that a rank died of signal %d (%s)",
                 (int)exit_status - 128, strsignal((int)exit_status - 128));
    else
        snprintf(text, text_bytes, "srun ended with status %lld", (long long)exit_status);
    return text;
}
