// The sums of the two generators: a radix sort of Philox keys, and a product with Philox bytes.
#include "net/generate.h"

#include <array>
#include <cstddef>

namespace doh {
namespace {

constexpr unsigned kDigitBits = 11;  // three digits hold the 31 bits of a key
constexpr size_t kDigits = size_t{1} << kDigitBits;
constexpr size_t kFew = 64;  // keys that are sorted by insertion: passes over all digits would cost a chunk of one key as much as one of a thousand

std::span<const uint32_t> sort_few(uint64_t seed, uint32_t chunk, std::span<uint32_t> keys, std::span<uint32_t> indices) {
  PhiloxWords words{};
  for (uint32_t j = 0; j < keys.size(); ++j) {
    if (j % 4 == 0) words = philox(seed, {j / 4, chunk, 0, kPermutationKeys});
    const uint32_t key = words[j % 4] >> 1;
    size_t to = j;
    for (; to > 0 && keys[to - 1] > key; --to) {
      keys[to] = keys[to - 1];
      indices[to] = indices[to - 1];
    }
    keys[to] = key;
    indices[to] = j;
  }
  return indices;
}

}  // namespace

std::span<const uint32_t> tied_permutation(uint64_t seed, uint32_t chunk, uint32_t latents, const SortSpace& space) {
  const size_t n = latents;
  auto keys = space.keys.first(n), other_keys = space.keys.subspan(n, n);
  auto indices = space.indices.first(n), other_indices = space.indices.subspan(n, n);
  if (n <= kFew) return sort_few(seed, chunk, keys, indices);

  PhiloxBatch batch;
  for (size_t j = 0; j < n; ++j) {
    const size_t in_batch = j % (4 * kPhiloxBatch);
    if (in_batch == 0) philox_batch(seed, {static_cast<uint32_t>(j / 4), chunk, 0, kPermutationKeys}, batch);
    keys[j] = batch[in_batch % 4][in_batch / 4] >> 1;
    indices[j] = static_cast<uint32_t>(j);
  }

  // Least significant digit first; each pass is stable, so equal 31-bit keys stay in order of their index.
  for (unsigned shift = 0; shift < 31; shift += kDigitBits) {
    std::array<uint32_t, kDigits> place{};
    for (const uint32_t key : keys) ++place[key >> shift & (kDigits - 1)];
    uint32_t sum = 0;
    for (uint32_t& start : place) {
      const uint32_t count = start;
      start = sum;
      sum += count;
    }
    for (size_t j = 0; j < n; ++j) {
      const uint32_t to = place[keys[j] >> shift & (kDigits - 1)]++;
      other_keys[to] = keys[j];
      other_indices[to] = indices[j];
    }
    auto swap = [](std::span<uint32_t>& a, std::span<uint32_t>& b) {
      const auto c = a;
      a = b;
      b = c;
    };
    swap(keys, other_keys);
    swap(indices, other_indices);
  }
  return indices;
}

int64_t prepare_codes(std::span<const int16_t> latents, size_t blocks, std::span<int16_t> prepared) {
  for (int16_t& code : prepared) code = 0;
  int64_t sum = 0;
  const size_t group = 16 * blocks;
  for (size_t j = 0; j < latents.size(); ++j) {
    sum += latents[j];
    size_t place = j;
    if (blocks != 0) {  // entry `byte` of a Philox block: its vector (which words, even or odd bytes), its lane, its place in the lane
      const size_t block = j / 16 % blocks, byte = j % 16;
      const size_t vector = byte / 8 * 2 + byte % 2;
      place = j / group * group + vector * (4 * blocks) + block * 4 + byte % 8 / 2;
    }
    prepared[place] = latents[j];
  }
  return sum;
}

int64_t dense_sum_scalar(const DenseRow& row, const int16_t* codes, size_t count) {
  constexpr size_t kBatchBytes = 16 * kPhiloxBatch;
  PhiloxBatch batch;
  std::array<int16_t, kBatchBytes> entries;
  int64_t total = 0;
  for (size_t first = 0; first < count; first += kBatchBytes) {
    philox_batch(row.seed, {static_cast<uint32_t>(first / 16), row.row, row.layer, kDenseEntries}, batch);
    for (size_t i = 0; i < kPhiloxBatch; ++i)
      for (size_t w = 0; w < 4; ++w)
        for (size_t b = 0; b < 4; ++b) entries[16 * i + 4 * w + b] = static_cast<int16_t>(batch[w][i] >> (8 * b) & 255);

    const size_t end = count - first < kBatchBytes ? count - first : kBatchBytes;
    for (size_t start = 0; start < end; start += kDenseGroup) {
      int32_t sum = 0;  // 128 products of at most 255 * 2^15 stay below 2^30
      for (size_t j = start; j < start + kDenseGroup; ++j) sum += entries[j] * codes[first + j];
      total += sum;
    }
  }
  return total;
}

}  // namespace doh
