// Every kernel against the scalar one, with all its memory between guard pages: random and extreme inputs, every width up to 70 and some beyond.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "check.h"
#include "guarded.h"
#include "net/kernels.h"
#include "net/sine.h"
#include "random.h"

using namespace doh;

namespace {

constexpr uint64_t kValues = 1'000'000;  // at least so many are compared for each kernel

struct Shape {
  uint32_t width, depth, channels;
  size_t count;
};

Header header_of(const Shape& shape, Random& random) {
  Header h{};
  h.dims = 1;
  h.shape = {1, 1, 1, 1};
  h.channels = shape.channels;
  h.width = shape.width;
  h.depth = shape.depth;
  h.flags = kScalePerLayer;
  for (uint32_t l = 0; l <= h.depth; ++l) h.scales[l].q = static_cast<uint32_t>(random.in(0, l == h.depth ? kMaxOutputPrecision : kMaxPrecision));
  return h;
}

// Ways to fill weights and sums: what the bits of a value can do to a sum, and values of no pattern.
enum Fill { kRandom, kAnyExtreme, kAllHighest, kAllLowest, kAlternating, kMostlyZero, kFills };

uint32_t value(Random& random, int fill, size_t i, uint32_t lowest, uint32_t highest) {
  switch (fill) {
    case kAnyExtreme: return std::array{lowest, highest, 0u, 1u, ~0u}[random.next() % 5];
    case kAllHighest: return highest;
    case kAllLowest: return lowest;
    case kAlternating: return i % 2 != 0 ? lowest : highest;
    case kMostlyZero: return random.next() % 16 == 0 ? static_cast<uint32_t>(random.next()) : 0;
    default: return static_cast<uint32_t>(random.next());
  }
}

// In [-32767, 32767], as section 6 leaves them.
int16_t weight(Random& random, int fill, size_t i) {
  const auto w = static_cast<int16_t>(value(random, fill, i, static_cast<uint32_t>(-32767), 32767));
  return w == -32768 ? int16_t{-32767} : w;
}

// What a tile is made from.
struct Inputs {
  Header h;
  Guarded<int16_t> weights;
  Guarded<uint32_t> biases, column, row;

  Inputs(const Shape& shape, Random& random, Edge edge, int weight_fill, int sum_fill)
      : h(header_of(shape, random)),
        weights(static_cast<size_t>(h.weights()), edge),
        biases(h.hidden_biases() + size_t{h.channels}, edge),
        column(h.width * kTile, edge),
        row(h.width, edge) {
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = weight(random, weight_fill, i);
    for (const auto* sums : {&biases, &column, &row})
      for (size_t i = 0; i < sums->size(); ++i) (*sums)[i] = value(random, sum_fill, i, 0x80000000u, 0x7FFFFFFFu);
  }

  Network network() const { return {&h, {weights.data(), weights.size()}, {biases.data(), biases.size()}}; }
};

// The result of a kernel whose scratch and result lie between guards.
std::vector<int32_t> run(const Kernel& kernel, const Inputs& in, size_t count, Edge edge, uint8_t garbage) {
  const Guarded<int16_t> activations(2 * (in.h.width + size_t{1}) * kTile, edge, garbage);
  const Guarded<int32_t> y(in.h.channels * kTile, edge, garbage);
  kernel.forward(in.network(), {count, in.column.data(), in.row.data(), activations.data(), y.data()});
  CHECK(activations.intact() && y.intact());
  return {y.begin(), y.end()};
}

const Kernel& scalar() { return *find_kernel("scalar"); }

std::vector<uint32_t> widths() {
  std::vector<uint32_t> all;
  for (uint32_t w = 1; w <= 70; ++w) all.push_back(w);
  all.insert(all.end(), {127, 128, 255, 256, 257});
  return all;
}

}  // namespace

