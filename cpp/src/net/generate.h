// Latent codes -> one integer for each weight, W_int (docs/format.md, section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "format/header.h"
#include "rng/philox.h"

namespace doh {

// Scratch of the tied generator: two halves of keys and of indices, 2 * latents each. The dense generator needs none.
struct SortSpace {
  std::span<uint32_t> keys, indices;
};

// Sorts the keys of `chunk` and returns perm_chunk, a view into `space` (section 5.1).
std::span<const uint32_t> tied_permutation(uint64_t seed, uint32_t chunk, uint32_t latents, const SortSpace& space);

// The signs of the tied weights, asked for in the order of the weights, from weight 0.
class TiedSigns {
 public:
  explicit TiedSigns(uint64_t seed) : seed_(seed) {}

  bool negative(uint32_t weight) {
    const uint32_t bit = weight % 128;
    if (bit == 0) words_ = philox(seed_, {weight / 128, 0, 0, kSigns});
    return (words_[bit >> 5] >> (bit & 31) & 1) != 0;
  }

 private:
  uint64_t seed_;
  PhiloxWords words_{};
};

// Gives W_int of every weight, in order, to sink(weight number, W_int).
template <class Sink>
void generate_tied(const Header& h, std::span<const int16_t> latents, const SortSpace& space, Sink&& sink) {
  const auto weights = static_cast<uint32_t>(h.weights());
  TiedSigns signs(h.seed);
  for (uint32_t first = 0, chunk = 0; first < weights; first += h.latents, ++chunk) {  // both below 2^25
    const auto permutation = tied_permutation(h.seed, chunk, h.latents, space);
    const uint32_t count = weights - first < h.latents ? weights - first : h.latents;
    for (uint32_t k = 0; k < count; ++k) {
      const int64_t code = latents[permutation[k]];
      sink(first + k, signs.negative(first + k) ? -code : code);
    }
  }
}

// A row of the dense matrix.
struct DenseRow {
  uint64_t seed;
  uint32_t layer, row;
};

// sum over j of u_j * c_j over a row's `count` codes, which prepare_codes has laid out. Kernels have one each.
using DenseSumFn = int64_t (*)(const DenseRow& row, const int16_t* codes, size_t count);

inline constexpr size_t kDenseGroup = 128;  // codes are padded with zeros to a multiple of this

constexpr size_t padded_codes(size_t latents) { return (latents + kDenseGroup - 1) / kDenseGroup * kDenseGroup; }

// The codes in the order in which a kernel with `blocks` Philox counters a vector meets their matrix entries (simd/dense.h); 0 leaves them in their
// own order. Returns the sum of all codes.
int64_t prepare_codes(std::span<const int16_t> latents, size_t blocks, std::span<int16_t> prepared);

// Prepared codes and what goes with them.
struct DenseCodes {
  std::span<const int16_t> prepared;  // padded_codes(latents)
  int64_t sum;                        // of all codes
  DenseSumFn dense_sum;
};

// Gives W_int of weights `first` .. `last` - 1 to sink(weight number, W_int). Ranges are independent of each other.
template <class Sink>
void generate_dense(const Header& h, const DenseCodes& codes, uint64_t first, uint64_t last, Sink&& sink) {
  uint32_t layer = 0;
  uint64_t start = 0;  // of the layer
  for (uint64_t weight = first; weight < last; ++weight) {
    while (weight >= start + h.layer_weights(layer)) start += h.layer_weights(layer++);
    const int64_t sum = codes.dense_sum({h.seed, layer, static_cast<uint32_t>(weight - start)}, codes.prepared.data(), codes.prepared.size());
    sink(static_cast<uint32_t>(weight), 2 * sum - 255 * codes.sum);
  }
}

// The definition of DenseSumFn, in plain loops, for codes in their own order.
int64_t dense_sum_scalar(const DenseRow& row, const int16_t* codes, size_t count);

}  // namespace doh
