// Tests of cpp/src/net: sine, coordinates, generators, weights, and every kernel against plain loops.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "check.h"
#include "known.h"
#include "net/coordinates.h"
#include "net/first_layer.h"
#include "net/generate.h"
#include "net/kernels.h"
#include "net/network.h"
#include "net/samples.h"
#include "net/sine.h"
#include "random.h"
#include "sha256.h"

using namespace doh;

namespace {

std::vector<uint32_t> permutation(uint64_t seed, uint32_t chunk, uint32_t n) {
  std::vector<uint32_t> keys(2 * n), indices(2 * n);
  const auto view = tied_permutation(seed, chunk, n, {keys, indices});
  return {view.begin(), view.end()};
}

Header random_header(Random& random) {
  Header h{};
  h.dims = static_cast<uint32_t>(random.in(1, 4));
  h.channels = static_cast<uint32_t>(random.in(1, 5));
  h.shape = {1, 1, 1, 1};
  h.width = static_cast<uint32_t>(random.in(1, 40));
  h.depth = static_cast<uint32_t>(random.in(1, 4));
  h.frequencies = static_cast<uint32_t>(random.in(0, 16));
  h.ladder = h.frequencies != 0 ? static_cast<uint32_t>(random.in(0, 1)) : 0;
  h.flags = kScalePerLayer;
  for (uint32_t l = 0; l <= h.depth; ++l) h.scales[l] = {0, 0, static_cast<uint32_t>(random.in(0, l == h.depth ? 14 : 17))};
  return h;
}

// Section 9 as written: one point, no tricks.
std::vector<int32_t> forward_one(const Network& net, const std::vector<int32_t>& x) {
  const Header& h = *net.header;
  const Layer layer0 = layer_of(net, 0);
  std::vector<int16_t> a;
  for (uint32_t o = 0; o < layer0.fan_out; ++o) {
    int64_t sum = 0;
    for (uint32_t t = 0; t < h.dims; ++t) {
      const int16_t* w = layer0.weights + o * layer0.fan_in + t * h.inputs_per_dim();
      sum += int64_t{w[0]} * x[t] >> 16;
      for (uint32_t k = 0; k < h.frequencies; ++k) {
        const auto phase = static_cast<int16_t>((int64_t{x[t]} * multiplier(h.ladder, k) >> 12) >> 16);
        sum += w[1 + 2 * k] * sin16(phase) + w[2 + 2 * k] * sin16(static_cast<int16_t>(phase + 16384));
      }
    }
    a.push_back(sin16(static_cast<int16_t>(((static_cast<uint32_t>(sum) << (17 - layer0.precision)) + layer0.biases[o]) >> 16)));
  }
  for (uint32_t l = 1; l <= h.depth; ++l) {
    const Layer layer = layer_of(net, l);
    std::vector<int32_t> y;
    std::vector<int16_t> next;
    for (uint32_t o = 0; o < layer.fan_out; ++o) {
      int64_t sum = 0;
      for (uint32_t i = 0; i < layer.fan_in; ++i) sum += layer.weights[o * layer.fan_in + i] * a[i];
      y.push_back(static_cast<int32_t>(static_cast<uint32_t>(sum) + layer.biases[o]));
      next.push_back(sin16(static_cast<int16_t>(((static_cast<uint32_t>(sum) << (17 - std::min(layer.precision, 17u))) + layer.biases[o]) >> 16)));
    }
    if (l == h.depth) return y;
    a = next;
  }
  return {};
}

}  // namespace

TEST(sine_known_answers) {
  std::vector<uint8_t> table;
  for (int32_t p = -32768; p < 32768; ++p) {
    const auto value = static_cast<uint16_t>(sin16(static_cast<int16_t>(p)));
    table.push_back(static_cast<uint8_t>(value));
    table.push_back(static_cast<uint8_t>(value >> 8));
  }
  int values = 0;
  for (const auto& line : known_lines(DOH_KAT "/sine.txt")) {
    if (line[0] == "sha256") {
      CHECK_EQ(sha256(table), line[1]);
    } else {
      CHECK_EQ(sin16(static_cast<int16_t>(std::stoi(line[0]))), std::stoi(line[1]));
      ++values;
    }
  }
  CHECK(values > 10);
}

