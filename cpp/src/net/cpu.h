// What the processor can do, asked anew each time: no state, and no compiler run-time (__builtin_cpu_supports needs one).
#pragma once

namespace doh {

#if defined(__x86_64__) || defined(__i386__)
bool cpu_has_avx2();
bool cpu_has_avx512();       // F, BW and VL: int16 in 512 bits
bool cpu_has_avx512_vnni();  // and the multiply-add of pairs that accumulates
#endif

}  // namespace doh
