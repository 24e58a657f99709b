// Cuts a batch into units, each with a sum of its own, and these into tiles, hands them to threads, and adds the sums up.
#include "train/step.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "train/kernels.h"
#include "train/pool.h"

namespace doh::train {
namespace {

// Units, and so gradients in memory: their number grows with the batch, but not beyond kUnitBytes, about, where this leaves kFewestUnits. Eight are
// few, as to write and add up a gradient costs about as much as ten samples; threads that cannot share them evenly share their tiles, where these are
// some and their gradients take kTilesBytes at most.
constexpr size_t kMinUnits = 8, kMaxUnits = 64, kFewestUnits = 4;
constexpr size_t kUnitBytes = size_t{64} << 20, kTilesBytes = size_t{256} << 20;
constexpr size_t kTileBytes = size_t{1} << 20;  // activations of one tile, about: they should fit the second cache
// Samples of a tile. Adding up the vectors of a weight gradient costs about as much as 50 samples, so that large tiles pay for wide networks, cache
// or not.
constexpr size_t kMinTile = 192, kMaxTile = 512;
// Samples that are worth a unit of their own: small batches are shared out too.
constexpr size_t kMinShare = 144;

// How a batch is cut: into units of work, and each into tiles.
struct Cut {
  size_t panels, units, tiles, tile;  // of the batch; of the batch; of a unit; panels of a tile, at most

  // Tile t of the whole batch begins with this panel. Tiles may be empty.
  size_t begin(size_t t) const {
    const size_t unit = t / tiles, first = panels * unit / units;
    return std::min(first + t % tiles * tile, panels * (unit + 1) / units);
  }
};

template <class S>
Cut cut(const Network<S>& net, size_t count, size_t panel) {
  const size_t panels = (count + panel - 1) / panel;
  const size_t sample_bytes = (2 * net.depth * net.width + net.inputs + net.channels) * sizeof(S);
  const size_t least = std::clamp(2 * net.width, kMinTile, kMaxTile), most = std::clamp(kTileBytes / sample_bytes, least, kMaxTile);
  const auto pieces = [&](size_t samples) { return (panels * panel + samples - 1) / samples; };
  const size_t room = std::clamp(kUnitBytes / (net.count() * sizeof(S)), kFewestUnits, kMaxUnits);
  const size_t enough = std::min({pieces(kMinShare), std::clamp(pieces(most) / 8, kMinUnits, kMaxUnits), room});
  // A number that two, four and eight threads can share evenly.
  const size_t even = enough >= 8 ? enough / 8 * 8 : enough > 1 ? (enough + 1) / 2 * 2 : 1;
  const size_t units = std::min(even, panels), unit = (panels + units - 1) / units;
  const size_t most_panels = std::max<size_t>(1, most / panel), tiles = (unit + most_panels - 1) / most_panels;
  return {panels, units, tiles, (unit + tiles - 1) / tiles};
}

// Memory that is kept from step to step: fresh pages would cost as much time as the work on them. One for each step under way.
class Memory {
 public:
  std::byte* get(size_t bytes) {
    if (bytes > size_) {
      data_.reset();
      size_ = 0;
      data_.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
      size_ = bytes;
    }
    return data_.get();
  }

  // One that nobody uses, for the caller alone until it is given back.
  static std::unique_ptr<Memory> take() {
    const std::lock_guard lock(mutex());
    if (free().empty()) return std::make_unique<Memory>();
    auto last = std::move(free().back());
    free().pop_back();
    return last;
  }
  static void give_back(std::unique_ptr<Memory> memory) {
    constexpr size_t kKept = size_t{256} << 20;
    const std::lock_guard lock(mutex());
    if (free().size() < 4 && memory->size_ <= kKept) free().push_back(std::move(memory));
  }

  static constexpr std::align_val_t kAlignment{64};

 private:
  struct Delete {
    void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
  };
  static std::mutex& mutex() {
    static std::mutex the;
    return the;
  }
  static std::vector<std::unique_ptr<Memory>>& free() {
    static auto* const list = new std::vector<std::unique_ptr<Memory>>;  // threads may outlive static destructors
    return *list;
  }

  std::unique_ptr<std::byte, Delete> data_;
  size_t size_ = 0;
};

struct Lease {
  std::unique_ptr<Memory> memory = Memory::take();
  ~Lease() { Memory::give_back(std::move(memory)); }
};

// Hands out parts of a buffer, in whole cache lines; counts first, when there is no buffer yet.
template <class S>
struct Parts {
  std::byte* base;
  size_t used = 0;

