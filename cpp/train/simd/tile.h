// One tile forwards and backwards, for any kind of vectors V; included within V's target region (net/simd/region.h), after V.
//
// Rows of samples: a panel holds, for each unit, kVectors vectors of samples side by side. A product with the weights keeps kRows x kVectors sums in
// registers, a weight gradient kDeltas x kSources; both read a panel from end to end. Samples beyond the batch's end have zero inputs and zero
// gradients.

namespace {

template <class V>
struct TileKernel {
  using S = typename V::Scalar;
  using Vec = typename V::Vec;
  using Network = doh::train::Network<S>;
  using Batch = doh::train::Batch<S>;
  using Tile = doh::train::Tile<S>;
  using Packed = doh::train::Packed<S>;

  static constexpr size_t kVectors = 3, kLanes = V::kLanes, kPanel = kVectors * kLanes;

  // [0, count) in as few blocks of at most `most` as there can be, of sizes that differ by one at most: block(begin, size).
  template <size_t most, class Block>
  static void split(size_t count, Block&& block) {
    const size_t blocks = (count + most - 1) / most;
    for (size_t i = 0, begin = 0; i < blocks; ++i) {
      const size_t end = count * (i + 1) / blocks;
      block(begin, end - begin);
      begin = end;
    }
  }

  static bool pack(const S* weights, const S* biases, size_t outputs, size_t inputs, S* forward, S* backward) {
    split<V::kRows>(outputs, [&](size_t begin, size_t size) {
      for (size_t i = 0; i < inputs; ++i)
        for (size_t o = begin; o < begin + size; ++o) *forward++ = weights[o * inputs + i];
    });
    split<V::kRows>(inputs, [&](size_t begin, size_t size) {
      for (size_t o = 0; o < outputs; ++o)
        for (size_t i = begin; i < begin + size; ++i) *backward++ = weights[o * inputs + i];
    });
    bool near = true;
    for (size_t o = 0; o < outputs; ++o) {
      Vec sum[1] = {V::set(S{0})};
      for (size_t i = 0; i < inputs; i += kLanes) {
        const size_t count = inputs - i < kLanes ? inputs - i : kLanes;
        sum[0] = V::add(sum[0], V::magnitude(V::load_some(weights + o * inputs + i, count)));
      }
      S reach[1] = {biases[o] < 0 ? -biases[o] : biases[o]};
      V::template add_sums<1>(sum, reach);
      near &= reach[0] <= V::kFar / 2;  // half of it: sums are rounded; false where weights are no numbers
    }
    return near;
  }

  // What becomes of a product: its sine, to `out`, and cosine, to `other`, where it is known to be near 0 or not; itself; itself times `other`.
  enum class End { kNearSine, kSine, kLinear, kTimes };

