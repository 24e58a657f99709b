// Sines and cosines of phases too large for the fast reduction, or not finite: one at a time, in double.
#pragma once

#include <cstddef>

namespace doh::train {

void slow_waves(const float* phases, size_t count, float* sines, float* cosines);

}  // namespace doh::train
