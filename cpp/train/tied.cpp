#include "train/tied.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace doh::train {
namespace {

constexpr uint64_t kHalfWord = (uint64_t{1} << 31) - 1;

}  // namespace

void rounded(const float* values, size_t count, float step, float* out) {
  if (step == 0) {
    std::copy_n(values, count, out);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const float nearest = std::nearbyint(values[i] / step) * step;
    out[i] = values[i] + (nearest - values[i]);
  }
}

void tied_weights(const Tied& tied, const float* latents, float* out) {
  for (size_t g = 0; g < tied.weights; ++g) {
    const auto at = static_cast<uint64_t>(tied.index[g]);
    if (at >= tied.n) throw std::out_of_range("an index is not that of a latent");
    out[g] = latents[at] * static_cast<float>(tied.sign[g]) * tied.gain[g];
  }
}

void tied_gradient(const Tied& tied, const float* gradient, float* out) {
  for (size_t chunk = 0; chunk < tied.chunks; ++chunk) {
    const int64_t* const places = tied.inverse + chunk * tied.n;
    for (size_t j = 0; j < tied.n; ++j) {
      const auto g = static_cast<uint64_t>(places[j]);
      if (g > tied.weights) throw std::out_of_range("a place is not that of a weight");
      const float part = g == tied.weights ? 0.0F : gradient[g] * tied.gain[g] * static_cast<float>(tied.sign[g]);
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
