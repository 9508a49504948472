#include "agent.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void make_segment(struct agent *agent, int capacity, int attempt)
{
    size_t bytes = trm_flight_segment_bytes(capacity);

    agent->segment_fd = memfd_create("flight", MFD_CLOEXEC);
    assert_true(agent->segment_fd >= 0);
    assert_int_equal(ftruncate(agent->segment_fd, (off_t)bytes), 0);
    agent->segment = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, agent->segment_fd, 0);
    assert_ptr_not_equal(agent->segment, MAP_FAILED);
    trm_flight_segment_init(agent->segment, capacity, attempt);
}

void agent_start(struct agent *agent, int capacity, int attempt)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[TRM_PATH_BYTES], prefix[80], number[16];
    int lock;

    memset(agent, 0, sizeof *agent);
    strcpy(agent->folder, "/tmp/trm-agent-XXXXXX");
    assert_non_null(mkdtemp(agent->folder));
    snprintf(prefix, sizeof prefix, "%s/r", agent->folder);
    assert_int_equal(trm_attach_directory(prefix, path, NULL), TRM_OK);
    snprintf(agent->directory, sizeof agent->directory, "%.500s", path);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/" TRM_ATTACH_LOCK, agent->directory);
    lock = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(lock >= 0);
    close(lock);
    snprintf(path, sizeof path, "%s/" TRM_ATTACH_SOCKET, agent->directory);
    assert_true(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    agent->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(agent->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(agent->listener, 8), 0);
    make_segment(agent, capacity, attempt);
    snprintf(number, sizeof number, "%d", attempt);
    setenv("TRIREME_RUNTIME", prefix, 1);
    setenv("TRIREME_ATTEMPT", number, 1);
}

void agent_stop(struct agent *agent)
{
    unsetenv("TRIREME_RUNTIME");
    unsetenv("TRIREME_ATTEMPT");
    if (agent->listener >= 0)
        close(agent->listener);
    munmap(agent->segment, trm_flight_segment_bytes(agent->segment->capacity));
    close(agent->segment_fd);
    assert_int_equal(trm_file_remove_tree(agent->folder, NULL), TRM_OK);
}

static int hear_hello(struct agent *agent, struct trm_attach_message *hello)
{
    int connection = accept(agent->listener, NULL, NULL), count;

    assert_true(connection >= 0);
    assert_int_equal(trm_attach_receive(connection, hello, NULL, 0, &count, NULL), TRM_OK);
    assert_int_equal(hello->kind, TRM_ATTACH_HELLO);
    return connection;
}

int agent_welcome(struct agent *agent, int index, struct trm_attach_message *hello)
{
    int connection = hear_hello(agent, hello);
    struct trm_attach_message answer = *hello;

    answer.kind = TRM_ATTACH_WELCOME;
    answer.index = index;
    assert_int_equal(trm_attach_send(connection, &answer, &agent->segment_fd, 1, NULL), TRM_OK);
    return connection;
}

void agent_refuse(struct agent *agent, const char *why)
{
    struct trm_attach_message message;
    int connection = hear_hello(agent, &message);

    message.kind = TRM_ATTACH_REFUSED;
    snprintf(message.text, sizeof message.text, "%s", why);
    assert_int_equal(trm_attach_send(connection, &message, NULL, 0, NULL), TRM_OK);
    close(connection);
}
