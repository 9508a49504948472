#include "fake_run.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch/agent/options.h"
#include "launch/supervisor/supervisor.h"
#include "trainer/config/config.h"

#define TICK_MS         5
#define FEW_DESCRIPTORS 512

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void write_script(const struct fake_run *run, const char *name, const char *text)
{
    char path[TRM_PATH_BYTES];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", run->root, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0700), 0);
}

void fake_run_create(struct fake_run *run, int nodes, int slots, int beat_ms)
{
    char path[TRM_PATH_BYTES];

    *run = (struct fake_run){.nodes = nodes, .slots = slots, .beat_ms = beat_ms};
    snprintf(run->root, sizeof run->root, "/tmp/trireme-run-XXXXXX");
    assert_non_null(mkdtemp(run->root));
    snprintf(path, sizeof path, "%s/starts", run->root);
    assert_int_equal(mkdir(path, 0700), 0);
    run->agents = calloc((size_t)nodes, sizeof *run->agents);
    run->started = calloc((size_t)nodes, sizeof *run->started);
    run->reports = calloc((size_t)nodes * (size_t)slots, sizeof *run->reports);
    assert_true(run->agents && run->started && run->reports);
    for (int i = 0; i < nodes * slots; i++)
        run->reports[i] = (struct trm_rank_report){.rank = i,
                                                   .local_rank = i % slots,
                                                   .pid = 1,
                                                   .process = 'S',
                                                   .connected = true,
                                                   .state = TRM_FLIGHT_RUNNING,
                                                   .phase = TRM_PHASE_FORWARD,
                                                   .step = -1,
                                                   .memory_step = -1,
                                                   .disk_step = -1,
                                                   .resumed_step = -1,
                                                   .blamed_rank = -1,
                                                   .world_size = nodes * slots,
                                                   .data_size = nodes * slots,
                                                   .tensor_size = 1};
    uv_loop_init(&run->loop);
    uv_timer_init(&run->loop, &run->tick);
    uv_timer_start(&run->tick, on_tick, TICK_MS, TICK_MS);
}

/* In the child. */
static int supervise(const struct fake_run *run, int ranks, const char *const *flags)
{
    char directory[TRM_PATH_BYTES], program[TRM_PATH_BYTES], shell[TRM_PATH_BYTES];
    char *arguments[64] = {(char[]){"--run-dir"}, directory};
    int count = 2;
    struct trm_supervised supervised = {0};
    struct trm_host *hosts = calloc((size_t)run->nodes, sizeof *hosts);
    struct trm_config *config = NULL;
    struct trm_error err = {0};

    snprintf(directory, sizeof directory, "%s/run", run->root);
    snprintf(program, sizeof program, "%s/program", run->root);
    snprintf(shell, sizeof shell, "%s/shell", run->root);
    for (int i = 0; flags && flags[i] && count < 64; i++)
        arguments[count++] = (char *)(uintptr_t)flags[i];
    for (int i = 0; i < run->nodes; i++) {
        snprintf(hosts[i].name, sizeof hosts[i].name, "node%d", i);
        memcpy(hosts[i].domain, hosts[i].name, sizeof hosts[i].domain);
        hosts[i].slots = run->slots;
    }
    enum trm_status status = trm_config_create(&config, &err);
    if (status == TRM_OK)
        status = trm_config_load_arguments(config, count, arguments, &err);
    if (status == TRM_OK) {
        const struct trm_supervisor_settings settings = {
            .config = config,
            .hosts = hosts,
            .host_count = run->nodes,
            .ranks = ranks,
            .remote_shell = shell,
            .version = "0.1.0",
            .program = program,
            .trainer = "/bin/true",
            .temporary = run->root,
            .output_fd = STDOUT_FILENO,
            .farewell_ms = run->farewell_ms,
            .log = {.level = TRM_LOG_INFO, .rank = -1, .fd = STDERR_FILENO},
        };
        status = trm_supervise(&settings, &supervised, &err);
    }
    if (status != TRM_OK)
        fprintf(stderr, "supervisor: %s\n", err.text);
    trm_config_destroy(config);
    free(hosts);
    return status == TRM_OK ? supervised.exit_code : 1;
}

