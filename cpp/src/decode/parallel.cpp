// POSIX threads, which plain C programs have too; elsewhere one thread.
#include "decode/parallel.h"

#if defined(__unix__) || defined(__APPLE__)
#define DOH_PTHREADS 1
#include <pthread.h>
#else
#define DOH_PTHREADS 0
#endif

namespace doh {

uint32_t thread_count(uint32_t threads, uint64_t parts) {
  const uint64_t most = !DOH_PTHREADS ? 1 : threads < kMaxThreads ? threads : kMaxThreads;
  const uint64_t count = parts < most ? parts : most;
  return count == 0 ? 1 : static_cast<uint32_t>(count);
}

#if DOH_PTHREADS

namespace {

struct Start {
  ThreadFn work;
  void* context;
  uint32_t thread;
  pthread_t handle;
  bool running;
};

void* run(void* start) {
  const Start& s = *static_cast<Start*>(start);
  s.work(s.context, s.thread);
  return nullptr;
}

}  // namespace

void run_threads(uint32_t threads, ThreadFn work, void* context) {
  Start starts[kMaxThreads];
  for (uint32_t t = 1; t < threads; ++t) {
    starts[t] = {work, context, t, {}, false};
    starts[t].running = pthread_create(&starts[t].handle, nullptr, run, &starts[t]) == 0;
  }
  work(context, 0);
  for (uint32_t t = 1; t < threads; ++t)
    if (starts[t].running)
      pthread_join(starts[t].handle, nullptr);
    else
      work(context, t);
}

#else

void run_threads(uint32_t threads, ThreadFn work, void* context) {
  for (uint32_t t = 0; t < threads; ++t) work(context, t);
}

#endif

}  // namespace doh
