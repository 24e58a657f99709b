// Which latents on the trellis (docs/format.md, section 3.1) are nearest: what an encoder looks for. Bit for bit as doh.train.trellis does in numpy.
#pragma once

#include <cstdint>
#include <span>

namespace doh::train {

// The sequence on the trellis, from `state` on, with the least sum of squared distances from values / step; each lies in [-32767, 32767]. By the
// algorithm of Viterbi. Takes 32 bytes for each value. out has the size of values.
void nearest_on_trellis(std::span<const float> values, float step, uint8_t state, std::span<int32_t> out);

}  // namespace doh::train
