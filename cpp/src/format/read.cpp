// Reads a file in the order of docs/format.md, sections 1 to 3.
#include "format/read.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "entropy/codes.h"
#include "format/fields.h"

namespace doh {

Status read_file(std::span<const uint8_t> data, File& file) {
  for (size_t i = 0; i < kMagic.size() && i < data.size(); ++i) DOH_REQUIRE(data[i] == kMagic[i], DOH_BAD_MAGIC);
  DOH_REQUIRE(data.size() >= kMinFileBytes, DOH_TRUNCATED);
  DOH_REQUIRE(data[kMagic.size()] == DOH_FORMAT_VERSION, DOH_BAD_VERSION);

  const auto body = data.first(data.size() - kChecksumBytes);
  ByteReader checksums(data.last(kChecksumBytes));
  file.samples_crc = checksums.uint(4);
  file.file_crc = checksums.uint(4);
  DOH_REQUIRE(!kChecksumsCount || crc32c(data.first(data.size() - 4)) == file.file_crc, DOH_BAD_CHECKSUM);

  ByteReader in(body.subspan(kPreambleBytes));
  HeaderReader fields(in);
  file.header = {};
  DOH_TRY(header_fields(fields, file.header));
  file.header_bytes = kPreambleBytes + in.position();
  file.payload = body.subspan(file.header_bytes);
  return DOH_OK;
}

Status read_payload(const File& file, std::span<int16_t> latents, std::span<int16_t> hidden_biases, std::span<int16_t> output_biases) {
  DOH_REQUIRE(file.payload.empty() || file.payload.back() != 0, DOH_BAD_CODES);
  RangeDecoder in(file.payload);
  DOH_TRY(read_codes(in, file.header.latent_shift, latents));
  DOH_TRY(read_codes(in, file.header.bias_shift, hidden_biases));
  DOH_TRY(read_codes(in, kOutputBiasShift, output_biases));
  DOH_REQUIRE(in.read_all(), DOH_BAD_CODES);

  if (file.header.generator == DOH_DENSE) {
    int64_t sum = 0;
    for (const int16_t code : latents) sum += code < 0 ? -int64_t{code} : code;
    DOH_REQUIRE(sum < kMaxDenseCodeSum, DOH_BAD_CODES);
  }
  return DOH_OK;
}

}  // namespace doh
