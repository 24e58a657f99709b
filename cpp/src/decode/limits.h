// The caller's limits (docs/format.md, section 11), compared before anything is sized or looped over.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "decode/box.h"
#include "format/header.h"

namespace doh {

struct Limits {
  uint64_t max_samples, max_latents, max_weights, max_work, max_memory;
};

// Zero fields of `options`, or NULL, mean the defaults.
Limits limits_of(const doh_options* options);

// Threads that the caller allows: 1 .. kMaxThreads.
uint32_t threads_of(const doh_options* options);

// Bytes of workspace for a decode of any region of a file of `parts` networks: of a mosaic as much as its threads have use for, within the limit.
[[nodiscard]] Status workspace_size(const Sizes& sizes, uint64_t parts, const doh_options* options, size_t& bytes);

// The work to make the weights of the networks with points in the box and to evaluate them there; saturates.
uint64_t work_of(const File& file, const Box& box);

// Judges a decode of a box in `memory` bytes of workspace.
[[nodiscard]] Status judge(const File& file, const Box& box, uint64_t memory, const Limits& limits);

}  // namespace doh
