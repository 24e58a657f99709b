// What a header holds, as plain numbers, and what follows from them (docs/format.md, section 2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "doh.h"

namespace doh {

inline constexpr std::array<uint8_t, 4> kMagic = {0xD0, 0x48, 0x0D, 0x0A};
inline constexpr size_t kPreambleBytes = 5;              // magic and version
inline constexpr uint32_t kOneNetwork = 1, kMosaic = 2;  // versions
static_assert(kMosaic == DOH_FORMAT_VERSION);
inline constexpr size_t kChecksumBytes = 8;  // samples_crc and file_crc
inline constexpr size_t kMinFileBytes = 32;

inline constexpr uint32_t kMaxDims = DOH_MAX_DIMS, kMaxChannels = 32;
inline constexpr uint32_t kMaxExtent = 0x7FFFFFFF;          // grid points along a dimension
inline constexpr uint64_t kMaxSamples = uint64_t{1} << 40;  // points * channels
inline constexpr uint32_t kMaxParts = 65536;
inline constexpr uint32_t kMaxWidth = 1024, kMaxDepth = 64, kMaxFrequencies = 16;
inline constexpr uint32_t kMaxWeights = 1u << 24, kMaxLatents = 1u << 22;  // over all networks of a file
inline constexpr uint64_t kMaxDenseEntries = uint64_t{1} << 40;            // latents * weights
inline constexpr int64_t kMaxDenseCodeSum = int64_t{1} << 28;              // sum of |c|, exclusive
inline constexpr uint32_t kMaxScales = kMaxDepth + 1;
inline constexpr uint32_t kMaxScaleShift = 47, kMaxPrecision = 17, kMaxOutputPrecision = 14, kMaxBiasExponent = 20;
inline constexpr uint32_t kScalePerLayer = 1, kOnTrellis = 4;  // flags bits 0 and 2

struct Scale {
  uint32_t m, r, q;
  constexpr uint32_t multiplier() const { return 2048 + m; }  // [2048, 4095]
};

// What sizes a workspace.
struct Sizes {
  uint32_t generator, channels, width, latents, hidden_biases;
  uint64_t weights;
};

// One network and the signal that it is of, or is a part of.
struct Header {
  uint32_t signal, sample_type, dims, channels;
  std::array<uint32_t, kMaxDims> shape;                 // unused dimensions are 1
  std::array<uint32_t, kMaxDims> parts = {1, 1, 1, 1};  // boxes along each dimension
  uint32_t width, depth, frequencies, ladder;
  uint32_t generator, latents;
  uint64_t seed;
  uint32_t flags;
  std::array<Scale, kMaxScales> scales;
  uint32_t bias_m, bias_e;
  uint32_t latent_shift, bias_shift;

  uint32_t inputs_per_dim() const { return 1 + 2 * frequencies; }
  uint32_t fan_in(uint32_t layer) const { return layer == 0 ? dims * inputs_per_dim() : width; }
  uint32_t fan_out(uint32_t layer) const { return layer == depth ? channels : width; }
  uint64_t layer_weights(uint32_t layer) const { return uint64_t{fan_out(layer)} * fan_in(layer); }
  // D
  uint64_t weights() const { return layer_weights(0) + (depth - 1) * uint64_t{width} * width + uint64_t{channels} * width; }
  uint32_t hidden_biases() const { return depth * width; }
  uint64_t points() const {  // at most kMaxSamples in a checked header
    uint64_t product = 1;
    for (const uint32_t extent : shape) product *= extent;
    return product;
  }

  bool on_trellis() const { return (flags & kOnTrellis) != 0; }
  uint32_t scale_count() const { return (flags & kScalePerLayer) != 0 ? depth + 1 : (depth == 1 ? 2 : 3); }
  const Scale& scale(uint32_t layer) const {
    if ((flags & kScalePerLayer) != 0 || layer == 0) return scales[layer];
    return scales[layer == depth ? scale_count() - 1 : 1];
  }

  Sizes sizes() const { return {generator, channels, width, latents, hidden_biases(), weights()}; }

  uint32_t bytes_per_sample() const { return sample_type == DOH_U16 || sample_type == DOH_S16 ? 2 : 1; }
  uint32_t top() const { return sample_type == DOH_U1 ? 1 : sample_type == DOH_U8 ? 255 : 65535; }  // the highest sample
};

// Over all networks of a file.
struct Totals {
  uint64_t latents = 0, weights = 0;
};

// A checked file and where its networks lie. Views into the caller's bytes.
struct File {
  uint32_t version;
  Header header;        // of a mosaic: the fields that its networks share, and the largest width, depth and latents of any
  uint32_t part_count;  // networks; 1 unless it is a mosaic
  Totals totals;
  uint64_t part_weights;               // the largest D of any network
  std::span<const uint8_t> networks;   // the payload; of a mosaic: the records
  size_t header_bytes, payload_bytes;  // magic, version and fields; codes
  uint32_t samples_crc, file_crc;

  // Of a workspace in which each of the networks has room.
  Sizes sizes() const {
    Sizes most = header.sizes();
    most.weights = part_weights;
    return most;
  }
};

// One network of a file.
struct Part {
  Header header;
  std::span<const uint8_t> payload;
};

}  // namespace doh
