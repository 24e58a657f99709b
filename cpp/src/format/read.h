// Bytes -> File, all checked but the codes; its networks; and the codes of each.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/status.h"
#include "format/header.h"

namespace doh {

// Checks length, magic, version, checksum and all fields in this order (docs/format.md, section 1).
[[nodiscard]] Status read_file(std::span<const uint8_t> data, File& file);

// Walks over the networks of a checked file: file.part_count of them, row-major over the boxes.
class PartReader {
 public:
  explicit PartReader(const File& file) : mosaic_(file.version == kMosaic), part_{file.header, file.networks}, in_(file.networks) {}

  // Goes to the next one, the first at first. Fails only if the file's bytes have changed since they were checked.
  [[nodiscard]] Status next();

  const Part& part() const { return part_; }

 private:
  bool mosaic_;
  Part part_;
  ByteReader in_;
};

// The latents that the generator takes, and the two groups of codes of biases: depth * width and channels of them.
[[nodiscard]] Status read_payload(const Part& part, std::span<int16_t> latents, std::span<int16_t> hidden_biases, std::span<int16_t> output_biases);

// Whether a checksum mismatch counts. A fuzzer could not get past one, so its builds go on.
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
inline constexpr bool kChecksumsCount = false;
#else
inline constexpr bool kChecksumsCount = true;
#endif

}  // namespace doh
