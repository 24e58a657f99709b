// The one list of header fields, each with its range: reading, writing and checking expand it (docs/format.md, section 2). At the end: their order.
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
    DOH_REQUIRE(samples <= kMaxSamples, DOH_BAD_SHAPE);
  }
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status parts_fields(Io& io, Header& h) {
  uint64_t count = 1;
  for (uint32_t t = 0; t < kMaxDims; ++t) {
    if (t < h.dims)
      DOH_TRY(count_field(io, h.parts[t], h.shape[t], DOH_BAD_SHAPE));
    else
      h.parts[t] = 1;
    count *= h.parts[t];  // below 2^48
    DOH_REQUIRE(count <= kMaxParts, DOH_BAD_SHAPE);
  }
  DOH_REQUIRE(count >= 2, DOH_BAD_SHAPE);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status layer_fields(Io& io, Header& h) {
  DOH_TRY(count_field(io, h.width, kMaxWidth, DOH_BAD_NETWORK));
  DOH_TRY(io.packed(1, DOH_BAD_NETWORK, {{h.depth, 8}}));
  DOH_REQUIRE(h.depth >= 1 && h.depth <= kMaxDepth, DOH_BAD_NETWORK);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status encoding_field(Io& io, Header& h) {
  uint32_t zero = 0;
  DOH_TRY(io.packed(1, DOH_BAD_NETWORK, {{h.frequencies, 5}, {h.ladder, 1}, {zero, 2}}));
  DOH_REQUIRE(h.frequencies <= kMaxFrequencies && zero == 0, DOH_BAD_NETWORK);
  DOH_REQUIRE(h.frequencies > 0 || h.ladder == DOH_OCTAVES, DOH_BAD_NETWORK);
  return DOH_OK;
}

// No field: D, which follows from layers and encoding.
[[nodiscard]] inline Status add_weights(const Header& h, Totals& totals) {
  totals.weights += h.weights();
  DOH_REQUIRE(totals.weights <= kMaxWeights, DOH_BAD_NETWORK);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status generator_fields(Io& io, Header& h) {
  DOH_TRY(io.packed(1, DOH_BAD_GENERATOR, {{h.generator, 8}}));
  DOH_REQUIRE(h.generator <= DOH_DENSE, DOH_BAD_GENERATOR);
  return io.varint(h.seed);
}

template <class Io>
[[nodiscard]] Status latents_field(Io& io, Header& h, Totals& totals) {
  DOH_TRY(count_field(io, h.latents, kMaxLatents, DOH_BAD_GENERATOR));
  totals.latents += h.latents;
  DOH_REQUIRE(totals.latents <= kMaxLatents, DOH_BAD_GENERATOR);
  DOH_REQUIRE(h.generator != DOH_DENSE || h.latents * h.weights() <= kMaxDenseEntries, DOH_BAD_GENERATOR);
  return DOH_OK;
}

template <class Io>
[[nodiscard]] Status scale_fields(Io& io, Header& h) {
  uint32_t zero = 0;
  DOH_TRY(io.packed(1, DOH_BAD_SCALE, {{h.flags, 8}}));
  DOH_REQUIRE((h.flags & ~(kScalePerLayer | kOnTrellis)) == 0, DOH_BAD_SCALE);
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

// All of a file of one network.
template <class Io>
[[nodiscard]] Status header_fields(Io& io, Header& h, Totals& totals) {
  DOH_TRY(signal_fields(io, h));
  DOH_TRY(layer_fields(io, h));
  DOH_TRY(encoding_field(io, h));
  DOH_TRY(add_weights(h, totals));
  DOH_TRY(generator_fields(io, h));
  DOH_TRY(latents_field(io, h, totals));
  return scale_fields(io, h);
}

// What the networks of a mosaic share.
template <class Io>
[[nodiscard]] Status common_fields(Io& io, Header& h) {
  DOH_TRY(signal_fields(io, h));
  DOH_TRY(parts_fields(io, h));
  DOH_TRY(encoding_field(io, h));
  return generator_fields(io, h);
}

// What each of them has in its record. The rest of `h` is the common fields.
template <class Io>
[[nodiscard]] Status record_fields(Io& io, Header& h, Totals& totals) {
  DOH_TRY(layer_fields(io, h));
  DOH_TRY(add_weights(h, totals));
  DOH_TRY(latents_field(io, h, totals));
  return scale_fields(io, h);
}

}  // namespace doh
