#include "train/simd/slow.h"

#include <cmath>

namespace doh::train {

void slow_waves(const float* phases, size_t count, float* sines, float* cosines) {
  for (size_t i = 0; i < count; ++i) {
    const double phase = phases[i];  // `sines` may be `phases`
    sines[i] = static_cast<float>(std::sin(phase));
    cosines[i] = static_cast<float>(std::cos(phase));
  }
}

}  // namespace doh::train
