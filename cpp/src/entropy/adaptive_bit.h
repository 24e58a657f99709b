// The model of one adaptive bit: two counts and their Krichevsky-Trofimov estimate (docs/format.md, section 3).
#pragma once

#include <array>
#include <cstdint>

namespace doh {

class AdaptiveBit {
 public:
  // 16-bit probability of a 1, in [1, 65535].
  uint32_t probability() const { return ((2u * count_[1] + 1) << 15) / (count_[0] + count_[1] + 1u); }

  void update(bool bit) {
    ++count_[bit];
    if (count_[0] + count_[1] == 4096) {
      count_[0] >>= 1;
      count_[1] >>= 1;
    }
  }

 private:
  std::array<uint16_t, 2> count_{};  // their sum stays below 4096
};

// The models of one group of codes, and the bounds of its code words.
inline constexpr uint32_t kBuckets = 24;     // buckets with adaptive bits of their own
inline constexpr uint32_t kMaxEscape = 15;   // bits after the escape
inline constexpr uint32_t kMaxCode = 32767;  // m: the code or -1 - code

struct CodeModels {
  std::array<AdaptiveBit, kBuckets> more, negative;
};

}  // namespace doh
