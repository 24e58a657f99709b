// The layout of the workspace.
#include "decode/workspace.h"

#include "net/kernels.h"

namespace doh {

ModelSpace::ModelSpace(const Header& h, Arena& arena) {
  latents = arena.take<int16_t>(h.latents);
  hidden_biases = arena.take<int16_t>(h.hidden_biases());
  output_biases = arena.take<int16_t>(h.channels);
  weights = arena.take<int16_t>(h.weights());
  biases = arena.take<uint32_t>(uint64_t{h.hidden_biases()} + h.channels);
  if (h.generator == DOH_TIED) {
    sort.keys = arena.take<uint32_t>(2 * uint64_t{h.latents});
    sort.indices = arena.take<uint32_t>(2 * uint64_t{h.latents});
  } else {
    prepared = arena.take<int16_t>(padded_codes(h.latents));
  }
}

TileSpace::TileSpace(const Header& h, Arena& arena) {
  column = arena.take<uint32_t>(h.width * uint64_t{kTile});
  row = arena.take<uint32_t>(h.width);
  activations = arena.take<int16_t>(2 * (h.width + uint64_t{1}) * kTile);
  y = arena.take<int32_t>(h.channels * uint64_t{kTile});
}

uint64_t tile_space_bytes(const Header& h) {
  Arena counter;
  TileSpace(h, counter);
  return counter.bytes();
}

uint64_t workspace_bytes(const Header& h, uint32_t threads) {
  Arena counter;
  ModelSpace(h, counter);
  counter.take<uint8_t>(threads * tile_space_bytes(h));
  return counter.bytes();
}

}  // namespace doh
