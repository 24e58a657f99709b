// Sums of the output layer -> samples (docs/format.md, section 10).
#pragma once

#include <cstdint>

#include "format/header.h"

namespace doh {

// What turns y into the sample: (min(max(y, 0), 2^f) * top + 2^(f-1)) >> f, and an offset for s16.
struct SampleRule {
  int64_t one;  // 2^f, at most 2^29
  int64_t top;
  uint32_t fraction_bits;
  int64_t offset;

  explicit SampleRule(const Header& h)
      : one(int64_t{1} << (15 + h.scale(h.depth).q)),
        top(h.top()),
        fraction_bits(15 + h.scale(h.depth).q),
        offset(h.sample_type == DOH_S16 ? -32768 : 0) {}

  // The sample's 16 bits (two's complement), or 8 of them.
  uint16_t operator()(int32_t y) const {
    const int64_t clamped = y < 0 ? 0 : y > one ? one : y;
    return static_cast<uint16_t>(((clamped * top + (one >> 1)) >> fraction_bits) + offset);
  }
};

}  // namespace doh
