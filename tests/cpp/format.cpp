// Tests of cpp/src/format: every header field out of range, the order of the checks, and the payload's form.
#include <bit>

#include "base/bytes.h"
#include "check.h"
#include "format/read.h"
#include "sample.h"

using namespace doh;

namespace {

// One dimension, one channel, depth 2: all fields are one byte (or as noted) and lie at these places.
enum Place : size_t {
  kSignal = 5,
  kDims,
  kShape,
  kWidth,
  kDepth,
  kEncoding,
  kGenerator,
  kSeed,
  kLatents,
  kFlags,
  kScale0,
  kBias = 24,
  kShifts = 26,
  kEnd
};

Sample small() {
  Sample sample(1, {5}, 1, 3, 2, 2, 10);
  sample.model.seed = 7;
  sample.latents.assign(10, 100);  // so that the payload is not empty
  sample.model.latent_shift = sample.model.bias_shift = 3;
  return sample;
}

int read(const Bytes& data) {
  File file;
  return read_file(data, file);
}

int with_byte(size_t place, uint8_t value) {
  Bytes file = small().write();
  file[place] = value;
  seal(file);
  return read(file);
}

// The file with `bytes` in place of one byte.
int with_bytes(size_t place, const Bytes& bytes) {
  Bytes file = small().write();
  const auto at = file.begin() + static_cast<Bytes::difference_type>(place);
  file.insert(file.erase(at), bytes.begin(), bytes.end());
  seal(file);
  return read(file);
}

Bytes varint(uint64_t value) {
  Bytes bytes(10);
  ByteWriter out(bytes);
  out.varint(value);
  bytes.resize(out.position());
  return bytes;
}

}  // namespace

TEST(header_fields_are_read_back) {
  for (const bool per_layer : {false, true})
    for (uint32_t depth = 1; depth <= 4; ++depth) {
      Sample sample(depth, {3, 200, 1, 70000}, 32, 20, depth, 16, 3000, DOH_TIED, DOH_S16, per_layer);
      sample.model.signal = DOH_VIDEO;
      sample.model.seed = UINT64_MAX;
      sample.model.bias_e = 20;
      sample.model.bias_m = 2047;
      sample.model.latent_shift = 15;
      sample.model.bias_shift = 0;
      const Bytes bytes = sample.write();
      File file;
      CHECK_EQ(read_file(bytes, file), DOH_OK);
      const Header& h = file.header;
      CHECK_EQ(h.signal, sample.model.signal);
      CHECK_EQ(h.sample_type, sample.model.sample_type);
      CHECK_EQ(h.dims, 4u);
      CHECK_EQ(h.channels, 32u);
      CHECK(h.shape == (std::array<uint32_t, 4>{3, 200, 1, 70000}));
      CHECK_EQ(h.width, 20u);
      CHECK_EQ(h.depth, depth);
      CHECK_EQ(h.frequencies, 16u);
      CHECK_EQ(h.ladder, sample.model.ladder);
      CHECK_EQ(h.seed, UINT64_MAX);
      CHECK_EQ(h.latents, 3000u);
      CHECK_EQ(h.flags, per_layer ? 1u : 0u);
      CHECK_EQ(h.scale_count(), static_cast<uint32_t>(sample.scales.size()));
      for (uint32_t layer = 0; layer <= depth; ++layer) {
        const size_t index = per_layer ? layer : layer == 0 ? 0 : layer == depth ? sample.scales.size() - 1 : 1;
        CHECK_EQ(h.scale(layer).m, sample.scales[index].m);
        CHECK_EQ(h.scale(layer).r, sample.scales[index].r);
        CHECK_EQ(h.scale(layer).q, sample.scales[index].q);
      }
      CHECK_EQ(h.bias_m, 2047u);
      CHECK_EQ(h.bias_e, 20u);
      CHECK_EQ(h.latent_shift, 15u);
      CHECK_EQ(h.bias_shift, 0u);
      CHECK_EQ(h.weights(), 20u * 4 * 33 + 400u * (depth - 1) + 640);
      CHECK_EQ(h.points(), 3ull * 200 * 70000);
      CHECK_EQ(file.header_bytes + file.payload_bytes + 8, bytes.size());
    }
}

TEST(the_smallest_file) {
  Sample sample(1, {1}, 1, 1, 1, 0, 1);
  sample.latents = {0};
  sample.biases = {0};
  sample.output_biases = {0};
  sample.model.seed = 0;
  const Bytes file = sealed(sample);
  CHECK(file.size() >= 32);
  CHECK_EQ(decode(file).error, DOH_OK);
}

TEST(places_of_the_small_file) {  // the other tests rely on them
  const Bytes file = small().write();
  CHECK_EQ(file[kShape], 5);
  CHECK_EQ(file[kWidth], 3);
  CHECK_EQ(file[kDepth], 2);
  CHECK_EQ(file[kSeed], 7);
  CHECK_EQ(file[kLatents], 10);
  CHECK_EQ(file[kShifts], 0x33);
  CHECK_EQ(read(file), DOH_OK);
}

