// Section 9 for vectors of 32-bit lanes, a point in each, and a multiply-add of adjacent int16 pairs: x86 pmaddwd, WebAssembly i32x4.dot.
// Included inside the target region of one variant, after all other headers; everything is local to that file.
//
// Activations lie as pairs of inputs: vector v of pair i holds, for each of its points, inputs 2i (low half) and 2i + 1 (high half). A weight pair is then one
// broadcast, and the upper halves of two neighbouring outputs' phases blend into the pair that the next layer reads.
//
// V gives: Vec, kLanes, kVectors (vectors a block), load, store, set, add, madd(sum, pair, weights), shift_left, blend_high(even, odd), sine.

namespace {

template <class V>
struct PairKernel {
  using Vec = typename V::Vec;
  static constexpr size_t kPoints = V::kLanes * V::kVectors;  // points a block
  static constexpr size_t kOutputs = V::kOutputs;             // outputs that a block sums at once

  static int32_t weight_pair(const int16_t* weights) {
    int32_t pair;
    std::memcpy(&pair, weights, sizeof pair);
    return pair;
  }

  // sums[o][v] = sum over inputs of weights * inputs, for N outputs from `weights` on
  template <size_t N>
  static inline __attribute__((always_inline)) void dot(const int16_t* weights, size_t fan_in, const int32_t* inputs, Vec (&sums)[N][V::kVectors]) {
    for (size_t o = 0; o < N; ++o)
      for (size_t v = 0; v < V::kVectors; ++v) sums[o][v] = V::set(0);
    const int32_t* in = inputs;
    for (size_t i = 0; i + 1 < fan_in; i += 2, in += doh::kTile) {
      Vec x[V::kVectors];
      for (size_t v = 0; v < V::kVectors; ++v) x[v] = V::load(in + v * V::kLanes);
      for (size_t o = 0; o < N; ++o) {
        const Vec w = V::set(weight_pair(weights + o * fan_in + i));
        for (size_t v = 0; v < V::kVectors; ++v) sums[o][v] = V::madd(sums[o][v], x[v], w);
      }
    }
    if (fan_in % 2 != 0)  // the last input has no partner: its high half counts for nothing
      for (size_t o = 0; o < N; ++o) {
        const Vec w = V::set(static_cast<uint16_t>(weights[o * fan_in + fan_in - 1]));
        for (size_t v = 0; v < V::kVectors; ++v) sums[o][v] = V::madd(sums[o][v], V::load(in + v * V::kLanes), w);
      }
  }

  struct Phases {
    uint32_t shift;         // 17 - q
    const uint32_t* biases;

    // The quarter turn that sin16 takes back is taken here.
    Vec operator()(Vec sum, size_t o) const { return V::add(V::shift_left(sum, shift), V::set(static_cast<int32_t>(biases[o] - (1u << 30)))); }
  };

  template <size_t N>
  static inline __attribute__((always_inline)) void store_sines(const Phases& phases, const Vec (&sums)[N][V::kVectors], size_t o, int32_t* out) {
    for (size_t j = 0; j < N; j += 2)
      for (size_t v = 0; v < V::kVectors; ++v) {
        const Vec even = phases(sums[j][v], o + j);
        const Vec odd = j + 1 < N ? phases(sums[j + 1 < N ? j + 1 : j][v], o + j + 1) : even;
        V::store(out + (o + j) / 2 * doh::kTile + v * V::kLanes, V::sine(V::blend_high(even, odd)));
      }
  }

  template <size_t N>
  static void hidden_outputs(const doh::Layer& layer, size_t o, const int32_t* in, int32_t* out) {
    Vec sums[N][V::kVectors];
    dot<N>(layer.weights + o * layer.fan_in, layer.fan_in, in, sums);
    store_sines<N>({doh::kMaxPrecision - layer.precision, layer.biases}, sums, o, out);
  }

  static void hidden(const doh::Layer& layer, const int32_t* in, int32_t* out) {
    size_t o = 0;
    for (; o + kOutputs <= layer.fan_out; o += kOutputs) hidden_outputs<kOutputs>(layer, o, in, out);
    for (; o + 2 <= layer.fan_out; o += 2) hidden_outputs<2>(layer, o, in, out);
    if (o < layer.fan_out) hidden_outputs<1>(layer, o, in, out);
  }

  static void first(const doh::Layer& layer, const uint32_t* column, const uint32_t* row, int32_t* out) {
    const Phases phases{doh::kMaxPrecision - layer.precision, layer.biases};
    auto sum = [&](size_t o, size_t v) {
      return V::add(V::load(reinterpret_cast<const int32_t*>(column) + o * doh::kTile + v * V::kLanes), V::set(static_cast<int32_t>(row[o])));
    };
    for (size_t o = 0; o < layer.fan_out; o += 2)
      for (size_t v = 0; v < V::kVectors; ++v) {
        const Vec even = phases(sum(o, v), o);
        const Vec odd = o + 1 < layer.fan_out ? phases(sum(o + 1, v), o + 1) : even;
        V::store(out + o / 2 * doh::kTile + v * V::kLanes, V::sine(V::blend_high(even, odd)));
      }
  }

  static void output(const doh::Layer& layer, const int32_t* in, int32_t* y) {
    for (size_t o = 0; o < layer.fan_out; ++o) {
      Vec sums[1][V::kVectors];
      dot<1>(layer.weights + o * layer.fan_in, layer.fan_in, in, sums);
      for (size_t v = 0; v < V::kVectors; ++v)
        V::store(y + o * doh::kTile + v * V::kLanes, V::add(sums[0][v], V::set(static_cast<int32_t>(layer.biases[o]))));
    }
  }

  static void forward(const doh::Network& net, const doh::Tile& tile) {
    const uint32_t depth = net.header->depth;
    int32_t* const buffer = reinterpret_cast<int32_t*>(tile.activations);
    for (size_t p = 0; p < tile.count; p += kPoints) {
      int32_t *in = buffer + p, *out = in + size_t{(net.header->width + 1) / 2} * doh::kTile;
      first(doh::layer_of(net, 0), tile.column + p, tile.row, in);
      for (uint32_t l = 1; l < depth; ++l) {
        hidden(doh::layer_of(net, l), in, out);
        int32_t* const swap = in;
        in = out;
        out = swap;
      }
      output(doh::layer_of(net, depth), in, tile.y + p);
    }
  }
};

}  // namespace
