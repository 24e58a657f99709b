// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011): the only source of randomness (docs/format.md, section 4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace doh {

enum Stream : uint32_t { kDenseEntries = 0, kPermutationKeys = 1, kSigns = 2, kInitialLatents = 3 };

using PhiloxWords = std::array<uint32_t, 4>;

inline constexpr uint32_t kPhiloxM0 = 0xD2511F53, kPhiloxM1 = 0xCD9E8D57, kPhiloxKey0 = 0x9E3779B9, kPhiloxKey1 = 0xBB67AE85;

// The words of counter (block, row, layer, stream).
constexpr PhiloxWords philox(uint64_t seed, PhiloxWords counter) {
  auto [c0, c1, c2, c3] = counter;
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += kPhiloxKey0, k1 += kPhiloxKey1) {
    const uint64_t p0 = uint64_t{kPhiloxM0} * c0, p1 = uint64_t{kPhiloxM1} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
  }
  return {c0, c1, c2, c3};
}

// The words of kPhiloxBatch counters, block, block + 1, ...: word w of counter i is batch[w][i]. The inner loops are made for vectors.
inline constexpr size_t kPhiloxBatch = 32;
using PhiloxBatch = std::array<std::array<uint32_t, kPhiloxBatch>, 4>;

inline void philox_batch(uint64_t seed, PhiloxWords counter, PhiloxBatch& batch) {
  for (size_t i = 0; i < kPhiloxBatch; ++i) {
    batch[0][i] = counter[0] + static_cast<uint32_t>(i);
    batch[1][i] = counter[1];
    batch[2][i] = counter[2];
    batch[3][i] = counter[3];
  }
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += kPhiloxKey0, k1 += kPhiloxKey1)
    for (size_t i = 0; i < kPhiloxBatch; ++i) {
      const uint64_t p0 = uint64_t{kPhiloxM0} * batch[0][i], p1 = uint64_t{kPhiloxM1} * batch[2][i];
      batch[0][i] = static_cast<uint32_t>(p1 >> 32) ^ batch[1][i] ^ k0;
      batch[1][i] = static_cast<uint32_t>(p1);
      batch[2][i] = static_cast<uint32_t>(p0 >> 32) ^ batch[3][i] ^ k1;
      batch[3][i] = static_cast<uint32_t>(p0);
    }
}

}  // namespace doh
