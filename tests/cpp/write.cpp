// Tests of cpp/src/write: what is written reads back, shifts are picked well, fields are checked.
#include <algorithm>
#include <cstdlib>

#include "check.h"
#include "format/read.h"
#include "sample.h"

namespace {

int error_of(void (*change)(Sample&)) {
  Sample sample(1, {5, 6}, 2, 4, 3, 2, 30);
  change(sample);
  Bytes file;
  return sample.try_write(file);
}

}  // namespace

TEST(codes_come_back) {
  Random random(9);
  for (int round = 0; round < 60; ++round) {
    const auto depth = static_cast<uint32_t>(random.in(1, 5));
    Sample sample(static_cast<uint64_t>(round), {3}, static_cast<uint32_t>(random.in(1, 32)), static_cast<uint32_t>(random.in(1, 30)), depth, 0,
                  static_cast<uint32_t>(random.in(1, 2000)));
    const int bits = random.in(0, 15);
    for (auto& code : sample.latents) code = random.code(bits);
    for (auto& code : sample.output_biases) code = random.in(-32768, 32767);
    if (round % 2 == 1) sample.put_on_trellis();
    const Bytes bytes = sample.write();
    doh::File file;
    CHECK_EQ(doh::read_file(bytes, file), DOH_OK);
    std::vector<int16_t> latents(sample.latents.size()), hidden(sample.biases.size()), output(sample.output_biases.size());
    CHECK_EQ(doh::read_payload(doh::PartReader(file).part(), latents, hidden, output), DOH_OK);
    CHECK(std::equal(latents.begin(), latents.end(), sample.latents.begin()));
    CHECK(std::equal(hidden.begin(), hidden.end(), sample.biases.begin()));
    CHECK(std::equal(output.begin(), output.end(), sample.output_biases.begin()));
  }
}

TEST(picked_shifts_are_the_best) {
  for (const int bits : {0, 3, 7, 15, -3, -15}) {
    Sample sample(static_cast<uint64_t>(std::abs(bits)) + 1, {3}, 1, 20, 3, 0, 1500);
    Random random(10);
    for (auto& code : sample.latents) code = random.code(std::abs(bits));
    if (bits < 0) sample.put_on_trellis();
    const size_t picked = sample.write().size();
    for (uint32_t latent_shift = 0; latent_shift < 16; ++latent_shift)
      for (uint32_t bias_shift = 0; bias_shift < 16; ++bias_shift) {
        sample.model.latent_shift = latent_shift;
        sample.model.bias_shift = bias_shift;
        CHECK(sample.write().size() + 2 >= picked);  // each group is measured alone, to a bit or two
      }
  }
}

TEST(fields_out_of_range_are_refused) {
  CHECK_EQ(error_of([](Sample&) {}), DOH_OK);
  CHECK_EQ(error_of([](Sample& s) { s.model.signal = 6; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.signal = 0x10000; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.sample_type = 4; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.sample_type = 16; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.dims = 0; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.dims = 5; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.channels = 0; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.channels = 33; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error_of([](Sample& s) { s.model.shape[1] = 0; }), DOH_BAD_SHAPE);
  CHECK_EQ(error_of([](Sample& s) { s.model.shape[0] = uint64_t{1} << 32 | 5; }), DOH_BAD_SHAPE);
  CHECK_EQ(error_of([](Sample& s) { s.model.width = 0; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.width = 1025; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.depth = 65; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.depth = 256 + 3; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.frequencies = 17; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.ladder = 2; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.frequencies = 0, s.model.ladder = 1; }), DOH_BAD_NETWORK);
  CHECK_EQ(error_of([](Sample& s) { s.model.generator = 2; }), DOH_BAD_GENERATOR);
  CHECK_EQ(error_of([](Sample& s) { s.model.latents = 0; }), DOH_BAD_GENERATOR);
  CHECK_EQ(error_of([](Sample& s) { s.model.latents = (1 << 22) + 1; }), DOH_BAD_GENERATOR);
  CHECK_EQ(error_of([](Sample& s) { s.model.flags = 2; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.flags = 8; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.flags = 0x100; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.flags = 1; }), DOH_BAD_SCALE);  // then four scales, not three
  CHECK_EQ(error_of([](Sample& s) { s.put_on_trellis(); }), DOH_OK);
  CHECK_EQ(error_of([](Sample& s) { s.put_on_trellis(), ++s.latents[29]; }), DOH_BAD_CODES);
  CHECK_EQ(error_of([](Sample& s) { s.put_on_trellis(), --s.latents[0]; }), DOH_BAD_CODES);
  CHECK_EQ(error_of([](Sample& s) { s.scales.pop_back(); }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.scales.resize(100); }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.scales[1].m = 2048; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.scales[1].q = 18; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.scales[2].q = 15; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.bias_m = 2048; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.bias_e = 21; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.latent_shift = 16; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.model.bias_shift = 254; }), DOH_BAD_SCALE);
  CHECK_EQ(error_of([](Sample& s) { s.latents[7] = 32768; }), DOH_BAD_CODES);
  CHECK_EQ(error_of([](Sample& s) { s.biases[7] = -32769; }), DOH_BAD_CODES);
  CHECK_EQ(error_of([](Sample& s) { s.output_biases[1] = INT32_MIN; }), DOH_BAD_CODES);
}

