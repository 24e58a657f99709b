// The mirror of range_decoder.h. Writes the shortest byte string that decodes to the same bits (trailing zeros dropped).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "entropy/adaptive_bit.h"

namespace doh {

class RangeEncoder {
 public:
  // Without a writer it only measures (cost_bits).
  explicit RangeEncoder(ByteWriter* out) : out_(out), start_(out != nullptr ? out->position() : 0) {}

  void adaptive(AdaptiveBit& model, bool bit) {
    const auto bound = static_cast<uint32_t>(uint64_t{range_} * model.probability() >> 16);
    if (bit) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    model.update(bit);
    normalise();
  }

  void plain(bool bit) {
    range_ >>= 1;
    if (bit) low_ += range_;
    normalise();
  }

  void plain_bits(uint32_t bits, unsigned count) {
    while (count-- > 0) plain((bits >> count & 1) != 0);
  }

  // Of all numbers in the final interval, the one with the most trailing zero bits is written.
  void finish() {
    unsigned bits = 32;
    uint64_t value = 0;
    do {
      const uint64_t mask = (uint64_t{1} << bits) - 1;
      value = (low_ + mask) & ~mask;
    } while (value >= low_ + range_ && bits-- > 0);
    low_ = value;
    for (int i = 0; i < 4; ++i) shift_out();
    out_->drop_zeros(start_);
  }

  // The cost so far, in bits, rounded up by less than one.
  uint64_t cost_bits() const { return 8 * shifted_ + static_cast<uint64_t>(32 - std::bit_width(range_) + 1); }

 private:
  void normalise() {
    while (range_ < 1u << 24) {
      range_ <<= 8;
      shift_out();
    }
  }

  // low_ holds 32 bits that may still change and, above them, a carry into the bytes already written.
  void shift_out() {
    if (out_ != nullptr) {
      if (low_ >> 32 != 0) out_->carry(start_);
      out_->byte(static_cast<uint32_t>(low_ >> 24 & 255));
    }
    low_ = low_ << 8 & UINT32_MAX;
    ++shifted_;
  }

  ByteWriter* out_;
  size_t start_;
  uint64_t low_ = 0, shifted_ = 0;
  uint32_t range_ = UINT32_MAX;
};

}  // namespace doh
