// AVX2 with fused multiply-adds: 8 samples a vector, 16 registers.
#include <cstddef>
#include <cstdint>

#include "net/simd/region.h"
#include "train/kernels.h"
#include "train/simd/slow.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

DOH_TARGET_BEGIN("avx2,fma")
#include "train/simd/tile.h"
#include "train/simd/waves.h"

namespace {

struct Vector {
  using Scalar = float;
  using Vec = __m256;
  static constexpr size_t kLanes = 8, kRows = 4, kDeltas = 3, kSources = 4;  // 12 sums
  static constexpr float kFar = 65536;

  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec load_some(const float* p, size_t count) {
    const __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_ps(p, lanes);
  }
  static void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
  static Vec set(float x) { return _mm256_set1_ps(x); }
  static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static Vec subtract(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

  // sum += a * b. In assembly because GCC 12 copies sums, and loads `b` anew for each product.
  static void accumulate(Vec& sum, Vec a, Vec b) { __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b)); }

  static Vec magnitude(Vec a) { return _mm256_andnot_ps(set(-0.0f), a); }
  static Vec larger(Vec a, Vec b) { return _mm256_max_ps(b, a); }  // a where b is no number
  static bool any_beyond(Vec x, float limit) { return _mm256_movemask_ps(_mm256_cmp_ps(x, set(limit), _CMP_GT_OQ)) != 0; }

  static Vec reduce(Vec x, Vec quarters) { return _mm256_fnmadd_ps(quarters, set(-4.37113883e-8f), _mm256_fnmadd_ps(quarters, set(1.57079637f), x)); }

  // The sine and cosine of an angle, from those of what is left of it after so many quarter turns (in the low bits of `turned`).
  static void turn(Vec turned, Vec& s, Vec& c) {
    const __m256i n = _mm256_castps_si256(turned), sign = _mm256_set1_epi32(INT32_MIN);
    const Vec odd = _mm256_castsi256_ps(_mm256_slli_epi32(n, 31));
    const __m256i sine_sign = _mm256_and_si256(_mm256_slli_epi32(n, 30), sign);
    const __m256i cosine_sign = _mm256_and_si256(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(1)), 30), sign);
    const Vec sine = _mm256_blendv_ps(s, c, odd), cosine = _mm256_blendv_ps(c, s, odd);
    s = _mm256_xor_ps(sine, _mm256_castsi256_ps(sine_sign));
    c = _mm256_xor_ps(cosine, _mm256_castsi256_ps(cosine_sign));
  }

  static void near_waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Vector>::near(phases, vectors, sines, cosines); }
  static void waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Vector>::any(phases, vectors, sines, cosines); }

  // Lane l of vector i becomes lane i of vector l.
  static void transpose(Vec (&v)[8]) {
    Vec a[8], b[8];
    DOH_UNROLL for (size_t i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
      a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    DOH_UNROLL for (size_t i = 0; i < 8; i += 4) {  // b[i + j] has lanes j, j + 4 of vectors i .. i + 3
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
    DOH_UNROLL for (size_t j = 0; j < 4; ++j) {
      v[j] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x20);
      v[j + 4] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x31);
    }
  }

  // to[i] += the sum of sum[i]'s lanes.
  template <size_t count>
  static void add_sums(const Vec (&sum)[count], float* to) {
    const Vec zero = _mm256_setzero_ps();
    Vec a[4];
    DOH_UNROLL for (size_t i = 0; i < 4; ++i) a[i] = i < count ? sum[i < count ? i : 0] : zero;
    const Vec all = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    if constexpr (count == 4) {
      _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), four));
    } else {
      float sums[4];
      _mm_storeu_ps(sums, four);
      for (size_t i = 0; i < count; ++i) to[i] += sums[i];
    }
  }
};

}  // namespace

namespace doh::train {

extern const Kernel<float> kernel_avx2;
constinit const Kernel<float> kernel_avx2 =
    TileKernel<Vector>::kernel("avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); });

}  // namespace doh::train
DOH_TARGET_END
#endif
