// doh.h -> decode.h: checks pointers, fills structures, nothing else.
#include <algorithm>

#include "base/checked.h"
#include "decode/decode.h"
#include "decode/limits.h"
#include "doh.h"
#include "format/read.h"

namespace {

using doh::File;
using doh::Header;
using doh::Sizes;

std::span<const uint8_t> bytes(const void* data, size_t size) { return {static_cast<const uint8_t*>(data), size}; }
std::span<uint8_t> bytes(void* data, size_t size) { return {static_cast<uint8_t*>(data), size}; }

bool valid(const doh_options* options) {
  if (options == nullptr) return true;
  return options->reserved32 == 0 && std::all_of(std::begin(options->reserved), std::end(options->reserved), [](uint64_t word) { return word == 0; });
}

void fill(const File& file, doh_info& info) {
  const Header& h = file.header;
  info = {};
  info.version = file.version;
  info.signal = h.signal;
  info.sample_type = h.sample_type;
  info.dims = h.dims;
  info.channels = h.channels;
  std::copy(h.shape.begin(), h.shape.end(), info.shape);
  info.width = h.width;
  info.depth = h.depth;
  info.frequencies = h.frequencies;
  info.ladder = h.ladder;
  info.generator = h.generator;
  info.latents = static_cast<uint32_t>(file.totals.latents);
  info.seed = h.seed;
  info.weights = file.totals.weights;
  info.points = h.points();
  info.bytes_per_sample = h.bytes_per_sample();
  info.samples_bytes = info.points * h.channels * info.bytes_per_sample;
  info.work = doh::work_of(file, doh::whole_grid(h));
  info.latent_shift = h.latent_shift;
  info.bias_shift = h.bias_shift;
  info.flags = h.flags;
  info.samples_crc = file.samples_crc;
  info.file_crc = file.file_crc;
  info.header_bytes = file.header_bytes;
  info.payload_bytes = file.payload_bytes;
  std::copy(h.parts.begin(), h.parts.end(), info.parts);
  info.part_latents = h.latents;
  info.part_weights = static_cast<uint32_t>(file.part_weights);
}

// What sizes the workspace, taken from a caller's structure and checked again.
bool sizes_of(const doh_info& info, Sizes& sizes) {
  Header h{};
  h.dims = info.dims;
  h.channels = info.channels;
  h.width = info.width;
  h.depth = info.depth;
  h.frequencies = info.frequencies;
  h.generator = info.generator;
  h.latents = info.part_latents != 0 ? info.part_latents : info.latents;
  auto within = [](uint32_t value, uint32_t max) { return value >= 1 && value <= max; };
  if (!within(h.dims, doh::kMaxDims) || !within(h.channels, doh::kMaxChannels) || !within(h.width, doh::kMaxWidth) ||
      !within(h.depth, doh::kMaxDepth) || !within(h.latents, doh::kMaxLatents) || h.frequencies > doh::kMaxFrequencies)
    return false;
  sizes = h.sizes();
  if (info.part_weights != 0) sizes.weights = info.part_weights;
  return sizes.weights <= doh::kMaxWeights;
}

}  // namespace

extern "C" {

int doh_read_info(const void* data, size_t size, const doh_options* options, doh_info* info) {
  DOH_REQUIRE((data != nullptr || size == 0) && info != nullptr && valid(options), DOH_BAD_ARGUMENT);
  File file;
  DOH_TRY(doh::open_file(bytes(data, size), options, file));
  fill(file, *info);
  return DOH_OK;
}

int doh_workspace_size(const doh_info* info, const doh_options* options, size_t* size) {
  DOH_REQUIRE(info != nullptr && size != nullptr && valid(options), DOH_BAD_ARGUMENT);
  Sizes sizes;
  DOH_REQUIRE(sizes_of(*info, sizes), DOH_BAD_ARGUMENT);
  uint64_t parts = 1;
  for (const uint32_t boxes : info->parts) parts = doh::saturating_mul(parts, std::max(boxes, 1u));
  return doh::workspace_size(sizes, parts, options, *size);
}

int doh_decode(const void* data, size_t size, const doh_options* options, void* dst, size_t dst_size, void* work, size_t work_size) {
  DOH_REQUIRE((data != nullptr || size == 0) && dst != nullptr && work != nullptr && valid(options), DOH_BAD_ARGUMENT);
  return doh::decode(bytes(data, size), options, nullptr, bytes(dst, dst_size), bytes(work, work_size));
}

int doh_decode_region(const void* data, size_t size, const doh_options* options, const doh_region* region, void* dst, size_t dst_size, void* work,
                      size_t work_size) {
  DOH_REQUIRE((data != nullptr || size == 0) && region != nullptr && dst != nullptr && work != nullptr && valid(options), DOH_BAD_ARGUMENT);
  return doh::decode(bytes(data, size), options, region, bytes(dst, dst_size), bytes(work, work_size));
}

const char* doh_error_name(int error) {
  switch (error) {
#define DOH_X(name, number, text) \
  case number: return #name;
    DOH_ERRORS(DOH_X)
#undef DOH_X
    default: return "UNKNOWN";
  }
}

const char* doh_error_text(int error) {
  switch (error) {
#define DOH_X(name, number, text) \
  case number: return text;
    DOH_ERRORS(DOH_X)
#undef DOH_X
    default: return "not an error number of this library";
  }
}

const char* doh_version(void) { return DOH_VERSION; }

}  // extern "C"
