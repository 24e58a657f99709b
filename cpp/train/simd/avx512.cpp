// AVX-512: 16 samples a vector, 32 registers.
#include <cstddef>
#include <cstdint>

#include "net/simd/region.h"
#include "train/kernels.h"
#include "train/simd/slow.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

DOH_TARGET_BEGIN("avx512f,avx512dq,fma")
#include "train/simd/tile.h"
#include "train/simd/waves.h"

namespace {

struct Vector {
  using Scalar = float;
  using Vec = __m512;
  static constexpr size_t kLanes = 16, kRows = 8, kDeltas = 3, kSources = 8;  // 24 sums
  static constexpr float kFar = 65536;

  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load_some(const float* p, size_t count) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p); }
  static void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
  static Vec set(float x) { return _mm512_set1_ps(x); }
  static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static Vec subtract(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

  // sum += a * b. In assembly because GCC 12 copies sums, and loads `b` anew for each product, which takes all there is of loads.
  static void accumulate(Vec& sum, Vec a, Vec b) { __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }

  static Vec magnitude(Vec a) { return _mm512_abs_ps(a); }
  static Vec larger(Vec a, Vec b) { return _mm512_max_ps(b, a); }  // a where b is no number
  static bool any_beyond(Vec x, float limit) { return _mm512_cmp_ps_mask(x, set(limit), _CMP_GT_OQ) != 0; }

  static Vec reduce(Vec x, Vec quarters) { return _mm512_fnmadd_ps(quarters, set(-4.37113883e-8f), _mm512_fnmadd_ps(quarters, set(1.57079637f), x)); }

  // The sine and cosine of an angle, from those of what is left of it after so many quarter turns (in the low bits of `turned`).
  static void turn(Vec turned, Vec& s, Vec& c) {
    const __m512i n = _mm512_castps_si512(turned), sign = _mm512_set1_epi32(INT32_MIN);
    const __mmask16 odd = _mm512_test_epi32_mask(n, _mm512_set1_epi32(1));
    constexpr int kFlip = 0x78;  // a ^ (b & c)
    const __m512i sine = _mm512_castps_si512(_mm512_mask_blend_ps(odd, s, c)), cosine = _mm512_castps_si512(_mm512_mask_blend_ps(odd, c, s));
    s = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(sine, _mm512_slli_epi32(n, 30), sign, kFlip));
    c = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(cosine, _mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(1)), 30), sign, kFlip));
  }

  static void near_waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Vector>::near(phases, vectors, sines, cosines); }
  static void waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Vector>::any(phases, vectors, sines, cosines); }

  // Lane l of vector i becomes lane i of vector l.
  static void transpose(Vec (&v)[16]) {
    Vec a[16], b[16];
    DOH_UNROLL for (size_t i = 0; i < 16; i += 2) {
      a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
      a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    DOH_UNROLL for (size_t i = 0; i < 16; i += 4) {  // b[i + j] has lanes j, j + 4, j + 8, j + 12 of vectors i .. i + 3
      b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xEE);
      b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
    DOH_UNROLL for (size_t j = 0; j < 4; ++j) {
      const Vec even = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88), odd = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xDD);
      const Vec even2 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88), odd2 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xDD);
      v[j] = _mm512_shuffle_f32x4(even, even2, 0x88);
      v[j + 4] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
      v[j + 8] = _mm512_shuffle_f32x4(even, even2, 0xDD);
      v[j + 12] = _mm512_shuffle_f32x4(odd, odd2, 0xDD);
    }
  }

  // to[i] += the sum of sum[i]'s lanes.
  template <size_t count>
  static void add_sums(const Vec (&sum)[count], float* to) {
    if constexpr (count == 1) {
      to[0] += _mm512_reduce_add_ps(sum[0]);
    } else {
      const Vec zero = _mm512_setzero_ps();
      Vec a[8], b[4], c[2];
      DOH_UNROLL for (size_t i = 0; i < 8; ++i) a[i] = i < count ? sum[i < count ? i : 0] : zero;
      DOH_UNROLL for (size_t i = 0; i < 4; ++i) b[i] = add(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x44), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xEE));
      DOH_UNROLL for (size_t i = 0; i < 2; ++i) c[i] = add(_mm512_shuffle_f32x4(b[i], b[i + 2], 0x88), _mm512_shuffle_f32x4(b[i], b[i + 2], 0xDD));
      Vec d = add(_mm512_unpacklo_ps(c[0], c[1]), _mm512_unpackhi_ps(c[0], c[1]));
      d = add(d, _mm512_permute_ps(d, 0x4E));  // pairs of sums: 0 1, 4 5, 2 3, 6 7
      d = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 1, 8, 9, 4, 5, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0), d);
      const auto lanes = static_cast<__mmask16>((1u << count) - 1);
      _mm512_mask_storeu_ps(to, lanes, add(d, _mm512_maskz_loadu_ps(lanes, to)));
    }
  }
};

}  // namespace

namespace doh::train {

extern const Kernel<float> kernel_avx512;
constinit const Kernel<float> kernel_avx512 =
    TileKernel<Vector>::kernel("avx512", [] { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"); });

}  // namespace doh::train
DOH_TARGET_END
#endif
