#include "train/trellis.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <vector>

namespace doh::train {
namespace {

constexpr size_t kStates = 256;
constexpr size_t kOfState = 0xA6, kOfCode = 0x79;
constexpr float kMost = 32764;  // candidates are at most 2 away
constexpr float kUnreached = 1e30F;

float scaled(float value, float step) {
  const float v = value / step;
  return v > -kMost ? (v < kMost ? v : kMost) : -kMost;  // -kMost for what is no number, too
}

// The nearest integer that is `rest` (0 .. 3) modulo 4.
float nearest(float v, size_t rest) {
  const auto r = static_cast<float>(rest);
  return 4 * std::nearbyint((v - r) / 4) + r;
}

// The state before `state`, by a latent whose bit 1 is `high`; the latent's bit 0 is that of the state before.
size_t before(size_t state, size_t high) {
  const size_t low = state >> 7;  // only kOfState has this bit
  return 2 * (state ^ (low != 0 ? kOfState : 0) ^ (high != 0 ? kOfCode : 0)) + low;
}

}  // namespace

void nearest_on_trellis(std::span<const float> values, float step, uint8_t state, std::span<int32_t> out) {
  std::array<uint8_t, kStates> from_low{}, from_high{};
  for (size_t s = 0; s < kStates; ++s) {
    from_low[s] = static_cast<uint8_t>(before(s, 0));
    from_high[s] = static_cast<uint8_t>(before(s, 1));
  }
  std::vector<std::bitset<kStates>> took_high(values.size());
  std::array<float, kStates> cost{}, next{};
  cost.fill(kUnreached);
  cost[state] = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const float v = scaled(values[i], step);
    std::array<float, 4> error{};
    for (size_t rest = 0; rest < 4; ++rest) {
      const float off = v - nearest(v, rest);
      error[rest] = off * off;
    }
    std::array<bool, kStates> high{};
    for (size_t s = 0; s < kStates; ++s) {
      const size_t low = s >> 7;
      const float by_low = cost[from_low[s]] + error[low], by_high = cost[from_high[s]] + error[low + 2];
      high[s] = by_high < by_low;
      next[s] = high[s] ? by_high : by_low;
    }
    const float least = *std::min_element(next.begin(), next.end());
    for (size_t s = 0; s < kStates; ++s) {
      cost[s] = next[s] - least;
      took_high[i][s] = high[s];
    }
  }
  size_t s = static_cast<size_t>(std::min_element(cost.begin(), cost.end()) - cost.begin());
  for (size_t i = values.size(); i-- > 0;) {
    const bool high = took_high[i][s];
    out[i] = static_cast<int32_t>(nearest(scaled(values[i], step), (s >> 7) + 2 * size_t{high}));
    s = high ? from_high[s] : from_low[s];
  }
}

}  // namespace doh::train
