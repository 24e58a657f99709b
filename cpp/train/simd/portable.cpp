// Any processor: vectors of 16 bytes by the compiler's own means, single numbers where it has none. In float, and in double for checks.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/simd/region.h"
#include "train/kernels.h"
#include "train/simd/slow.h"
#include "train/simd/tile.h"
#include "train/simd/waves.h"

namespace {

#if defined(__GNUC__)
template <class T>
using Sixteen [[gnu::vector_size(16)]] = T;
inline constexpr size_t kBytes = 16;
#define DOH_LANE(v, i) (v)[i]
#else
template <class T>
using Sixteen = T;
inline constexpr size_t kBytes = 0;
#define DOH_LANE(v, i) (v)
#endif

template <class T>
struct Common {
  using Scalar = T;
  using Vec = Sixteen<T>;
  static constexpr size_t kLanes = kBytes ? kBytes / sizeof(T) : 1, kRows = 4, kDeltas = 3, kSources = 4;  // 12 sums, of 16 registers

  static Vec load(const T* p) {
    Vec v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static Vec load_some(const T* p, size_t count) {
    Vec v = set(T{0});
    for (size_t i = 0; i < count; ++i) DOH_LANE(v, i) = p[i];
    return v;
  }
  static void store(T* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
  static Vec set(T x) {
    Vec v;
    for (size_t i = 0; i < kLanes; ++i) DOH_LANE(v, i) = x;
    return v;
  }
  static Vec add(Vec a, Vec b) { return a + b; }
  static Vec subtract(Vec a, Vec b) { return a - b; }
  static Vec multiply(Vec a, Vec b) { return a * b; }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }

  // Lane l of vector i becomes lane i of vector l.
  static void transpose(Vec (&v)[kLanes]) {
    Vec from[kLanes];
    for (size_t i = 0; i < kLanes; ++i) from[i] = v[i];
    for (size_t i = 0; i < kLanes; ++i)
      for (size_t l = 0; l < kLanes; ++l) DOH_LANE(v[l], i) = DOH_LANE(from[i], l);
  }

  static Vec magnitude(Vec a) {
    for (size_t i = 0; i < kLanes; ++i) DOH_LANE(a, i) = std::fabs(DOH_LANE(a, i));
    return a;
  }
  static Vec larger(Vec a, Vec b) {
    for (size_t i = 0; i < kLanes; ++i) DOH_LANE(a, i) = DOH_LANE(b, i) > DOH_LANE(a, i) ? DOH_LANE(b, i) : DOH_LANE(a, i);
    return a;
  }
  static void accumulate(Vec& sum, Vec a, Vec b) { sum += a * b; }

  // to[i] += the sum of sum[i]'s lanes.
  template <size_t count>
  static void add_sums(const Vec (&sum)[count], T* to) {
    for (size_t i = 0; i < count; ++i) {
      T total = 0;
      for (size_t l = 0; l < kLanes; ++l) total += DOH_LANE(sum[i], l);
      to[i] += total;
    }
  }
};

struct Float : Common<float> {
  using Bits = Sixteen<int32_t>;
  static constexpr float kFar = 8192;  // the products with the first two parts of pi/2 are exact up to here, without a fused multiply-add too

  static bool any_beyond(Vec x, float limit) {
    bool within = true;
    for (size_t i = 0; i < kLanes; ++i) within &= DOH_LANE(x, i) <= limit;
    return !within;
  }

  static Vec reduce(Vec x, Vec quarters) {
    return ((x - quarters * 1.5703125f) - quarters * 4.83751296997070312e-4f) - quarters * 7.5497899548918821e-8f;
  }

  // The sine and cosine of an angle, from those of what is left of it after so many quarter turns (in the low bits of `turned`).
  static void turn(Vec turned, Vec& s, Vec& c) {
    Bits n, sine, cosine;
    std::memcpy(&n, &turned, sizeof(n));
    std::memcpy(&sine, &s, sizeof(s));
    std::memcpy(&cosine, &c, sizeof(c));
    const Bits swapped = (sine ^ cosine) & -(n & 1);
    sine = sine ^ swapped ^ ((n & 2) << 30);
    cosine = cosine ^ swapped ^ (((n + 1) & 2) << 30);
    std::memcpy(&s, &sine, sizeof(s));
    std::memcpy(&c, &cosine, sizeof(c));
  }

  static void near_waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Float>::near(phases, vectors, sines, cosines); }
  static void waves(const float* phases, size_t vectors, float* sines, float* cosines) { Waves<Float>::any(phases, vectors, sines, cosines); }
};

struct Double : Common<double> {
  static constexpr double kFar = HUGE_VAL;

  static void near_waves(const double* phases, size_t vectors, double* sines, double* cosines) { waves(phases, vectors, sines, cosines); }
  static void waves(const double* phases, size_t vectors, double* sines, double* cosines) {
    for (size_t i = 0; i < vectors * kLanes; ++i) {
      const double phase = phases[i];  // `sines` may be `phases`
      sines[i] = std::sin(phase);
      cosines[i] = std::cos(phase);
    }
  }
};

}  // namespace

namespace doh::train {

extern const Kernel<float> kernel_portable;
constinit const Kernel<float> kernel_portable = TileKernel<Float>::kernel("portable", [] { return true; });
constinit const Kernel<double> kernel_double = TileKernel<Double>::kernel("double", [] { return true; });

}  // namespace doh::train
