// Latent codes -> one integer for each weight, W_int (docs/format.md, section 5). Both generators give each sum to `sink(weight number, W_int)`.
#pragma once

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

// sum over j of (2*u_j - 255) * c_j for a row of the dense matrix (section 5.2); below 2^36 in magnitude.
int64_t dense_sum(uint64_t seed, uint32_t layer, uint32_t row, std::span<const int16_t> latents);

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

template <class Sink>
void generate_dense(const Header& h, std::span<const int16_t> latents, Sink&& sink) {
  uint32_t weight = 0;
  for (uint32_t layer = 0; layer <= h.depth; ++layer) {
    const auto rows = static_cast<uint32_t>(h.layer_weights(layer));
    for (uint32_t row = 0; row < rows; ++row) sink(weight++, dense_sum(h.seed, layer, row, latents));
  }
}

// W_int of every weight, in order.
template <class Sink>
void generate(const Header& h, std::span<const int16_t> latents, const SortSpace& space, Sink&& sink) {
  if (h.generator == DOH_TIED)
    generate_tied(h, latents, space, sink);
  else
    generate_dense(h, latents, sink);
}

}  // namespace doh
