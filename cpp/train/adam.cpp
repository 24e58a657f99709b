#include "train/adam.h"

#include <cmath>

namespace doh::train {

void ademamix(float* parameters, const float* gradient, size_t count, float* mean, float* square, float* slow, const Factors& of) {
  for (size_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    mean[i] = mean[i] * of.beta1 + g * of.rest1;
    square[i] = square[i] * of.beta2 + g * g * of.rest2;
    slow[i] = slow[i] * of.beta3 + g * of.rest3;
    parameters[i] -= (mean[i] * of.fast + slow[i] * of.slow) / (std::sqrt(square[i] * of.unbias) + of.eps);
  }
}

}  // namespace doh::train
