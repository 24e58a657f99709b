// POSIX threads, which plain C programs have too; elsewhere one thread.
#include "decode/parallel.h"

#if defined(__unix__) || defined(__APPLE__)
#define DOH_PTHREADS 1
#include <pthread.h>
#include <time.h>

#include <atomic>
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

struct Job {
  ThreadFn work;
  void* context;
  std::atomic<uint32_t> at_work = 0;  // threads other than the caller's
};

struct Start {
  Job* job;
  uint32_t thread;
  bool running;
  pthread_t handle;
};

void* run(void* start) {
  const Start& s = *static_cast<Start*>(start);
  s.job->work(s.job->context, s.thread, false);
  s.job->at_work.fetch_sub(1, std::memory_order_release);
  return nullptr;
}

}  // namespace

void run_threads(uint32_t threads, ThreadFn work, IdleFn idle, void* context) {
  Job job{work, context};
  Start starts[kMaxThreads];
  for (uint32_t t = 1; t < threads; ++t) {
    starts[t] = {&job, t, false, {}};
    job.at_work.fetch_add(1, std::memory_order_relaxed);
    starts[t].running = pthread_create(&starts[t].handle, nullptr, run, &starts[t]) == 0;
    if (!starts[t].running) job.at_work.fetch_sub(1, std::memory_order_relaxed);
  }
  work(context, 0, true);
  for (uint32_t t = 1; t < threads; ++t)
    if (!starts[t].running) work(context, t, true);
  constexpr long kLongest = 200'000;  // ns; the first naps are short, as small pieces of work end soon
  timespec nap{0, 5'000};
  while (idle != nullptr && job.at_work.load(std::memory_order_acquire) != 0) {
    idle(context);
    nanosleep(&nap, nullptr);
    nap.tv_nsec = nap.tv_nsec < kLongest / 2 ? 2 * nap.tv_nsec : kLongest;
  }
  for (uint32_t t = 1; t < threads; ++t)
    if (starts[t].running) pthread_join(starts[t].handle, nullptr);
}

#else

void run_threads(uint32_t threads, ThreadFn work, IdleFn, void* context) {
  for (uint32_t t = 0; t < threads; ++t) work(context, t, true);
}

#endif

}  // namespace doh
