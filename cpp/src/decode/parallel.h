// Splits independent work over threads that live for one call. No state, no allocation of its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace doh {

inline constexpr uint32_t kMaxThreads = 256;

// Threads for `parts` pieces of work where the caller allows `threads` (0 means 1): 1 .. kMaxThreads; always 1 where the platform has none.
uint32_t thread_count(uint32_t threads, uint64_t parts);

// `own`: in the thread of the caller.
using ThreadFn = void (*)(void* context, uint32_t thread, bool own);

// Calls work(context, thread, own) for thread = 0 .. threads - 1, at the same time if it can, and returns when all are done. Thread 0 is the
// caller's, and a thread that the system refuses runs in the caller's, too: the result does not depend on it. While the caller's has nothing to do
// but to wait for the others, it calls idle(context), if there is one, again and again, with a nap in between.
using IdleFn = void (*)(void* context);
void run_threads(uint32_t threads, ThreadFn work, IdleFn idle, void* context);

// The same for a callable work(thread, own).
template <class Work>
void parallel(uint32_t threads, Work&& work) {
  run_threads(
      threads, [](void* context, uint32_t thread, bool own) { (*static_cast<std::remove_reference_t<Work>*>(context))(thread, own); }, nullptr,
      &work);
}

// The same with a callable idle().
template <class Work, class Idle>
void parallel(uint32_t threads, Work&& work, Idle&& idle) {
  struct Both {
    std::remove_reference_t<Work>& work;
    std::remove_reference_t<Idle>& idle;
  } both{work, idle};
  run_threads(
      threads, [](void* context, uint32_t thread, bool own) { static_cast<Both*>(context)->work(thread, own); },
      [](void* context) { static_cast<Both*>(context)->idle(); }, &both);
}

}  // namespace doh
