#include "launch/agent/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "collectives/attach.h"

#define LOCK_NAME     "agent.lock"
#define HANDOVER_NAME "handover.sock"
#define BACKLOG       1024
#define TRIES         100 /* against a predecessor that cleans up meanwhile */
#define ANSWER_S      8   /* for the living agent's answer */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static enum trm_status make_directory(const char *path, struct trm_error *err)
{
    struct stat info;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return trm_error_set_errno(err, errno, "could not make the directory \"%s\"", path);
    if (lstat(path, &info) != 0)
        return trm_error_set_errno(err, errno, "could not look at \"%s\"", path);
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0)
        return trm_error_set(err, TRM_ERR_MISMATCH,
                             "\"%s\" is there already and is no directory of this user alone (mode "
                             "0700): choose another runtime directory, or remove it",
                             path);
    return TRM_OK;
}

/* Opens (makes) a file of the place. */
static enum trm_status open_file(const char *directory, const char *name, int *fd,
                                 struct trm_error *err)
{
    char path[TRM_PATH_BYTES];
    enum trm_status status = trm_file_path(path, err, "%s/%s", directory, name);
    if (status != TRM_OK)
        return status;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *fd >= 0 ? TRM_OK : trm_error_set_errno(err, errno, "could not open \"%s\"", path);
}

/* Whether the path still names the file that was locked: a predecessor removes its own. */
static bool is_named(int fd, const char *directory)
{
    char path[TRM_PATH_BYTES];
    struct stat held, named;
    return trm_file_path(path, NULL, "%s/" LOCK_NAME, directory) == TRM_OK &&
           fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static enum trm_status take_lock(const char *directory, int *lock, struct trm_error *err)
{
    for (int i = 0; i < TRIES; i++) {
        int fd = -1;
        enum trm_status status = make_directory(directory, err);
        if (status == TRM_OK)
            status = open_file(directory, LOCK_NAME, &fd, err);
        if (status == TRM_ERR_NOT_FOUND)
            continue; /* the directory was removed in between */
        if (status != TRM_OK)
            return status;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return trm_error_set(err, TRM_ERR_MISMATCH, "another agent lives in \"%s\"", directory);
        }
        if (is_named(fd, directory)) {
            *lock = fd;
            return TRM_OK;
        }
        close(fd);
    }
    return trm_error_set(err, TRM_ERR_TIMEOUT, "\"%s\" vanishes again and again", directory);
}

static enum trm_status name_socket(const char *directory, const char *name,
                                   struct sockaddr_un *address, struct trm_error *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(address->sun_path, sizeof address->sun_path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof address->sun_path)
        return trm_error_set(
            err, TRM_ERR_CONFIG,
            "\"%s/%s\" is too long for the name of a socket: use a shorter runtime "
            "directory",
            directory, name);
    return TRM_OK;
}

static enum trm_status listen_at(const char *directory, const char *name, int *out,
                                 struct trm_error *err)
{
    struct sockaddr_un address;
    enum trm_status status = name_socket(directory, name, &address, err);
    if (status != TRM_OK)
        return status;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(address.sun_path); /* a dead predecessor's */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, BACKLOG) != 0) {
        status = trm_error_set_errno(err, errno, "could not listen at \"%s\"", address.sun_path);
        close_fd(&fd);
        return status;
    }
    *out = fd;
    return TRM_OK;
}

enum trm_status trm_agent_place_take(const char *runtime, struct trm_agent_place *place,
                                     struct trm_error *err)
{
    struct trm_agent_place taken = {
        .agent_lock = -1, .ranks_lock = -1, .attach = -1, .handover = -1};
    enum trm_status status = trm_attach_directory(runtime, taken.directory, err);
    if (status == TRM_OK && gethostname(taken.hostname, sizeof taken.hostname - 1) != 0)
        status = trm_error_set_errno(err, errno, "could not ask for this host's name");
    if (status == TRM_OK)
        status = take_lock(taken.directory, &taken.agent_lock, err);
    if (status == TRM_OK)
        status = open_file(taken.directory, TRM_ATTACH_LOCK, &taken.ranks_lock, err);
    if (status == TRM_OK)
        status = listen_at(taken.directory, TRM_ATTACH_SOCKET, &taken.attach, err);
    if (status == TRM_OK)
        status = listen_at(taken.directory, HANDOVER_NAME, &taken.handover, err);
    if (status != TRM_OK) {
        trm_agent_place_leave(&taken, false);
        return status;
    }
    *place = taken;
    return TRM_OK;
}

static void remove_file(const char *directory, const char *name)
{
    char path[TRM_PATH_BYTES];
    if (trm_file_path(path, NULL, "%s/%s", directory, name) == TRM_OK)
        unlink(path);
}

