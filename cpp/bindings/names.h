// Names of the enumerations of doh.h in Python, in the order of their numbers.
#pragma once

#include <string>

#include "common.h"

namespace doh::bindings {

inline constexpr const char* kSignals[] = {"array", "image", "occupancy", "audio", "volume", "video"};
inline constexpr const char* kSampleTypes[] = {"u1", "u8", "u16", "s16"};
inline constexpr const char* kGenerators[] = {"tied", "dense"};
inline constexpr const char* kLadders[] = {"octaves", "1.4"};

// The number of a name; a name that is none gives a number that no field takes.
template <size_t N>
uint32_t number_of(const char* const (&names)[N], const std::string& name) {
  uint32_t number = 0;
  while (number < N && name != names[number]) ++number;
  return number;
}

}  // namespace doh::bindings
