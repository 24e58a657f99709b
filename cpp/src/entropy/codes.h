// Signed codes in [-32768, 32767]: an adaptive bucket, plain low bits, a sign (docs/format.md, section 3).
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "entropy/range_decoder.h"
#include "entropy/range_encoder.h"

namespace doh {

inline constexpr unsigned kOutputBiasShift = 8;

// Reads a group of codes with fresh models.
[[nodiscard]] inline Status read_codes(RangeDecoder& in, unsigned shift, std::span<int16_t> codes) {
  CodeModels models;
  for (int16_t& code : codes) {
    uint32_t bucket = 0;
    while (bucket < kBuckets && in.adaptive(models.more[bucket])) ++bucket;
    if (bucket == kBuckets) {
      uint32_t escape = 0;
      while (in.plain())
        if (++escape > kMaxEscape) return DOH_BAD_CODES;
      bucket += (1u << escape) - 1 + in.plain_bits(escape);
    }
    const uint32_t m = (bucket << shift) + in.plain_bits(shift);  // below 2^32: bucket < 2^16 + 24, shift <= 15
    DOH_REQUIRE(m <= kMaxCode, DOH_BAD_CODES);
    const bool negative = shift == 0 ? in.adaptive(models.negative[bucket < kBuckets ? bucket : kBuckets - 1]) : in.plain();
    code = static_cast<int16_t>(negative ? -1 - static_cast<int32_t>(m) : static_cast<int32_t>(m));
  }
  return DOH_OK;
}

// The mirror of read_codes, of values that are codes but for their `drop` lowest bits.
inline void write_codes(RangeEncoder& out, unsigned shift, std::span<const int32_t> values, unsigned drop = 0) {
  CodeModels models;
  for (const int32_t value : values) {
    const int32_t code = value >> drop;
    const bool negative = code < 0;
    const auto m = static_cast<uint32_t>(negative ? -1 - code : code);
    const uint32_t bucket = m >> shift;
    const uint32_t adaptive = bucket < kBuckets ? bucket : kBuckets;
    for (uint32_t k = 0; k < adaptive; ++k) out.adaptive(models.more[k], true);
    if (bucket < kBuckets) {
      out.adaptive(models.more[bucket], false);
    } else {
      const uint32_t beyond = bucket - kBuckets + 1;  // 2^escape + x
      const auto escape = static_cast<unsigned>(std::bit_width(beyond)) - 1;
      for (unsigned t = 0; t < escape; ++t) out.plain(true);
      out.plain(false);
      out.plain_bits(beyond, escape);
    }
    out.plain_bits(m, shift);
    if (shift == 0)
      out.adaptive(models.negative[bucket < kBuckets ? bucket : kBuckets - 1], negative);
    else
      out.plain(negative);
  }
}

}  // namespace doh
