// Kernels: interchangeable ways to run a tile of points through the network. All give the same bits; kernels.inc lists them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "net/network.h"

namespace doh {

inline constexpr size_t kTile = 64;   // points that a kernel takes at once
inline constexpr size_t kLanes = 32;  // a kernel may compute a multiple of these where fewer points are asked for; divides kTile

// A tile: up to kTile points, and the buffers to work in. Arrays are unit-major: value of unit o at point p is [o * kTile + p].
struct Tile {
  size_t count;            // points, 1 .. kTile; entries beyond them hold anything defined
  const uint32_t* column;  // width * kTile: sums of layer 0 that change from point to point
  const uint32_t* row;     // width: the rest of these sums, the same for all points
  int16_t* activations;    // 2 * (width + 1) * kTile of scratch
  int32_t* y;              // result, channels * kTile: the sums of the output layer
};

using ForwardFn = void (*)(const Network& net, const Tile& tile);

struct Kernel {
  const char* name;
  bool (*available)();  // on this machine
  ForwardFn forward;
  DenseSumFn dense_sum;
  size_t dense_blocks;  // for prepare_codes
};

#define DOH_KERNEL(name, condition, dense, blocks)           \
  void forward_##name(const Network& net, const Tile& tile); \
  int64_t dense_sum_##dense(const DenseRow& row, const int16_t* codes, size_t count);
#include "net/kernels.inc"
#undef DOH_KERNEL

// All kernels of this build, best first.
std::span<const Kernel> all_kernels();

// The kernel of that name; for NULL the one that the environment variable DOH_KERNEL names, or else the best. NULL when there is none here.
const Kernel* find_kernel(const char* name);

}  // namespace doh
