// What the machine can do at most, for tools/bench_decode: int16 multiply-adds a second, and Philox bytes a second, for each kind of vector.
// Prints one line for each measurement: name, kernel that has these instructions, threads, 10^9 multiply-adds or bytes a second.
// `bench_core THREADS [SECONDS]`
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr uint32_t kM0 = 0xD2511F53, kM1 = 0xCD9E8D57, kKey0 = 0x9E3779B9, kKey1 = 0xBB67AE85;
constexpr int kRows = 64, kBlocks = 4096;  // a call of a Philox loop: 64 rows of 4096 blocks of 16 bytes
constexpr double kPhiloxBytes = 16.0 * kRows * kBlocks;
constexpr int kSteps = 100000;  // a call of a multiply-add loop

using Work = uint64_t (*)(uint64_t seed);  // the result keeps the compiler from leaving the work out

struct Case {
  const char* name;
  const char* kernel;
  double amount;  // of a call
  Work work;
  bool here;
};

// The same loop for any kind of vector: ten rounds on 64-bit lanes that hold a 32-bit word each, U vectors at a time so that products overlap.
template <class V, int U>
__attribute__((always_inline)) inline uint64_t philox_rows(uint64_t seed) {
  using Vec = typename V::Vec;
  const Vec m0 = V::set(kM0), m1 = V::set(kM1);
  Vec sum = V::set(0);
  for (uint32_t row = 0; row < kRows; ++row) {
    Vec k0[10], k1[10], block[U];
    for (uint32_t i = 0; i < 10; ++i) {
      k0[i] = V::set(static_cast<uint32_t>(seed) + i * kKey0);
      k1[i] = V::set(static_cast<uint32_t>(seed >> 32) + i * kKey1);
    }
    for (uint32_t u = 0; u < U; ++u) block[u] = V::count(u * V::kLanes);
    for (int b = 0; b < kBlocks; b += U * V::kLanes) {
      Vec c0[U], c1[U], c2[U], c3[U];
      for (int u = 0; u < U; ++u) {
        c0[u] = block[u];
        c1[u] = V::set(row);
        c2[u] = V::set(3);
        c3[u] = V::set(0);
        block[u] = V::add(block[u], V::set(U * V::kLanes));
      }
      for (int i = 0; i < 10; ++i)
        for (int u = 0; u < U; ++u) {
          const Vec p0 = V::multiply(c0[u], m0), p1 = V::multiply(c2[u], m1);
          c0[u] = V::exclusive_or(V::high(p1), c1[u], k0[i]);
          c1[u] = p1;
          c2[u] = V::exclusive_or(V::high(p0), c3[u], k1[i]);
          c3[u] = p0;
        }
      for (int u = 0; u < U; ++u) sum = V::exclusive_or(sum, V::join(c0[u], c1[u]), V::join(c2[u], c3[u]));
    }
  }
  return V::lane(sum);
}

}  // namespace

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
namespace {

struct Zmm {
  using Vec = __m512i;
  static constexpr int kLanes = 8;
  static Vec set(uint32_t x) { return _mm512_set1_epi64(x); }
  static Vec count(uint32_t from) { return _mm512_add_epi64(set(from), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)); }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi64(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm512_mul_epu32(a, b); }
  static Vec high(Vec a) { return _mm512_srli_epi64(a, 32); }
  static Vec exclusive_or(Vec a, Vec b, Vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
  static Vec join(Vec low, Vec high) { return _mm512_mask_blend_epi32(0xAAAA, low, _mm512_slli_epi64(high, 32)); }
  static uint64_t lane(Vec a) { return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(a))); }
};

uint64_t philox_zmm_1(uint64_t seed) { return philox_rows<Zmm, 1>(seed); }
uint64_t philox_zmm_2(uint64_t seed) { return philox_rows<Zmm, 2>(seed); }
uint64_t philox_zmm_4(uint64_t seed) { return philox_rows<Zmm, 4>(seed); }

// 16 sums in registers (the compiler may not change what stands in asm), enough to hide the latency of a multiply-add.
#define DOH_REPEAT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define DOH_SUM(i) __m512i s##i = _mm512_set1_epi32(i);
#define DOH_TOTAL(i) total = _mm512_add_epi32(total, s##i);

uint64_t dpwssd_zmm(uint64_t seed) {
  DOH_REPEAT(DOH_SUM)
  const __m512i a = _mm512_set1_epi32(static_cast<int>(seed)), b = _mm512_set1_epi32(5);
  for (int n = 0; n < kSteps; ++n) {
#define DOH_STEP(i) __asm__ volatile("vpdpwssd %2, %1, %0" : "+v"(s##i) : "v"(a), "v"(b));
    DOH_REPEAT(DOH_STEP)
#undef DOH_STEP
  }
  __m512i total = s0;
  DOH_REPEAT(DOH_TOTAL)
  return Zmm::lane(total);
}

