// The binary range decoder of docs/format.md, section 3. Bytes past the end read as 0, so no input makes it read out of bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "entropy/adaptive_bit.h"

namespace doh {

class RangeDecoder {
 public:
  explicit RangeDecoder(std::span<const uint8_t> payload) : payload_(payload) {
    for (int i = 0; i < 4; ++i) code_ = code_ << 8 | next();
  }

  bool adaptive(AdaptiveBit& model) {
    const auto bound = static_cast<uint32_t>(uint64_t{range_} * model.probability() >> 16);
    const bool bit = code_ < bound;
    if (bit) {
      range_ = bound;
    } else {
      code_ -= bound;
      range_ -= bound;
    }
    model.update(bit);
    normalise();
    return bit;
  }

  bool plain() {
    range_ >>= 1;
    const bool bit = code_ >= range_;
    if (bit) code_ -= range_;
    normalise();
    return bit;
  }

  // `count` plain bits, most significant first.
  uint32_t plain_bits(unsigned count) {
    uint32_t bits = 0;
    for (unsigned i = 0; i < count; ++i) bits = bits << 1 | static_cast<uint32_t>(plain());
    return bits;
  }

  // Whether every byte of the payload has been read.
  bool read_all() const { return position_ >= payload_.size(); }

 private:
  uint32_t next() { return position_ < payload_.size() ? payload_[position_++] : 0; }

  void normalise() {
    while (range_ < 1u << 24) {
      range_ <<= 8;
      code_ = code_ << 8 | next();
    }
  }

  std::span<const uint8_t> payload_;
  size_t position_ = 0;
  uint32_t range_ = UINT32_MAX, code_ = 0;
};

}  // namespace doh
