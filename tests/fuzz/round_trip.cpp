// Any bytes -> a model -> doh_write -> the same model again: fields, codes, and samples in a small box. Models with a field out of range are refused
// by name.
#include <algorithm>
#include <array>

#include "common.h"
#include "doh_write.h"
#include "format/read.h"

namespace {

constexpr uint32_t kMaxLatentsHere = 40, kMaxWidthHere = 4, kMaxDepthHere = 3;
constexpr size_t kMaxBiasesHere = kMaxWidthHere * kMaxDepthHere;

struct Model {
  doh_model fields{};
  std::array<doh_scale, doh::kMaxScales> scales{};
  std::array<int32_t, kMaxLatentsHere> latents;
  std::array<int32_t, kMaxBiasesHere> biases;
  std::array<int32_t, doh::kMaxChannels + 1> output_biases;

  explicit Model(Input& in) {
    fields.signal = in.in(0, 6);
    fields.sample_type = in.in(0, 4);
    fields.dims = in.in(0, 5);
    fields.channels = in.in(0, 33);
    for (uint64_t& points : fields.shape) {
      const uint32_t bits = in.in(0, 33);  // sizes of every order
      points = bits < 16 ? in.in(0, 40) : in.word64() & ((uint64_t{1} << bits) - 1);
    }
    fields.width = in.in(0, kMaxWidthHere);
    fields.depth = in.in(0, kMaxDepthHere);
    fields.frequencies = in.in(0, 17);
    fields.ladder = in.in(0, 2);
    fields.generator = in.in(0, 2);
    fields.latents = in.in(0, kMaxLatentsHere);
    fields.seed = in.word64();
    fields.flags = in.in(0, 2);
    const bool per_layer = fields.flags == 1;
    fields.scale_count = per_layer ? fields.depth + 1 : fields.depth == 1 ? 2 : 3;
    for (uint32_t i = 0; i < fields.scale_count; ++i) scales[i] = {in.in(0, 2048), in.in(0, 48), in.in(0, 18)};
    fields.bias_m = in.in(0, 2048);
    fields.bias_e = in.in(0, 21);
    fields.latent_shift = in.in(0, 17);
    fields.bias_shift = in.in(0, 17);
    if (fields.latent_shift == 17) fields.latent_shift = DOH_PICK_SHIFT;
    if (fields.bias_shift == 17) fields.bias_shift = DOH_PICK_SHIFT;
    fields.samples_crc = in.word(4);
    fill(latents, in);
    fill(biases, in);
    fill(output_biases, in);
    fields.scales = scales.data();
    fields.latent_codes = latents.data();
    fields.bias_codes = biases.data();
    fields.output_bias_codes = output_biases.data();
  }

  // Codes of one order of magnitude, or 17 bits: some out of range.
  static void fill(std::span<int32_t> codes, Input& in) {
    const uint32_t bits = in.in(0, 31);
    for (int32_t& code : codes) {
      code = static_cast<int16_t>(in.cycle16());
      code = bits == 31 ? 2 * code : code >> (bits & 15);
    }
  }
};

template <class Code>
bool same(std::span<const int16_t> read, const Code& written) {
  return std::equal(read.begin(), read.end(), written.begin());
}

// Fields of the header that both structures have.
void same_fields(const doh_info& info, const doh_model& model) {
  FUZZ_CHECK(info.signal == model.signal && info.sample_type == model.sample_type && info.dims == model.dims && info.channels == model.channels);
  for (uint32_t t = 0; t < model.dims; ++t) FUZZ_CHECK(info.shape[t] == model.shape[t]);
  FUZZ_CHECK(info.width == model.width && info.depth == model.depth && info.frequencies == model.frequencies && info.ladder == model.ladder);
  FUZZ_CHECK(info.generator == model.generator && info.latents == model.latents && info.seed == model.seed && info.flags == model.flags);
  FUZZ_CHECK(model.latent_shift == DOH_PICK_SHIFT || info.latent_shift == model.latent_shift);
  FUZZ_CHECK(model.bias_shift == DOH_PICK_SHIFT || info.bias_shift == model.bias_shift);
  FUZZ_CHECK(info.samples_crc == model.samples_crc);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const Model model(in);
  size_t bound = 0, written = 0;
  FUZZ_CHECK(doh_write_bound(&model.fields, &bound) == DOH_OK);
  const Raw file(bound);
  const int e = doh_write(&model.fields, file.data(), file.size, &written);
  FUZZ_CHECK(known_error(e) && e != DOH_BUFFER_TOO_SMALL && e != DOH_BAD_ARGUMENT);
  if (e != DOH_OK) return 0;

  doh_options open{};
  open.max_samples = open.max_work = UINT64_MAX;
  doh_info info;
  FUZZ_CHECK(doh_read_info(file.data(), written, &open, &info) == DOH_OK);
  same_fields(info, model.fields);

  doh::File parts;
  FUZZ_CHECK(doh::read_file({file.data(), written}, parts) == DOH_OK);
  std::array<int16_t, kMaxLatentsHere> latents;
  std::array<int16_t, kMaxBiasesHere> biases;
  std::array<int16_t, doh::kMaxChannels> output_biases;
  const auto a = std::span(latents).first(info.latents), b = std::span(biases).first(parts.header.hidden_biases()),
             c = std::span(output_biases).first(info.channels);
  FUZZ_CHECK(doh::read_payload(doh::PartReader(parts).part(), a, b, c) == DOH_OK);
  FUZZ_CHECK(same(a, model.latents) && same(b, model.biases) && same(c, model.output_biases));

  FUZZ_CHECK(doh_set_samples_crc(file.data(), written, ~model.fields.samples_crc) == DOH_OK);
  FUZZ_CHECK(doh_read_info(file.data(), written, &open, &info) == DOH_OK && info.samples_crc == ~model.fields.samples_crc);
  return 0;
}
