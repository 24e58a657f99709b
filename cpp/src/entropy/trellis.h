// The trellis of latent codes: which of two rows of values a code stands for follows from the codes before it (docs/format.md, section 3.1).
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"

namespace doh {

class Trellis {
 public:
  // The latent that a code in [-32768, 32767] stands for.
  int32_t latent(int32_t code) {
    const int32_t value = 2 * code + static_cast<int32_t>(state_ & 1);
    advance(value);
    return value;
  }

  // Whether a latent may come now, and on.
  [[nodiscard]] bool take(int32_t latent) {
    const bool good = ((static_cast<uint32_t>(latent) ^ state_) & 1) == 0;
    advance(latent);
    return good;
  }

 private:
  // An Ungerboeck code of 256 states: parity checks 515 and 362 (octal).
  static constexpr uint32_t kOfState = 0xA6, kOfCode = 0x79;

  void advance(int32_t latent) {
    const auto bits = static_cast<uint32_t>(latent);
    state_ = state_ >> 1 ^ ((bits & 1) != 0 ? kOfState : 0) ^ ((bits & 2) != 0 ? kOfCode : 0);
  }

  uint32_t state_ = 0;
};

// Turns codes into latents, in place.
[[nodiscard]] inline Status latents_of_codes(std::span<int16_t> codes) {
  Trellis trellis;
  for (int16_t& code : codes) {
    const int32_t latent = trellis.latent(code);
    DOH_REQUIRE(latent >= -32768 && latent <= 32767, DOH_BAD_CODES);
    code = static_cast<int16_t>(latent);
  }
  return DOH_OK;
}

// Whether codes give these latents: each is then the latent shifted right by one.
[[nodiscard]] inline bool on_trellis(std::span<const int32_t> latents) {
  Trellis trellis;
  bool good = true;
  for (const int32_t latent : latents) good = trellis.take(latent) && good;
  return good;
}

}  // namespace doh
