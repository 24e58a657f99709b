// Sums and codes -> 16-bit weights and 32-bit biases.
#include "net/network.h"

namespace doh {
namespace {

// Scales sums as they come, in increasing order of the weights.
struct WeightSink {
  const Header& h;
  std::span<int16_t> weights;
  uint32_t layer = 0;
  uint64_t layer_end = h.layer_weights(0);

  void operator()(uint32_t weight, int64_t w_int) {
    while (weight >= layer_end) layer_end += h.layer_weights(++layer);
    weights[weight] = scaled_weight(w_int, h.scale(layer));
  }
};

}  // namespace

void make_tied_weights(const Header& h, std::span<const int16_t> latents, const SortSpace& space, std::span<int16_t> weights) {
  generate_tied(h, latents, space, WeightSink{h, weights});
}

void make_dense_weights(const Header& h, const DenseCodes& codes, uint64_t first, uint64_t last, std::span<int16_t> weights) {
  generate_dense(h, codes, first, last, WeightSink{h, weights});
}

void make_biases(const Header& h, std::span<const int16_t> hidden, std::span<const int16_t> output, std::span<uint32_t> biases) {
  const uint32_t step = (2048 + h.bias_m) << h.bias_e;  // below 2^32
  for (size_t i = 0; i < hidden.size(); ++i) biases[i] = static_cast<uint32_t>(hidden[i]) * step;
  const uint32_t shift = h.scale(h.depth).q + 3;
  for (size_t c = 0; c < output.size(); ++c) biases[hidden.size() + c] = static_cast<uint32_t>(output[c]) << shift;
}

}  // namespace doh
