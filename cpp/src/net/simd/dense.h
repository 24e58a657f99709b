// A row of the dense matrix times the codes (docs/format.md, section 5.2) for vectors of 64-bit lanes, a Philox counter in each. Included like
// pairs.h.
//
// A 64-bit lane holds a 32-bit word in its low half; what a product leaves in the high half does no harm, because the next product reads low halves
// only. Words w0 | w1 << 32 and w2 | w3 << 32 are then eight matrix bytes each; bytes 0, 2, 4, 6 and bytes 1, 3, 5, 7 are widened to 16 bits and
// multiplied in pairs with codes that prepare_codes has put in this order. The matrix itself is never stored.

namespace {

template <class V>
struct DenseKernel {
  using Vec = typename V::Vec;
  static constexpr size_t kBlocks = V::kLanes / 2;  // Philox counters a vector
  static constexpr size_t kGroup = 16 * kBlocks;    // entries that they make
  static constexpr size_t kGroupsToFlush = 32;      // 4 sums of 32 * 2 products of at most 255 * 2^15 stay below 2^31 in a 32-bit lane

  struct Words {
    Vec w0, w1, w2, w3;
  };

  // Round keys 3 to 10 as vectors, 1 and 2 as numbers; and what the first two rounds of a row have in common.
  struct Row {
    Vec k0[8], k1[8];
    uint32_t first_k1, second_k0;  // of the vector parts of rounds 1 and 2
    uint32_t c1, c2_second, c3_second;

    Row(uint64_t seed, uint32_t layer, uint32_t row) {
      const auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
      for (uint32_t i = 0; i < 8; ++i) {
        k0[i] = V::set64(key0 + (i + 2) * doh::kPhiloxKey0);
        k1[i] = V::set64(key1 + (i + 2) * doh::kPhiloxKey1);
      }
      // Round 1: c1 = row, c2 = layer and c3 = stream 0 are the same for all blocks, so c0 and c1 after it are too.
      const uint64_t p1 = uint64_t{doh::kPhiloxM1} * layer;
      const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ row ^ key0;
      c1 = static_cast<uint32_t>(p1);
      first_k1 = key1 ^ doh::kDenseEntries;
      // Round 2: the product of c0.
      const uint64_t p0 = uint64_t{doh::kPhiloxM0} * c0;
      second_k0 = (key0 + doh::kPhiloxKey0) ^ c1;
      c2_second = static_cast<uint32_t>(p0 >> 32) ^ (key1 + doh::kPhiloxKey1);
      c3_second = static_cast<uint32_t>(p0);
    }
  };

  // The words of U vectors of counters, side by side: the products of one hide the latency of the others'.
  template <size_t U>
  static inline __attribute__((always_inline)) void words(const Row& row, const Vec (&block)[U], Words (&w)[U]) {
    const Vec m0 = V::set64(doh::kPhiloxM0), m1 = V::set64(doh::kPhiloxM1);
    DOH_UNROLL for (size_t u = 0; u < U; ++u) {
      const Vec p0 = V::multiply(block[u], m0);
      const Vec p1 = V::multiply(V::exclusive_or(V::high_half(p0), V::set64(row.first_k1)), m1);
      w[u] = {V::exclusive_or(V::high_half(p1), V::set64(row.second_k0)), p1, V::exclusive_or(p0, V::set64(row.c2_second)), V::set64(row.c3_second)};
    }
    DOH_UNROLL for (size_t i = 0; i < 8; ++i) {
      DOH_UNROLL for (size_t u = 0; u < U; ++u) {
        const Vec a = V::multiply(w[u].w0, m0), b = V::multiply(w[u].w2, m1);
        w[u] = {V::exclusive_or(V::high_half(b), w[u].w1, row.k0[i]), b, V::exclusive_or(V::high_half(a), w[u].w3, row.k1[i]), a};
      }
    }
  }

  // Adds the products of the entries of U vectors of counters, from `block` on, and their codes.
  template <size_t U>
  static inline __attribute__((always_inline)) void step(const Row& row, Vec& block, const int16_t* codes, Vec (&sums)[4]) {
    Vec blocks[U];
    Words w[U];
    DOH_UNROLL for (size_t u = 0; u < U; ++u) {
      blocks[u] = block;
      block = V::add64(block, V::set64(kBlocks));
    }
    words<U>(row, blocks, w);
    DOH_UNROLL for (size_t u = 0; u < U; ++u) {
      const Vec low = V::join_halves(w[u].w0, w[u].w1), high = V::join_halves(w[u].w2, w[u].w3);
      const auto code = [&](size_t i) { return V::load(reinterpret_cast<const int32_t*>(codes + u * kGroup) + i * V::kLanes); };
      sums[0] = V::madd(sums[0], V::even_bytes(low), code(0));
      sums[1] = V::madd(sums[1], V::odd_bytes(low), code(1));
      sums[2] = V::madd(sums[2], V::even_bytes(high), code(2));
      sums[3] = V::madd(sums[3], V::odd_bytes(high), code(3));
    }
  }

  // sum over j of u_j * c_j, over `count` codes (a multiple of kGroup), prepared for kBlocks.
  static int64_t sum(const doh::DenseRow& job, const int16_t* codes, size_t count) {
    constexpr size_t kSide = V::kGroupsAtOnce * kGroup;
    const Row row(job.seed, job.layer, job.row);
    Vec block = V::count64();
    int64_t total = 0;
    for (size_t done = 0; done < count;) {
      Vec sums[4] = {V::set(0), V::set(0), V::set(0), V::set(0)};
      const size_t end = done + kGroup * kGroupsToFlush < count ? done + kGroup * kGroupsToFlush : count;
      for (; done + kSide <= end; done += kSide) step<V::kGroupsAtOnce>(row, block, codes + done, sums);
      for (; done < end; done += kGroup) step<1>(row, block, codes + done, sums);
      int32_t lanes[V::kLanes];
      V::store(lanes, V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
      for (const int32_t lane : lanes) total += lane;
    }
    return total;
  }
};

}  // namespace