  template <class T = S>
  T* part(size_t count) {
    T* const p = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (count * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

}  // namespace

template <class S>
double step(const Kernel<S>& kernel, const Network<S>& net, const Batch<S>& batch, S* gradient, unsigned threads) {
  if (batch.tables.size() > kMaxDimensions) throw std::invalid_argument("too many dimensions");
  const bool backward = batch.outputs == nullptr;
  if (batch.count == 0) {
    if (backward) std::fill_n(gradient, net.count(), S{0});
    return 0;
  }
  const Cut cuts = cut(net, batch.count, kernel.panel);
  const size_t numbers = net.count(), all_tiles = cuts.units * cuts.tiles;
  // A tile has a sum of its own where threads gain an eighth by it; a unit's sum is the sum of these, as it is without.
  const size_t hands = std::clamp<size_t>(threads, 1, kMaxThreads);
  const size_t whole = (cuts.units + hands - 1) / hands * cuts.tiles, shared_out = (all_tiles + hands - 1) / hands;  // tiles of the busiest thread
  const bool apart = shared_out * 8 <= whole * 7 && (!backward || all_tiles <= kTilesBytes / sizeof(S) / numbers);
  const size_t items = apart ? all_tiles : cuts.units, tiles_an_item = apart ? 1 : cuts.tiles;
  const size_t workers = std::min(hands, items);
  const bool one = items == 1;

  // Shares pay where the batch is some times larger than all dimensions together.
  const size_t dimensions = batch.tables.size();
  size_t rows = 0;
  for (const Table<S>& table : batch.tables) rows += table.points;
  const bool shared = batch.points != nullptr && batch.count / 4 >= rows;

  S *forward = nullptr, *back = nullptr, *sums = nullptr;
  S* shares[kMaxDimensions] = {};
  bool* near = nullptr;
  std::vector<Tile<S>> tiles(workers);
  const auto lay_out = [&](std::byte* base) {
    Parts<S> parts{base};
    forward = parts.part(net.weight_count());
    back = parts.part(net.weight_count());
    sums = parts.part(backward && !one ? numbers * items : 0);
    for (size_t t = 0; shared && t < dimensions; ++t) shares[t] = parts.part(batch.tables[t].points * net.width);
    near = parts.template part<bool>(net.depth + 1);
    const size_t samples = cuts.tile * kernel.panel;
    for (Tile<S>& tile : tiles) {
      tile = {parts.part(samples * net.inputs), parts.part(samples * net.width * net.depth), parts.part(samples * net.width * net.depth),
              parts.part(samples * net.channels), cuts.tile};
    }
    return parts.used;
  };
  const Lease lease;
  lay_out(lease.memory->get(lay_out(nullptr)));

  const auto width = static_cast<unsigned>(workers);
  constexpr size_t kShared = 8192;  // weights that are worth other threads' while
  const unsigned some = net.weight_count() > kShared ? width : 1;
  for_each(some, net.depth + 1, [&](size_t layer, unsigned) {
    const size_t at = net.offset(layer);
    const S* const biases = layer == net.depth ? net.output_bias : net.biases + layer * net.width;
    near[layer] = kernel.pack(net.weights + at, biases, net.fan_out(layer), net.fan_in(layer), forward + at, back + at);
  });

  for (size_t t = 0; shared && t < dimensions; ++t) {
    constexpr size_t kPiece = 384;  // a multiple of every kernel's panel
    const size_t points = batch.tables[t].points, pieces = (points + kPiece - 1) / kPiece;
    for_each(width, pieces, [&](size_t piece, unsigned thread) {
      kernel.share(net, forward, batch.tables, t, piece * kPiece, std::min(points, (piece + 1) * kPiece), tiles[thread], shares[t]);
    });
  }
  const Packed<S> packed{forward, back, shared ? shares : nullptr, near};

  std::vector<double> errors(all_tiles);
  std::atomic<bool> all_good{true};
  for_each(width, items, [&](size_t item, unsigned thread) {
    S* const sum = !backward ? nullptr : one ? gradient : sums + item * numbers;
    if (backward) std::fill_n(sum, numbers, S{0});
    bool good = true;
    for (size_t t = item * tiles_an_item; t < (item + 1) * tiles_an_item; ++t) {
      const size_t begin = cuts.begin(t) * kernel.panel, end = std::min(cuts.begin(t + 1) * kernel.panel, batch.count);
      if (begin < end) errors[t] = kernel.run(net, packed, batch, begin, end, tiles[thread], sum, good);
    }
    if (!good) all_good.store(false, std::memory_order_relaxed);
  });
  if (!all_good.load()) throw BadPoint("a point is not of the grid");

  if (backward && !one) {
    constexpr size_t kPiece = 4096;
    const size_t pieces = (numbers + kPiece - 1) / kPiece, items_a_unit = items / cuts.units;
    for_each(some, pieces, [&](size_t piece, unsigned) {
      const size_t begin = piece * kPiece, end = std::min(numbers, begin + kPiece);
      const auto add = [&](S* to, const S* from) {
        for (size_t i = begin; i < end; ++i) to[i] += from[i];
      };
      for (size_t item = 0; item < items; ++item)
        if (item % items_a_unit != 0) add(sums + (item - item % items_a_unit) * numbers, sums + item * numbers);
      std::copy(sums + begin, sums + end, gradient + begin);
      for (size_t item = items_a_unit; item < items; item += items_a_unit) add(gradient, sums + item * numbers);
    });
  }
  double error = 0;
  for (const double part : errors) error += part;
  return error;
}

template double step(const Kernel<float>&, const Network<float>&, const Batch<float>&, float*, unsigned);
template double step(const Kernel<double>&, const Network<double>&, const Batch<double>&, double*, unsigned);

}  // namespace doh::train
