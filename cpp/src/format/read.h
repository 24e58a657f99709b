// Bytes -> File, all checked but the codes; and the codes of its payload.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "format/header.h"

namespace doh {

// Checks length, magic, version, checksum and header fields in this order (docs/format.md, section 1).
[[nodiscard]] Status read_file(std::span<const uint8_t> data, File& file);

// The three groups of codes: header.latents, depth * width and channels of them.
[[nodiscard]] Status read_payload(const File& file, std::span<int16_t> latents, std::span<int16_t> hidden_biases, std::span<int16_t> output_biases);

// Whether a checksum mismatch counts. A fuzzer could not get past one, so its builds go on.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
inline constexpr bool kChecksumsCount = false;
#else
inline constexpr bool kChecksumsCount = true;
#endif

}  // namespace doh
