// Any bytes -> codes: BAD_CODES, or codes in range whose encoding decodes to them again and is no longer than these bytes.
// Input: shift (low 4 bits of the first byte), number of codes - 1 (second byte), the payload.
#include <algorithm>
#include <array>
#include <span>

#include "common.h"
#include "entropy/codes.h"

namespace {

constexpr size_t kMaxCodes = 16;

std::array<int16_t, kMaxCodes> first, second;
std::array<int32_t, kMaxCodes> wide;
std::array<uint8_t, 48 * kMaxCodes + 64> encoded;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const unsigned shift = data[0] & 15;
  const size_t count = data[1] % kMaxCodes + 1;
  const std::span<const uint8_t> payload(data + 2, size - 2);
  const auto codes = std::span(first).first(count);

  doh::RangeDecoder in(payload);
  const int e = doh::read_codes(in, shift, codes);
  FUZZ_CHECK(e == DOH_OK || e == DOH_BAD_CODES);
  if (e != DOH_OK) return 0;

  for (size_t i = 0; i < count; ++i) wide[i] = codes[i];
  doh::ByteWriter out(encoded);
  doh::RangeEncoder encoder(&out);
  doh::write_codes(encoder, shift, std::span(wide).first(count));
  encoder.finish();
  FUZZ_CHECK(out.status() == DOH_OK);

  const auto again = std::span(second).first(count);
  doh::RangeDecoder back(out.written());
  FUZZ_CHECK(doh::read_codes(back, shift, again) == DOH_OK && back.read_all());
  FUZZ_CHECK(std::equal(codes.begin(), codes.end(), again.begin()));

  // The encoder's form is the shortest. One kind of payload is left out: where a plain bit halves an odd range, the value above both halves belongs
  // to no code. It decodes, as the format says, but no encoder writes it; it lies above all numbers that one would write.
  const auto written = out.written();
  const bool above = std::lexicographical_compare(written.begin(), written.end(), payload.begin(), payload.end());
  size_t used = payload.size();
  while (used > 0 && payload[used - 1] == 0) --used;
  FUZZ_CHECK(written.size() <= used || above || !in.read_all());
  return 0;
}
