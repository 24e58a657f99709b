// Cuts a batch into units of work, each with a sum of its own, hands them to threads, and adds the sums up.
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

// Units of work, and so gradients in memory: their number grows with the batch, but not beyond kUnitBytes where this leaves kFewestUnits.
constexpr size_t kMinUnits = 16, kMaxUnits = 64, kFewestUnits = 4;
constexpr size_t kUnitBytes = size_t{64} << 20;
constexpr size_t kTileBytes = size_t{1} << 20;  // activations of one tile, about: they should fit the second cache
// Samples of a tile. Adding up the vectors of a weight gradient costs about as much as 50 samples, so that large tiles pay for wide networks, cache
// or not.
constexpr size_t kMinTile = 192, kMaxTile = 512;
// Samples that are worth a unit of their own: small batches are shared out too.
constexpr size_t kMinShare = 144;

// How a batch is cut. All in panels.
struct Cut {
  size_t panels, units, tile;

  size_t begin(size_t unit) const { return panels * unit / units; }
};

template <class S>
Cut cut(const Network<S>& net, size_t count, size_t panel) {
  const size_t panels = (count + panel - 1) / panel;
  const size_t sample_bytes = (2 * net.depth * net.width + net.inputs + net.channels) * sizeof(S);
  const size_t least = std::clamp(2 * net.width, kMinTile, kMaxTile);
  const size_t tile = std::clamp(kTileBytes / sample_bytes, least, kMaxTile), share = std::min(tile, std::max(kMinShare, count / 16));
  const auto in_panels = [&](size_t samples) { return std::max<size_t>(1, samples / panel); };
  const size_t shares = (panels + in_panels(share) - 1) / in_panels(share);
  const size_t room = std::clamp(kUnitBytes / (net.count() * sizeof(S)), kFewestUnits, kMaxUnits);
  const size_t most_units = std::min(room, std::clamp(shares / 8, kMinUnits, kMaxUnits));
  const size_t shares_a_unit = (shares + most_units - 1) / most_units, enough = (shares + shares_a_unit - 1) / shares_a_unit;
  // A number that two, four and eight threads can share evenly.
  const size_t even = enough > 8 ? (enough + 7) / 8 * 8 : enough > 1 ? (enough + 1) / 2 * 2 : 1;
  const size_t units = std::min(even, panels), unit = (panels + units - 1) / units;
  const size_t tiles = (unit + in_panels(tile) - 1) / in_panels(tile);  // of a unit
  return {panels, units, (unit + tiles - 1) / tiles};
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

  S* part(size_t count) {
    S* const p = base == nullptr ? nullptr : reinterpret_cast<S*>(base + used);
    used += (count * sizeof(S) + 63) / 64 * 64;
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
  const size_t numbers = net.count(), workers = std::clamp<size_t>(threads, 1, std::min<size_t>(cuts.units, kMaxThreads));
  const bool one = cuts.units == 1;

  // Shares pay where the batch is some times larger than all dimensions together.
  const size_t dimensions = batch.tables.size();
  size_t rows = 0;
  for (const Table<S>& table : batch.tables) rows += table.points;
  const bool shared = batch.points != nullptr && batch.count / 4 >= rows;

  S *forward = nullptr, *back = nullptr, *sums = nullptr;
  S* shares[kMaxDimensions] = {};
  std::vector<Tile<S>> tiles(workers);
  const auto lay_out = [&](std::byte* base) {
    Parts<S> parts{base};
    forward = parts.part(net.weight_count());
    back = parts.part(net.weight_count());
    sums = parts.part(backward && !one ? numbers * cuts.units : 0);
    for (size_t t = 0; shared && t < dimensions; ++t) shares[t] = parts.part(batch.tables[t].points * net.width);
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
    kernel.pack(net.weights + at, net.fan_out(layer), net.fan_in(layer), forward + at, back + at);
  });

  for (size_t t = 0; shared && t < dimensions; ++t) {
    constexpr size_t kPiece = 384;  // a multiple of every kernel's panel
    const size_t points = batch.tables[t].points, pieces = (points + kPiece - 1) / kPiece;
    for_each(width, pieces, [&](size_t piece, unsigned thread) {
      kernel.share(net, forward, batch.tables, t, piece * kPiece, std::min(points, (piece + 1) * kPiece), tiles[thread], shares[t]);
    });
  }
  const Packed<S> packed{forward, back, shared ? shares : nullptr};

  std::vector<double> errors(cuts.units);
  std::atomic<bool> all_good{true};
  for_each(width, cuts.units, [&](size_t unit, unsigned thread) {
    S* const sum = one ? gradient : sums + unit * numbers;
    if (backward) std::fill_n(sum, numbers, S{0});
    bool good = true;
    for (size_t panel = cuts.begin(unit), stop = cuts.begin(unit + 1); panel < stop; panel += cuts.tile) {
      const size_t end = std::min(stop, panel + cuts.tile) * kernel.panel;
      errors[unit] += kernel.run(net, packed, batch, panel * kernel.panel, std::min(end, batch.count), tiles[thread], sum, good);
    }
    if (!good) all_good.store(false, std::memory_order_relaxed);
  });
  if (!all_good.load()) throw BadPoint("a point is not of the grid");

  if (backward && !one) {
    constexpr size_t kPiece = 4096;
    const size_t pieces = (numbers + kPiece - 1) / kPiece;
    for_each(some, pieces, [&](size_t piece, unsigned) {
      const size_t begin = piece * kPiece, end = std::min(numbers, begin + kPiece);
      std::copy(sums + begin, sums + end, gradient + begin);
      for (size_t unit = 1; unit < cuts.units; ++unit) {
        const S* const sum = sums + unit * numbers;
        for (size_t i = begin; i < end; ++i) gradient[i] += sum[i];
      }
    });
  }
  double error = 0;
  for (const double part : errors) error += part;
  return error;
}

template double step(const Kernel<float>&, const Network<float>&, const Batch<float>&, float*, unsigned);
template double step(const Kernel<double>&, const Network<double>&, const Batch<double>&, double*, unsigned);

}  // namespace doh::train
