// AVX2: 8 points a vector, 16 registers.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/kernels.h"
#include "net/simd/region.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

DOH_TARGET_BEGIN("avx2")
#include "net/simd/dense.h"
#include "net/simd/pairs.h"

namespace {

struct Vector {
  using Vec = __m256i;
  static constexpr size_t kLanes = 8, kVectors = 2, kOutputs = 4;  // 8 registers hold sums
  static constexpr bool kLater = false;                            // there are no registers left
  static constexpr size_t kGroupsAtOnce = 2;                       // of dense.h

  static Vec load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Vec*>(p)); }
  static void store(int32_t* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<Vec*>(p), v); }
  static Vec set(int32_t x) { return _mm256_set1_epi32(x); }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec madd(Vec sum, Vec a, Vec b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
  static Vec shift_left(Vec a, uint32_t s) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(static_cast<int>(s))); }
  static Vec blend_high(Vec even, Vec odd) { return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA); }

  static Vec set64(uint64_t x) { return _mm256_set1_epi64x(static_cast<int64_t>(x)); }
  static Vec count64() { return _mm256_setr_epi64x(0, 1, 2, 3); }
  static Vec add64(Vec a, Vec b) { return _mm256_add_epi64(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm256_mul_epu32(a, b); }  // low halves of the 64-bit lanes
  static Vec high_half(Vec a) { return _mm256_srli_epi64(a, 32); }
  static Vec exclusive_or(Vec a, Vec b) { return _mm256_xor_si256(a, b); }
  static Vec exclusive_or(Vec a, Vec b, Vec c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  static Vec join_halves(Vec low, Vec high) { return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xAA); }
  static Vec even_bytes(Vec a) { return _mm256_and_si256(a, _mm256_set1_epi16(255)); }
  static Vec odd_bytes(Vec a) { return _mm256_srli_epi16(a, 8); }

  static Vec sine(Vec s) {
    const Vec m = _mm256_xor_si256(s, _mm256_srai_epi16(s, 15));
    const Vec u = _mm256_sub_epi16(_mm256_set1_epi16(32767), _mm256_add_epi16(m, m));
    const Vec z = _mm256_mulhrs_epi16(u, u);
    Vec v = _mm256_sub_epi16(_mm256_set1_epi16(21013), _mm256_mulhrs_epi16(_mm256_set1_epi16(2330), z));
    v = _mm256_sub_epi16(_mm256_set1_epi16(18682), _mm256_mulhrs_epi16(v, z));
    return _mm256_add_epi16(u, _mm256_mulhrs_epi16(u, v));
  }
};

}  // namespace

namespace doh {

void forward_avx2(const Network& net, const Tile& tile) { PairKernel<Vector>::forward(net, tile); }

int64_t dense_sum_avx2(const DenseRow& row, const int16_t* codes, size_t count) { return DenseKernel<Vector>::sum(row, codes, count); }

}  // namespace doh
DOH_TARGET_END
#endif
