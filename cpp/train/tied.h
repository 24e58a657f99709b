// What a training step does around its gradient: weights from latents, the latents' gradient, and a batch's points. Each gives, bit for bit, what
// doh.train computes with torch (projection.py, importance.py), which stays as the reference; here it is one pass over the numbers for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace doh::train {

// out (count) = values rounded to multiples of step, as v + (round(v / step) step - v). May be done in place.
void rounded(const float* values, size_t count, float step, float* out);

// The tied projection (docs/format.md, section 5.1) of latents (n): out (D) = sign * latents[index] * gain, with index, sign (1 or -1) and gain (D).
// Throws std::out_of_range for an index that is not one.
void tied_weights(std::span<const float> latents, const int64_t* index, const int8_t* sign, const float* gain, std::span<float> out);

// out (n): the gradient of the latents for that of the weights, gradient (D). inverse (chunks, n), chunks at least 1: for each chunk and latent the
// weight that it serves, D for none. Throws std::out_of_range.
void tied_gradient(std::span<const float> gradient, const int64_t* inverse, size_t chunks, const int8_t* sign, const float* gain,
                   std::span<float> out);

// Blocks of grid points that a batch is drawn from (doh.train.importance).
struct Blocks {
  size_t count;
  const double* cumulated;                  // (count): the blocks' probabilities, added up
  const float* importance;                  // (count): of their points
  const int64_t* first;                     // (count): row-major number of each block's first point
  std::span<const int64_t* const> extents;  // for each dimension (count): points along it
  std::span<const int64_t> strides;         // for each dimension
};

// Points (batch) and their importance (batch): one for each number of 0 + offset, 1 + offset .. batch - 1 + offset over batch, in the block that it
// falls into. words: random ones, 62 bits each, (batch) for every two dimensions. Throws std::invalid_argument for probabilities that do not rise.
void draw(const Blocks& blocks, double offset, const int64_t* words, size_t batch, int64_t* points, float* importance);

}  // namespace doh::train
