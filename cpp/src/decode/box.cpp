// Boxes and the numbering of their tiles.
#include "decode/box.h"

#include <algorithm>

#include "base/checked.h"
#include "net/coordinates.h"
#include "net/kernels.h"

namespace doh {

uint64_t Box::points() const {
  uint64_t product = 1;
  for (const uint32_t points : extent) product = saturating_mul(product, points);
  return product;
}

Box whole_grid(const Header& h) { return {h.shape, {}, h.shape, h.parts}; }

Status box_of(const Header& h, const doh_region& region, Box& box) {
  box = {};
  box.parts = h.parts;
  for (uint32_t t = 0; t < h.dims; ++t) {
    const uint64_t grid = region.grid[t], offset = region.offset[t], extent = region.extent[t];
    DOH_REQUIRE(grid >= 1 && grid <= kMaxExtent && extent >= 1 && extent <= grid && offset <= grid - extent, DOH_BAD_ARGUMENT);
    box.grid[t] = static_cast<uint32_t>(grid);
    box.offset[t] = static_cast<uint32_t>(offset);
    box.extent[t] = static_cast<uint32_t>(extent);
  }
  return DOH_OK;
}

uint64_t parts_of(const Box& box) {
  uint64_t product = 1;
  for (uint32_t t = 0; t < kMaxDims; ++t) {
    const uint32_t last = box.offset[t] + box.extent[t] - 1;
    product *= part_of(last, box.grid[t], box.parts[t]) - part_of(box.offset[t], box.grid[t], box.parts[t]) + 1;
  }
  return product;
}

bool box_of_part(const Box& whole, uint32_t part, Box& box) {
  box = whole;
  for (uint32_t t = kMaxDims; t-- > 0;) {
    const uint32_t k = whole.parts[t], a = part % k;
    part /= k;
    const uint32_t first = std::max(whole.offset[t], first_index(a, k, whole.grid[t]));
    const uint32_t end = std::min(whole.offset[t] + whole.extent[t], first_index(a + 1, k, whole.grid[t]));
    if (first >= end) return false;
    box.offset[t] = first;
    box.extent[t] = end - first;
  }
  return true;
}

Tiling::Tiling(const Box& box, const Box& whole) : along(kMaxDims - 1), stride{}, origin(0) {
  uint64_t points = 1;
  for (uint32_t t = kMaxDims; t-- > 0;) {
    if (box.extent[t] > box.extent[along]) along = t;
    stride[t] = points;
    points *= whole.extent[t];
    origin += stride[t] * (box.offset[t] - whole.offset[t]);
  }
  lines = box.points() / box.extent[along];
  tiles = lines * ceil_div(box.extent[along], kTile);
}

Index Tiling::line_start(const Box& box, uint64_t line) const {
  Index place{};
  for (uint32_t t = kMaxDims; t-- > 0;) {
    if (t == along) continue;
    place[t] = static_cast<uint32_t>(line % box.extent[t]);
    line /= box.extent[t];
  }
  return place;
}

}  // namespace doh
