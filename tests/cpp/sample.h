// Models for tests: every field may be set before the file is written.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "check.h"
#include "doh_write.h"
#include "entropy/trellis.h"
#include "format/header.h"
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

  // The same latents but for their lowest bits, which the trellis says.
  void put_on_trellis() {
    model.flags |= doh::kOnTrellis;
    doh::Trellis trellis;
    for (int32_t& latent : latents) latent = trellis.latent(latent >> 1);
  }

  // The model with its numbers in place.
  const doh_model& filled() {
    model.scales = scales.data();
    model.scale_count = static_cast<uint32_t>(scales.size());
    model.latent_codes = latents.data();
    model.bias_codes = biases.data();
    model.output_bias_codes = output_biases.data();
    return model;
  }

  int try_write(Bytes& file) {
    filled();
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

// A mosaic of such models, which have the signal, encoding, generator and seed of the first.
struct MosaicSample {
  std::vector<uint32_t> parts;
  std::vector<Sample> networks;
  doh_model model{};  // the first

  MosaicSample(std::vector<uint32_t> boxes, const Sample& first) : parts(std::move(boxes)), networks{first}, model(first.model) {}

  // Networks of random widths, depths and numbers of latents up to those of the first, until there are enough. Depth 1 and other scales take turns.
  static MosaicSample random(uint64_t seed, std::vector<uint32_t> boxes, const Sample& first) {
    MosaicSample mosaic(std::move(boxes), first);
    Random numbers(seed);
    const doh_model& m = first.model;
    while (mosaic.networks.size() < mosaic.count()) {
      const std::vector<uint64_t> shape(m.shape, m.shape + m.dims);
      Sample next(numbers.next(), shape, m.channels, static_cast<uint32_t>(numbers.in(1, m.width)), static_cast<uint32_t>(numbers.in(1, m.depth)),
                  m.frequencies, static_cast<uint32_t>(numbers.in(1, m.latents)), m.generator, m.sample_type, numbers.in(0, 1) != 0);
      mosaic.add(next);
    }
    return mosaic;
  }

  void add(Sample next) {
    next.model.signal = model.signal;
    next.model.ladder = model.ladder;
    next.model.seed = model.seed;
    networks.push_back(std::move(next));
  }

  size_t count() const {
    size_t product = 1;
    for (const uint32_t boxes : parts) product *= boxes;
    return product;
  }

  std::vector<doh_model> models() {
    std::vector<doh_model> all;
    for (Sample& network : networks) all.push_back(network.filled());
    return all;
  }

  int try_write(Bytes& file) {
    const std::vector<doh_model> all = models();
    size_t bound = 0, written = 0;
    file.clear();
    if (const int e = doh_write_mosaic_bound(all.data(), parts.data(), &bound); e != DOH_OK) return e;
    file.resize(bound);
    const int e = doh_write_mosaic(all.data(), parts.data(), file.data(), file.size(), &written);
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

template <class Any>
doh_region whole_region(const Any& sample) {
  doh_region region{};
  for (uint32_t t = 0; t < sample.model.dims; ++t) region.grid[t] = region.extent[t] = sample.model.shape[t];
  return region;
}

// The file with the checksum of the samples that it decodes to.
template <class Any>
Bytes sealed(Any& sample) {
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

// The samples of a box, cut out of the samples of the whole grid.
inline Bytes cut(const Bytes& whole, const doh_region& region, uint32_t dims, size_t point_bytes) {
  Bytes result;
  std::vector<uint64_t> place(dims, 0);
  while (true) {
    uint64_t point = 0;
    for (uint32_t t = 0; t < dims; ++t) point = point * region.grid[t] + region.offset[t] + place[t];
    const auto at = whole.begin() + static_cast<Bytes::difference_type>(point * point_bytes);
    result.insert(result.end(), at, at + static_cast<Bytes::difference_type>(point_bytes));
    uint32_t t = dims;
    while (t-- > 0) {
      if (++place[t] < region.extent[t]) break;
      place[t] = 0;
      if (t == 0) return result;
    }
  }
}
