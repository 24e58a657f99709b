// Models -> file: the mirror of format/read.cpp.
#include "doh_write.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "entropy/codes.h"
#include "entropy/trellis.h"
#include "format/fields.h"
#include "format/read.h"

namespace doh {
namespace {

// More than the bytes of any code: 25 adaptive bits of at most 13.01 bits each, 31 of an escape, 15 low bits.
constexpr uint64_t kMaxCodeBytes = 48;
constexpr size_t kMaxHeaderBytes = 512;  // 5 + 8 and at most 300 of fields; or a record's, with its length

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
  DOH_REQUIRE(!h.on_trellis() || on_trellis(codes.latents), DOH_BAD_CODES);
  if (h.generator != DOH_DENSE) return DOH_OK;
  int64_t sum = 0;
  for (const int32_t code : codes.latents) sum += code < 0 ? -code : code;
  DOH_REQUIRE(sum < kMaxDenseCodeSum, DOH_BAD_CODES);
  return DOH_OK;
}

// Of a latent, the lowest bit is the trellis's.
unsigned dropped_of_latents(const Header& h) { return h.on_trellis() ? 1 : 0; }

// The shift with which a group of codes, see write_codes, costs least.
unsigned best_shift(std::span<const int32_t> values, unsigned drop = 0) {
  uint32_t largest = 0;
  for (const int32_t value : values) largest = std::max(largest, static_cast<uint32_t>(value < 0 ? -1 - value : value) >> drop);
  unsigned best = 0;
  uint64_t least = UINT64_MAX;
  for (unsigned shift = 0; shift <= 15 && (shift == 0 || largest >> (shift - 1) != 0); ++shift) {
    RangeEncoder measure(nullptr);
    write_codes(measure, shift, values, drop);
    if (measure.cost_bits() >= least) continue;
    least = measure.cost_bits();
    best = shift;
  }
  return best;
}

// Expands a list of fields to nowhere, for their checks alone: before anything that they size is read.
template <class Fields>
Status check_fields(Fields&& fields) {
  std::array<uint8_t, kMaxHeaderBytes> unused;
  ByteWriter out(unused);
  HeaderWriter io(out);
  return fields(io);
}

// Reads and checks all codes of a model with checked fields, and picks its shifts.
Status take_codes(const doh_model& model, Header& h, Codes& codes) {
  codes = {{model.latent_codes, h.latents}, {model.bias_codes, h.hidden_biases()}, {model.output_bias_codes, h.channels}};
  DOH_TRY(check_codes(h, codes));
  if (model.latent_shift == DOH_PICK_SHIFT) h.latent_shift = best_shift(codes.latents, dropped_of_latents(h));
  if (model.bias_shift == DOH_PICK_SHIFT) h.bias_shift = best_shift(codes.hidden_biases);
  return DOH_OK;
}

void write_preamble(ByteWriter& out, uint32_t version) {
  for (const uint8_t byte : kMagic) out.byte(byte);
  out.byte(version);
}

void write_payload(ByteWriter& out, const Header& h, const Codes& codes) {
  RangeEncoder encoder(&out);
  write_codes(encoder, h.latent_shift, codes.latents, dropped_of_latents(h));
  write_codes(encoder, h.bias_shift, codes.hidden_biases);
  write_codes(encoder, kOutputBiasShift, codes.output_biases);
  encoder.finish();
}

Status write_checksums(ByteWriter& out, uint32_t samples_crc, size_t& written) {
  out.uint(4, samples_crc);
  out.uint(4, crc32c(out.written()));
  DOH_TRY(out.status());
  written = out.position();
  return DOH_OK;
}

Status write(const doh_model& model, std::span<uint8_t> dst, size_t& written) {
  Header h;
  Totals totals, again;
  DOH_TRY(header_of(model, h));
  DOH_TRY(check_fields([&](HeaderWriter& io) { return header_fields(io, h, totals); }));
  DOH_REQUIRE(model.scale_count == h.scale_count(), DOH_BAD_SCALE);
  Codes codes;
  DOH_TRY(take_codes(model, h, codes));

  ByteWriter out(dst);
  write_preamble(out, kOneNetwork);
  HeaderWriter fields(out);
  DOH_TRY(header_fields(fields, h, again));
  write_payload(out, h, codes);
  return write_checksums(out, model.samples_crc, written);
}

// Whether two models agree in what a mosaic holds once.
bool alike(const doh_model& a, const doh_model& b) {
  return a.signal == b.signal && a.sample_type == b.sample_type && a.dims == b.dims && a.channels == b.channels &&
         std::equal(a.shape, a.shape + a.dims, b.shape) && a.frequencies == b.frequencies && a.ladder == b.ladder && a.generator == b.generator &&
         a.seed == b.seed;
}

bool complete(const doh_model& model) {
  return model.scales != nullptr && model.latent_codes != nullptr && model.bias_codes != nullptr && model.output_bias_codes != nullptr;
}

// A mosaic's common fields, from its first model, and all of its models.
struct Mosaic {
  Header common{};
  std::span<const doh_model> models;

