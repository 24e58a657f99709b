// What a kernel does with one tile, and the table of kernels: one source (tile.h), compiled for several kinds of vectors.
#pragma once

#include <span>

#include "train/step.h"

namespace doh::train {

// Memory of one thread for one tile. A panel is all that belongs to `Kernel::panel` samples: one row of so many numbers for each input, unit or
// channel.
template <class S>
struct Tile {
  S* inputs;      // panels of inputs
  S* sines;       // for each sine layer panels of its outputs
  S* cosines;     // and of their cosines; going backwards, of the gradients of its phases
  S* outputs;     // panels of outputs, then of their gradients
  size_t panels;  // at most: what the memory is for
};

// Weights in the order in which products read them: blocks of outputs, and in each a run for each input.
template <class S>
struct Packed {
  const S* forward;   // layer after layer
  const S* backward;  // the same of the transposed matrices
  // The first layer's sums are sums of one share for each dimension of a grid: (points, width) for each, biases in the first. Null where too few
  // samples make use of them.
  const S* const* shares;
  const bool* near;  // for each layer whether its phases, where its inputs are sines, are so near 0 that far ones need not be looked for
};

template <class S>
struct Kernel {
  const char* name;
  bool (*available)();
  size_t panel;  // samples
  // A layer's weights, (outputs, inputs), packed for products with it. Returns Packed::near.
  bool (*pack)(const S* weights, const S* biases, size_t outputs, size_t inputs, S* forward, S* backward);
  // Samples begin .. end - 1 of the batch, which need at most tile.panels panels. Adds to `gradient`; returns the sum of squared errors. `good`
  // becomes false when a point is not of the grid.
  double (*run)(const Network<S>& network, const Packed<S>& packed, const Batch<S>& batch, size_t begin, size_t end, const Tile<S>& tile, S* gradient,
                bool& good);
  // Rows begin .. end - 1 of dimension t's share, to `share` + begin * width.
  void (*share)(const Network<S>& network, const S* forward, std::span<const Table<S>> tables, size_t t, size_t begin, size_t end,
                const Tile<S>& tile, S* share);
  // Sines and cosines of `count` numbers, any number of them; for tests.
  void (*waves)(const S* phases, size_t count, S* sines, S* cosines);
  // Does so many multiply-adds, about, and returns how many: the most that the processor can.
  double (*multiply_adds)(double count);
};

std::span<const Kernel<float>* const> all_kernels();

// The kernel of that name; without one, of the environment variable DOH_TRAIN_KERNEL, else the best that runs here. nullptr if it is unknown or does
// not.
const Kernel<float>* find_kernel(const char* name);

extern const Kernel<double> kernel_double;

}  // namespace doh::train
