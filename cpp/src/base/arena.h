// Deals out the caller's workspace. With no memory behind it, it only counts: one layout function gives the size and the pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace doh {

class Arena {
 public:
  static constexpr uint64_t kAlign = 64;  // bytes; a cache line, and more than any vector needs

  Arena() = default;  // counts only
  explicit Arena(std::span<uint8_t> memory) : memory_(memory) {}

  // `count` values of T, aligned; empty when counting. The caller has checked that the workspace is large enough (`bytes`).
  template <class T>
  std::span<T> take(uint64_t count) {
    const uint64_t start = used_;
    used_ += (count * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    if (memory_.empty()) return {};
    const uint64_t misaligned = reinterpret_cast<uintptr_t>(memory_.data()) % kAlign;
    const uint64_t shift = misaligned == 0 ? 0 : kAlign - misaligned;
    return {reinterpret_cast<T*>(memory_.data() + static_cast<size_t>(start + shift)), static_cast<size_t>(count)};
  }

  // Bytes of workspace that hold all that was taken, at any alignment of its first byte.
  uint64_t bytes() const { return used_ + kAlign - 1; }

 private:
  std::span<uint8_t> memory_;
  uint64_t used_ = 0;
};

}  // namespace doh
