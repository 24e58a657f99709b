// The sine of the format: int16 phase, 2^16 to a turn -> Q15, four rounding products (docs/format.md, section 8).
#pragma once

#include <cstdint>

namespace doh {

// The rounding Q15 product, (a*b + 2^14) >> 15 for a and b in [-32767, 32767], written as compilers know it for vectors.
constexpr int16_t rounding_mul(int16_t a, int16_t b) { return static_cast<int16_t>(((a * b >> 14) + 1) >> 1); }

// About 2^15 * sin(2 pi (phase + 1/2) / 2^16), in [-32767, 32767].
constexpr int16_t sin16(int16_t phase) {
  const auto s = static_cast<int16_t>(phase - 16384);            // a quarter turn back: even in s + 1/2
  const auto m = static_cast<int16_t>(s ^ (s >> 15));            // s, or -1 - s: 0 .. 32767
  const auto u = static_cast<int16_t>(32767 - 2 * m);            // -32767 .. 32767
  const int16_t z = rounding_mul(u, u);                          // 0 .. 32766
  auto v = static_cast<int16_t>(21013 - rounding_mul(2330, z));  // 18683 .. 21013
  v = static_cast<int16_t>(18682 - rounding_mul(v, z));          // 0 .. 18682
  return static_cast<int16_t>(u + rounding_mul(u, v));           // -32767 .. 32767
}

}  // namespace doh
