// AVX-512 without VNNI: a multiply-add of pairs, then a sum.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/kernels.h"
#include "net/simd/region.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>

DOH_TARGET_BEGIN("avx512f,avx512bw,avx512vl")
#include "net/simd/avx512.h"
#include "net/simd/dense.h"
#include "net/simd/pairs.h"

namespace {

struct Vector : Avx512 {
  static Vec madd(Vec sum, Vec a, Vec b) { return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b)); }
};

}  // namespace

namespace doh {

void forward_avx512(const Network& net, const Tile& tile) { PairKernel<Vector>::forward(net, tile); }

int64_t dense_sum_avx512(const DenseRow& row, const int16_t* codes, size_t count) { return DenseKernel<Vector>::sum(row, codes, count); }

}  // namespace doh
DOH_TARGET_END
#endif