void fake_run_supervise(struct fake_run *run, int ranks, const char *launcher,
                        const char *const *flags)
{
    char text[TRM_PATH_BYTES * 2], log[TRM_PATH_BYTES];

    snprintf(text, sizeof text,
             "#!/bin/sh\nIFS= read -r line\nprintf '%%s\\n' \"$line\" >%s/starts/$1\n", run->root);
    write_script(run, "shell", text);
    snprintf(text, sizeof text, "#!/bin/sh\nexport FAKE_RUN=%s\necho $$ >>$FAKE_RUN/launches\n%s\n",
             run->root, launcher);
    write_script(run, "program", text);
    snprintf(log, sizeof log, "%s/log", run->root);
    fflush(NULL);
    run->supervisor = fork();
    assert_true(run->supervisor >= 0);
    if (run->supervisor > 0)
        return;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > FEW_DESCRIPTORS) {
        limit.rlim_cur =
            FEW_DESCRIPTORS; /* an ordinary soft limit, and less than many nodes need */
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDOUT_FILENO);
    dup2(run->output ? run->output : fd, STDERR_FILENO);
    exit(supervise(run, ranks, flags)); /* not _exit: leaks are looked for */
}

/* The line that the supervisor left for a node; 0 when it is not (all) there. */
static size_t read_line(const struct fake_run *run, int node, char *line, size_t line_bytes)
{
    char path[TRM_PATH_BYTES];
    size_t bytes = 0;

    snprintf(path, sizeof path, "%s/starts/node%d", run->root, node);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    bytes = fread(line, 1, line_bytes, file);
    fclose(file);
    if (bytes == 0 || line[bytes - 1] != '\n')
        return 0;
    unlink(path);
    return bytes;
}

static bool start_agent(struct fake_run *run, int node)
{
    static char line[TRM_AGENT_LINE_BYTES];
    struct trm_agent_options options;
    struct trm_error err;
    char name[TRM_WIRE_NAME_BYTES];
    size_t bytes = read_line(run, node, line, sizeof line);

    if (bytes == 0)
        return false;
    if (trm_agent_options_parse(line, bytes, &options, &err) != TRM_OK)
        fail_msg("the agent's line: %s", err.text);
    run->token = options.token;
    run->port = options.addresses[0].port;
    snprintf(name, sizeof name, "node%d", node);
    assert_string_equal(options.node, name);
    fake_agent_start(&run->agents[node], &run->loop, run->port, &run->token, name, run->beat_ms);
    run->agents[node].persists = true;
    run->agents[node].ranks = &run->reports[node * run->slots];
    run->started[node] = true;
    return true;
}

void fake_run_join(struct fake_run *run, int from, int to)
{
    for (int i = from; i < to; i++)
        FAKE_RUN_WAIT(run, start_agent(run, i));
}

static void report(struct fake_run *run, void (*change)(struct trm_rank_report *, int64_t),
                   int64_t value)
{
    for (int i = 0; i < run->nodes; i++) {
        struct fake_agent *agent = &run->agents[i];
        if (!run->started[i] || !agent->open || agent->attempt <= agent->dead)
            continue;
        agent->rank_count = run->slots;
        for (int r = 0; r < run->slots; r++)
            change(&agent->ranks[r], value);
        fake_agent_beat(agent);
    }
}

static void make_step(struct trm_rank_report *rank, int64_t step)
{
    if (rank->resumed_step < 0)
        rank->resumed_step = step > 0 ? step - 1 : 0;
    rank->step = step;
    rank->signal = 0;
}

void fake_run_step(struct fake_run *run, int64_t step)
{
    report(run, make_step, step);
}

static void leave(struct trm_rank_report *rank, int64_t code)
{
    rank->state = TRM_FLIGHT_EXITED;
    rank->exit_code = (int)code;
    rank->process = TRM_REPORT_NO_PROCESS;
}

void fake_run_first_step(struct fake_run *run)
{
    FAKE_RUN_WAIT(run, fake_run_launches(run) == 1);
    fake_run_step(run, 1);
    FAKE_RUN_WAIT(run, fake_run_tells(run, "\"event\":\"recovered\",\"attempt\":1"));
}

void fake_run_exit(struct fake_run *run, int code)
{
    report(run, leave, code);
}

void fake_run_blame(struct fake_run *run, int rank)
{
    for (int i = 0; i < run->nodes * run->slots; i++)
        run->reports[i].blamed_rank = rank;
}

void fake_run_died(struct fake_run *run, int node, int rank, int64_t step, int signal_number)
{
    struct trm_message message = {.type = TRM_MESSAGE_GONE};

    message.gone = (struct trm_message_gone){.attempt = run->agents[node].attempt,
                                             .pid = 1,
                                             .rank = rank,
                                             .step = step,
                                             .phase = TRM_PHASE_FORWARD};
    trm_link_send(run->agents[node].link, &message, NULL);
    if (signal_number == 0)
        return;
    run->reports[rank].signal = signal_number;
    fake_agent_beat(&run->agents[node]);
}

