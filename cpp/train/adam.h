// A step of the optimiser (doh.train.ademamix), each operation rounded by itself: the very numbers that torch's calls give. Not part of the decoder.
#pragma once

#include <cstddef>

namespace doh::train {

// What the gradient's means and squares become, and what they count: m = beta1 m + rest1 g, and so on.
struct Factors {
  float beta1, rest1, beta2, rest2, beta3, rest3, fast, slow, unbias, eps;
};

// For each of count numbers: m = beta1 m + rest1 g, v = beta2 v + rest2 g^2, s = beta3 s + rest3 g, p -= (fast m + slow s) / (sqrt(unbias v) + eps).
void ademamix(float* parameters, const float* gradient, size_t count, float* mean, float* square, float* slow, const Factors& of);

}  // namespace doh::train
