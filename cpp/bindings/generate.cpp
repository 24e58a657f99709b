// The generators' parts, for the encoder, the exporters and the tests: Philox, tied map, dense bytes, weights, sine.
#include <vector>

#include "common.h"
#include "decode/decode.h"
#include "decode/limits.h"
#include "format/read.h"
#include "net/generate.h"
#include "net/network.h"
#include "net/sine.h"

namespace doh::bindings {
namespace {

void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

Numpy<uint32_t> philox_words(uint64_t seed, uint32_t stream, uint32_t layer, uint32_t row, uint32_t block, uint32_t count) {
  NewArray<uint32_t> result({count, 4});
  for (uint32_t i = 0; i < count; ++i) {
    const PhiloxWords words = philox(seed, {block + i, row, layer, stream});
    std::copy(words.begin(), words.end(), result.data + size_t{4} * i);
  }
  return result.array;
}

nb::tuple tied_map(uint64_t seed, uint32_t latents, uint32_t weights) {
  require(latents >= 1 && latents <= kMaxLatents, "latents must be 1 to 2^22");
  require(weights >= 1 && weights <= kMaxWeights, "weights must be 1 to 2^24");
  NewArray<int32_t> index({weights});
  NewArray<int8_t> sign({weights});
  std::vector<uint32_t> keys(size_t{2} * latents), indices(size_t{2} * latents);
  TiedSigns signs(seed);
  for (uint32_t first = 0, chunk = 0; first < weights; first += latents, ++chunk) {
    const auto permutation = tied_permutation(seed, chunk, latents, {keys, indices});
    for (uint32_t k = 0; k < latents && first + k < weights; ++k) {
      index.data[first + k] = static_cast<int32_t>(permutation[k]);
      sign.data[first + k] = signs.negative(first + k) ? -1 : 1;
    }
  }
  return nb::make_tuple(index.array, sign.array);
}

Numpy<uint8_t> dense_bytes(uint64_t seed, uint32_t layer, uint32_t row, uint32_t rows, uint32_t latents) {
  require(latents >= 1 && latents <= kMaxLatents && rows <= kMaxWeights, "latents must be 1 to 2^22, rows at most 2^24");
  require(uint64_t{rows} * latents <= uint64_t{1} << 34, "more than 16 GiB of matrix");
  NewArray<uint8_t> result({rows, latents});
  PhiloxBatch batch;
  for (uint32_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < latents; ++j) {
      const size_t in_batch = j % (16 * kPhiloxBatch);
      if (in_batch == 0) philox_batch(seed, {static_cast<uint32_t>(j / 16), row + i, layer, kDenseEntries}, batch);
      result.data[size_t{i} * latents + j] = static_cast<uint8_t>(batch[in_batch / 4 % 4][in_batch / 16] >> (8 * (in_batch % 4)));
    }
  return result.array;
}

// The latents of a file of one network and scratch to sort in. Only the limits that do not depend on the grid apply.
struct Latents {
  Part part;
  std::unique_ptr<uint8_t[]> memory;
  std::optional<ModelSpace> space;