/* The lock goes last: whoever takes it finds a directory that nobody removes. */
void trm_agent_place_clear(struct trm_agent_place *place)
{
    if (place->is_clear)
        return;
    place->is_clear = true;
    remove_file(place->directory, TRM_ATTACH_SOCKET);
    remove_file(place->directory, HANDOVER_NAME);
    remove_file(place->directory, TRM_ATTACH_LOCK);
    remove_file(place->directory, TRM_AGENT_LOG);
    remove_file(place->directory, LOCK_NAME);
    rmdir(place->directory);
}

void trm_agent_place_leave(struct trm_agent_place *place, bool clean)
{
    if (clean)
        trm_agent_place_clear(place);
    close_fd(&place->attach);
    close_fd(&place->handover);
    close_fd(&place->ranks_lock);
    close_fd(&place->agent_lock);
}

bool trm_agent_place_is_free_of_ranks(const struct trm_agent_place *place)
{
    if (flock(place->ranks_lock, LOCK_EX | LOCK_NB) != 0)
        return false;
    flock(place->ranks_lock, LOCK_UN);
    return true;
}

static enum trm_status connect_to_living(const char *directory, int *out, int *pid,
                                         struct trm_error *err)
{
    struct sockaddr_un address;
    struct timeval patience = {.tv_sec = ANSWER_S};
    uid_t uid = 0;
    enum trm_status status = name_socket(directory, HANDOVER_NAME, &address, err);
    if (status != TRM_OK)
        return status;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return trm_error_set_errno(err, errno, "could not make a socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "no agent answers at \"%s\": %s",
                               address.sun_path, strerror(errno));
    else
        status = trm_attach_peer(fd, pid, &uid, err);
    if (status == TRM_OK && uid != geteuid())
        status = trm_error_set(err, TRM_ERR_MISMATCH, "\"%s\" is served by another user (uid %ld)",
                               address.sun_path, (long)uid);
    if (status != TRM_OK)
        close_fd(&fd);
    else
        *out = fd;
    return status;
}

enum trm_status trm_agent_hand_over(const char *runtime, const char *line, int *pid,
                                    struct trm_error *err)
{
    char directory[TRM_PATH_BYTES], answer[TRM_ERROR_TEXT_BYTES] = "";
    int fd = -1;
    enum trm_status status = trm_attach_directory(runtime, directory, err);
    if (status == TRM_OK)
        status = connect_to_living(directory, &fd, pid, err);
    if (status != TRM_OK)
        return status;
    ssize_t got = -1;
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line))
        got = recv(fd, answer, sizeof answer - 1, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        status = trm_error_set(err, TRM_ERR_TIMEOUT,
                               "the agent in \"%s\" (process %d) does not "
                               "answer",
                               directory, *pid);
    else if (got <= 0)
        status = trm_error_set(err, TRM_ERR_NOT_FOUND, "the agent in \"%s\" has left", directory);
    else if (strcmp(answer, "ok") != 0)
        status = trm_error_set(err, TRM_ERR_MISMATCH, "the agent in \"%s\" refused: %s", directory,
                               answer);
    close_fd(&fd);
    return status;
}

enum trm_status trm_agent_place_receive(const struct trm_agent_place *place, int *connection,
                                        struct trm_agent_options *options, struct trm_error *err)
{
    char line[TRM_AGENT_LINE_BYTES];
    pid_t pid = 0;
    uid_t uid = (uid_t)-1;
    struct timeval patience = {.tv_usec = 100000};
    int fd = accept4(place->handover, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return trm_error_set_errno(err, ENOENT, "no hand-over waits");
    /* It sends at once; the loop must not wait for long. */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    enum trm_status status = trm_attach_peer(fd, &pid, &uid, err);
    if (status == TRM_OK && uid != geteuid())
        status = trm_error_set(err, TRM_ERR_MISMATCH, "a hand-over came from uid %ld", (long)uid);
    ssize_t got = status == TRM_OK ? recv(fd, line, sizeof line, 0) : 0;
    if (status == TRM_OK && got <= 0) { /* no answer: who is only slow tries again */
        close(fd);
        return trm_error_set(err, TRM_ERR_COMM, "a hand-over came without its line");
    }
    if (status == TRM_OK)
        status = trm_agent_options_parse(line, (size_t)got, options, err);
    explicit_bzero(line, sizeof line);
    if (status != TRM_OK)
        trm_agent_place_answer(fd, err ? err->text : "the line cannot be read");
    else
        *connection = fd;
    return status;
}

void trm_agent_place_answer(int connection, const char *refusal)
{
    const char *text = refusal ? refusal : "ok";
    (void)!send(connection, text, strlen(text), MSG_NOSIGNAL);
    close(connection);
}
