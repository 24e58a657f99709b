// WebAssembly SIMD: 4 points a vector.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "net/kernels.h"
#include "net/simd/region.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#include "net/simd/pairs.h"

namespace {

struct Vector {
  using Vec = v128_t;
  static constexpr size_t kLanes = 4, kVectors = 2, kOutputs = 4;
  static constexpr bool kLater = false;

  static Vec load(const int32_t* p) { return wasm_v128_load(p); }
  static void store(int32_t* p, Vec v) { wasm_v128_store(p, v); }
  static Vec set(int32_t x) { return wasm_i32x4_splat(x); }
  static Vec add(Vec a, Vec b) { return wasm_i32x4_add(a, b); }
  static Vec madd(Vec sum, Vec a, Vec b) { return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(a, b)); }
  static Vec shift_left(Vec a, uint32_t s) { return wasm_i32x4_shl(a, s); }
  static Vec blend_high(Vec even, Vec odd) { return wasm_i16x8_shuffle(even, odd, 1, 9, 3, 11, 5, 13, 7, 15); }
  static Vec sine(Vec s) {
    const Vec m = wasm_v128_xor(s, wasm_i16x8_shr(s, 15));
    const Vec u = wasm_i16x8_sub(wasm_i16x8_splat(32767), wasm_i16x8_add(m, m));
    const Vec z = wasm_i16x8_q15mulr_sat(u, u);
    Vec v = wasm_i16x8_sub(wasm_i16x8_splat(21013), wasm_i16x8_q15mulr_sat(wasm_i16x8_splat(2330), z));
    v = wasm_i16x8_sub(wasm_i16x8_splat(18682), wasm_i16x8_q15mulr_sat(v, z));
    return wasm_i16x8_add(u, wasm_i16x8_q15mulr_sat(u, v));
  }
};

}  // namespace

namespace doh {

void forward_wasm128(const Network& net, const Tile& tile) { PairKernel<Vector>::forward(net, tile); }

}  // namespace doh
#endif
