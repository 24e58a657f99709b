// Layer 0 splits into one sum for each dimension of the grid; modulo 2^32 their total is exact in any order (docs/format.md, section 9).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "net/network.h"

namespace doh {

// Adds to sums[o * stride + p] what the inputs of dimension `t` give to unit o of layer 0 at coordinate x[p]. At most kTile coordinates.
void add_dimension(const Network& net, uint32_t t, std::span<const int32_t> x, uint32_t* sums, size_t stride);

}  // namespace doh
