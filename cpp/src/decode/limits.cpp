// Defaults, sums and comparisons of the limits. All arithmetic saturates.
#include "decode/limits.h"

#include <algorithm>

#include "base/checked.h"
#include "decode/parallel.h"
#include "decode/workspace.h"
#include "format/read.h"

namespace doh {
namespace {

// To make an entry of the dense matrix, or a sine, takes about as long as so many multiply-adds.
constexpr uint64_t kDenseEntryWork = 16, kSineWork = 16;

}  // namespace

Limits limits_of(const doh_options* options) {
  Limits limits{uint64_t{1} << 30, uint64_t{1} << 20, uint64_t{1} << 20, uint64_t{1} << 42, uint64_t{1} << 28};
  if (options == nullptr) return limits;
  if (options->max_samples != 0) limits.max_samples = options->max_samples < kMaxSamples ? options->max_samples : kMaxSamples;
  if (options->max_latents != 0) limits.max_latents = options->max_latents;
  if (options->max_weights != 0) limits.max_weights = options->max_weights;
  if (options->max_work != 0) limits.max_work = options->max_work;
  if (options->max_memory != 0) limits.max_memory = options->max_memory;
  return limits;
}

uint32_t threads_of(const doh_options* options) { return thread_count(options == nullptr ? 1 : options->threads, kMaxThreads); }

Status workspace_size(const Sizes& sizes, uint64_t parts, const doh_options* options, size_t& bytes) {
  const uint32_t threads = threads_of(options);
  const uint64_t most = std::min<uint64_t>(limits_of(options).max_memory, SIZE_MAX);
  DOH_REQUIRE(workspace_bytes(sizes, threads) <= most, DOH_LIMIT_MEMORY);
  bytes = static_cast<size_t>(teams_bytes(sizes, threads, parts, most));
  return DOH_OK;
}

uint64_t work_of(const File& file, const Box& box) {
  uint64_t work = 0;
  PartReader parts(file);
  for (uint32_t i = 0; i < file.part_count; ++i) {
    if (parts.next() != DOH_OK) return UINT64_MAX;
    Box piece;
    if (!box_of_part(box, i, piece)) continue;
    const Header& h = parts.part().header;
    const uint64_t n = h.latents, d = h.weights();
    const uint64_t weights_work = h.generator == DOH_DENSE ? kDenseEntryWork * n * d : ceil_div(d, n) * n;  // at most 2^50
    work = saturating_add(work, saturating_add(weights_work, saturating_mul(piece.points(), d + kSineWork * h.depth * h.width)));
  }
  return work;
}

Status judge(const File& file, const Box& box, uint64_t memory, const Limits& limits) {
  DOH_REQUIRE(saturating_mul(box.points(), file.header.channels) <= limits.max_samples, DOH_LIMIT_SAMPLES);
  DOH_REQUIRE(file.totals.latents <= limits.max_latents, DOH_LIMIT_LATENTS);
  DOH_REQUIRE(file.totals.weights <= limits.max_weights, DOH_LIMIT_WEIGHTS);
  DOH_REQUIRE(work_of(file, box) <= limits.max_work, DOH_LIMIT_WORK);
  DOH_REQUIRE(memory <= limits.max_memory, DOH_LIMIT_MEMORY);
  return DOH_OK;
}

}  // namespace doh
