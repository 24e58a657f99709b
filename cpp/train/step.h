// One training step of a sine network (a SIREN): outputs, squared error and gradients of a batch, tile by tile, so that what belongs to a tile stays
// in the cache. Weights and biases are in radians: omega is in them. For float with the processor's vectors, and for double, slower, for checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace doh::train {

// out = last weights * h + output_bias after `depth` sine layers h = sin(weights * h + bias). At least one unit, layer, input and channel.
template <class S>
struct Network {
  size_t inputs, width, depth, channels;
  const S* weights;      // layer after layer, each (fan_out, fan_in)
  const S* biases;       // (depth, width)
  const S* output_bias;  // (channels)

  size_t fan_in(size_t layer) const { return layer == 0 ? inputs : width; }
  size_t fan_out(size_t layer) const { return layer == depth ? channels : width; }
  size_t offset(size_t layer) const { return layer == 0 ? 0 : width * (inputs + (layer - 1) * width); }  // of a layer's weights
  size_t weight_count() const { return offset(depth) + channels * width; }
  size_t count() const { return weight_count() + depth * width + channels; }  // of all numbers, and so of all gradients
};

// Inputs of one dimension of a grid: a row of `columns` numbers for each of its points.
template <class S>
struct Table {
  const S* rows;
  size_t points, columns;
};

inline constexpr size_t kMaxDimensions = 8;

enum class SampleType { u8 = 1, s16 = 2, s32 = 4 };  // its bytes

// What goes in and comes out. Inputs: either `inputs` or `points`. What is wanted: `outputs`, a gradient of given `output_gradient`, or the squared
// error against `samples` with its gradient; the last needs `points`.
template <class S>
struct Batch {
  size_t count = 0;
  const S* inputs = nullptr;           // (count, inputs)
  const int64_t* points = nullptr;     // (count): row-major numbers of grid points
  std::span<const Table<S>> tables;    // of the grid's dimensions; their columns side by side are the inputs
  S* outputs = nullptr;                // (count, channels)
  const S* output_gradient = nullptr;  // (count, channels)
  S* input_gradient = nullptr;         // (count, inputs), or null
  const void* samples = nullptr;       // (points of the grid, channels)
  SampleType type = SampleType::u8;
  S low = 0, top = 1;             // (sample - low) / top is what is wanted
  S factor = 1;                   // of the gradient of the sum of squared errors
  const S* importance = nullptr;  // (count): what a sample's squared errors count in the sum; null: 1
};

struct BadPoint : std::out_of_range {
  using std::out_of_range::out_of_range;
};

template <class S>
struct Kernel;

// Does what `batch` says. `gradient` (network.count() numbers: weights, biases, output biases), unless only outputs are wanted, is overwritten.
// Returns the sum of squared errors, or 0. The order of every sum depends on the batch and the kernel only, never on `threads`. Throws
// BadPoint, and std::invalid_argument for more than kMaxDimensions tables.
template <class S>
double step(const Kernel<S>& kernel, const Network<S>& network, const Batch<S>& batch, S* gradient, unsigned threads);

}  // namespace doh::train
