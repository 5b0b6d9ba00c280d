/* Count the storage calls of a process and its children below one folder, and let the k-th fail.

   Loaded with LD_PRELOAD; the calls are those of libc, so writes of compiled code and of other programs count, too. What
   to do stands in a shared file that DRIFTLAW_FAULTS names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, REFUSE, FULL };

struct control {
  int mode;         /* one of the above */
  int fired;        /* whether call `at` has come */
  long at;          /* number of the call that fails, from 1 */
  long count;       /* calls so far */
  char what[32];    /* name of the call that failed */
  char root[4000];  /* only calls below this folder count */
};

static struct control *control;

__attribute__((constructor)) static void start(void) {
  const char *name = getenv("DRIFTLAW_FAULTS");
  int descriptor = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
  if (descriptor < 0) return;
  void *found = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (found != MAP_FAILED) control = found;
}

static int below(const char *path) {
  size_t n = strlen(control->root);
  return strncmp(path, control->root, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static int watched_fd(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return below(path);
}

static int watched_at(int folder, const char *path) {
  char here[PATH_MAX];
  if (path[0] == '/') return below(path);
  if (folder != AT_FDCWD) return watched_fd(folder);
  return getcwd(here, sizeof here) && below(here);
}

/* 0: go on; ENOSPC: fail; -1: this is the call of a full disk or a kill, and a write writes half. */
static int fault(const char *name, int watched, int grows) {
  if (!watched) return 0;
  long now = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
  if (control->mode == FULL && now > control->at && grows) return ENOSPC;
  if (control->mode == COUNT || now != control->at) return 0;
  control->fired = 1;
  strncpy(control->what, name, sizeof control->what - 1);
  if (control->mode == REFUSE) return ENOSPC;
  if (!strcmp(name, "write")) return -1;
  if (control->mode == KILL) raise(SIGKILL);
  return ENOSPC;
}

static int active(void) { return control && control->mode != OFF; }

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  int saved = errno; \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name); \
  errno = saved

#define FAIL(name, watched, grows) \
  if (active()) { \
    int number = fault(name, watched, grows); \
    errno = saved; \
    if (number) { errno = ENOSPC; return -1; } \
  }

#define MAKES(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))

#define OPEN(function) \
  int function(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    REAL(int, #function, const char *, int, ...); \
    FAIL("open", MAKES(flags) && watched_at(AT_FDCWD, path), flags & O_CREAT) \
    return real(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(function) \
  int function(int folder, const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    REAL(int, #function, int, const char *, int, ...); \
    FAIL("open", MAKES(flags) && watched_at(folder, path), flags & O_CREAT) \
    return real(folder, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t n) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (active()) {
    int number = fault("write", watched_fd(fd), 1);
    errno = saved;
    if (number > 0) { errno = ENOSPC; return -1; }
    if (number < 0) {
      ssize_t half = n > 1 ? real(fd, data, n / 2) : 0;
      if (control->mode == KILL) raise(SIGKILL);
      if (half > 0) return half;
      errno = ENOSPC;
      return -1;
    }
  }
  return real(fd, data, n);
}

#define WRITES(function, ...) \
  FAIL("write all", watched_fd(fd), 1) \
  return real(__VA_ARGS__)

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  WRITES("pwrite64", fd, data, n, at);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  WRITES("writev", fd, parts, n);
}

#define ON_FD(function) \
  int function(int fd) { \
    REAL(int, #function, int); \
    FAIL(#function, watched_fd(fd), 0) \
    return real(fd); \
  }
ON_FD(fsync)
ON_FD(fdatasync)

int ftruncate64(int fd, off64_t size) {
  REAL(int, "ftruncate64", int, off64_t);
  FAIL("truncate", watched_fd(fd), 0)
  return real(fd, size);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  FAIL("rename", watched_at(AT_FDCWD, to), 0)
  return real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
  REAL(int, "renameat", int, const char *, int, const char *);
  FAIL("rename", watched_at(b, to), 0)
  return real(a, from, b, to);
}
int link(const char *from, const char *to) {
  REAL(int, "link", const char *, const char *);
  FAIL("link", watched_at(AT_FDCWD, to), 1)
  return real(from, to);
}
int mkdir(const char *path, mode_t mode) {
  REAL(int, "mkdir", const char *, mode_t);
  FAIL("mkdir", watched_at(AT_FDCWD, path), 1)
  return real(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(int, "mkdirat", int, const char *, mode_t);
  FAIL("mkdir", watched_at(folder, path), 1)
  return real(folder, path, mode);
}
int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  FAIL("unlink", watched_at(AT_FDCWD, path), 0)
  return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
  REAL(int, "unlinkat", int, const char *, int);
  FAIL("unlink", watched_at(folder, path), 0)
  return real(folder, path, flags);
}
int rmdir(const char *path) {
  REAL(int, "rmdir", const char *);
  FAIL("rmdir", watched_at(AT_FDCWD, path), 0)
  return real(path);
}
