// The vector of both AVX-512 kernels: 16 points, 32 registers. Included inside a target region, like pairs.h; `madd` is what they differ in.

namespace {

struct Avx512 {
  using Vec = __m512i;
  static constexpr size_t kLanes = 16, kVectors = 4, kOutputs = 4;  // 16 registers hold sums
  static constexpr bool kLater = true;
  static constexpr size_t kGroupsAtOnce = 4;  // of dense.h

  static Vec load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, Vec v) { _mm512_storeu_si512(p, v); }
  static Vec set(int32_t x) { return _mm512_set1_epi32(x); }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec shift_left(Vec a, uint32_t s) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(static_cast<int>(s))); }
  static Vec blend_high(Vec even, Vec odd) { return _mm512_mask_blend_epi16(0xAAAAAAAAu, _mm512_srli_epi32(even, 16), odd); }

  static Vec set64(uint64_t x) { return _mm512_set1_epi64(static_cast<int64_t>(x)); }
  static Vec count64() { return _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7); }
  static Vec add64(Vec a, Vec b) { return _mm512_add_epi64(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm512_mul_epu32(a, b); }  // low halves of the 64-bit lanes
  static Vec high_half(Vec a) { return _mm512_srli_epi64(a, 32); }
  static Vec exclusive_or(Vec a, Vec b) { return _mm512_xor_si512(a, b); }
  static Vec exclusive_or(Vec a, Vec b, Vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static Vec join_halves(Vec low, Vec high) { return _mm512_mask_shuffle_epi32(low, 0xAAAA, high, _MM_PERM_CCAA); }
  static Vec even_bytes(Vec a) { return _mm512_and_si512(a, _mm512_set1_epi16(255)); }
  static Vec odd_bytes(Vec a) { return _mm512_srli_epi16(a, 8); }

  static Vec sine(Vec s) {
    const Vec m = _mm512_xor_si512(s, _mm512_srai_epi16(s, 15));
    const Vec u = _mm512_sub_epi16(_mm512_set1_epi16(32767), _mm512_add_epi16(m, m));
    const Vec z = _mm512_mulhrs_epi16(u, u);
    Vec v = _mm512_sub_epi16(_mm512_set1_epi16(21013), _mm512_mulhrs_epi16(_mm512_set1_epi16(2330), z));
    v = _mm512_sub_epi16(_mm512_set1_epi16(18682), _mm512_mulhrs_epi16(v, z));
    return _mm512_add_epi16(u, _mm512_mulhrs_epi16(u, v));
  }
};

}  // namespace
