// The layout of the workspace.
#include "decode/workspace.h"

#include <algorithm>

#include "net/kernels.h"

namespace doh {

ModelSpace::ModelSpace(const Sizes& sizes, Arena& arena) {
  latents = arena.take<int16_t>(sizes.latents);
  hidden_biases = arena.take<int16_t>(sizes.hidden_biases);
  output_biases = arena.take<int16_t>(sizes.channels);
  weights = arena.take<int16_t>(sizes.weights);
  biases = arena.take<uint32_t>(uint64_t{sizes.hidden_biases} + sizes.channels);
  if (sizes.generator == DOH_TIED) {
    sort.keys = arena.take<uint32_t>(2 * uint64_t{sizes.latents});
    sort.indices = arena.take<uint32_t>(2 * uint64_t{sizes.latents});
  } else {
    prepared = arena.take<int16_t>(padded_codes(sizes.latents));
  }
}

TileSpace::TileSpace(const Sizes& sizes, Arena& arena) {
  column = arena.take<uint32_t>(sizes.width * uint64_t{kTile});
  row = arena.take<uint32_t>(sizes.width);
  activations = arena.take<int16_t>(2 * (sizes.width + uint64_t{1}) * kTile);
  y = arena.take<int32_t>(sizes.channels * uint64_t{kTile});
}

uint64_t tile_space_bytes(const Sizes& sizes) {
  Arena counter;
  TileSpace(sizes, counter);
  return counter.bytes();
}

uint64_t workspace_bytes(const Sizes& sizes, uint32_t threads) {
  Arena counter;
  ModelSpace(sizes, counter);
  counter.take<uint8_t>(threads * tile_space_bytes(sizes));
  return counter.bytes();
}

uint32_t team_count(const Sizes& sizes, uint32_t threads, uint64_t parts, uint64_t bytes) {
  auto teams = static_cast<uint32_t>(std::min<uint64_t>(threads, parts));
  while (teams > 1 && teams * workspace_bytes(sizes, threads / teams) > bytes) --teams;
  return teams;
}

uint64_t teams_bytes(const Sizes& sizes, uint32_t threads, uint64_t parts, uint64_t max_bytes) {
  const uint32_t teams = team_count(sizes, threads, parts, max_bytes);
  return std::max(workspace_bytes(sizes, threads), teams * workspace_bytes(sizes, threads / teams));
}

}  // namespace doh
