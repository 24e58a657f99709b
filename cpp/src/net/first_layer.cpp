// The inputs of one dimension, raw coordinate and encoding, times their weights.
#include "net/first_layer.h"

#include <array>

#include "net/coordinates.h"
#include "net/kernels.h"

namespace doh {
namespace {

// sums[p] += weight * input[p], modulo 2^32
void add_product(int32_t weight, std::span<const int16_t> input, uint32_t* sums) {
  for (size_t p = 0; p < input.size(); ++p) sums[p] += static_cast<uint32_t>(weight * input[p]);
}

// The same for a single coordinate: the inputs of an output's row lie side by side, as its weights do.
void add_point(const Network& net, uint32_t t, int32_t x, uint32_t* sums, size_t stride) {
  const Header& h = *net.header;
  const Layer layer = layer_of(net, 0);
  const size_t encoded = 2 * size_t{h.frequencies};
  std::array<int16_t, 2 * kMaxFrequencies> inputs;
  for (uint32_t k = 0; k < h.frequencies; ++k) {
    const uint32_t f = multiplier(h.ladder, k);
    inputs[2 * k] = sine_input(x, f);
    inputs[2 * k + 1] = cosine_input(x, f);
  }
  const int16_t* weights = layer.weights + size_t{t} * h.inputs_per_dim();
  for (size_t o = 0; o < layer.fan_out; ++o, weights += layer.fan_in) {
    auto sum = static_cast<uint32_t>(int64_t{weights[0]} * x >> 16);
    for (size_t i = 0; i < encoded; ++i) sum += static_cast<uint32_t>(weights[1 + i] * inputs[i]);
    sums[o * stride] += sum;
  }
}

}  // namespace

void add_dimension(const Network& net, uint32_t t, std::span<const int32_t> x, uint32_t* sums, size_t stride) {
  if (x.size() == 1) return add_point(net, t, x[0], sums, stride);
  const Header& h = *net.header;
  const Layer layer = layer_of(net, 0);
  const size_t count = x.size(), first_input = size_t{t} * h.inputs_per_dim();

  for (size_t o = 0; o < layer.fan_out; ++o) {
    const int64_t weight = layer.weights[o * layer.fan_in + first_input];
    for (size_t p = 0; p < count; ++p) sums[o * stride + p] += static_cast<uint32_t>(weight * x[p] >> 16);
  }

  std::array<int16_t, kTile> sine, cosine;
  for (uint32_t k = 0; k < h.frequencies; ++k) {
    const uint32_t f = multiplier(h.ladder, k);
    for (size_t p = 0; p < count; ++p) {
      sine[p] = sine_input(x[p], f);
      cosine[p] = cosine_input(x[p], f);
    }
    const size_t input = first_input + 1 + 2 * size_t{k};
    for (size_t o = 0; o < layer.fan_out; ++o) {
      add_product(layer.weights[o * layer.fan_in + input], std::span(sine).first(count), sums + o * stride);
      add_product(layer.weights[o * layer.fan_in + input + 1], std::span(cosine).first(count), sums + o * stride);
    }
  }
}

}  // namespace doh
