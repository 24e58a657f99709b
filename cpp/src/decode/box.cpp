// Boxes and the numbering of their tiles.
#include "decode/box.h"

#include "base/checked.h"
#include "net/kernels.h"

namespace doh {

uint64_t Box::points() const {
  uint64_t product = 1;
  for (const uint32_t points : extent) product = saturating_mul(product, points);
  return product;
}

Box whole_grid(const Header& h) { return {h.shape, {}, h.shape}; }

Status box_of(const Header& h, const doh_region& region, Box& box) {
  box = {{1, 1, 1, 1}, {}, {1, 1, 1, 1}};
  for (uint32_t t = 0; t < h.dims; ++t) {
    const uint64_t grid = region.grid[t], offset = region.offset[t], extent = region.extent[t];
    DOH_REQUIRE(grid >= 1 && grid <= kMaxExtent && extent >= 1 && extent <= grid && offset <= grid - extent, DOH_BAD_ARGUMENT);
    box.grid[t] = static_cast<uint32_t>(grid);
    box.offset[t] = static_cast<uint32_t>(offset);
    box.extent[t] = static_cast<uint32_t>(extent);
  }
  return DOH_OK;
}

Tiling::Tiling(const Box& box) : along(kMaxDims - 1), stride{} {
  uint64_t points = 1;
  for (uint32_t t = kMaxDims; t-- > 0;) {
    if (box.extent[t] > box.extent[along]) along = t;
    stride[t] = points;
    points *= box.extent[t];
  }
  lines = points / box.extent[along];
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
