// Model -> file: the mirror of format/read.cpp.
#include "doh_write.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "entropy/codes.h"
#include "format/fields.h"
#include "format/read.h"

namespace doh {
namespace {

// More than the bytes of any code: 25 adaptive bits of at most 13.01 bits each, 31 of an escape, 15 low bits.
constexpr uint64_t kMaxCodeBytes = 48;
constexpr size_t kMaxHeaderBytes = 512;  // 5 + 8 and at most 250 of fields

struct Codes {
  std::span<const int32_t> latents, hidden_biases, output_biases;
};

bool in_range(std::span<const int32_t> codes) {
  return std::all_of(codes.begin(), codes.end(), [](int32_t code) { return code >= -32768 && code <= 32767; });
}

// The fields of the model as a header. Values too wide for the header's own types become values that no field takes.
Status header_of(const doh_model& model, Header& h) {
  h = {};
  h.signal = model.signal;
  h.sample_type = model.sample_type;
  h.dims = model.dims;
  h.channels = model.channels;
  for (size_t t = 0; t < kMaxDims; ++t) h.shape[t] = static_cast<uint32_t>(std::min<uint64_t>(model.shape[t], UINT32_MAX));
  h.width = model.width;
  h.depth = model.depth;
  h.frequencies = model.frequencies;
  h.ladder = model.ladder;
  h.generator = model.generator;
  h.latents = model.latents;
  h.seed = model.seed;
  h.flags = model.flags;
  h.bias_m = model.bias_m;
  h.bias_e = model.bias_e;
  DOH_REQUIRE(model.scale_count <= kMaxScales, DOH_BAD_SCALE);
  for (size_t i = 0; i < model.scale_count; ++i) h.scales[i] = {model.scales[i].m, model.scales[i].r, model.scales[i].q};
  h.latent_shift = model.latent_shift == DOH_PICK_SHIFT ? 0 : model.latent_shift;
  h.bias_shift = model.bias_shift == DOH_PICK_SHIFT ? 0 : model.bias_shift;
  return DOH_OK;
}

Status check_codes(const Header& h, const Codes& codes) {
  DOH_REQUIRE(in_range(codes.latents) && in_range(codes.hidden_biases) && in_range(codes.output_biases), DOH_BAD_CODES);
  if (h.generator != DOH_DENSE) return DOH_OK;
  int64_t sum = 0;
  for (const int32_t code : codes.latents) sum += code < 0 ? -code : code;
  DOH_REQUIRE(sum < kMaxDenseCodeSum, DOH_BAD_CODES);
  return DOH_OK;
}

// The shift with which a group of codes costs least.
unsigned best_shift(std::span<const int32_t> codes) {
  uint32_t largest = 0;
  for (const int32_t code : codes) largest = std::max(largest, static_cast<uint32_t>(code < 0 ? -1 - code : code));
  unsigned best = 0;
  uint64_t least = UINT64_MAX;
  for (unsigned shift = 0; shift <= 15 && (shift == 0 || largest >> (shift - 1) != 0); ++shift) {
    RangeEncoder measure(nullptr);
    write_codes(measure, shift, codes);
    if (measure.cost_bits() >= least) continue;
    least = measure.cost_bits();
    best = shift;
  }
  return best;
}

// Checks the fields before anything that they size is read.
Status check_fields(const doh_model& model, Header& h) {
  std::array<uint8_t, kMaxHeaderBytes> unused;
  ByteWriter out(unused);
  HeaderWriter fields(out);
  DOH_TRY(header_fields(fields, h));
  DOH_REQUIRE(model.scale_count == h.scale_count(), DOH_BAD_SCALE);
  return DOH_OK;
}

Status write(const doh_model& model, std::span<uint8_t> dst, size_t& written) {
  Header h;
  DOH_TRY(header_of(model, h));
  DOH_TRY(check_fields(model, h));
  const Codes codes{{model.latent_codes, h.latents}, {model.bias_codes, h.hidden_biases()}, {model.output_bias_codes, h.channels}};
  DOH_TRY(check_codes(h, codes));
  if (model.latent_shift == DOH_PICK_SHIFT) h.latent_shift = best_shift(codes.latents);
  if (model.bias_shift == DOH_PICK_SHIFT) h.bias_shift = best_shift(codes.hidden_biases);

  ByteWriter out(dst);
  for (const uint8_t byte : kMagic) out.byte(byte);
  out.byte(DOH_FORMAT_VERSION);
  HeaderWriter fields(out);
  DOH_TRY(header_fields(fields, h));

  RangeEncoder encoder(&out);
  write_codes(encoder, h.latent_shift, codes.latents);
  write_codes(encoder, h.bias_shift, codes.hidden_biases);
  write_codes(encoder, kOutputBiasShift, codes.output_biases);
  encoder.finish();

  out.uint(4, model.samples_crc);
  out.uint(4, crc32c(out.written()));
  DOH_TRY(out.status());
  written = out.position();
  return DOH_OK;
}

}  // namespace
}  // namespace doh

extern "C" {

int doh_write_bound(const doh_model* model, size_t* bytes) {
  DOH_REQUIRE(model != nullptr && bytes != nullptr, DOH_BAD_ARGUMENT);
  const uint64_t codes = uint64_t{model->latents} + uint64_t{model->depth} * model->width + model->channels;
  const uint64_t bound = doh::saturating_add(doh::saturating_mul(codes, doh::kMaxCodeBytes), doh::kMaxHeaderBytes);
  DOH_REQUIRE(bound <= SIZE_MAX / 2, DOH_BAD_ARGUMENT);
  *bytes = static_cast<size_t>(bound);
  return DOH_OK;
}

int doh_write(const doh_model* model, void* dst, size_t dst_size, size_t* written) {
  DOH_REQUIRE(model != nullptr && dst != nullptr && written != nullptr, DOH_BAD_ARGUMENT);
  DOH_REQUIRE(model->scales != nullptr && model->latent_codes != nullptr && model->bias_codes != nullptr && model->output_bias_codes != nullptr,
              DOH_BAD_ARGUMENT);
  return doh::write(*model, {static_cast<uint8_t*>(dst), dst_size}, *written);
}

int doh_set_samples_crc(void* data, size_t size, uint32_t samples_crc) {
  DOH_REQUIRE(data != nullptr, DOH_BAD_ARGUMENT);
  const std::span<uint8_t> bytes(static_cast<uint8_t*>(data), size);
  doh::File file;
  DOH_TRY(doh::read_file(bytes, file));
  doh::ByteWriter checksums(bytes.last(doh::kChecksumBytes));
  checksums.uint(4, samples_crc);
  checksums.uint(4, doh::crc32c(bytes.first(size - 4)));
  return DOH_OK;
}

}  // extern "C"
