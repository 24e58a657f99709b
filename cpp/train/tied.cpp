#include "train/tied.h"

#include <cmath>
#include <stdexcept>

namespace doh::train {
namespace {

constexpr uint64_t kHalfWord = (uint64_t{1} << 31) - 1;

}  // namespace

void rounded(const float* values, size_t count, float step, float* out) {
  for (size_t i = 0; i < count; ++i) {
    const float nearest = std::nearbyint(values[i] / step) * step;
    out[i] = values[i] + (nearest - values[i]);
  }
}

void tied_weights(std::span<const float> latents, const int64_t* index, const int8_t* sign, const float* gain, std::span<float> out) {
  for (size_t g = 0; g < out.size(); ++g) {
    const auto at = static_cast<uint64_t>(index[g]);
    if (at >= latents.size()) throw std::out_of_range("an index is not that of a latent");
    out[g] = latents[at] * static_cast<float>(sign[g]) * gain[g];
  }
}

void tied_gradient(std::span<const float> gradient, const int64_t* inverse, size_t chunks, const int8_t* sign, const float* gain,
                   std::span<float> out) {
  const size_t none = gradient.size();
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    for (size_t j = 0; j < out.size(); ++j) {
      const auto g = static_cast<uint64_t>(inverse[chunk * out.size() + j]);
      if (g > none) throw std::out_of_range("a place is not that of a weight");
      const float part = g == none ? 0.0F : gradient[g] * gain[g] * static_cast<float>(sign[g]);
      out[j] = chunk == 0 ? part : out[j] + part;
    }
  }
}

void draw(const Blocks& blocks, double offset, const int64_t* words, size_t batch, int64_t* points, float* importance) {
  size_t drawn = 0;
  for (size_t block = 0; block < blocks.count; ++block) {
    const double end = std::ceil(blocks.cumulated[block] * static_cast<double>(batch) - offset);
    const bool last = block + 1 == blocks.count;  // whose sum may be a little off 1
    if (!last && !(end >= static_cast<double>(drawn) && end <= static_cast<double>(batch)))
      throw std::invalid_argument("probabilities that do not rise to 1");
    for (const size_t until = last ? batch : static_cast<size_t>(end); drawn < until; ++drawn) {
      uint64_t number = static_cast<uint64_t>(blocks.first[block]);
      for (size_t dim = 0; dim < blocks.extents.size(); ++dim) {
        const uint64_t word = static_cast<uint64_t>(words[dim / 2 * batch + drawn]), half = (dim % 2 == 0 ? word : word >> 31) & kHalfWord;
        number += (half * static_cast<uint64_t>(blocks.extents[dim][block]) >> 31) * static_cast<uint64_t>(blocks.strides[dim]);
      }
      points[drawn] = static_cast<int64_t>(number);
      importance[drawn] = blocks.importance[block];
    }
  }
}

}  // namespace doh::train