TEST(container_checks_in_order) {
  Bytes file = small().write();
  CHECK_EQ(read({}), DOH_TRUNCATED);
  CHECK_EQ(read({0xD0}), DOH_TRUNCATED);
  CHECK_EQ(read({0xD1}), DOH_BAD_MAGIC);
  CHECK_EQ(read({0xD0, 0x48, 0x0A}), DOH_BAD_MAGIC);
  CHECK_EQ(read(Bytes(31, 0)), DOH_BAD_MAGIC);
  CHECK_EQ(read(Bytes(file.begin(), file.begin() + 31)), DOH_TRUNCATED);
  CHECK_EQ(read(Bytes(file.begin(), file.end() - 1)), DOH_BAD_CHECKSUM);
  file.push_back(0);
  CHECK_EQ(read(file), DOH_BAD_CHECKSUM);
  file.pop_back();
  file[4] = 3;
  CHECK_EQ(read(file), DOH_BAD_VERSION);
  file[3] = 0;
  CHECK_EQ(read(file), DOH_BAD_MAGIC);
}

TEST(signal_fields_out_of_range) {
  CHECK_EQ(with_byte(kSignal, 6), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kSignal, 15), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kSignal, 0x40), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kSignal, 0x35), DOH_OK);
  CHECK_EQ(with_byte(kDims, 0), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kDims, 5), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kDims, 7), DOH_BAD_SIGNAL);
  CHECK_EQ(with_byte(kDims, 0xF9), DOH_OK);  // 32 channels
  CHECK_EQ(with_byte(kShape, 0), DOH_BAD_SHAPE);
  CHECK_EQ(with_bytes(kShape, varint(0x7FFFFFFF)), DOH_OK);
  CHECK_EQ(with_bytes(kShape, varint(0x80000000)), DOH_BAD_SHAPE);
  CHECK_EQ(with_bytes(kShape, varint(UINT64_MAX)), DOH_BAD_SHAPE);
  CHECK_EQ(with_bytes(kShape, {0x85, 0x00}), DOH_BAD_VARINT);
}

TEST(points_times_channels) {
  Bytes file;
  CHECK_EQ(Sample(1, {1 << 20, 1 << 20}, 1, 1, 1, 0, 1).try_write(file), DOH_OK);
  CHECK_EQ(read(file), DOH_OK);
  CHECK_EQ(Sample(1, {1 << 20, 1 << 20}, 2, 1, 1, 0, 1).try_write(file), DOH_BAD_SHAPE);
  const uint64_t most = 0x7FFFFFFF;
  CHECK_EQ(Sample(1, {most, most, most, most}, 32, 1, 1, 0, 1).try_write(file), DOH_BAD_SHAPE);
  CHECK_EQ(Sample(1, {most, 512}, 1, 1, 1, 0, 1).try_write(file), DOH_OK);
  CHECK_EQ(Sample(1, {most, 513}, 1, 1, 1, 0, 1).try_write(file), DOH_BAD_SHAPE);
}

TEST(network_fields_out_of_range) {
  CHECK_EQ(with_byte(kWidth, 0), DOH_BAD_NETWORK);
  CHECK_EQ(with_bytes(kWidth, varint(1024)), DOH_OK);
  CHECK_EQ(with_bytes(kWidth, varint(1025)), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kDepth, 0), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kDepth, 64), DOH_OK);
  CHECK_EQ(with_byte(kDepth, 65), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kDepth, 255), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kEncoding, 17), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kEncoding, 16 | 32), DOH_OK);
  CHECK_EQ(with_byte(kEncoding, 32), DOH_BAD_NETWORK);  // K = 0 with the other ladder
  CHECK_EQ(with_byte(kEncoding, 64 | 1), DOH_BAD_NETWORK);
  CHECK_EQ(with_byte(kEncoding, 128 | 1), DOH_BAD_NETWORK);
  Bytes file;
  Sample largest(1, {5}, 1, 1023, 17, 0, 1);  // D = 1023 + 16 * 1023^2 + 1023, below 2^24
  CHECK_EQ(largest.try_write(file), DOH_OK);
  Sample beyond(1, {5}, 1, 1024, 17, 0, 1);  // 2048 beyond 2^24
  CHECK_EQ(beyond.try_write(file), DOH_BAD_NETWORK);
}

TEST(generator_fields_out_of_range) {
  CHECK_EQ(with_byte(kGenerator, 1), DOH_OK);
  CHECK_EQ(with_byte(kGenerator, 2), DOH_BAD_GENERATOR);
  CHECK_EQ(with_bytes(kSeed, varint(UINT64_MAX)), DOH_OK);
  CHECK_EQ(with_bytes(kSeed, {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02}), DOH_BAD_VARINT);
  CHECK_EQ(with_byte(kLatents, 0), DOH_BAD_GENERATOR);
  CHECK_EQ(with_bytes(kLatents, varint(uint64_t{1} << 22)), DOH_OK);
  CHECK_EQ(with_bytes(kLatents, varint((uint64_t{1} << 22) + 1)), DOH_BAD_GENERATOR);
  Bytes file;
  Sample dense(1, {5}, 1, 512, 2, 0, 1 << 22, DOH_DENSE);  // 2^22 * (2^18 + 2^10) is above 2^40
  CHECK_EQ(dense.try_write(file), DOH_BAD_GENERATOR);
}