void fake_run_gone(struct fake_run *run, int node, int rank, int64_t step)
{
    fake_run_died(run, node, rank, step, SIGSEGV);
}

char *fake_run_events(const struct fake_run *run)
{
    char path[TRM_PATH_BYTES], *text = NULL;
    size_t bytes;

    snprintf(path, sizeof path, "%s/run/events.jsonl", run->root);
    if (trm_file_read_all(path, (size_t)1 << 24, &text, &bytes, NULL) != TRM_OK)
        text = strdup("");
    return text;
}

int fake_run_count(const struct fake_run *run, const char *text)
{
    char *events = fake_run_events(run);
    int count = 0;

    for (const char *at = events; (at = strstr(at, text)); at++)
        count++;
    free(events);
    return count;
}

bool fake_run_tells(const struct fake_run *run, const char *text)
{
    return fake_run_count(run, text) > 0;
}

bool fake_run_is(const struct fake_run *run, enum trm_run_state state, const char *line)
{
    char path[TRM_PATH_BYTES], *text = NULL;
    size_t bytes;
    bool is;

    snprintf(path, sizeof path, "%s/run/" TRM_ATTEMPT_DIRECTORY "/status.json", run->root);
    if (trm_file_read_all(path, (size_t)1 << 24, &text, &bytes, NULL) != TRM_OK)
        return false;
    is = strstr(text, trm_run_state_name(state)) && strstr(text, line);
    free(text);
    return is;
}

int fake_run_received(const struct fake_run *run, enum trm_message_type type)
{
    int count = 0;

    for (int i = 0; i < run->nodes; i++)
        count += run->agents[i].received[type];
    return count;
}

int fake_run_launches(const struct fake_run *run)
{
    char path[TRM_PATH_BYTES], line[64];
    int count = 0;

    snprintf(path, sizeof path, "%s/launches", run->root);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        count++;
    if (file)
        fclose(file);
    return count;
}

/* Whether a process is still one that this run's scripts started: numbers are used again. */
static bool is_ours(const struct fake_run *run, long pid)
{
    char path[64], environment[32768];

    snprintf(path, sizeof path, "/proc/%ld/environ", pid);
    FILE *file = fopen(path, "r");
    size_t bytes = file ? fread(environment, 1, sizeof environment, file) : 0;
    if (file)
        fclose(file);
    return memmem(environment, bytes, run->root, strlen(run->root)) != NULL;
}

static void kill_listed(const struct fake_run *run, const char *name)
{
    char path[TRM_PATH_BYTES], line[64];

    snprintf(path, sizeof path, "%s/%s", run->root, name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1 && is_ours(run, pid))
            kill((pid_t)pid, SIGKILL);
    }
    if (file)
        fclose(file);
}

void fake_run_stop(struct fake_run *run)
{
    assert_int_equal(kill(run->supervisor, SIGSTOP), 0);
    assert_int_equal(waitpid(run->supervisor, &run->status, WUNTRACED), run->supervisor);
    assert_true(WIFSTOPPED(run->status));
}

void fake_run_go_on(struct fake_run *run)
{
    uv_run(&run->loop, UV_RUN_NOWAIT); /* what is to be said is sent */
    uv_run(&run->loop, UV_RUN_NOWAIT);
    assert_int_equal(kill(run->supervisor, SIGCONT), 0);
}

bool fake_run_has_ended(struct fake_run *run)
{
    if (run->supervisor > 0 && wait4(run->supervisor, &run->status, WNOHANG, &run->usage) != 0)
        run->supervisor = 0;
    return run->supervisor == 0;
}

int fake_run_end(struct fake_run *run)
{
    FAKE_RUN_WAIT(run, fake_run_has_ended(run));
    if (!WIFEXITED(run->status))
        fail_msg("the supervisor died of signal %d", WTERMSIG(run->status));
    return WEXITSTATUS(run->status);
}

void fake_run_destroy(struct fake_run *run)
{
    if (run->supervisor > 0) {
        kill(run->supervisor, SIGKILL);
        waitpid(run->supervisor, &run->status, 0);
    }
    kill_listed(run, "launches");
    kill_listed(run, "children");
    for (int i = 0; i < run->nodes; i++)
        if (run->started[i])
            fake_agent_stop(&run->agents[i]);
    uv_close((uv_handle_t *)&run->tick, NULL);
    uv_run(&run->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&run->loop), 0);
    (void)trm_file_remove_tree(run->root, NULL);
    free(run->agents);
    free(run->started);
    free(run->reports);
}
