// Any bytes -> a model, or several for a mosaic -> doh_write -> the same models again: fields and codes. Models with a field out of range are refused
// by name. What follows a model's fields says how many boxes there are; files of one network need no more.
#include <algorithm>
#include <array>
#include <vector>

#include "common.h"
#include "doh_write.h"
#include "entropy/trellis.h"
#include "format/read.h"

namespace {

constexpr uint32_t kMaxLatentsHere = 40, kMaxWidthHere = 4, kMaxDepthHere = 3;
constexpr size_t kMaxBiasesHere = kMaxWidthHere * kMaxDepthHere, kMaxPartsHere = 81;

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
    fields.flags = in.in(0, 5);
    const bool per_layer = (fields.flags & doh::kScalePerLayer) != 0;
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
    put_on_trellis();
  }

  // Where the flag asks for it, unless the seed is odd: then it is to be refused.
  void put_on_trellis() {
    if ((fields.flags & doh::kOnTrellis) == 0 || fields.seed % 2 == 1) return;
    doh::Trellis trellis;
    for (int32_t& latent : latents) latent = trellis.latent(latent >> 1);
  }

  // The model with the addresses of its own numbers.
  const doh_model& filled() {
    fields.scales = scales.data();
    fields.latent_codes = latents.data();
    fields.bias_codes = biases.data();
    fields.output_bias_codes = output_biases.data();
    return fields;
  }

  // Another network for the same signal, or one that differs in what it must not.
  void change(Input& in) {
    switch (in.in(0, 7)) {
      case 1: fields.width = in.in(0, kMaxWidthHere); break;
      case 2: fields.latents = in.in(0, kMaxLatentsHere); break;
      case 3:
        fields.depth = in.in(0, kMaxDepthHere);
        fields.flags = in.in(0, 1) | (fields.flags & doh::kOnTrellis);
        fields.scale_count = (fields.flags & doh::kScalePerLayer) != 0 ? fields.depth + 1 : fields.depth == 1 ? 2 : 3;
        break;
      case 4: scales[in.in(0, 3)] = {in.in(0, 2048), in.in(0, 48), in.in(0, 18)}; break;
      case 5: fields.latent_shift = fields.bias_shift = in.in(0, 16); break;
      case 6:
        fill(latents, in);
        put_on_trellis();
        break;
      case 7: fields.seed ^= in.in(0, 1); break;
      default: break;
    }
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

// Fields of a file of one network that both structures have.
void same_fields(const doh_info& info, const doh_model& model) {
  FUZZ_CHECK(info.signal == model.signal && info.sample_type == model.sample_type && info.dims == model.dims && info.channels == model.channels);
  for (uint32_t t = 0; t < model.dims; ++t) FUZZ_CHECK(info.shape[t] == model.shape[t]);
  FUZZ_CHECK(info.width == model.width && info.depth == model.depth && info.frequencies == model.frequencies && info.ladder == model.ladder);
  FUZZ_CHECK(info.generator == model.generator && info.latents == model.latents && info.seed == model.seed && info.flags == model.flags);
  FUZZ_CHECK(model.latent_shift == DOH_PICK_SHIFT || info.latent_shift == model.latent_shift);
  FUZZ_CHECK(model.bias_shift == DOH_PICK_SHIFT || info.bias_shift == model.bias_shift);
  FUZZ_CHECK(info.samples_crc == model.samples_crc);
}

// The codes of a part are the model's.
void same_codes(const doh::Part& part, const Model& model) {
  const doh::Header& h = part.header;
  std::array<int16_t, kMaxLatentsHere> latents;
  std::array<int16_t, kMaxBiasesHere> biases;
  std::array<int16_t, doh::kMaxChannels> output_biases;
  const auto a = std::span(latents).first(h.latents), b = std::span(biases).first(h.hidden_biases()), c = std::span(output_biases).first(h.channels);
  FUZZ_CHECK(doh::read_payload(part, a, b, c) == DOH_OK);
  FUZZ_CHECK(same(a, model.latents) && same(b, model.biases) && same(c, model.output_biases));
}

doh_info info_of(const Raw& file, size_t written) {
  doh_options open{};
  open.max_samples = open.max_work = UINT64_MAX;
  doh_info info;
  FUZZ_CHECK(doh_read_info(file.data(), written, &open, &info) == DOH_OK);
  return info;
}

void new_samples_crc(const Raw& file, size_t written, uint32_t crc) {
  FUZZ_CHECK(doh_set_samples_crc(file.data(), written, crc) == DOH_OK);
  FUZZ_CHECK(info_of(file, written).samples_crc == crc);
}

void one_network(Model& model) {
  size_t bound = 0, written = 0;
  FUZZ_CHECK(doh_write_bound(&model.filled(), &bound) == DOH_OK);
  const Raw file(bound);
  const int e = doh_write(&model.fields, file.data(), file.size, &written);
  FUZZ_CHECK(known_error(e) && e != DOH_BUFFER_TOO_SMALL && e != DOH_BAD_ARGUMENT);
  if (e != DOH_OK) return;
  FUZZ_CHECK((model.fields.flags & doh::kOnTrellis) == 0 || doh::on_trellis(std::span(model.latents).first(model.fields.latents)));
  same_fields(info_of(file, written), model.fields);
  doh::File parsed;
  FUZZ_CHECK(doh::read_file({file.data(), written}, parsed) == DOH_OK && parsed.part_count == 1 && parsed.version == doh::kOneNetwork);
  same_codes(doh::PartReader(parsed).part(), model);
  new_samples_crc(file, written, ~model.fields.samples_crc);
}

// What a record holds is what a file of its network alone holds.
void same_as_alone(const doh::Part& part, Model& model) {
  size_t bound = 0, written = 0;
  FUZZ_CHECK(doh_write_bound(&model.filled(), &bound) == DOH_OK);
  const Raw file(bound);
  FUZZ_CHECK(doh_write(&model.fields, file.data(), file.size, &written) == DOH_OK);
  doh::File alone;
  FUZZ_CHECK(doh::read_file({file.data(), written}, alone) == DOH_OK);
  FUZZ_CHECK(std::ranges::equal(part.payload, alone.networks));
  const doh::Header &a = part.header, &b = alone.header;
  FUZZ_CHECK(a.width == b.width && a.depth == b.depth && a.latents == b.latents && a.flags == b.flags && a.seed == b.seed);
  FUZZ_CHECK(a.shape == b.shape && a.frequencies == b.frequencies && a.ladder == b.ladder && a.generator == b.generator);
  FUZZ_CHECK(a.latent_shift == b.latent_shift && a.bias_shift == b.bias_shift && a.bias_m == b.bias_m && a.bias_e == b.bias_e);
  for (uint32_t layer = 0; layer <= a.depth; ++layer)
    FUZZ_CHECK(a.scale(layer).m == b.scale(layer).m && a.scale(layer).r == b.scale(layer).r && a.scale(layer).q == b.scale(layer).q);
}

void mosaic(std::span<Model> models, const std::array<uint32_t, doh::kMaxDims>& parts) {
  std::vector<doh_model> fields;
  for (Model& model : models) fields.push_back(model.filled());
  size_t bound = 0, written = 0;
  const int refused = doh_write_mosaic_bound(fields.data(), parts.data(), &bound);
  const Raw file(refused == DOH_OK ? bound : 4096);
  const int e = doh_write_mosaic(fields.data(), parts.data(), file.data(), file.size, &written);
  FUZZ_CHECK(known_error(e) && e != DOH_BUFFER_TOO_SMALL && (refused == DOH_OK || e == refused));
  if (e != DOH_OK) return;
  const doh_info info = info_of(file, written);
  doh::File parsed;
  FUZZ_CHECK(doh::read_file({file.data(), written}, parsed) == DOH_OK && parsed.part_count == models.size() && parsed.version == doh::kMosaic);
  FUZZ_CHECK(std::equal(parts.begin(), parts.begin() + info.dims, info.parts) && info.samples_crc == fields[0].samples_crc);
  doh::PartReader reader(parsed);
  for (Model& model : models) {
    FUZZ_CHECK(reader.next() == DOH_OK);
    same_codes(reader.part(), model);
    same_as_alone(reader.part(), model);
  }
  new_samples_crc(file, written, ~fields[0].samples_crc);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  std::vector<Model> models;
  models.reserve(kMaxPartsHere);
  models.emplace_back(in);
  one_network(models[0]);

  std::array<uint32_t, doh::kMaxDims> parts;
  size_t count = 1;
  for (uint32_t t = 0; t < doh::kMaxDims; ++t) {
    const uint32_t choice = in.in(0, 7);
    parts[t] = choice < 3 ? choice + 1 : choice == 3 ? 0 : 1;
    if (t < models[0].fields.dims) count *= parts[t];
  }
  if (in.in(0, 15) == 15) {  // more boxes than there may be: refused before the models are counted
    parts[0] = std::max(in.word(4), doh::kMaxParts + 1);
    count = 1;
  }
  while (models.size() < count) {
    models.push_back(models.back());
    models.back().change(in);
  }
  mosaic(models, parts);
  return 0;
}
