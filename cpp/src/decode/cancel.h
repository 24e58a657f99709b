// A caller's wish to end a decode early.
#pragma once

#include <atomic>

#include "doh.h"

namespace doh {

// Shared by all threads of a decode. Only one of them, the caller's own, asks the caller; the others see its answer.
class Cancel {
 public:
  explicit Cancel(const doh_options* options) {
    if (options == nullptr) return;
    ask_ = options->cancel;
    context_ = options->cancel_context;
  }

  // Whether there is anyone to ask.
  bool possible() const { return ask_ != nullptr; }

  // Whether to end. `asks`: this is the caller's thread.
  bool wanted(bool asks) {
    if (wanted_.load(std::memory_order_relaxed)) return true;
    if (!asks || ask_ == nullptr || ask_(context_) == 0) return false;
    wanted_.store(true, std::memory_order_relaxed);
    return true;
  }

 private:
  int (*ask_)(void*) = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> wanted_ = false;
};

}  // namespace doh
