// Evaluates tiles of a box. A range of tiles is an independent call: it writes the samples of its own points and reads nothing of the others.
#pragma once

#include <cstdint>

#include "decode/box.h"
#include "decode/cancel.h"
#include "decode/workspace.h"
#include "net/kernels.h"
#include "net/network.h"

namespace doh {

struct TileJob {
  const Network& net;
  const Box& box;
  const Tiling& tiling;
  const Kernel& kernel;
  uint8_t* samples;  // of all that the tiling's strides are of, row-major, channels last
  Cancel& cancel;
};

// Decodes tiles `first` .. `last` - 1 of the job, or fewer if it is to be cancelled. `asks`: this is the thread that asks the caller.
void decode_tiles(const TileJob& job, const TileSpace& space, uint64_t first, uint64_t last, bool asks);

}  // namespace doh
