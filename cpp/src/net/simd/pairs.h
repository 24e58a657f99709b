// Section 9 for vectors of 32-bit lanes, a point in each, and a multiply-add of adjacent int16 pairs: x86 pmaddwd, WebAssembly i32x4.dot.
// Included inside the target region of one variant, after all other headers; everything is local to that file.
//
// Activations lie as pairs of inputs: vector v of pair i holds, for each of its points, inputs 2i (low half) and 2i + 1 (high half). A weight pair is
// then one broadcast, and the upper halves of two neighbouring outputs' phases blend into the pair that the next layer reads.
//
// V gives: Vec, kLanes, kVectors (vectors a block), kOutputs (outputs that a block sums at once), kLater (whether sines wait, see Pending),
// load, store, set, add, madd(sum, pair, weights), shift_left, blend_high(even, odd), sine.

namespace {

template <class V>
struct PairKernel {
  using Vec = typename V::Vec;
  static constexpr size_t kPoints = V::kLanes * V::kVectors;  // points a block
  static constexpr size_t kOutputs = V::kOutputs;

  // Phases in `out` whose sines are still to be taken, in place: `left` vectors, from pair of outputs `at` on. They are taken in between the
  // multiply-adds of the next outputs, so that the processor's other units work too.
  struct Pending {
    int32_t* at = nullptr;
    size_t done = 0, left = 0;

    inline __attribute__((always_inline)) void one() {
      int32_t* const p = at + done / V::kVectors * doh::kTile + done % V::kVectors * V::kLanes;
      V::store(p, V::sine(V::load(p)));
      ++done;
      --left;
    }
  };

  static int32_t weight_pair(const int16_t* weights) {
    int32_t pair;
    std::memcpy(&pair, weights, sizeof pair);
    return pair;
  }

