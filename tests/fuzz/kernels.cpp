// A network and a tile made from any bytes, through every kernel of this machine: the same sums as the scalar one, tile and dense.
#include <cstring>
#include <vector>

#include "common.h"
#include "net/kernels.h"

using namespace doh;

namespace {

void same_tile(const Header& h, size_t count, Input& in) {
  std::vector<int16_t> weights(static_cast<size_t>(h.weights()));
  for (auto& w : weights) w = static_cast<int16_t>(in.cycle16());
  for (auto& w : weights) w = w == -32768 ? int16_t{-32767} : w;
  std::vector<uint32_t> biases(h.hidden_biases() + size_t{h.channels}), column(h.width * kTile), row(h.width);
  for (auto* sums : {&biases, &column, &row})
    for (auto& sum : *sums) sum = in.cycle32();
  const Network net{&h, weights, biases};

  std::vector<int32_t> expected(h.channels * kTile), y(expected.size());
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    const Raw activations(2 * (h.width + size_t{1}) * kTile * sizeof(int16_t));
    auto run = [&](const Kernel& k, std::vector<int32_t>& result) {
      k.forward(net, {count, column.data(), row.data(), reinterpret_cast<int16_t*>(activations.data()), result.data()});
    };
    run(*find_kernel("scalar"), expected);
    run(kernel, y);
    for (size_t c = 0; c < h.channels; ++c) FUZZ_CHECK(std::memcmp(&y[c * kTile], &expected[c * kTile], count * sizeof(int32_t)) == 0);
  }
}

void same_dense_sum(const DenseRow& row, size_t count, Input& in) {
  std::vector<int16_t> latents(count), prepared(padded_codes(count));
  for (auto& code : latents) code = static_cast<int16_t>(in.cycle16());
  prepare_codes(latents, 0, prepared);
  const int64_t expected = dense_sum_scalar(row, prepared.data(), prepared.size());
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    prepare_codes(latents, kernel.dense_blocks, prepared);
    FUZZ_CHECK(kernel.dense_sum(row, prepared.data(), prepared.size()) == expected);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  Header h{};
  h.dims = 1;
  h.shape = {1, 1, 1, 1};
  h.width = in.in(1, 33);
  h.depth = in.in(1, 4);
  h.channels = in.in(1, 5);
  h.flags = kScalePerLayer;
  for (uint32_t l = 0; l <= h.depth; ++l) h.scales[l].q = in.in(0, l == h.depth ? kMaxOutputPrecision : kMaxPrecision);
  const size_t count = in.in(1, kTile);
  const size_t codes = in.in(1, 1500);
  const DenseRow row{in.word64(), in.in(0, kMaxDepth), in.word(3)};
  same_tile(h, count, in);
  same_dense_sum(row, codes, in);
  return 0;
}