  Latents(const Bytes& data, const std::optional<nb::dict>& limits) {
    File file;
    check(read_file(span_of(data), file));
    if (file.version != kOneNetwork) check(DOH_BAD_VERSION);
    part = PartReader(file).part();
    const uint64_t bytes = workspace_bytes(file.sizes(), 1);
    const doh_options options = options_of(limits);
    check(judge(file, Box{}, bytes, limits_of(&options)));
    memory = buffer(static_cast<size_t>(bytes));
    Arena arena({memory.get(), static_cast<size_t>(bytes)});
    space.emplace(file.sizes(), arena);
    check(read_payload(part, space->latents, space->hidden_biases, space->output_biases));
  }
};

// One array [fan_out, fan_in] for each layer, with value(layer, W_int) in it.
template <class T, class Value>
nb::list layer_arrays(const Bytes& data, const std::optional<nb::dict>& limits, Value&& value) {
  const Latents latents(data, limits);
  const Header& h = latents.part.header;
  nb::list arrays;
  std::vector<T*> layers;
  for (uint32_t l = 0; l <= h.depth; ++l) {
    NewArray<T> array({h.fan_out(l), h.fan_in(l)});
    layers.push_back(array.data);
    arrays.append(array.array);
  }
  uint32_t layer = 0;
  uint64_t start = 0;
  auto sink = [&](uint32_t weight, int64_t w_int) {
    if (weight == start + h.layer_weights(layer)) start += h.layer_weights(layer++);
    layers[layer][weight - start] = value(h.scale(layer), w_int);
  };
  const ModelSpace& space = *latents.space;
  const Kernel* const kernel = find_kernel(nullptr);
  if (kernel == nullptr) check(DOH_UNKNOWN_KERNEL);
  const nb::gil_scoped_release release;
  if (h.generator == DOH_TIED) {
    generate_tied(h, space.latents, space.sort, sink);
  } else {
    const int64_t sum = prepare_codes(space.latents, kernel->dense_blocks, space.prepared);
    generate_dense(h, {space.prepared, sum, kernel->dense_sum}, 0, h.weights(), sink);
  }
  return arrays;
}

nb::list weight_sums(const Bytes& data, const std::optional<nb::dict>& limits) {
  return layer_arrays<int64_t>(data, limits, [](const Scale&, int64_t w_int) { return w_int; });
}

nb::list integer_weights(const Bytes& data, const std::optional<nb::dict>& limits) {
  return layer_arrays<int16_t>(data, limits, [](const Scale& scale, int64_t w_int) { return scaled_weight(w_int, scale); });
}

Numpy<int16_t> sine() {
  NewArray<int16_t> result({65536});
  for (int32_t p = -32768; p < 32768; ++p) result.data[p + 32768] = sin16(static_cast<int16_t>(p));
  return result.array;
}

}  // namespace

void bind_generate(nb::module_& m) {
  m.def("philox", &philox_words, nb::arg("seed"), nb::arg("stream"), nb::arg("layer"), nb::arg("row"), nb::arg("block"), nb::arg("count"),
        "Philox4x32-10 words, uint32 [count, 4], of the counters (block + i, row, layer, stream).");
  m.def("tied_map", &tied_map, nb::arg("seed"), nb::arg("latents"), nb::arg("weights"),
        nb::sig("def tied_map(seed: int, latents: int, weights: int) -> tuple[numpy.typing.NDArray[numpy.int32], numpy.typing.NDArray[numpy.int8]]"),
        "The tied generator: (index int32 [weights], sign int8 [weights]); W_int = sign * codes[index].");
  m.def("dense_bytes", &dense_bytes, nb::arg("seed"), nb::arg("layer"), nb::arg("row"), nb::arg("rows"), nb::arg("latents"),
        "Rows row .. row + rows - 1 of a layer's dense matrix as bytes u, uint8 [rows, latents]; an entry is 2u - 255.");
  m.def("weight_sums", &weight_sums, nb::arg("data").noconvert(), nb::arg("limits") = nb::none(),
        nb::sig("def weight_sums(data: " DOH_BYTES ", " DOH_LIMITS ") -> list[numpy.typing.NDArray[numpy.int64]]"),
        "W_int of a file of one network: for each layer int64 [fan_out, fan_in]. Releases the GIL. Raises DohError (BAD_VERSION: a mosaic).");
  m.def("integer_weights", &integer_weights, nb::arg("data").noconvert(), nb::arg("limits") = nb::none(),
        nb::sig("def integer_weights(data: " DOH_BYTES ", " DOH_LIMITS ") -> list[numpy.typing.NDArray[numpy.int16]]"),
        "The 16-bit weights of a file of one network: for each layer int16 [fan_out, fan_in]. Releases the GIL. Raises DohError (BAD_VERSION: a "
        "mosaic).");
  m.def("sine", &sine, "sin16 of the phases -32768 .. 32767, int16 [65536].");
}

}  // namespace doh::bindings