TEST(sine_is_a_sine) {
  double worst = 0;
  for (int32_t p = -32768; p < 32768; ++p) {
    const double exact = 32768 * std::sin(2 * 3.14159265358979323846 * (p + 0.5) / 65536);
    worst = std::max(worst, std::abs(sin16(static_cast<int16_t>(p)) - exact));
    CHECK(sin16(static_cast<int16_t>(p)) >= -32767);
  }
  CHECK(worst < 3.95);
}

TEST(rounding_product) {
  for (int a = -32767; a <= 32767; a += 257)
    for (int b = -32767; b <= 32767; ++b) CHECK_EQ(rounding_mul(static_cast<int16_t>(a), static_cast<int16_t>(b)), (a * b + 16384) >> 15);
}

TEST(coordinates_of_small_grids) {
  CHECK_EQ(coordinate(0, 1), 0);
  CHECK_EQ(coordinate(0, 2), -(1 << 30));
  CHECK_EQ(coordinate(1, 2), 1 << 30);
  CHECK_EQ(coordinate(0, 3), -1431655766);  // floor(2^31 / 3) - 2^31
  CHECK_EQ(coordinate(1, 3), 0);
  CHECK_EQ(coordinate(0, 0x7FFFFFFF), 1 - INT32_MAX - 1 + 0);
  CHECK_EQ(coordinate(0x7FFFFFFE, 0x7FFFFFFF), INT32_MAX - 1);
}

TEST(ladders) {
  for (uint32_t k = 0; k < kMaxFrequencies; ++k) {
    CHECK_EQ(multiplier(DOH_OCTAVES, k), 4096u << k);
    CHECK_EQ(multiplier(DOH_POWERS_OF_1_4, k), static_cast<uint32_t>(std::lround(4096 * std::pow(1.4, k))));
    for (const int64_t x : {-2147483648ll, -1ll, 0ll, 1ll, 123456789ll, 2147483647ll})
      CHECK_EQ(encoding_phase(static_cast<int32_t>(x), multiplier(1, k)), static_cast<int16_t>((x * multiplier(1, k) >> 12) >> 16));
  }
}

TEST(tied_permutations_are_sorted_keys) {
  for (const uint32_t n : {1u, 2u, 3u, 4u, 5u, 63u, 64u, 65u, 127u, 128u, 129u, 5000u, 100000u})
    for (const uint32_t chunk : {0u, 1u, 77u}) {
      const auto order = permutation(42, chunk, n);
      std::vector<std::pair<uint64_t, uint32_t>> keys;
      for (uint32_t j = 0; j < n; ++j) {
        const uint32_t word = philox(42, {j / 4, chunk, 0, kPermutationKeys})[j % 4];
        keys.emplace_back(uint64_t{word >> 1} << 32 | j, j);
      }
      std::sort(keys.begin(), keys.end());
      for (uint32_t k = 0; k < n; ++k) CHECK_EQ(order[k], keys[k].second);
    }
}

TEST(tied_weights_use_every_latent_equally) {
  Header h{};
  h.dims = 2;
  h.channels = 3;
  h.width = 9;
  h.depth = 3;
  h.frequencies = 1;
  h.generator = DOH_TIED;
  h.seed = 99;
  for (const uint32_t n : {1u, 50u, 200u, 1000u}) {
    h.latents = n;
    std::vector<int16_t> latents(n);
    std::iota(latents.begin(), latents.end(), int16_t{1});
    std::vector<uint32_t> keys(2 * n), indices(2 * n);
    std::vector<uint32_t> uses(n);
    uint32_t next = 0;
    generate_tied(h, latents, {keys, indices}, [&](uint32_t weight, int64_t w_int) {
      CHECK_EQ(weight, next++);
      const auto latent = static_cast<size_t>(w_int < 0 ? -w_int : w_int) - 1;
      ++uses[latent];
      const auto words = philox(99, {weight / 128, 0, 0, kSigns});
      CHECK_EQ(w_int < 0, (words[weight % 128 / 32] >> weight % 32 & 1) != 0);
    });
    CHECK_EQ(next, h.weights());
    const auto [least, most] = std::minmax_element(uses.begin(), uses.end());
    CHECK(*most - *least <= 1);
  }
}