TEST(kernels_equal_scalar_between_guards) {
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    Random random(11);
    uint64_t values = 0;
    for (int round = 0; values < kValues || round < 2 * kFills; ++round)
      for (const uint32_t width : widths()) {
        if (width > 70 && round >= kFills) continue;
        Shape shape{width, static_cast<uint32_t>(random.in(1, 3)), static_cast<uint32_t>(random.in(1, kMaxChannels)),
                    static_cast<size_t>(random.in(1, kTile))};
        if (round % 4 == 3) shape.count = std::array<size_t, 7>{1, 15, 16, 31, 32, 33, 63}[width % 7];
        const Edge edge = (round + static_cast<int>(width)) % 2 != 0 ? Edge::kStart : Edge::kEnd;
        const Inputs in(shape, random, edge, round % kFills, static_cast<int>(random.in(0, kFills - 1)));
        const auto expected = run(scalar(), in, shape.count, Edge::kEnd, 0xAA);
        const auto got = run(kernel, in, shape.count, edge, 0x55);
        for (size_t c = 0; c < in.h.channels; ++c) {
          const bool equal = std::memcmp(&got[c * kTile], &expected[c * kTile], shape.count * sizeof(int32_t)) == 0;
          if (!equal)
            report(false, __FILE__, __LINE__, std::string(kernel.name) + ", width " + std::to_string(width) + ", round " + std::to_string(round));
        }
        CHECK(in.weights.intact() && in.biases.intact() && in.column.intact() && in.row.intact());
        values += in.h.channels * shape.count;
      }
    CHECK(values >= kValues);
  }
}

// One unit and an output weight of 1: y is the sine itself, for every one of the 65,536 phases and each precision.
TEST(kernels_have_the_sine_of_every_phase) {
  Random random(12);
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    for (const uint32_t q : {0u, 16u, kMaxPrecision}) {
      Inputs in({1, 1, 1, kTile}, random, Edge::kEnd, kAllHighest, kAllHighest);
      in.h.scales[0].q = q;
      in.weights[1] = 1;  // layer 0 has one input
      in.biases[0] = in.biases[1] = 0;
      in.row[0] = 0;
      for (uint32_t first = 0; first < 65536; first += kTile) {
        // The phase comes from the sum where the shift leaves all of its bits, else from the bias, and the sum gives bits that are shifted out.
        const bool from_sum = q == kMaxPrecision;
        in.biases[0] = from_sum ? 0 : first << 16;
        for (uint32_t p = 0; p < kTile; ++p) in.column[p] = from_sum ? (first + p) << 16 | (p % 2) * 0xFFFF : (p % 2) << 31;
        const auto y = run(kernel, in, kTile, Edge::kEnd, 0);
        for (uint32_t p = 0; p < kTile; ++p) {
          const uint32_t sum = in.column[p] << (kMaxPrecision - q);
          CHECK_EQ(y[p], sin16(static_cast<int16_t>((sum + in.biases[0]) >> 16)));
        }
      }
    }
  }
}

TEST(dense_sums_equal_scalar_between_guards) {
  for (const Kernel& kernel : all_kernels()) {
    if (!kernel.available()) continue;
    Random random(13);
    uint64_t products = 0;
    for (size_t n = 1; products < 20 * kValues; n = n < 700 ? n + 1 : static_cast<size_t>(random.in(701, 40000))) {
      std::vector<int16_t> latents(n), own(padded_codes(n));
      const int fill = random.in(0, kFills - 1);
      for (size_t i = 0; i < n; ++i) latents[i] = static_cast<int16_t>(value(random, fill, i, static_cast<uint32_t>(-32768), 32767));
      const Guarded<int16_t> prepared(padded_codes(n), n % 2 != 0 ? Edge::kStart : Edge::kEnd);
      const int64_t sum = prepare_codes(latents, kernel.dense_blocks, {prepared.data(), prepared.size()});
      CHECK_EQ(prepare_codes(latents, 0, own), sum);
      for (int r = 0; r < 4; ++r) {
        const DenseRow row{random.next(), static_cast<uint32_t>(random.in(0, kMaxDepth)), static_cast<uint32_t>(random.next() & (kMaxWeights - 1))};
        CHECK_EQ(kernel.dense_sum(row, prepared.data(), prepared.size()), dense_sum_scalar(row, own.data(), own.size()));
        products += n;
      }
      CHECK(prepared.intact());
    }
  }
}
