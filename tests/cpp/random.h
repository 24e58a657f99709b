// Repeatable random numbers for tests (splitmix64), equal on every machine.
#pragma once

#include <cstdint>

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }

  // Uniform in [low, high].
  int32_t in(int64_t low, int64_t high) { return static_cast<int32_t>(low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1))); }

  // A code whose size is of random order: small ones are frequent, all sizes up to 2^bits occur.
  int32_t code(int bits) {
    const int32_t size = static_cast<int32_t>(next() & ((uint64_t{1} << in(0, bits)) - 1));
    return in(0, 1) != 0 ? size : -1 - size;
  }

 private:
  uint64_t state_;
};
