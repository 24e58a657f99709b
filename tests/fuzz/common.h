// What the fuzz targets share: a check that stops the process, the list of errors, numbers out of the fuzzer's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>

#include "doh.h"

#define FUZZ_CHECK(condition)                                                      \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (0)

constexpr bool known_error(int error) {
  switch (error) {
#define DOH_X(name, number, text) case number:
    DOH_ERRORS(DOH_X)
#undef DOH_X
    return true;
    default: return false;
  }
}

// Bytes that are not initialised, so that reading them before writing is found, with their end where a sanitizer watches.
struct Raw {
  explicit Raw(size_t bytes) : size(bytes), memory(new uint8_t[bytes]) {}
  uint8_t* data() const { return memory.get(); }
  size_t size;
  std::unique_ptr<uint8_t[]> memory;
};

// Numbers from the fuzzer's bytes: fields in order, zeros after the end; and `cycle`, which goes round and round the bytes that are left.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data, size) {}

  uint32_t byte() {
    if (data_.empty()) return 0;
    const uint8_t value = data_.front();
    data_ = data_.subspan(1);
    return value;
  }

  // In [low, high], high - low below 2^16. One byte decides where that is enough.
  uint32_t in(uint32_t low, uint32_t high) {
    const uint32_t value = high - low < 256 ? byte() : word(2);
    return low + value % (high - low + 1);
  }

  uint32_t word(int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= byte() << (8 * i);
    return value;
  }

  uint64_t word64() {
    const uint64_t low = word(4);
    return low | uint64_t{word(4)} << 32;
  }

  // Each turn round the bytes differs from the last, so that few bytes can fill much memory without a short period.
  uint32_t cycle() {
    if (data_.empty()) return 0;
    if (place_ >= data_.size()) {
      place_ = 0;
      turn_ = turn_ * 5 + 1;
    }
    return (data_[place_++] + turn_) & 255;
  }
  uint16_t cycle16() {
    const uint32_t low = cycle();
    return static_cast<uint16_t>(low | cycle() << 8);
  }
  uint32_t cycle32() {
    const uint32_t low = cycle16();
    return low | uint32_t{cycle16()} << 16;
  }

 private:
  std::span<const uint8_t> data_;
  size_t place_ = 0;
  uint32_t turn_ = 0;
};