  // Adds the products of one pair of inputs and the weights of N outputs to sums[output][vector].
  template <size_t N, bool kLast = false>
  static inline __attribute__((always_inline)) void step(const int16_t* weights, size_t fan_in, const int32_t* in, Vec (&sums)[N][V::kVectors]) {
    Vec x[V::kVectors];
    DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) x[v] = V::load(in + v * V::kLanes);
    DOH_UNROLL for (size_t o = 0; o < N; ++o) {
      // the last of an odd number of inputs has no partner: its high half counts for nothing
      const Vec w = V::set(kLast ? static_cast<uint16_t>(weights[o * fan_in]) : weight_pair(weights + o * fan_in));
      DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) sums[o][v] = V::madd(sums[o][v], x[v], w);
    }
  }

  // Adds the products of all inputs.
  template <size_t N>
  static inline __attribute__((always_inline)) void dot(const int16_t* weights, size_t fan_in, const int32_t* in, Pending pending,
                                                        Vec (&sums)[N][V::kVectors]) {
    size_t pairs = fan_in / 2;
    for (; pending.left != 0 && pairs >= 2; pairs -= 2, weights += 4, in += 2 * doh::kTile) {
      step<N>(weights, fan_in, in, sums);
      step<N>(weights + 2, fan_in, in + doh::kTile, sums);
      pending.one();
    }
    for (; pairs != 0; --pairs, weights += 2, in += doh::kTile) step<N>(weights, fan_in, in, sums);
    if (fan_in % 2 != 0) step<N, true>(weights, fan_in, in, sums);
    while (pending.left != 0) pending.one();
  }

  // The bias of a sine layer, less the quarter turn that sin16 takes back.
  static inline __attribute__((always_inline)) Vec bias_of(const doh::Layer& layer, size_t o) {
    return V::set(static_cast<int32_t>(layer.biases[o] - (1u << 30)));
  }

  // N outputs from `o` on; returns what is left to do. kShifted: the layer's precision q is below 17, so that the bias cannot be where a sum starts.
  template <size_t N, bool kShifted>
  static inline __attribute__((always_inline)) Pending hidden_outputs(const doh::Layer& layer, size_t o, const int32_t* in, int32_t* out,
                                                                      Pending pending) {
    Vec sums[N][V::kVectors];
    DOH_UNROLL for (size_t j = 0; j < N; ++j) {
      const Vec start = kShifted ? V::set(0) : bias_of(layer, o + j);
      DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) sums[j][v] = start;
    }
    dot<N>(layer.weights + o * layer.fan_in, layer.fan_in, in, pending, sums);
    if constexpr (kShifted) {
      const uint32_t shift = doh::kMaxPrecision - layer.precision;
      DOH_UNROLL for (size_t j = 0; j < N; ++j) {
        const Vec bias = bias_of(layer, o + j);
        DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) sums[j][v] = V::add(V::shift_left(sums[j][v], shift), bias);
      }
    }
    int32_t* const at = out + o / 2 * doh::kTile;
    DOH_UNROLL for (size_t j = 0; j < N; j += 2) {
      DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) {
        const Vec pair = V::blend_high(sums[j][v], sums[j + 1 < N ? j + 1 : j][v]);
        V::store(at + j / 2 * doh::kTile + v * V::kLanes, V::kLater ? pair : V::sine(pair));
      }
    }
    return {at, 0, V::kLater ? (N + 1) / 2 * V::kVectors : 0};
  }

  template <bool kShifted>
  static void hidden(const doh::Layer& layer, const int32_t* in, int32_t* out) {
    Pending pending;
    size_t o = 0;
    for (; o + kOutputs <= layer.fan_out; o += kOutputs) pending = hidden_outputs<kOutputs, kShifted>(layer, o, in, out, pending);
    for (; o + 2 <= layer.fan_out; o += 2) pending = hidden_outputs<2, kShifted>(layer, o, in, out, pending);
    if (o < layer.fan_out) pending = hidden_outputs<1, kShifted>(layer, o, in, out, pending);
    while (pending.left != 0) pending.one();
  }

  static void first(const doh::Layer& layer, const uint32_t* column, const uint32_t* row, int32_t* out) {
    auto phase = [&](size_t o, size_t v) {
      const Vec sum =
          V::add(V::load(reinterpret_cast<const int32_t*>(column) + o * doh::kTile + v * V::kLanes), V::set(static_cast<int32_t>(row[o])));
      return V::add(V::shift_left(sum, doh::kMaxPrecision - layer.precision), bias_of(layer, o));
    };
    for (size_t o = 0; o < layer.fan_out; o += 2)
      for (size_t v = 0; v < V::kVectors; ++v) {
        const Vec even = phase(o, v), odd = o + 1 < layer.fan_out ? phase(o + 1, v) : even;
        V::store(out + o / 2 * doh::kTile + v * V::kLanes, V::sine(V::blend_high(even, odd)));
      }
  }

  static void output(const doh::Layer& layer, const int32_t* in, int32_t* y) {
    for (size_t o = 0; o < layer.fan_out; ++o) {
      Vec sums[1][V::kVectors];
      DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) sums[0][v] = V::set(static_cast<int32_t>(layer.biases[o]));
      dot<1>(layer.weights + o * layer.fan_in, layer.fan_in, in, {}, sums);
      DOH_UNROLL for (size_t v = 0; v < V::kVectors; ++v) V::store(y + o * doh::kTile + v * V::kLanes, sums[0][v]);
    }
  }

  static void forward(const doh::Network& net, const doh::Tile& tile) {
    const uint32_t depth = net.header->depth;
    int32_t* const buffer = reinterpret_cast<int32_t*>(tile.activations);
    for (size_t p = 0; p < tile.count; p += kPoints) {
      int32_t *in = buffer + p, *out = in + size_t{(net.header->width + 1) / 2} * doh::kTile;
      first(doh::layer_of(net, 0), tile.column + p, tile.row, in);
      for (uint32_t l = 1; l < depth; ++l) {
        const doh::Layer layer = doh::layer_of(net, l);
        layer.precision == doh::kMaxPrecision ? hidden<false>(layer, in, out) : hidden<true>(layer, in, out);
        int32_t* const swap = in;
        in = out;
        out = swap;
      }
      output(doh::layer_of(net, depth), in, tile.y + p);
    }
  }
};

}  // namespace
