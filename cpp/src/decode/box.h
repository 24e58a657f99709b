// A box of a grid, cut by the parts of a mosaic and into tiles: pieces of lines along its longest axis (docs/format.md, section 7).
#pragma once

#include <array>
#include <cstdint>

#include "base/status.h"
#include "format/header.h"

namespace doh {

using Index = std::array<uint32_t, kMaxDims>;

// Unused dimensions are those of a single point.
struct Box {
  Index grid{1, 1, 1, 1}, offset{}, extent{1, 1, 1, 1};
  Index parts{1, 1, 1, 1};  // into which the grid falls

  // Points in the box; saturates.
  uint64_t points() const;
};

// The default grid, whole.
Box whole_grid(const Header& h);

// Checks `region`'s first `dims` entries: every extent and grid at least 1, the box inside its grid. Otherwise BAD_ARGUMENT.
[[nodiscard]] Status box_of(const Header& h, const doh_region& region, Box& box);

// Parts from the first that has points in the box to the last, of which some may have none.
uint64_t parts_of(const Box& box);

// What part number `part`, row-major, holds of the box `whole`. False: no point.
[[nodiscard]] bool box_of_part(const Box& whole, uint32_t part, Box& box);

// The tiles of a box with a bounded number of points. A tile is one piece of up to kTile points of a line along the axis `along`.
// Tiles are numbered piece by piece, and in a piece line by line, so that neighbours in number share their coordinates along the axis.
struct Tiling {
  uint32_t along;
  uint64_t lines, tiles;
  std::array<uint64_t, kMaxDims> stride;  // in points of `whole`, row-major
  uint64_t origin;                        // the first point of the box, in points of `whole`

  // Of `box`, which lies in `whole`.
  Tiling(const Box& box, const Box& whole);

  // The place in the box of line number `line`: its entry for `along` is 0.
  Index line_start(const Box& box, uint64_t line) const;
};

}  // namespace doh