  // `rows` rows of a product: out = a * x (+ bias), a packed, x a panel of `inner` rows. A function of its own: GCC 12's code for it is
  // slower where it becomes part of a larger one.
  template <End end, size_t rows>
  [[gnu::noinline]] static void product_block(const S* a, const S* x, size_t inner, const S* bias, S* out, S* other) {
    Vec sum[rows][kVectors];
    DOH_UNROLL for (size_t r = 0; r < rows; ++r) {
      const Vec start = V::set(bias != nullptr ? bias[r] : S{0});
      DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) sum[r][v] = start;
    }
    for (size_t k = 0; k < inner; ++k, a += rows, x += kPanel) {
      Vec row[kVectors];
      DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) row[v] = V::load(x + v * kLanes);
      DOH_UNROLL for (size_t r = 0; r < rows; ++r) {
        const Vec weight = V::set(a[r]);
        DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::multiply_add(weight, row[v], sum[r][v]);
      }
    }
    DOH_UNROLL for (size_t r = 0; r < rows; ++r) {
      DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) {
        const size_t at = r * kPanel + v * kLanes;
        V::store(out + at, end == End::kTimes ? V::multiply(sum[r][v], V::load(other + at)) : sum[r][v]);
      }
    }
    if constexpr (end == End::kNearSine) V::near_waves(out, rows * kVectors, out, other);
    if constexpr (end == End::kSine) V::waves(out, rows * kVectors, out, other);
  }

  template <End end, size_t most = V::kRows>
  static void product_rows(size_t rows, const S* a, const S* x, size_t inner, const S* bias, S* out, S* other) {
    if (rows == most) return product_block<end, most>(a, x, inner, bias, out, other);
    if constexpr (most > 1) product_rows<end, most - 1>(rows, a, x, inner, bias, out, other);
  }

  // A panel of `outer` rows from one of `inner` rows.
  template <End end>
  static void product(const S* a, const S* x, size_t inner, size_t outer, const S* bias, S* out, S* other) {
    split<V::kRows>(outer, [&](size_t begin, size_t rows) {
      S* const to = other != nullptr ? other + begin * kPanel : nullptr;
      product_rows<end>(rows, a + begin * inner, x, inner, bias != nullptr ? bias + begin : nullptr, out + begin * kPanel, to);
    });
  }

  // gradient[o][i] += sum over the tile's samples of delta[o] * source[i], for `deltas` x `sources` rows.
  template <size_t deltas, size_t sources>
  [[gnu::noinline]] static void gradient_block(const S* delta, size_t delta_panel, const S* source, size_t source_panel, size_t panels, S* gradient,
                                               size_t stride) {
    Vec sum[deltas][sources];
    DOH_UNROLL for (size_t o = 0; o < deltas; ++o) { DOH_UNROLL for (size_t i = 0; i < sources; ++i) sum[o][i] = V::set(S{0}); }
    for (size_t p = 0; p < panels; ++p, delta += delta_panel, source += source_panel)
      for (size_t v = 0; v < kVectors; ++v) {
        Vec left[deltas];
        DOH_UNROLL for (size_t o = 0; o < deltas; ++o) left[o] = V::load(delta + o * kPanel + v * kLanes);
        DOH_UNROLL for (size_t i = 0; i < sources; ++i) {
          const Vec right = V::load(source + i * kPanel + v * kLanes);
          DOH_UNROLL for (size_t o = 0; o < deltas; ++o) V::accumulate(sum[o][i], left[o], right);
        }
      }
    DOH_UNROLL for (size_t o = 0; o < deltas; ++o) V::template add_sums<sources>(sum[o], gradient + o * stride);
  }

  template <size_t deltas, size_t most = V::kSources>
  static void gradient_columns(size_t sources, const S* delta, size_t delta_panel, const S* source, size_t source_panel, size_t panels, S* gradient,
                               size_t stride) {
    if (sources == most) return gradient_block<deltas, most>(delta, delta_panel, source, source_panel, panels, gradient, stride);
    if constexpr (most > 1) gradient_columns<deltas, most - 1>(sources, delta, delta_panel, source, source_panel, panels, gradient, stride);
  }

  template <size_t most = V::kDeltas>
  static void gradient_rows(size_t deltas, size_t sources, const S* delta, size_t delta_panel, const S* source, size_t source_panel, size_t panels,
                            S* gradient, size_t stride) {
    if (deltas == most) return gradient_columns<most>(sources, delta, delta_panel, source, source_panel, panels, gradient, stride);
    if constexpr (most > 1) gradient_rows<most - 1>(deltas, sources, delta, delta_panel, source, source_panel, panels, gradient, stride);
  }

  // The gradient of a layer's weights, (outputs, inputs); `sources` rows stay in the first cache while all deltas pass by.
  static void weight_gradient(const S* delta, size_t outputs, const S* source, size_t inputs, size_t panels, S* gradient) {
    split<V::kSources>(inputs, [&](size_t i, size_t sources) {
      split<V::kDeltas>(outputs, [&](size_t o, size_t deltas) {
        gradient_rows(deltas, sources, delta + o * kPanel, outputs * kPanel, source + i * kPanel, inputs * kPanel, panels, gradient + o * inputs + i,
                      inputs);
      });
    });
  }

  template <size_t rows>
  static void bias_block(const S* delta, size_t delta_panel, size_t panels, S* gradient) {
    Vec sum[rows];
    DOH_UNROLL for (size_t r = 0; r < rows; ++r) sum[r] = V::set(S{0});
    for (size_t p = 0; p < panels; ++p, delta += delta_panel) DOH_UNROLL for (size_t r = 0; r < rows; ++r) {
        DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) sum[r] = V::add(sum[r], V::load(delta + r * kPanel + v * kLanes));
      }
    V::template add_sums<rows>(sum, gradient);
  }

  static void bias_gradient(const S* delta, size_t outputs, size_t panels, S* gradient) {
    size_t o = 0;
    for (; o + V::kSources <= outputs; o += V::kSources) bias_block<V::kSources>(delta + o * kPanel, outputs * kPanel, panels, gradient + o);
    for (; o < outputs; ++o) bias_block<1>(delta + o * kPanel, outputs * kPanel, panels, gradient + o);
  }

  // A panel from rows of `width` numbers, one for each of `samples` samples; zeros for the rest. load(s, i, count) gives numbers i .. i + count - 1
  // of sample s, of which it may read no others.
  template <class Load>
  static void to_panel(size_t samples, size_t width, S* panel, Load&& load) {
    for (size_t s = 0; s < kPanel; s += kLanes)
      for (size_t i = 0; i < width; i += kLanes) {
        const size_t count = width - i < kLanes ? width - i : kLanes;
        Vec rows[kLanes];
        if (s + kLanes <= samples)
          for (size_t l = 0; l < kLanes; ++l) rows[l] = load(s + l, i, count);
        else
          for (size_t l = 0; l < kLanes; ++l) rows[l] = s + l < samples ? load(s + l, i, count) : V::set(S{0});
        V::transpose(rows);
        for (size_t c = 0; c < count; ++c) V::store(panel + (i + c) * kPanel + s, rows[c]);
      }
  }

  // The same from the caller's rows: row(s) points to sample s's numbers.
  template <class Row>
  static void rows_to_panel(size_t samples, size_t width, S* panel, Row&& row) {
    to_panel(samples, width, panel, [&](size_t s, size_t i, size_t count) { return V::load_some(row(s) + i, count); });
  }

  using Places = size_t[doh::train::kMaxDimensions][kPanel];  // a sample's place in each dimension

  // False when a point is not of the grid.
  static bool locate(const Batch& batch, size_t begin, size_t samples, Places& places) {
    int64_t left[kPanel];
    for (size_t s = 0; s < samples; ++s) left[s] = batch.points[begin + s];
    for (size_t t = batch.tables.size(); t-- > 1;) {
      const auto extent = static_cast<int64_t>(batch.tables[t].points);
      for (size_t s = 0; s < samples; ++s) {
        if (left[s] < 0) return false;
        const int64_t rest = left[s] / extent;
        places[t][s] = static_cast<size_t>(left[s] - rest * extent);
        left[s] = rest;
      }
    }
    const auto first = static_cast<int64_t>(batch.tables[0].points);
    for (size_t s = 0; s < samples; ++s) {
      if (left[s] < 0 || left[s] >= first) return false;
      places[0][s] = static_cast<size_t>(left[s]);
    }
    return true;
  }

  static void encode(const Batch& batch, const Places& places, size_t samples, S* panel) {
    for (size_t t = 0; t < batch.tables.size(); ++t) {
      const auto& table = batch.tables[t];
      rows_to_panel(samples, table.columns, panel, [&](size_t s) { return table.rows + places[t][s] * table.columns; });
      panel += table.columns * kPanel;
    }
  }

  static void share(const Network& net, const S* forward, std::span<const doh::train::Table<S>> tables, size_t t, size_t begin, size_t end,
                    const Tile& tile, S* to) {
    const auto& table = tables[t];
    size_t column = 0;
    for (size_t before = 0; before < t; ++before) column += tables[before].columns;
    for (; begin < end; begin += kPanel) {
      const size_t rows = end - begin < kPanel ? end - begin : kPanel;
      rows_to_panel(rows, table.columns, tile.inputs, [&](size_t s) { return table.rows + (begin + s) * table.columns; });
      split<V::kRows>(net.width, [&](size_t o, size_t size) {
        const S* const weights = forward + o * net.inputs + column * size;
        product_rows<End::kLinear>(size, weights, tile.inputs, table.columns, t == 0 ? net.biases + o : nullptr, tile.sines, nullptr);
        for (size_t s = 0; s < rows; ++s)
          for (size_t r = 0; r < size; ++r) to[(begin + s) * net.width + o + r] = tile.sines[r * kPanel + s];
      });
    }
  }

  // The first layer's phases from shares.
  static void gather(const S* const* shares, size_t dimensions, size_t width, const Places& places, size_t samples, S* panel) {
    to_panel(samples, width, panel, [&](size_t s, size_t i, size_t count) {
      Vec sum = V::load_some(shares[0] + places[0][s] * width + i, count);
      for (size_t t = 1; t < dimensions; ++t) sum = V::add(sum, V::load_some(shares[t] + places[t][s] * width + i, count));
      return sum;
    });
  }

  // The stored samples of a panel's points: they lie all over the signal, and are needed soon.
  static void fetch(const Batch& batch, size_t begin, size_t samples, size_t channels) {
    if (batch.samples == nullptr) return;
    const size_t bytes = channels * static_cast<size_t>(batch.type);
    const auto* const stored = static_cast<const char*>(batch.samples);
    for (size_t s = 0; s < samples; ++s) DOH_PREFETCH(stored + static_cast<size_t>(batch.points[begin + s]) * bytes);
  }

  template <class Stored>
  static double errors(const Batch& batch, size_t begin, size_t samples, size_t channels, S* outputs) {
    const auto* const stored = static_cast<const Stored*>(batch.samples);
    const S slope = 2 * batch.factor;
    double total = 0;
    S importance[kPanel] = {}, error[kPanel] = {};
    for (size_t s = 0; s < samples; ++s) importance[s] = batch.importance == nullptr ? S{1} : batch.importance[begin + s];
    for (size_t c = 0; c < channels; ++c) {  // loop by loop, so that the compiler has vectors for the second
      S* const row = outputs + c * kPanel;
      for (size_t s = 0; s < samples; ++s) error[s] = static_cast<S>(stored[static_cast<size_t>(batch.points[begin + s]) * channels + c]);
      for (size_t s = 0; s < kPanel; ++s) {
        error[s] = row[s] - (error[s] - batch.low) / batch.top;
        row[s] = slope * importance[s] * error[s];
      }
      for (size_t s = 0; s < samples; ++s) {
        const auto e = static_cast<double>(error[s]);
        total += static_cast<double>(importance[s]) * e * e;
      }
      for (size_t s = samples; s < kPanel; ++s) row[s] = 0;
    }
    return total;
  }

  static double errors(const Batch& batch, size_t begin, size_t samples, size_t channels, S* outputs) {
    switch (batch.type) {
      case doh::train::SampleType::u8: return errors<uint8_t>(batch, begin, samples, channels, outputs);
      case doh::train::SampleType::s16: return errors<int16_t>(batch, begin, samples, channels, outputs);
      default: return errors<int32_t>(batch, begin, samples, channels, outputs);
    }
  }

  static void from_panel(const S* panel, size_t samples, size_t width, S* rows) {
    for (size_t s = 0; s < samples; ++s)
      for (size_t i = 0; i < width; ++i) rows[s * width + i] = panel[i * kPanel + s];
  }

  static double run(const Network& net, const Packed& packed, const Batch& batch, size_t begin, size_t end, const Tile& tile, S* gradient,
                    bool& good) {
    const size_t panels = (end - begin + kPanel - 1) / kPanel, width = net.width, layer_panels = panels * width * kPanel;
    const auto samples = [&](size_t p) { return end - begin - p * kPanel < kPanel ? end - begin - p * kPanel : kPanel; };

    for (size_t p = 0; p < panels; ++p) {
      const size_t at = begin + p * kPanel;
      S* const panel = tile.inputs + p * net.inputs * kPanel;
      if (batch.points == nullptr) {
        rows_to_panel(samples(p), net.inputs, panel, [&](size_t s) { return batch.inputs + (at + s) * net.inputs; });
        continue;
      }
      Places places;
      if (!locate(batch, at, samples(p), places)) {
        good = false;
        return 0;
      }
      fetch(batch, at, samples(p), net.channels);
      if (packed.shares == nullptr || batch.outputs == nullptr) encode(batch, places, samples(p), panel);
      if (packed.shares != nullptr) {
        const size_t first = p * width * kPanel;
        gather(packed.shares, batch.tables.size(), width, places, samples(p), tile.sines + first);
        V::waves(tile.sines + first, width * kVectors, tile.sines + first, tile.cosines + first);
      }
    }

    for (size_t layer = packed.shares != nullptr ? 1 : 0; layer < net.depth; ++layer) {
      const size_t inputs = net.fan_in(layer);
      const S* const source = layer == 0 ? tile.inputs : tile.sines + (layer - 1) * layer_panels;
      for (size_t p = 0; p < panels; ++p) {
        const size_t at = layer * layer_panels + p * width * kPanel;
        const auto sine_layer = layer != 0 && packed.near[layer] ? product<End::kNearSine> : product<End::kSine>;
        sine_layer(packed.forward + net.offset(layer), source + p * inputs * kPanel, inputs, width, net.biases + layer * width, tile.sines + at,
                   tile.cosines + at);
      }
    }
    double error = 0;
    const S* const last = tile.sines + (net.depth - 1) * layer_panels;
    for (size_t p = 0; p < panels; ++p) {
      const size_t at = begin + p * kPanel;
      S* const out = tile.outputs + p * net.channels * kPanel;
      if (batch.output_gradient != nullptr) {
        rows_to_panel(samples(p), net.channels, out, [&](size_t s) { return batch.output_gradient + (at + s) * net.channels; });
        continue;
      }
      product<End::kLinear>(packed.forward + net.offset(net.depth), last + p * width * kPanel, width, net.channels, net.output_bias, out, nullptr);
      if (batch.outputs != nullptr)
        from_panel(out, samples(p), net.channels, batch.outputs + at * net.channels);
      else
        error += errors(batch, at, samples(p), net.channels, out);
    }
    if (batch.outputs != nullptr) return 0;

    const S* delta = tile.outputs;
    for (size_t layer = net.depth + 1; layer-- > 0;) {
      const size_t inputs = net.fan_in(layer), outputs = net.fan_out(layer);
      const S* const source = layer == 0 ? tile.inputs : tile.sines + (layer - 1) * layer_panels;
      weight_gradient(delta, outputs, source, inputs, panels, gradient + net.offset(layer));
      bias_gradient(delta, outputs, panels, gradient + net.weight_count() + layer * width);
      if (layer == 0 && batch.input_gradient == nullptr) break;
      S* const next = layer == 0 ? tile.inputs : tile.cosines + (layer - 1) * layer_panels;
      for (size_t p = 0; p < panels; ++p) {
        const S* const from = delta + p * outputs * kPanel;
        S* const to = next + p * inputs * kPanel;
        if (layer != 0)
          product<End::kTimes>(packed.backward + net.offset(layer), from, outputs, inputs, nullptr, to, to);
        else
          product<End::kLinear>(packed.backward, from, outputs, inputs, nullptr, to, nullptr);
      }
      delta = next;
    }
    if (batch.input_gradient != nullptr)
      for (size_t p = 0; p < panels; ++p)
        from_panel(tile.inputs + p * net.inputs * kPanel, samples(p), net.inputs, batch.input_gradient + (begin + p * kPanel) * net.inputs);
    return error;
  }

  static void waves(const S* phases, size_t count, S* sines, S* cosines) {
    S phase[kLanes], sine[kLanes], cosine[kLanes];
    for (size_t begin = 0; begin < count; begin += kLanes) {
      for (size_t i = 0; i < kLanes; ++i) phase[i] = begin + i < count ? phases[begin + i] : S{0};
      V::waves(phase, 1, sine, cosine);
      for (size_t i = 0; i < kLanes && begin + i < count; ++i) {
        sines[begin + i] = sine[i];
        cosines[begin + i] = cosine[i];
      }
    }
  }

  static double multiply_adds(double count) {
    Vec sum[V::kRows][kVectors];
    const Vec a = V::set(S(0.999)), b = V::set(S(0.001));
    DOH_UNROLL for (size_t r = 0; r < V::kRows; ++r) {
      DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::set(static_cast<S>(r * kVectors + v));
    }
    const auto rounds = static_cast<size_t>(count / (V::kRows * kPanel)) + 1;
    for (size_t n = 0; n < rounds; ++n) {
      DOH_UNROLL for (size_t r = 0; r < V::kRows; ++r) {
        DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) sum[r][v] = V::multiply_add(sum[r][v], a, b);
      }
    }
    Vec total[1] = {V::set(S{0})};
    DOH_UNROLL for (size_t r = 0; r < V::kRows; ++r) { DOH_UNROLL for (size_t v = 0; v < kVectors; ++v) total[0] = V::add(total[0], sum[r][v]); }
    S last[1] = {0};
    V::template add_sums<1>(total, last);
    const volatile S keep = last[0];  // or the compiler leaves all of it out
    return static_cast<double>(rounds * V::kRows * kPanel) + (keep == S{-1} ? 1 : 0);
  }

  static constexpr doh::train::Kernel<S> kernel(const char* name, bool (*available)()) {
    return {name, available, kPanel, pack, run, share, waves, multiply_adds};
  }
};

}  // namespace
