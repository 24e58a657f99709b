// Threads that stay, for work of a fraction of a millisecond.
#pragma once

#include <cstddef>

namespace doh::train {

inline constexpr unsigned kMaxThreads = 256;

using Item = void (*)(void* context, size_t item, unsigned thread);

// Calls item(context, i, thread) for i = 0 .. items - 1, each once, on at most `threads` threads (0 means 1) numbered from 0, the caller's among
// them, and returns when all are done. Which thread takes which item is chance. Beside another caller, and where the system has no threads, all runs
// in the caller's own.
void for_each(unsigned threads, size_t items, Item item, void* context);

// The same for a callable work(item, thread).
template <class Work>
void for_each(unsigned threads, size_t items, Work&& work) {
  for_each(threads, items, [](void* context, size_t item, unsigned thread) { (*static_cast<Work*>(context))(item, thread); }, &work);
}

}  // namespace doh::train