TEST(dense_sums_of_every_kernel) {
  Random random(5);
  for (const size_t n :
       {size_t{1}, size_t{15}, size_t{16}, size_t{17}, size_t{127}, size_t{128}, size_t{129}, size_t{511}, size_t{513}, size_t{3000}, size_t{20000}})
    for (const bool extreme : {false, true}) {
      std::vector<int16_t> latents(n);
      for (auto& code : latents) code = static_cast<int16_t>(extreme ? -32768 : random.in(-32768, 32767));
      const uint64_t seed = random.next();
      const DenseRow row{seed, static_cast<uint32_t>(random.in(0, 64)), static_cast<uint32_t>(random.in(0, 1 << 20))};
      int64_t expected = 0, sum = 0;
      for (size_t j = 0; j < n; ++j) {
        const auto words = philox(seed, {static_cast<uint32_t>(j / 16), row.row, row.layer, kDenseEntries});
        expected += static_cast<int64_t>(words[j % 16 / 4] >> (8 * (j % 4)) & 255) * latents[j];
        sum += latents[j];
      }
      for (const Kernel& kernel : all_kernels()) {
        if (!kernel.available()) continue;
        std::vector<int16_t> prepared(padded_codes(n), 77);
        CHECK_EQ(prepare_codes(latents, kernel.dense_blocks, prepared), sum);
        CHECK_EQ(kernel.dense_sum(row, prepared.data(), prepared.size()), expected);
      }
    }
}

TEST(dense_weights_in_any_ranges) {
  Header h{};
  h.dims = 1;
  h.channels = 2;
  h.width = 5;
  h.depth = 3;
  h.generator = DOH_DENSE;
  h.latents = 20;
  h.seed = 4;
  std::vector<int16_t> latents(20), prepared(padded_codes(20));
  std::iota(latents.begin(), latents.end(), int16_t{-7});
  const int64_t sum = prepare_codes(latents, 0, prepared);
  const DenseCodes codes{prepared, sum, dense_sum_scalar};
  std::vector<int64_t> whole, parts;
  generate_dense(h, codes, 0, h.weights(), [&](uint32_t weight, int64_t w_int) {
    CHECK_EQ(weight, whole.size());
    whole.push_back(w_int);
  });
  CHECK_EQ(whole.size(), h.weights());
  for (uint64_t first = 0; first < h.weights(); first += 7)
    generate_dense(h, codes, first, std::min<uint64_t>(first + 7, h.weights()), [&](uint32_t, int64_t w_int) { parts.push_back(w_int); });
  CHECK(parts == whole);
  const auto words = philox(4, {0, 6, 2, kDenseEntries});  // row 6 of layer 2: weight 5 + 25 + 6
  int64_t expected = 0;
  for (size_t j = 0; j < 16; ++j) expected += (2 * static_cast<int64_t>(words[j / 4] >> (8 * (j % 4)) & 255) - 255) * latents[j];
  const auto rest = philox(4, {1, 6, 2, kDenseEntries});
  for (size_t j = 16; j < 20; ++j) expected += (2 * static_cast<int64_t>(rest[0] >> (8 * (j % 4)) & 255) - 255) * latents[j];
  CHECK_EQ(whole[36], expected);
}

