// Files as dictionaries of numbers: read_info, unpack, pack, set_samples_crc, crc32c.
#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "base/crc32c.h"
#include "common.h"
#include "decode/decode.h"
#include "doh_write.h"
#include "format/read.h"
#include "names.h"

namespace doh::bindings {
namespace {

nb::dict info_dict(const doh_info& info) {
  nb::dict d;
  d["version"] = info.version;
  d["signal"] = kSignals[info.signal];
  d["sample_type"] = kSampleTypes[info.sample_type];
  d["dims"] = info.dims;
  d["channels"] = info.channels;
  nb::list shape, parts;
  for (uint32_t t = 0; t < info.dims; ++t) {
    shape.append(info.shape[t]);
    parts.append(info.parts[t]);
  }
  d["shape"] = nb::tuple(shape);
  d["parts"] = nb::tuple(parts);
  d["width"] = info.width;
  d["depth"] = info.depth;
  d["frequencies"] = info.frequencies;
  d["ladder"] = kLadders[info.ladder];
  d["generator"] = kGenerators[info.generator];
  d["latents"] = info.latents;
  d["seed"] = info.seed;
  d["weights"] = info.weights;
  d["points"] = info.points;
  d["samples_bytes"] = info.samples_bytes;
  d["work"] = info.work;
  d["bytes_per_sample"] = info.bytes_per_sample;
  d["latent_shift"] = info.latent_shift;
  d["bias_shift"] = info.bias_shift;
  d["flags"] = info.flags;
  d["samples_crc"] = info.samples_crc;
  d["file_crc"] = info.file_crc;
  d["header_bytes"] = info.header_bytes;
  d["payload_bytes"] = info.payload_bytes;
  d["part_latents"] = info.part_latents;
  d["part_weights"] = info.part_weights;
  return d;
}

nb::dict read_info(const Bytes& data, const std::optional<nb::dict>& limits) {
  const doh_options options = options_of(limits);
  doh_info info;
  check(doh_read_info(data.data(), data.size(), &options, &info));
  return info_dict(info);
}

Numpy<int32_t> widened(std::span<const int16_t> codes, std::initializer_list<size_t> shape) {
  NewArray<int32_t> result(shape);
  std::copy(codes.begin(), codes.end(), result.data);
  return result.array;
}

// Scales and codes of a network.
void add_codes(nb::dict& d, const Part& part) {
  const Header& h = part.header;
  std::vector<int16_t> latents(h.latents), hidden(h.hidden_biases()), output(h.channels);
  check(read_payload(part, latents, hidden, output));

  nb::list scales;
  for (uint32_t i = 0; i < h.scale_count(); ++i) scales.append(nb::make_tuple(h.scales[i].m, h.scales[i].r, h.scales[i].q));
  d["scales"] = scales;
  d["bias_scale"] = nb::make_tuple(h.bias_m, h.bias_e);
  d["latent_codes"] = widened(latents, {latents.size()});
  d["bias_codes"] = widened(hidden, {h.depth, h.width});
  d["output_bias_codes"] = widened(output, {output.size()});
}

nb::dict network_dict(const Part& part) {
  const Header& h = part.header;
  nb::dict d;
  d["width"] = h.width;
  d["depth"] = h.depth;
  d["latents"] = h.latents;
  d["weights"] = h.weights();
  d["flags"] = h.flags;
  d["latent_shift"] = h.latent_shift;
  d["bias_shift"] = h.bias_shift;
  add_codes(d, part);
  return d;
}

nb::dict unpack(const Bytes& data, const std::optional<nb::dict>& limits) {
  nb::dict d = read_info(data, limits);
  File file;
  check(read_file(span_of(data), file));
  PartReader parts(file);
  nb::list networks;
  for (uint32_t i = 0; i < file.part_count; ++i) {
    check(parts.next());
    if (file.version == kMosaic)
      networks.append(network_dict(parts.part()));
    else
      add_codes(d, parts.part());
  }
  if (file.version == kMosaic) d["networks"] = networks;
  return d;
}

template <class T>
T field(const nb::dict& d, const char* name) {
  if (!d.contains(name)) throw nb::key_error(name);
  return value_of<T>(d[name], name);
}

// 255, "pick the best", where the field is absent or None.
uint32_t shift_field(const nb::dict& d, const char* name) {
  return !d.contains(name) || nb::handle(d[name]).is_none() ? DOH_PICK_SHIFT : field<uint32_t>(d, name);
}

using Codes = nb::ndarray<const int32_t, nb::c_contig, nb::device::cpu>;

Codes codes_field(const nb::dict& d, const char* name, uint64_t count) {
  auto codes = field<Codes>(d, name);
  if (codes.size() != count) throw nb::value_error((std::string(name) + " has the wrong number of codes").c_str());
  return codes;
}

std::pair<uint32_t, uint32_t> bias_scale_field(const nb::dict& d) {
  const auto pair = field<nb::sequence>(d, "bias_scale");
  if (nb::len(pair) != 2) throw nb::value_error("bias_scale is a pair (m, e)");
  return {value_of<uint32_t>(pair[0], "bias_scale"), value_of<uint32_t>(pair[1], "bias_scale")};
}

std::vector<doh_scale> scales_field(const nb::dict& d) {
  std::vector<doh_scale> scales;
  for (const nb::handle item : field<nb::sequence>(d, "scales")) {
    const auto triple = value_of<nb::sequence>(item, "a scale");
    if (nb::len(triple) != 3) throw nb::value_error("a scale is a triple (m, r, q)");
    scales.push_back({value_of<uint32_t>(triple[0], "a scale"), value_of<uint32_t>(triple[1], "a scale"), value_of<uint32_t>(triple[2], "a scale")});
  }
  return scales;
}

// A model and the numbers that it refers to.
struct Model {
  doh_model fields{};
  std::vector<doh_scale> scales;
  Codes latents, biases, output_biases;