TEST(writer_arguments) {
  Sample sample(1, {5}, 1, 2, 1, 0, 3);
  const Bytes file = sample.write();
  size_t written = 0;
  for (size_t size = 0; size < file.size(); ++size) {
    Bytes out(size);
    CHECK_EQ(doh_write(&sample.model, out.data() == nullptr ? &out : static_cast<void*>(out.data()), size, &written), DOH_BUFFER_TOO_SMALL);
  }
  Bytes out(file.size());
  CHECK_EQ(doh_write(&sample.model, out.data(), out.size(), &written), DOH_OK);
  CHECK(out == file);
  CHECK_EQ(doh_write(nullptr, out.data(), out.size(), &written), DOH_BAD_ARGUMENT);
  sample.model.latent_codes = nullptr;
  CHECK_EQ(doh_write(&sample.model, out.data(), out.size(), &written), DOH_BAD_ARGUMENT);
}

TEST(samples_crc_is_replaced) {
  Sample sample(1, {5}, 1, 2, 1, 0, 3);
  Bytes file = sample.write();
  CHECK_EQ(doh_set_samples_crc(file.data(), file.size(), 0x12345678), DOH_OK);
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(info.samples_crc, 0x12345678u);
  file[10] ^= 1;
  CHECK_EQ(doh_set_samples_crc(file.data(), file.size(), 0), DOH_BAD_CHECKSUM);
}

TEST(mosaics_are_written_into_exactly_their_size) {
  MosaicSample sample = MosaicSample::random(2, {3, 2}, Sample(4, {5, 6}, 2, 7, 3, 2, 300));
  const Bytes file = sample.write();
  const std::vector<doh_model> models = sample.models();
  size_t written = 0;
  for (size_t size = 0; size <= file.size(); ++size) {
    Bytes out(size + 1, 0x5A);
    CHECK_EQ(doh_write_mosaic(models.data(), sample.parts.data(), out.data(), size, &written), size < file.size() ? DOH_BUFFER_TOO_SMALL : DOH_OK);
    CHECK_EQ(out[size], 0x5A);
    if (size == file.size()) CHECK(written == size && std::equal(file.begin(), file.end(), out.begin()));
  }
  Bytes sealed_file = sealed(sample);
  CHECK_EQ(decode(sealed_file).error, DOH_OK);
  CHECK_EQ(doh_set_samples_crc(sealed_file.data(), sealed_file.size(), 0x12345678), DOH_OK);
  CHECK_EQ(decode(sealed_file).error, DOH_BAD_SAMPLES);
}

TEST(what_a_mosaic_cannot_hold_is_refused) {
  auto error = [](auto&& change) {
    MosaicSample sample = MosaicSample::random(2, {2, 2}, Sample(4, {5, 6}, 2, 7, 3, 2, 30));
    change(sample);
    Bytes file;
    return sample.try_write(file);
  };
  CHECK_EQ(error([](MosaicSample&) {}), DOH_OK);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.samples_crc = 5; }), DOH_OK);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[3].model.seed ^= 1; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[3].model.signal = DOH_IMAGE; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[3].model.sample_type = DOH_U16; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.shape[1] = 7; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.dims = 1; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.channels = 1; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.frequencies = 3; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.ladder ^= 1; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[1].model.generator = DOH_DENSE; }), DOH_BAD_ARGUMENT);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[0].model.dims = 5; }), DOH_BAD_SIGNAL);
  CHECK_EQ(error([](MosaicSample& s) { s.parts = {1, 1}; }), DOH_BAD_SHAPE);
  CHECK_EQ(error([](MosaicSample& s) { s.parts = {0, 4}; }), DOH_BAD_SHAPE);
  CHECK_EQ(error([](MosaicSample& s) { s.parts = {6, 1}; }), DOH_BAD_SHAPE);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[2].model.width = 0; }), DOH_BAD_NETWORK);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[2].model.depth = 65; }), DOH_BAD_NETWORK);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[2].model.latents = 1 << 22; }), DOH_BAD_GENERATOR);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[2].scales.push_back({}); }), DOH_BAD_SCALE);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[2].model.bias_shift = 16; }), DOH_BAD_SCALE);
  CHECK_EQ(error([](MosaicSample& s) { s.networks[3].latents[0] = 40000; }), DOH_BAD_CODES);

  MosaicSample sample = MosaicSample::random(2, {2, 2}, Sample(4, {5, 6}, 2, 7, 3, 2, 30));
  std::vector<doh_model> models = sample.models();
  Bytes out(10000);
  size_t size = 0;
  CHECK_EQ(doh_write_mosaic(nullptr, sample.parts.data(), out.data(), out.size(), &size), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_write_mosaic(models.data(), nullptr, out.data(), out.size(), &size), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_write_mosaic(models.data(), sample.parts.data(), nullptr, out.size(), &size), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_write_mosaic_bound(models.data(), sample.parts.data(), nullptr), DOH_BAD_ARGUMENT);
  models[3].bias_codes = nullptr;
  CHECK_EQ(doh_write_mosaic(models.data(), sample.parts.data(), out.data(), out.size(), &size), DOH_BAD_ARGUMENT);
}
