// CPUID says what the processor knows, XGETBV which registers the operating system saves.
#include "net/cpu.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

#include <cstdint>

namespace doh {
namespace {

struct Features {
  uint32_t ebx = 0, ecx = 0;  // of leaf 7
  uint32_t saved = 0;         // XCR0
};

Features features() {
  Features result;
  uint32_t eax, ebx, ecx, edx;
  constexpr uint32_t kOsxsave = 1u << 27;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsxsave) == 0) return result;
  uint32_t high;
  __asm__("xgetbv" : "=a"(result.saved), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return result;
  result.ebx = ebx;
  result.ecx = ecx;
  return result;
}

constexpr bool all(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

constexpr uint32_t kSavesYmm = 0x06, kSavesZmm = 0xE6;
constexpr uint32_t kAvx2 = 1u << 5, kAvx512F = 1u << 16, kAvx512Bw = 1u << 30, kAvx512Vl = 1u << 31;  // leaf 7, EBX
constexpr uint32_t kVnni = 1u << 11;                                                                  // leaf 7, ECX

}  // namespace

bool cpu_has_avx2() {
  const Features f = features();
  return all(f.saved, kSavesYmm) && all(f.ebx, kAvx2);
}

bool cpu_has_avx512() {
  const Features f = features();
  return all(f.saved, kSavesZmm) && all(f.ebx, kAvx512F | kAvx512Bw | kAvx512Vl);
}

bool cpu_has_avx512_vnni() { return cpu_has_avx512() && all(features().ecx, kVnni); }

}  // namespace doh
#endif
