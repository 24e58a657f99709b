// What lies in the caller's workspace: one layout gives both its size and its pieces.
#pragma once

#include <cstdint>
#include <span>

#include "base/arena.h"
#include "format/header.h"
#include "net/generate.h"

namespace doh {

// The codes of a network, and the network made from them.
struct ModelSpace {
  std::span<int16_t> latents, hidden_biases, output_biases;
  SortSpace sort;               // tied
  std::span<int16_t> prepared;  // dense: codes in the kernel's order
  std::span<int16_t> weights;
  std::span<uint32_t> biases;

  ModelSpace(const Sizes& sizes, Arena& arena);
};

// What one thread needs to evaluate tiles.
struct TileSpace {
  std::span<uint32_t> column, row;
  std::span<int16_t> activations;
  std::span<int32_t> y;

  TileSpace(const Sizes& sizes, Arena& arena);
};

// Bytes of a TileSpace with nothing before it.
uint64_t tile_space_bytes(const Sizes& sizes);

// Bytes of workspace for a decode of any region with so many threads, one network after the other.
uint64_t workspace_bytes(const Sizes& sizes, uint32_t threads);

// Networks that can be decoded at once in so many bytes, at most `parts`, by teams of threads / teams threads, each with a workspace of its own.
uint32_t team_count(const Sizes& sizes, uint32_t threads, uint64_t parts, uint64_t bytes);

// Bytes of workspace for as many teams as have use, or else room in `max_bytes`, but for one at least.
uint64_t teams_bytes(const Sizes& sizes, uint32_t threads, uint64_t parts, uint64_t max_bytes);

}  // namespace doh