  // `d` has the fields that the networks of a mosaic share, `own` those of the network: in a file of one network they are the same.
  Model(const nb::dict& d, const nb::dict& own) {
    fields.signal = number_of(kSignals, field<std::string>(d, "signal"));
    fields.sample_type = number_of(kSampleTypes, field<std::string>(d, "sample_type"));
    const auto shape = field<nb::sequence>(d, "shape");
    fields.dims = static_cast<uint32_t>(nb::len(shape));
    for (uint32_t t = 0; t < fields.dims && t < DOH_MAX_DIMS; ++t) fields.shape[t] = value_of<uint64_t>(shape[t], "shape");
    fields.channels = field<uint32_t>(d, "channels");
    fields.width = field<uint32_t>(own, "width");
    fields.depth = field<uint32_t>(own, "depth");
    fields.frequencies = field<uint32_t>(d, "frequencies");
    fields.ladder = number_of(kLadders, field<std::string>(d, "ladder"));
    fields.generator = number_of(kGenerators, field<std::string>(d, "generator"));
    fields.seed = field<uint64_t>(d, "seed");
    fields.flags = field<uint32_t>(own, "flags");
    scales = scales_field(own);
    fields.scales = scales.data();
    fields.scale_count = static_cast<uint32_t>(scales.size());
    std::tie(fields.bias_m, fields.bias_e) = bias_scale_field(own);
    fields.latent_shift = shift_field(own, "latent_shift");
    fields.bias_shift = shift_field(own, "bias_shift");
    fields.samples_crc = field<uint32_t>(d, "samples_crc");

    latents = field<Codes>(own, "latent_codes");
    biases = codes_field(own, "bias_codes", uint64_t{fields.depth} * fields.width);
    output_biases = codes_field(own, "output_bias_codes", fields.channels);
    fields.latents = static_cast<uint32_t>(std::min<size_t>(latents.size(), UINT32_MAX));
    fields.latent_codes = latents.data();
    fields.bias_codes = biases.data();
    fields.output_bias_codes = output_biases.data();
    if (fields.scales == nullptr || latents.size() == 0) throw Error{fields.scales == nullptr ? DOH_BAD_SCALE : DOH_BAD_GENERATOR};
  }
};

// A file of at most `bound` bytes, written without the GIL by write(dst, size, written).
template <class Write>
nb::bytes written_file(size_t bound, Write&& write) {
  size_t written = 0;
  const auto out = buffer(bound);
  {
    nb::gil_scoped_release release;
    check(write(out.get(), bound, &written));
  }
  return nb::bytes(out.get(), written);
}

nb::bytes pack_mosaic(const nb::dict& d) {
  std::vector<uint32_t> parts;
  uint64_t count = 1;
  for (const nb::handle boxes : field<nb::sequence>(d, "parts")) {
    parts.push_back(value_of<uint32_t>(boxes, "parts"));
    count = saturating_mul(count, parts.back());
  }
  const auto networks = field<nb::sequence>(d, "networks");
  if (parts.size() != nb::len(field<nb::sequence>(d, "shape"))) throw nb::value_error("parts has one number for each dimension of the signal");
  if (nb::len(networks) != count || count == 0) throw nb::value_error("networks has as many entries as parts has boxes");

  std::vector<Model> models;
  models.reserve(static_cast<size_t>(count));  // they stay where they are
  std::vector<doh_model> fields;
  for (const nb::handle network : networks) {
    models.emplace_back(d, value_of<nb::dict>(network, "a network"));
    fields.push_back(models.back().fields);
  }
  size_t bound = 0;
  check(doh_write_mosaic_bound(fields.data(), parts.data(), &bound));
  return written_file(bound,
                      [&](void* dst, size_t size, size_t* written) { return doh_write_mosaic(fields.data(), parts.data(), dst, size, written); });
}

nb::bytes pack(const nb::dict& d) {
  if (d.contains("networks")) return pack_mosaic(d);
  const Model model(d, d);
  size_t bound = 0;
  check(doh_write_bound(&model.fields, &bound));
  return written_file(bound, [&](void* dst, size_t size, size_t* written) { return doh_write(&model.fields, dst, size, written); });
}

nb::bytes with_samples_crc(const Bytes& data, uint32_t crc) {
  std::vector<uint8_t> copy(data.data(), data.data() + data.size());
  check(doh_set_samples_crc(copy.data(), copy.size(), crc));
  return nb::bytes(copy.data(), copy.size());
}

}  // namespace

void bind_format(nb::module_& m) {
  m.def("read_info", &read_info, nb::arg("data").noconvert(), nb::arg("limits") = nb::none(),
        nb::sig("def read_info(data: " DOH_BYTES ", " DOH_LIMITS ") -> dict[str, typing.Any]"),
        "What the header of a .doh file says, checked; judges the limits for the default grid. Raises DohError.");
  m.def(
      "unpack", &unpack, nb::arg("data").noconvert(), nb::arg("limits") = nb::none(),
      nb::sig("def unpack(data: " DOH_BYTES ", " DOH_LIMITS ") -> dict[str, typing.Any]"),
      "read_info and all codes: scales [(m, r, q)], bias_scale (m, e), latent_codes int32 [n], bias_codes int32 [depth, width], "
      "output_bias_codes int32 [channels]. Of a mosaic they are in networks, a list, row-major over the parts, of dictionaries with these and width, "
      "depth, latents, weights, flags, latent_shift, bias_shift. Raises DohError.");
  m.def("pack", &pack, nb::arg("fields"), nb::sig("def pack(fields: dict[str, typing.Any]) -> bytes"),
        "The file of such a dictionary (entries that follow from others may be absent); with networks, a mosaic's. latent_shift and bias_shift are "
        "picked for the smallest file where absent or None. Raises DohError for a field out of range, KeyError, TypeError or ValueError for one that "
        "is absent or no such thing.");
  m.def("set_samples_crc", &with_samples_crc, nb::arg("data").noconvert(), nb::arg("crc"),
        nb::sig("def set_samples_crc(data: " DOH_BYTES ", crc: int) -> bytes"),
        "The same file with another checksum of its samples, and its own checksum made new. Raises DohError.");
  m.def(
      "crc32c", [](const Bytes& data) { return crc32c(span_of(data)); }, nb::arg("data").noconvert(),
      nb::sig("def crc32c(data: " DOH_BYTES ") -> int"), "CRC-32C of bytes.");
}

}  // namespace doh::bindings
