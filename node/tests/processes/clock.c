/* A wall clock that a test moves while the process runs: LD_PRELOAD this, with CHORD_TEST_CLOCK naming a file of two
   longs, the seconds to add and the number of times that it was asked for the wall clock while they were not 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile long *shared;

__attribute__((constructor)) static void open_shared(void) {
  const char *name = getenv("CHORD_TEST_CLOCK");
  int file = name ? open(name, O_RDWR) : -1;
  if (file < 0) abort();
  void *mapped = mmap(0, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  shared = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, time);
  if (clock == CLOCK_REALTIME && shared && shared[0]) {
    time->tv_sec += shared[0];
    shared[1]++;
  }
  return result;
}
