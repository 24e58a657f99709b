// Splits independent work over threads that live for one call. No state, no allocation of its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace doh {

inline constexpr uint32_t kMaxThreads = 256;

// Threads for `parts` pieces of work where the caller allows `threads` (0 means 1): 1 .. kMaxThreads; always 1 where the platform has none.
uint32_t thread_count(uint32_t threads, uint64_t parts);

using ThreadFn = void (*)(void* context, uint32_t thread);

// Calls work(context, thread) for thread = 0 .. threads - 1, at the same time if it can, and returns when all are done. A thread that the system
// refuses runs in the caller's: the result does not depend on it.
void run_threads(uint32_t threads, ThreadFn work, void* context);

// The same for a callable work(thread).
template <class Work>
void parallel(uint32_t threads, Work&& work) {
  run_threads(threads, [](void* context, uint32_t thread) { (*static_cast<std::remove_reference_t<Work>*>(context))(thread); }, &work);
}

}  // namespace doh
