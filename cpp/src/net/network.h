// A network in integers, ready to be evaluated (docs/format.md, section 6), and how it is made from the codes of a file.
#pragma once

#include <cstdint>
#include <span>

#include "format/header.h"
#include "net/generate.h"

namespace doh {

// Views into the workspace.
struct Network {
  const Header* header;
  std::span<const int16_t> weights;  // D, layer by layer, row-major, in [-32767, 32767]
  std::span<const uint32_t> biases;  // depth * width phases (2^32 to a turn), then one for each channel; int32 modulo 2^32
};

struct Layer {
  const int16_t* weights;  // fan_out rows of fan_in
  const uint32_t* biases;  // fan_out
  uint32_t fan_in, fan_out, precision;
};

inline Layer layer_of(const Network& net, uint32_t layer) {
  const Header& h = *net.header;
  const size_t first = layer == 0 ? 0 : static_cast<size_t>(h.layer_weights(0) + (layer - 1) * uint64_t{h.width} * h.width);
  return {net.weights.data() + first, net.biases.data() + size_t{layer} * h.width, h.fan_in(layer), h.fan_out(layer), h.scale(layer).q};
}

// W = clamp((W_int * M + (2^r >> 1)) >> r); |W_int| < 2^36, so the product stays below 2^48.
constexpr int16_t scaled_weight(int64_t w_int, const Scale& scale) {
  const int64_t w = (w_int * scale.multiplier() + (int64_t{1} << scale.r >> 1)) >> scale.r;
  return static_cast<int16_t>(w < -32767 ? -32767 : w > 32767 ? 32767 : w);
}

// Fills `weights` (D) from the latents of the tied generator.
void make_tied_weights(const Header& h, std::span<const int16_t> latents, const SortSpace& space, std::span<int16_t> weights);

// Fills weights `first` .. `last` - 1 of all D from the latents of the dense generator. Ranges are independent of each other.
void make_dense_weights(const Header& h, const DenseCodes& codes, uint64_t first, uint64_t last, std::span<int16_t> weights);

// Fills `biases` (depth * width + channels) from their codes.
void make_biases(const Header& h, std::span<const int16_t> hidden, std::span<const int16_t> output, std::span<uint32_t> biases);

}  // namespace doh
