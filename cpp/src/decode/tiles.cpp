// Coordinates -> sums of layer 0 -> kernel -> samples, one tile after the other.
#include "decode/tiles.h"

#include <array>
#include <cstring>

#include "net/coordinates.h"
#include "net/first_layer.h"
#include "net/samples.h"

namespace doh {
namespace {

// Sums of layer 0 along the axis for the points from `start` on. Up to the next multiple of kLanes the last point is repeated.
void fill_column(const TileJob& job, uint32_t start, size_t count, std::span<uint32_t> column) {
  const uint32_t t = job.tiling.along;
  const size_t lanes = (count + kLanes - 1) / kLanes * kLanes;
  std::array<int32_t, kTile> x;
  for (size_t p = 0; p < lanes; ++p) {
    const auto place = static_cast<uint32_t>(start + (p < count ? p : count - 1));
    x[p] = coordinate(job.box.offset[t] + place, job.box.grid[t], job.box.parts[t]);
  }
  std::memset(column.data(), 0, column.size_bytes());
  if (t < job.net.header->dims) add_dimension(job.net, t, std::span(x).first(lanes), column.data(), kTile);
}

// The sums of layer 0 of all other dimensions.
void fill_row(const TileJob& job, const Index& place, std::span<uint32_t> row) {
  std::memset(row.data(), 0, row.size_bytes());
  for (uint32_t t = 0; t < job.net.header->dims; ++t) {
    if (t == job.tiling.along) continue;
    const int32_t x = coordinate(job.box.offset[t] + place[t], job.box.grid[t], job.box.parts[t]);
    add_dimension(job.net, t, {&x, 1}, row.data(), 1);
  }
}

template <class Sample>
void store(const TileJob& job, const SampleRule& rule, const int32_t* y, size_t count, uint64_t first_point) {
  const size_t channels = job.net.header->channels;
  const uint64_t stride = job.tiling.stride[job.tiling.along];
  for (size_t p = 0; p < count; ++p) {
    uint8_t* const to = job.samples + static_cast<size_t>((first_point + p * stride) * channels * sizeof(Sample));
    for (size_t c = 0; c < channels; ++c) {
      const auto sample = static_cast<Sample>(rule(y[c * kTile + p]));
      std::memcpy(to + c * sizeof(Sample), &sample, sizeof(Sample));  // the caller's buffer may have any alignment
    }
  }
}

}  // namespace

void decode_tiles(const TileJob& job, const TileSpace& space, uint64_t first, uint64_t last, bool asks) {
  const Box& box = job.box;
  const Tiling& tiling = job.tiling;
  const SampleRule rule(*job.net.header);
  uint32_t start = 0;
  size_t count = 0;
  for (uint64_t tile = first; tile < last && !job.cancel.wanted(asks); ++tile) {
    const uint64_t line = tile % tiling.lines;
    if (tile == first || line == 0) {  // the next piece of the axis
      start = static_cast<uint32_t>(tile / tiling.lines * kTile);
      count = box.extent[tiling.along] - start < kTile ? box.extent[tiling.along] - start : kTile;
      fill_column(job, start, count, space.column);
    }
    const Index place = tiling.line_start(box, line);
    fill_row(job, place, space.row);
    job.kernel.forward(job.net, {count, space.column.data(), space.row.data(), space.activations.data(), space.y.data()});

    uint64_t point = tiling.origin + start * tiling.stride[tiling.along];
    for (uint32_t t = 0; t < kMaxDims; ++t) point += place[t] * tiling.stride[t];
    if (job.net.header->bytes_per_sample() == 2)
      store<uint16_t>(job, rule, space.y.data(), count, point);
    else
      store<uint8_t>(job, rule, space.y.data(), count, point);
  }
}

}  // namespace doh
