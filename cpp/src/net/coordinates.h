// Coordinates of grid points and the phases of the positional encoding (docs/format.md, section 7).
#pragma once

#include <array>
#include <cstdint>

#include "base/checked.h"
#include "doh.h"
#include "format/header.h"
#include "net/sine.h"

namespace doh {

// The centre of cell `index` of `points` in its own part of `parts` equal ones: [-2^31, 2^31) stands for [-1, 1).
constexpr int32_t coordinate(uint32_t index, uint32_t points, uint32_t parts = 1) {
  const uint64_t in_parts = ((2 * uint64_t{index} + 1) << 31) / points * parts;  // 2^32 to a part
  return static_cast<int32_t>(static_cast<int64_t>(in_parts & UINT32_MAX) - (int64_t{1} << 31));
}

// The part of `parts` in which the centre of cell `index` of `points` lies.
constexpr uint32_t part_of(uint32_t index, uint32_t points, uint32_t parts) {
  return static_cast<uint32_t>(((2 * uint64_t{index} + 1) << 31) / points * parts >> 32);
}

// The first index of `points` whose cell's centre lies in part number `part` of `parts`, or behind it; `points` for part = parts.
// floor((2i + 1) * 2^31 / points) * parts >= part * 2^32, solved for i: all comparisons are of integers, so each division rounds up.
constexpr uint32_t first_index(uint32_t part, uint32_t parts, uint32_t points) {
  const uint64_t start = ceil_div(uint64_t{part} << 32, parts);      // at most 2^32
  const uint64_t odd = ceil_div(start * points, uint64_t{1} << 31);  // 2i + 1 is at least this; the product is below 2^63
  return static_cast<uint32_t>(odd / 2);
}

// Powers of 1.4 with 12 fractional bits.
inline constexpr std::array<uint32_t, kMaxFrequencies> kPowersOf14 = {4096,  5734,  8028,   11239,  15735,  22029,  30841,  43177,
                                                                      60448, 84628, 118479, 165870, 232218, 325106, 455148, 637207};

// f_k, below 2^28
constexpr uint32_t multiplier(uint32_t ladder, uint32_t k) { return ladder == DOH_OCTAVES ? 4096u << k : kPowersOf14[k]; }

// The phase of frequency f at coordinate x, of which sin16(phase) and sin16(phase + 16384) are the inputs.
constexpr int16_t encoding_phase(int32_t x, uint32_t f) { return static_cast<int16_t>(int64_t{x} * f >> 28); }

constexpr int16_t sine_input(int32_t x, uint32_t f) { return sin16(encoding_phase(x, f)); }
constexpr int16_t cosine_input(int32_t x, uint32_t f) { return sin16(static_cast<int16_t>(encoding_phase(x, f) + 16384)); }

}  // namespace doh
