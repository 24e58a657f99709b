// Models for tests: every field may be set before the file is written.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "base/crc32c.h"
#include "check.h"
#include "doh_write.h"
#include "random.h"

using Bytes = std::vector<uint8_t>;

struct Sample {
  doh_model model{};
  std::vector<doh_scale> scales;
  std::vector<int32_t> latents, biases, output_biases;

  // A model with random codes. dims is the number of nonzero entries of `shape`.
  Sample(uint64_t seed, std::vector<uint64_t> shape, uint32_t channels, uint32_t width, uint32_t depth, uint32_t frequencies, uint32_t n,
         uint32_t generator = DOH_TIED, uint32_t sample_type = DOH_U8, bool per_layer = false) {
    Random random(seed);
    model.signal = DOH_ARRAY;
    model.sample_type = sample_type;
    model.dims = static_cast<uint32_t>(shape.size());
    for (size_t t = 0; t < shape.size(); ++t) model.shape[t] = shape[t];
    model.channels = channels;
    model.width = width;
    model.depth = depth;
    model.frequencies = frequencies;
    model.ladder = frequencies > 0 ? static_cast<uint32_t>(random.in(0, 1)) : 0;
    model.generator = generator;
    model.latents = n;
    model.seed = random.next();
    model.flags = per_layer;
    const uint32_t scale_count = per_layer ? depth + 1 : depth == 1 ? 2 : 3;
    for (uint32_t i = 0; i < scale_count; ++i) {
      const uint32_t r = static_cast<uint32_t>(generator == DOH_TIED ? random.in(2, 9) : random.in(10, 24));
      scales.push_back({static_cast<uint32_t>(random.in(0, 2047)), r, static_cast<uint32_t>(random.in(8, i + 1 == scale_count ? 14 : 17))});
    }
    model.bias_m = static_cast<uint32_t>(random.in(0, 2047));
    model.bias_e = static_cast<uint32_t>(random.in(0, 20));
    model.latent_shift = model.bias_shift = DOH_PICK_SHIFT;
    for (uint32_t i = 0; i < n; ++i) latents.push_back(random.code(8));
    for (uint32_t i = 0; i < width * depth; ++i) biases.push_back(random.code(10));
    for (uint32_t i = 0; i < channels; ++i) output_biases.push_back(random.in(-3000, 3000));
  }

  int try_write(Bytes& file) {
    model.scales = scales.data();
    model.scale_count = static_cast<uint32_t>(scales.size());
    model.latent_codes = latents.data();
    model.bias_codes = biases.data();
    model.output_bias_codes = output_biases.data();
    size_t bound = 0, written = 0;
    if (const int e = doh_write_bound(&model, &bound); e != DOH_OK) return e;
    file.resize(bound);
    const int e = doh_write(&model, file.data(), file.size(), &written);
    file.resize(e == DOH_OK ? written : 0);
    return e;
  }

  Bytes write() {
    Bytes file;
    CHECK_EQ(try_write(file), DOH_OK);
    return file;
  }
};

// Makes the file's own checksum right again after a change.
inline void seal(Bytes& file) {
  const uint32_t crc = doh::crc32c(std::span(file).first(file.size() - 4));
  for (size_t i = 0; i < 4; ++i) file[file.size() - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
}

struct Decoded {
  int error;
  Bytes samples;
};

// Decodes the box `region` (NULL: the default grid), with buffers of exactly the right size.
inline Decoded decode(const Bytes& file, const doh_region* region = nullptr, const doh_options* options = nullptr) {
  doh_info info;
  doh_options header_only{};  // limits are for the box, not for the default grid
  if (options != nullptr) header_only = *options;
  if (region != nullptr) {
    header_only.max_samples = UINT64_MAX;
    header_only.max_work = UINT64_MAX;
  }
  if (const int e = doh_read_info(file.data(), file.size(), &header_only, &info); e != DOH_OK) return {e, {}};
  size_t work_size = 0;
  if (const int e = doh_workspace_size(&info, options, &work_size); e != DOH_OK) return {e, {}};
  uint64_t bytes = uint64_t{info.channels} * info.bytes_per_sample;
  for (uint32_t t = 0; t < info.dims; ++t) bytes *= region != nullptr ? region->extent[t] : info.shape[t];
  Bytes samples(bytes), work(work_size);
  const int e = region != nullptr
                    ? doh_decode_region(file.data(), file.size(), options, region, samples.data(), samples.size(), work.data(), work.size())
                    : doh_decode(file.data(), file.size(), options, samples.data(), samples.size(), work.data(), work.size());
  return {e, samples};
}

inline doh_region whole_region(const Sample& sample) {
  doh_region region{};
  for (uint32_t t = 0; t < sample.model.dims; ++t) region.grid[t] = region.extent[t] = sample.model.shape[t];
  return region;
}

// The file with the checksum of the samples that it decodes to.
inline Bytes sealed(Sample& sample) {
  Bytes file = sample.write();
  const doh_region whole = whole_region(sample);
  const Decoded decoded = decode(file, &whole);
  CHECK_EQ(decoded.error, DOH_OK);
  Bytes canonical = decoded.samples;
  if (sample.model.sample_type >= DOH_U16 && std::endian::native == std::endian::big)
    for (size_t i = 0; i + 1 < canonical.size(); i += 2) std::swap(canonical[i], canonical[i + 1]);
  CHECK_EQ(doh_set_samples_crc(file.data(), file.size(), doh::crc32c(canonical)), DOH_OK);
  return file;
}