TEST(scaled_weights) {
  CHECK_EQ(scaled_weight(1, {0, 0, 0}), 2048);
  CHECK_EQ(scaled_weight(1, {0, 12, 0}), 1);  // 0.5 rounds up
  CHECK_EQ(scaled_weight(-1, {0, 12, 0}), 0);
  CHECK_EQ(scaled_weight(-1, {1, 12, 0}), -1);
  CHECK_EQ(scaled_weight(-(int64_t{1} << 36) + 1, {2047, 0, 0}), -32767);
  CHECK_EQ(scaled_weight((int64_t{1} << 36) - 1, {2047, 0, 0}), 32767);
  CHECK_EQ(scaled_weight((int64_t{1} << 36) - 1, {2047, 47, 0}), 2);
  CHECK_EQ(scaled_weight(-(int64_t{1} << 36) + 1, {2047, 47, 0}), -2);
}

TEST(kernels_equal_the_definition) {
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    CHECK(find_kernel(kernel.name) == &kernel);
    Random random(6);
    for (int round = 0; round < 60; ++round) {
      const Header h = random_header(random);
      const bool extreme = round % 4 == 0;
      std::vector<int16_t> weights(static_cast<size_t>(h.weights()));
      for (auto& w : weights) w = static_cast<int16_t>(extreme ? (random.in(0, 1) != 0 ? 32767 : -32767) : random.in(-32767, 32767));
      std::vector<uint32_t> biases(h.hidden_biases() + h.channels);
      for (auto& b : biases) b = static_cast<uint32_t>(random.next());
      const Network net{&h, weights, biases};

      const auto count = static_cast<size_t>(round < 3 ? std::array{1, 64, 33}[static_cast<size_t>(round)] : random.in(1, kTile));
      std::vector<int32_t> x(kTile), fixed(h.dims);
      for (auto& value : x) value = extreme ? (random.in(0, 1) != 0 ? INT32_MAX : INT32_MIN) : static_cast<int32_t>(random.next());
      for (auto& value : fixed) value = static_cast<int32_t>(random.next());
      std::vector<uint32_t> column(h.width * kTile), row(h.width);
      add_dimension(net, 0, x, column.data(), kTile);
      for (uint32_t t = 1; t < h.dims; ++t) add_dimension(net, t, {&fixed[t], 1}, row.data(), 1);

      std::vector<int16_t> activations(2 * (h.width + 1) * kTile + 1, 99);
      std::vector<int32_t> y(h.channels * kTile + 1, 99);
      kernel.forward(net, {count, column.data(), row.data(), activations.data(), y.data()});
      CHECK(activations.back() == 99 && y.back() == 99);
      for (size_t p = 0; p < count; ++p) {
        fixed[0] = x[p];
        const auto expected = forward_one(net, fixed);
        for (uint32_t c = 0; c < h.channels; ++c) CHECK_EQ(y[c * kTile + p], expected[c]);
      }
    }
  }
  CHECK(find_kernel("no such kernel") == nullptr);
  CHECK(find_kernel("scalar") != nullptr);
}

TEST(samples_round_and_clamp) {
  Header h{};
  h.depth = 1;
  h.flags = kScalePerLayer;
  for (uint32_t q = 0; q <= 14; ++q)
    for (const uint32_t type : {DOH_U1, DOH_U8, DOH_U16, DOH_S16}) {
      h.scales[1].q = q;
      h.sample_type = type;
      const SampleRule rule(h);
      const int32_t one = 1 << (15 + q);
      const int low = type == DOH_S16 ? -32768 : 0, top = type == DOH_U1 ? 1 : type == DOH_U8 ? 255 : type == DOH_U16 ? 65535 : 32767;
      auto value = [&](int32_t y) { return type == DOH_S16 ? static_cast<int>(static_cast<int16_t>(rule(y))) : static_cast<int>(rule(y)); };
      CHECK_EQ(value(INT32_MIN), low);
      CHECK_EQ(value(-1), low);
      CHECK_EQ(value(0), low);
      CHECK_EQ(value(one), top);
      CHECK_EQ(value(INT32_MAX), top);
      if (type == DOH_U1) CHECK_EQ(value(one / 2), 1);
      if (type == DOH_U1) CHECK_EQ(value(one / 2 - 1), 0);
      if (type == DOH_U8) CHECK_EQ(value(one / 2), 128);
    }
}