TEST(scale_fields_out_of_range) {
  for (const int bit : {1, 3, 4, 5, 6, 7}) CHECK_EQ(with_byte(kFlags, static_cast<uint8_t>(1 << bit)), DOH_BAD_SCALE);
  CHECK_EQ(with_byte(kFlags, kOnTrellis), DOH_OK);
  for (size_t i = 0; i < 3; ++i) {  // the last byte of a scale: bit 0 is the top bit of r, bits 1-5 are q, bits 6-7 zero
    const size_t place = kScale0 + 3 * i + 2;
    CHECK_EQ(with_byte(place, 64), DOH_BAD_SCALE);
    CHECK_EQ(with_byte(place, 128), DOH_BAD_SCALE);
    CHECK_EQ(with_byte(place, 14 << 1), DOH_OK);
    CHECK_EQ(with_byte(place, 15 << 1), i == 2 ? DOH_BAD_SCALE : DOH_OK);
    CHECK_EQ(with_byte(place, 17 << 1), i == 2 ? DOH_BAD_SCALE : DOH_OK);
    CHECK_EQ(with_byte(place, 18 << 1), DOH_BAD_SCALE);
  }
  Sample sample = small();
  Bytes file;
  sample.scales[0].r = 47;
  CHECK_EQ(sample.try_write(file), DOH_OK);
  sample.scales[0].r = 48;
  CHECK_EQ(sample.try_write(file), DOH_BAD_SCALE);
  CHECK_EQ(with_byte(kScale0 + 1, 0x87), DOH_OK);
  Bytes shifted = small().write();
  shifted[kScale0 + 1] = 0x80;  // r = 16 + 32 = 48
  shifted[kScale0 + 2] = 0x01;
  seal(shifted);
  CHECK_EQ(read(shifted), DOH_BAD_SCALE);
  CHECK_EQ(with_byte(kBias + 1, 20 << 3), DOH_OK);
  CHECK_EQ(with_byte(kBias + 1, 21 << 3), DOH_BAD_SCALE);
  CHECK_EQ(with_byte(kBias + 1, 255), DOH_BAD_SCALE);
  CHECK_EQ(with_byte(kShifts, 255), DOH_OK);
}

TEST(headers_that_end_early) {
  Sample deep(1, {5}, 1, 1, 64, 0, 1, DOH_TIED, DOH_U8, true);  // 65 scales: a header far longer than 32 bytes
  const Bytes file = deep.write();
  File parsed;
  CHECK_EQ(read_file(file, parsed), DOH_OK);
  CHECK(parsed.header_bytes > 200);
  for (size_t end = 24; end <= file.size() - 8; ++end) {
    Bytes cut(file.begin(), file.begin() + static_cast<Bytes::difference_type>(end));
    cut.resize(end + 8);
    seal(cut);
    CHECK_EQ(read(cut), end < parsed.header_bytes ? DOH_TRUNCATED : DOH_OK);
  }
}

TEST(payload_form) {
  Sample sample = small();
  const Bytes file = sample.write();
  std::vector<int16_t> latents(10), hidden(6), output(1);
  auto payload_error = [&](const Bytes& bytes) {
    File parsed;
    CHECK_EQ(read_file(bytes, parsed), DOH_OK);
    return read_payload(PartReader(parsed).part(), latents, hidden, output);
  };
  CHECK_EQ(payload_error(file), DOH_OK);
  for (const uint8_t extra : Bytes{0, 1, 255}) {  // a byte too many: zero, or never read
    Bytes longer = file;
    longer.insert(longer.end() - 8, extra == 0 ? 1 : 5, extra);
    seal(longer);
    CHECK_EQ(payload_error(longer), DOH_BAD_CODES);
  }
}

TEST(dense_codes_are_bounded) {
  Sample sample(1, {5}, 1, 1, 1, 0, 8192, DOH_DENSE);
  sample.latents.assign(8192, -32768);  // sum |c| = 2^28
  Bytes file;
  CHECK_EQ(sample.try_write(file), DOH_BAD_CODES);
  sample.latents[17] = -32767;
  CHECK_EQ(sample.try_write(file), DOH_OK);
  CHECK_EQ(decode(sealed(sample)).error, DOH_OK);
  sample.model.generator = DOH_TIED;  // a tied file turned into a dense one, with the sum out of bounds
  sample.latents[17] = -32768;
  file = sample.write();
  CHECK_EQ(file[kGenerator], 0);
  file[kGenerator] = 1;
  seal(file);
  CHECK_EQ(decode(file).error, DOH_BAD_CODES);
}
