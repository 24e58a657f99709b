// AVX-512 with VNNI: the multiply-add of pairs accumulates by itself (vpdpwssd wraps; its saturating sister vpdpwssds would not do).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/kernels.h"
#include "net/simd/region.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

DOH_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512vnni")
#include "net/simd/avx512.h"
#include "net/simd/dense.h"
#include "net/simd/pairs.h"

namespace {

struct Vector : Avx512 {
  // In assembly because GCC 12 copies every sum before and after the intrinsic.
  static Vec madd(Vec sum, Vec a, Vec b) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

}  // namespace

namespace doh {

void forward_avx512_vnni(const Network& net, const Tile& tile) { PairKernel<Vector>::forward(net, tile); }

int64_t dense_sum_avx512_vnni(const DenseRow& row, const int16_t* codes, size_t count) { return DenseKernel<Vector>::sum(row, codes, count); }

}  // namespace doh
DOH_TARGET_END
#endif
