// The one list of header fields, in file order, each with its range: reading, writing and checking expand it (docs/format.md, section 2).
// Io is HeaderReader or HeaderWriter; both judge a field as soon as it has passed.
#pragma once

#include <initializer_list>

#include "base/bytes.h"
#include "base/checked.h"
#include "format/header.h"

namespace doh {

// Some bits of a little-endian field of one to four bytes; the first stands lowest.
struct Bits {
  uint32_t& value;
  unsigned count;
};

class HeaderReader {
 public:
  explicit HeaderReader(ByteReader& in) : in_(in) {}

  Status packed(unsigned bytes, Status /*error*/, std::initializer_list<Bits> fields) {
    uint32_t word = in_.uint(bytes);
    for (const Bits& bits : fields) {
      bits.value = word & ((1u << bits.count) - 1);
      word >>= bits.count;
    }
    return in_.status();
  }

  Status varint(uint64_t& value) {
    value = in_.varint();
    return in_.status();
  }

 private:
  ByteReader& in_;
};

class HeaderWriter {
 public:
  explicit HeaderWriter(ByteWriter& out) : out_(out) {}

  Status packed(unsigned bytes, Status error, std::initializer_list<Bits> fields) {
    uint32_t word = 0;
    unsigned position = 0;
    for (const Bits& bits : fields) {
      DOH_REQUIRE(bits.value >> bits.count == 0, error);
      word |= bits.value << position;
      position += bits.count;
    }
    out_.uint(bytes, word);
    return out_.status();
  }

  Status varint(const uint64_t& value) {
    out_.varint(value);
    return out_.status();
  }

 private:
  ByteWriter& out_;
};

// A varint that must lie in [1, max].
template <class Io>
[[nodiscard]] Status count_field(Io& io, uint32_t& value, uint32_t max, Status error) {
  uint64_t wide = value;
  DOH_TRY(io.varint(wide));
  DOH_REQUIRE(wide >= 1 && wide <= max, error);
  value = static_cast<uint32_t>(wide);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status signal_fields(Io& io, Header& h) {
  DOH_TRY(io.packed(1, DOH_BAD_SIGNAL, {{h.signal, 4}, {h.sample_type, 4}}));
  DOH_REQUIRE(h.signal <= DOH_VIDEO && h.sample_type <= DOH_S16, DOH_BAD_SIGNAL);

  uint32_t more_channels = h.channels - 1;
  DOH_TRY(io.packed(1, DOH_BAD_SIGNAL, {{h.dims, 3}, {more_channels, 5}}));
  DOH_REQUIRE(h.dims >= 1 && h.dims <= kMaxDims, DOH_BAD_SIGNAL);
  h.channels = more_channels + 1;

  uint64_t samples = h.channels;
  for (uint32_t t = 0; t < kMaxDims; ++t) {
    if (t < h.dims)
      DOH_TRY(count_field(io, h.shape[t], kMaxExtent, DOH_BAD_SHAPE));
    else
      h.shape[t] = 1;
    samples = saturating_mul(samples, h.shape[t]);
  }
  DOH_REQUIRE(samples <= kMaxSamples, DOH_BAD_SHAPE);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status network_fields(Io& io, Header& h) {
  uint32_t zero = 0;
  DOH_TRY(count_field(io, h.width, kMaxWidth, DOH_BAD_NETWORK));
  DOH_TRY(io.packed(1, DOH_BAD_NETWORK, {{h.depth, 8}}));
  DOH_REQUIRE(h.depth >= 1 && h.depth <= kMaxDepth, DOH_BAD_NETWORK);
  DOH_TRY(io.packed(1, DOH_BAD_NETWORK, {{h.frequencies, 5}, {h.ladder, 1}, {zero, 2}}));
  DOH_REQUIRE(h.frequencies <= kMaxFrequencies && zero == 0, DOH_BAD_NETWORK);
  DOH_REQUIRE(h.frequencies > 0 || h.ladder == DOH_OCTAVES, DOH_BAD_NETWORK);
  DOH_REQUIRE(h.weights() <= kMaxWeights, DOH_BAD_NETWORK);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status generator_fields(Io& io, Header& h) {
  DOH_TRY(io.packed(1, DOH_BAD_GENERATOR, {{h.generator, 8}}));
  DOH_REQUIRE(h.generator <= DOH_DENSE, DOH_BAD_GENERATOR);
  DOH_TRY(io.varint(h.seed));
  DOH_TRY(count_field(io, h.latents, kMaxLatents, DOH_BAD_GENERATOR));
  DOH_REQUIRE(h.generator != DOH_DENSE || h.latents * h.weights() <= kMaxDenseEntries, DOH_BAD_GENERATOR);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status scale_fields(Io& io, Header& h) {
  uint32_t zero = 0;
  DOH_TRY(io.packed(1, DOH_BAD_SCALE, {{h.flags, 1}, {zero, 7}}));
  DOH_REQUIRE(zero == 0, DOH_BAD_SCALE);
  const uint32_t count = h.scale_count();
  for (uint32_t i = 0; i < count; ++i) {
    Scale& scale = h.scales[i];
    DOH_TRY(io.packed(3, DOH_BAD_SCALE, {{scale.m, 11}, {scale.r, 6}, {scale.q, 5}, {zero, 2}}));
    const uint32_t max_precision = i == count - 1 ? kMaxOutputPrecision : kMaxPrecision;
    DOH_REQUIRE(scale.r <= kMaxScaleShift && scale.q <= max_precision && zero == 0, DOH_BAD_SCALE);
  }
  DOH_TRY(io.packed(2, DOH_BAD_SCALE, {{h.bias_m, 11}, {h.bias_e, 5}}));
  DOH_REQUIRE(h.bias_e <= kMaxBiasExponent, DOH_BAD_SCALE);
  DOH_TRY(io.packed(1, DOH_BAD_SCALE, {{h.latent_shift, 4}, {h.bias_shift, 4}}));
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status header_fields(Io& io, Header& h) {
  DOH_TRY(signal_fields(io, h));
  DOH_TRY(network_fields(io, h));
  DOH_TRY(generator_fields(io, h));
  return scale_fields(io, h);
}

}  // namespace doh
