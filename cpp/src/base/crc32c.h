// CRC-32C (Castagnoli): reflected, polynomial 0x1EDC6F41, initial value and final exclusive-or 0xFFFFFFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace doh {

// The CRC of the bytes so far, `crc` (0 at the start), followed by `data`.
uint32_t crc32c(std::span<const uint8_t> data, uint32_t crc = 0);

}  // namespace doh