  // Checks the common fields, which say how many models there are, and that these agree in them.
  Status open(const doh_model* first, const uint32_t* parts) {
    DOH_REQUIRE(complete(*first), DOH_BAD_ARGUMENT);
    DOH_TRY(header_of(*first, common));
    if (common.dims <= kMaxDims) std::copy_n(parts, common.dims, common.parts.begin());
    DOH_TRY(check_fields([&](HeaderWriter& io) { return common_fields(io, common); }));
    size_t count = 1;
    for (const uint32_t boxes : common.parts) count *= boxes;
    models = {first, count};
    const bool good = std::all_of(models.begin(), models.end(), [&](const doh_model& model) { return complete(model) && alike(model, *first); });
    return good ? DOH_OK : DOH_BAD_ARGUMENT;
  }
};

Status write_record(ByteWriter& out, const doh_model& model) {
  Header h;
  Totals alone;  // with the others they have been judged
  Codes codes;
  DOH_TRY(header_of(model, h));
  DOH_TRY(take_codes(model, h, codes));
  const size_t start = out.position();
  HeaderWriter fields(out);
  DOH_TRY(record_fields(fields, h, alone));
  write_payload(out, h, codes);
  out.length_before(start);
  return DOH_OK;
}

Status write_mosaic(const doh_model* first, const uint32_t* parts, std::span<uint8_t> dst, size_t& written) {
  Mosaic mosaic;
  DOH_TRY(mosaic.open(first, parts));
  Totals totals;
  for (const doh_model& model : mosaic.models) {
    Header h;
    DOH_TRY(header_of(model, h));
    DOH_TRY(check_fields([&](HeaderWriter& io) { return record_fields(io, h, totals); }));
    DOH_REQUIRE(model.scale_count == h.scale_count(), DOH_BAD_SCALE);
  }

  ByteWriter out(dst);
  write_preamble(out, kMosaic);
  HeaderWriter fields(out);
  DOH_TRY(common_fields(fields, mosaic.common));
  for (const doh_model& model : mosaic.models) DOH_TRY(write_record(out, model));
  return write_checksums(out, first->samples_crc, written);
}

// Bytes that hold a file, or a record, of such a model.
uint64_t bound_of(const doh_model& model) {
  const uint64_t codes = uint64_t{model.latents} + uint64_t{model.depth} * model.width + model.channels;
  return saturating_add(saturating_mul(codes, kMaxCodeBytes), kMaxHeaderBytes);
}

}  // namespace
}  // namespace doh

extern "C" {

int doh_write_bound(const doh_model* model, size_t* bytes) {
  DOH_REQUIRE(model != nullptr && bytes != nullptr, DOH_BAD_ARGUMENT);
  const uint64_t bound = doh::bound_of(*model);
  DOH_REQUIRE(bound <= SIZE_MAX / 2, DOH_BAD_ARGUMENT);
  *bytes = static_cast<size_t>(bound);
  return DOH_OK;
}

int doh_write(const doh_model* model, void* dst, size_t dst_size, size_t* written) {
  DOH_REQUIRE(model != nullptr && dst != nullptr && written != nullptr, DOH_BAD_ARGUMENT);
  DOH_REQUIRE(doh::complete(*model), DOH_BAD_ARGUMENT);
  return doh::write(*model, {static_cast<uint8_t*>(dst), dst_size}, *written);
}

int doh_write_mosaic_bound(const doh_model* models, const uint32_t* parts, size_t* bytes) {
  DOH_REQUIRE(models != nullptr && parts != nullptr && bytes != nullptr, DOH_BAD_ARGUMENT);
  doh::Mosaic mosaic;
  DOH_TRY(mosaic.open(models, parts));
  uint64_t bound = doh::kMaxHeaderBytes;
  for (const doh_model& model : mosaic.models) bound = doh::saturating_add(bound, doh::bound_of(model));
  DOH_REQUIRE(bound <= SIZE_MAX / 2, DOH_BAD_ARGUMENT);
  *bytes = static_cast<size_t>(bound);
  return DOH_OK;
}

int doh_write_mosaic(const doh_model* models, const uint32_t* parts, void* dst, size_t dst_size, size_t* written) {
  DOH_REQUIRE(models != nullptr && parts != nullptr && dst != nullptr && written != nullptr, DOH_BAD_ARGUMENT);
  return doh::write_mosaic(models, parts, {static_cast<uint8_t*>(dst), dst_size}, *written);
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
