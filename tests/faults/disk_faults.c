/* A failing disk, preloaded (LD_PRELOAD) into a process: the write layer below Python and C++.
 *
 * Calls that change files whose path holds the string `match` are counted: open to write, write,
 * flush, truncate, rename, link, mkdir and unlink. From call `at` on, or at that one only, they
 * fail with an error (but a disk that is only full lets files be deleted), or the process group is
 * killed there. A write that is hit first writes half of its bytes, as a real one does. STOP halts the
 * process (SIGSTOP) before call `at`; it goes on with SIGCONT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, FAIL_ONCE, FAIL_FROM, KILL, STOP };

static char match[4096];
static int action = OFF, error_number, log_file = -1;
static long at;
static atomic_long calls;

/* Count the calls of this process from now on; they are named, one a line, in the file `log`. */
void disk_faults_arm(const char *text, int what, long call, int error, const char *log) {
    strncpy(match, text, sizeof match - 1);
    at = call;
    error_number = error;
    atomic_store(&calls, 0);
    if (log != NULL)
        log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    action = what;
}

/* Is this call hit? Returns 1 where it has to fail. With KILL, `before` is called, then the end. */
static int hit(const char *call, const char *path) {
    if (action == OFF || strstr(path, match) == NULL)
        return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (log_file >= 0) {
        char line[5000];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path);
        syscall(SYS_write, log_file, line, length);
    }
    if (action == COUNT || number < at || (action != FAIL_FROM && number > at))
        return 0;
    if (action == STOP) {
        raise(SIGSTOP);
        return 0;
    }
    return 1;
}

static int fail(void) {
    if (action == KILL) {
        kill(0, SIGKILL);
        pause();
    }
    errno = error_number;
    return -1;
}

static const char *path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int hit_file(const char *call, int file) {
    if (action == OFF || file == log_file)
        return 0;
    char path[4096];
    return hit(call, path_of(file, path));
}

#define NEXT(type, name, ...)                                 \
    static type (*next)(__VA_ARGS__);                         \
    if (next == NULL)                                         \
        next = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        NEXT(int, #name, const char *, int, mode_t);                          \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = va_arg(rest, mode_t);                                   \
        va_end(rest);                                                         \
        if ((flags & O_ACCMODE) != O_RDONLY && hit("open", path))             \
            return fail();                                                    \
        return next(path, flags, mode);                                       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                          \
    int name(int folder, const char *path, int flags, ...) {                  \
        NEXT(int, #name, int, const char *, int, mode_t);                     \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = va_arg(rest, mode_t);                                   \
        va_end(rest);                                                         \
        if ((flags & O_ACCMODE) != O_RDONLY && hit("open", path))             \
            return fail();                                                    \
        return next(folder, path, flags, mode);                               \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                           \
    FILE *name(const char *path, const char *mode) {                          \
        NEXT(FILE *, #name, const char *, const char *);                      \
        if (strpbrk(mode, "wa+") != NULL && hit("open", path)) {              \
            fail();                                                           \
            return NULL;                                                      \
        }                                                                     \
        return next(path, mode);                                              \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int file, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    if (hit_file("write", file)) {
        next(file, data, size / 2);
        return fail();
    }
    return next(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    if (hit_file("write", file)) {
        next(file, parts, count / 2);
        return fail();
    }
    return next(file, parts, count);
}

#define PWRITE(name, offset_type)                                             \
    ssize_t name(int file, const void *data, size_t size, offset_type place) { \
        NEXT(ssize_t, #name, int, const void *, size_t, offset_type);         \
        if (hit_file("write", file)) {                                        \
            next(file, data, size / 2, place);                                \
            return fail();                                                    \
        }                                                                     \
        return next(file, data, size, place);                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define OF_FILE(name)                                                         \
    int name(int file) {                                                      \
        NEXT(int, #name, int);                                                \
        return hit_file("flush", file) ? fail() : next(file);                 \
    }
OF_FILE(fsync)
OF_FILE(fdatasync)

#define TRUNCATE(name, offset_type)                                           \
    int name(int file, offset_type size) {                                    \
        NEXT(int, #name, int, offset_type);                                   \
        return size > 0 && hit_file("truncate", file) ? fail() : next(file, size); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    return hit("rename", to) ? fail() : next(from, to);
}

int link(const char *from, const char *to) {
    NEXT(int, "link", const char *, const char *);
    return hit("link", to) ? fail() : next(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    NEXT(int, "linkat", int, const char *, int, const char *, int);
    return hit("link", to) ? fail() : next(a, from, b, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    NEXT(int, "mkdir", const char *, mode_t);
    return hit("mkdir", path) ? fail() : next(path, mode);
}

int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    return hit("unlink", path) && (action == KILL || error_number != ENOSPC) ? fail() : next(path);
}
