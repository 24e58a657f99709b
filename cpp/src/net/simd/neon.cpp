// NEON: activations unit-major as in the scalar kernel, a weight in a lane of a register, widening multiply-adds. Part of every aarch64: no target
// region needed.
#include "net/kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace doh {
namespace {

constexpr size_t kVectors = 2;  // of 8 points
constexpr size_t kPoints = 8 * kVectors;
constexpr size_t kOutputs = 4;  // 4 outputs of 16 points: 16 of the 32 registers hold sums

struct Sum {
  int32x4_t low, high;  // of 8 points
};

int16x8_t sine(int16x8_t s) {
  const int16x8_t m = veorq_s16(s, vshrq_n_s16(s, 15));
  const int16x8_t u = vsubq_s16(vdupq_n_s16(32767), vaddq_s16(m, m));
  const int16x8_t z = vqrdmulhq_s16(u, u);
  int16x8_t v = vsubq_s16(vdupq_n_s16(21013), vqrdmulhq_n_s16(z, 2330));
  v = vsubq_s16(vdupq_n_s16(18682), vqrdmulhq_s16(v, z));
  return vaddq_s16(u, vqrdmulhq_s16(u, v));
}

template <int Lane>
void multiply_add(Sum& sum, int16x8_t x, int16x4_t weights) {
  sum.low = vmlal_lane_s16(sum.low, vget_low_s16(x), weights, Lane);
  sum.high = vmlal_high_lane_s16(sum.high, x, weights, Lane);
}

// One of four inputs: `in` points at its row of points.
template <int Lane, size_t N>
void add_input(Sum (&sums)[N][kVectors], const int16_t* in, const int16x4_t (&weights)[N]) {
  for (size_t v = 0; v < kVectors; ++v) {
    const int16x8_t x = vld1q_s16(in + 8 * v);
    for (size_t o = 0; o < N; ++o) multiply_add<Lane>(sums[o][v], x, weights[o]);
  }
}

template <size_t N>
void dot(const int16_t* weights, size_t fan_in, const int16_t* in, Sum (&sums)[N][kVectors]) {
  for (auto& output : sums)
    for (Sum& sum : output) sum = {vdupq_n_s32(0), vdupq_n_s32(0)};
  size_t i = 0;
  for (; i + 4 <= fan_in; i += 4) {
    int16x4_t w[N];
    for (size_t o = 0; o < N; ++o) w[o] = vld1_s16(weights + o * fan_in + i);
    add_input<0>(sums, in + i * kTile, w);
    add_input<1>(sums, in + (i + 1) * kTile, w);
    add_input<2>(sums, in + (i + 2) * kTile, w);
    add_input<3>(sums, in + (i + 3) * kTile, w);
  }
  for (; i < fan_in; ++i) {
    int16x4_t w[N];
    for (size_t o = 0; o < N; ++o) w[o] = vdup_n_s16(weights[o * fan_in + i]);
    add_input<0>(sums, in + i * kTile, w);
  }
}

// Shift left by 17 - q, bias with the quarter turn that sin16 takes back, upper half, sine.
struct SineOutput {
  int32x4_t shift;
  const uint32_t* biases;

  explicit SineOutput(const Layer& layer) : shift(vdupq_n_s32(static_cast<int32_t>(kMaxPrecision - layer.precision))), biases(layer.biases) {}

  int16x8_t operator()(const Sum& sum, size_t o) const {
    const int32x4_t bias = vdupq_n_s32(static_cast<int32_t>(biases[o] - (1u << 30)));
    const int32x4_t low = vaddq_s32(vshlq_s32(sum.low, shift), bias), high = vaddq_s32(vshlq_s32(sum.high, shift), bias);
    return sine(vshrn_high_n_s32(vshrn_n_s32(low, 16), high, 16));
  }
};

template <size_t N>
void hidden_outputs(const Layer& layer, size_t o, const int16_t* in, int16_t* out) {
  Sum sums[N][kVectors];
  dot<N>(layer.weights + o * layer.fan_in, layer.fan_in, in, sums);
  const SineOutput to_sine(layer);
  for (size_t j = 0; j < N; ++j)
    for (size_t v = 0; v < kVectors; ++v) vst1q_s16(out + (o + j) * kTile + 8 * v, to_sine(sums[j][v], o + j));
}

void first_layer(const Layer& layer, const uint32_t* column, const uint32_t* row, int16_t* out) {
  const SineOutput to_sine(layer);
  for (size_t o = 0; o < layer.fan_out; ++o) {
    const int32x4_t r = vreinterpretq_s32_u32(vdupq_n_u32(row[o]));
    for (size_t v = 0; v < kVectors; ++v) {
      const int32_t* const c = reinterpret_cast<const int32_t*>(column + o * kTile + 8 * v);
      vst1q_s16(out + o * kTile + 8 * v, to_sine({vaddq_s32(vld1q_s32(c), r), vaddq_s32(vld1q_s32(c + 4), r)}, o));
    }
  }
}

void output_layer(const Layer& layer, const int16_t* in, int32_t* y) {
  for (size_t o = 0; o < layer.fan_out; ++o) {
    Sum sums[1][kVectors];
    dot<1>(layer.weights + o * layer.fan_in, layer.fan_in, in, sums);
    const int32x4_t bias = vreinterpretq_s32_u32(vdupq_n_u32(layer.biases[o]));
    for (size_t v = 0; v < kVectors; ++v) {
      vst1q_s32(y + o * kTile + 8 * v, vaddq_s32(sums[0][v].low, bias));
      vst1q_s32(y + o * kTile + 8 * v + 4, vaddq_s32(sums[0][v].high, bias));
    }
  }
}

}  // namespace

void forward_neon(const Network& net, const Tile& tile) {
  const uint32_t depth = net.header->depth;
  for (size_t p = 0; p < tile.count; p += kPoints) {
    int16_t *in = tile.activations + p, *out = in + size_t{net.header->width} * kTile;
    first_layer(layer_of(net, 0), tile.column + p, tile.row, in);
    for (uint32_t l = 1; l < depth; ++l) {
      const Layer layer = layer_of(net, l);
      size_t o = 0;
      for (; o + kOutputs <= layer.fan_out; o += kOutputs) hidden_outputs<kOutputs>(layer, o, in, out);
      for (; o < layer.fan_out; ++o) hidden_outputs<1>(layer, o, in, out);
      int16_t* const swap = in;
      in = out;
      out = swap;
    }
    output_layer(layer_of(net, depth), in, tile.y + p);
  }
}

}  // namespace doh
#endif
