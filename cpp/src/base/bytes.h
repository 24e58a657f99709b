// Bounds-checked little-endian reader and writer. The first error sticks; after it, reads give 0 and writes do nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace doh {

class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> data) : data_(data) {}

  // An unsigned integer of 1 to 4 bytes.
  uint32_t uint(unsigned bytes) {
    if (status_ == DOH_OK && data_.size() - position_ < bytes) status_ = DOH_TRUNCATED;
    if (status_ != DOH_OK) return 0;
    uint32_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint32_t{data_[position_++]} << (8 * i);
    return value;
  }

  // LEB128 below 2^64 in its shortest form (docs/format.md, section 0).
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned i = 0; i < 10; ++i) {
      const uint64_t byte = uint(1);
      if (status_ != DOH_OK) return 0;
      if ((byte == 0 && i > 0) || (i == 9 && byte != 1)) break;
      value |= (byte & 127) << (7 * i);
      if (byte < 128) return value;
    }
    status_ = DOH_BAD_VARINT;
    return 0;
  }

  // The next `bytes` bytes, in place; none if there are fewer (TRUNCATED).
  std::span<const uint8_t> take(uint64_t bytes) {
    if (status_ == DOH_OK && data_.size() - position_ < bytes) status_ = DOH_TRUNCATED;
    if (status_ != DOH_OK) return {};
    const auto taken = rest().first(static_cast<size_t>(bytes));
    position_ += taken.size();
    return taken;
  }

  // All that was not read.
  std::span<const uint8_t> rest() const { return data_.subspan(position_); }

  Status status() const { return status_; }
  size_t position() const { return position_; }

 private:
  std::span<const uint8_t> data_;
  size_t position_ = 0;
  Status status_ = DOH_OK;
};

class ByteWriter {
 public:
  explicit ByteWriter(std::span<uint8_t> data) : data_(data) {}

  void byte(uint32_t value) {
    if (position_ == data_.size()) status_ = DOH_BUFFER_TOO_SMALL;
    if (status_ == DOH_OK) data_[position_++] = static_cast<uint8_t>(value);
  }

  void uint(unsigned bytes, uint32_t value) {
    for (unsigned i = 0; i < bytes; ++i) byte(value >> (8 * i) & 255);
  }

  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) byte(static_cast<uint32_t>(value & 127) | 128);
    byte(static_cast<uint32_t>(value));
  }

  // Puts the number of bytes that were written from `start` on, as a varint, before them: they move up.
  void length_before(size_t start) {
    const size_t length = position_ - start;
    varint(length);
    if (status_ == DOH_OK)
      std::rotate(data_.begin() + static_cast<ptrdiff_t>(start), data_.begin() + static_cast<ptrdiff_t>(start + length),
                  data_.begin() + static_cast<ptrdiff_t>(position_));
  }

  // Adds 1 to the number whose last digit (base 256) is the last byte from `start` on. The caller knows that it does not overflow.
  void carry(size_t start) {
    size_t i = position_;
    while (i > start && ++data_[--i] == 0) {
    }
  }

  // Drops trailing zero bytes, none before `start`.
  void drop_zeros(size_t start) {
    while (position_ > start && data_[position_ - 1] == 0) --position_;
  }

  Status status() const { return status_; }
  size_t position() const { return position_; }
  std::span<const uint8_t> written() const { return data_.first(position_); }

 private:
  std::span<uint8_t> data_;
  size_t position_ = 0;
  Status status_ = DOH_OK;
};

}  // namespace doh