uint64_t maddwd_zmm(uint64_t seed) {
  DOH_REPEAT(DOH_SUM)
  const __m512i a = _mm512_set1_epi32(static_cast<int>(seed)), b = _mm512_set1_epi32(5);
  for (int n = 0; n < kSteps; ++n) {
#define DOH_STEP(i)                                                     \
  {                                                                     \
    __m512i p;                                                          \
    __asm__ volatile("vpmaddwd %2, %1, %0" : "=v"(p) : "v"(a), "v"(b)); \
    __asm__ volatile("vpaddd %1, %0, %0" : "+v"(s##i) : "v"(p));        \
  }
    DOH_REPEAT(DOH_STEP)
#undef DOH_STEP
  }
  __m512i total = s0;
  DOH_REPEAT(DOH_TOTAL)
  return Zmm::lane(total);
}
#undef DOH_SUM
#undef DOH_TOTAL

}  // namespace
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2")
namespace {

struct Ymm {
  using Vec = __m256i;
  static constexpr int kLanes = 4;
  static Vec set(uint32_t x) { return _mm256_set1_epi64x(x); }
  static Vec count(uint32_t from) { return _mm256_add_epi64(set(from), _mm256_setr_epi64x(0, 1, 2, 3)); }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi64(a, b); }
  static Vec multiply(Vec a, Vec b) { return _mm256_mul_epu32(a, b); }
  static Vec high(Vec a) { return _mm256_srli_epi64(a, 32); }
  static Vec exclusive_or(Vec a, Vec b, Vec c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  static Vec join(Vec low, Vec high) { return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xAA); }
  static uint64_t lane(Vec a) { return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(a))); }
};

uint64_t philox_ymm_1(uint64_t seed) { return philox_rows<Ymm, 1>(seed); }
uint64_t philox_ymm_2(uint64_t seed) { return philox_rows<Ymm, 2>(seed); }

// 10 of the 16 registers hold sums.
#define DOH_REPEAT_10(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
uint64_t maddwd_ymm(uint64_t seed) {
#define DOH_SUM(i) __m256i s##i = _mm256_set1_epi32(i);
  DOH_REPEAT_10(DOH_SUM)
  const __m256i a = _mm256_set1_epi32(static_cast<int>(seed)), b = _mm256_set1_epi32(5);
  for (int n = 0; n < kSteps; ++n) {
#define DOH_STEP(i)                                                     \
  {                                                                     \
    __m256i p;                                                          \
    __asm__ volatile("vpmaddwd %2, %1, %0" : "=x"(p) : "x"(a), "x"(b)); \
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(s##i) : "x"(p));        \
  }
    DOH_REPEAT_10(DOH_STEP)
  }
  __m256i total = s0;
#define DOH_TOTAL(i) total = _mm256_add_epi32(total, s##i);
  DOH_REPEAT_10(DOH_TOTAL)
  return Ymm::lane(total);
}

}  // namespace
#pragma GCC pop_options
#endif

namespace {

std::vector<Case> cases() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  return {
      {"peak", "avx512_vnni", 16.0 * 32 * kSteps, dpwssd_zmm, vnni},  // 16 sums of 32 products
      {"peak", "avx512", 16.0 * 32 * kSteps, maddwd_zmm, avx512},    {"peak", "avx2", 10.0 * 16 * kSteps, maddwd_ymm, avx2},
      {"philox", "avx512", kPhiloxBytes, philox_zmm_1, vnni},        {"philox", "avx512", kPhiloxBytes, philox_zmm_2, vnni},
      {"philox", "avx512", kPhiloxBytes, philox_zmm_4, vnni},        {"philox", "avx2", kPhiloxBytes, philox_ymm_1, avx2},
      {"philox", "avx2", kPhiloxBytes, philox_ymm_2, avx2},
  };
#else
  return {};
#endif
}

// Calls a second on `threads` threads at once: the best of many rounds within `seconds`.
double rate(const Case& c, int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  auto calls = [&c](int count) {
    uint64_t kept = 0;
    for (int i = 0; i < count; ++i) kept ^= c.work(0x123456789ABCDEFu + static_cast<uint64_t>(i));
    volatile uint64_t sink = kept;
    static_cast<void>(sink);
  };
  const auto begin = Clock::now();
  double best = 0;
  while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
    const int kCalls = threads == 1 ? 4 : 24;  // short rounds find an undisturbed moment; threads need longer ones, to be worth their start
    const auto start = Clock::now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(calls, kCalls);
    calls(kCalls);
    for (std::thread& other : others) other.join();
    best = std::max(best, kCalls * threads / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  for (const Case& c : cases())
    if (c.here) std::printf("%s %s %d %.3f\n", c.name, c.kernel, threads, c.amount * rate(c, threads, seconds) * 1e-9);
  return 0;
}
