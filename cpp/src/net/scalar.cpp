// The scalar kernel: the definition of section 9 in plain loops, points innermost, so that compilers can use what vectors the target has.
#include <array>

#include "net/kernels.h"
#include "net/sine.h"

namespace doh {
namespace {

using Sums = std::array<uint32_t, kLanes>;

// sum over inputs i of weights[i] * inputs[i * kTile + p], modulo 2^32
Sums dot(const int16_t* weights, uint32_t fan_in, const int16_t* inputs) {
  Sums sums{};
  for (size_t i = 0; i < fan_in; ++i) {
    const int32_t weight = weights[i];
    for (size_t p = 0; p < kLanes; ++p) sums[p] += static_cast<uint32_t>(weight * inputs[i * kTile + p]);
  }
  return sums;
}

// The sines of phase = (sum << (17 - q)) + bias.
void sines(const Sums& sums, uint32_t precision, uint32_t bias, int16_t* out) {
  std::array<int16_t, kLanes> phase;
  for (size_t p = 0; p < kLanes; ++p) phase[p] = static_cast<int16_t>(((sums[p] << (kMaxPrecision - precision)) + bias) >> 16);
  for (size_t p = 0; p < kLanes; ++p) out[p] = sin16(phase[p]);
}

}  // namespace

void forward_scalar(const Network& net, const Tile& tile) {
  const uint32_t depth = net.header->depth;
  for (size_t first = 0; first < tile.count; first += kLanes) {
    int16_t* in = tile.activations + first;
    int16_t* out = in + size_t{net.header->width} * kTile;

    const Layer layer0 = layer_of(net, 0);
    for (size_t o = 0; o < layer0.fan_out; ++o) {
      Sums sums;
      for (size_t p = 0; p < kLanes; ++p) sums[p] = tile.column[o * kTile + first + p] + tile.row[o];
      sines(sums, layer0.precision, layer0.biases[o], in + o * kTile);
    }
    for (uint32_t l = 1; l < depth; ++l) {
      const Layer layer = layer_of(net, l);
      for (size_t o = 0; o < layer.fan_out; ++o)
        sines(dot(layer.weights + o * layer.fan_in, layer.fan_in, in), layer.precision, layer.biases[o], out + o * kTile);
      int16_t* const swap = in;
      in = out;
      out = swap;
    }
    const Layer output = layer_of(net, depth);
    for (size_t o = 0; o < output.fan_out; ++o) {
      const Sums sums = dot(output.weights + o * output.fan_in, output.fan_in, in);
      for (size_t p = 0; p < kLanes; ++p) tile.y[o * kTile + first + p] = static_cast<int32_t>(sums[p] + output.biases[o]);
    }
  }
}

}  // namespace doh
