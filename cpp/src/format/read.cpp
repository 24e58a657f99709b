// Reads a file in the order of docs/format.md, sections 1 to 3.
#include "format/read.h"

#include <algorithm>

#include "base/crc32c.h"
#include "entropy/codes.h"
#include "entropy/trellis.h"
#include "format/fields.h"

namespace doh {
namespace {

// The record at `in`. The header of `part` holds the common fields.
Status read_record(ByteReader& in, Part& part, Totals& totals) {
  const uint64_t length = in.varint();
  ByteReader record(in.take(length));
  DOH_TRY(in.status());
  HeaderReader fields(record);
  DOH_TRY(record_fields(fields, part.header, totals));
  part.payload = record.rest();
  return DOH_OK;
}

// Every record takes bytes of the file: a short one has few, whatever it says of itself.
Status read_records(File& file) {
  ByteReader in(file.networks);
  Part part{file.header, {}};
  file.part_count = 1;
  for (const uint32_t parts : file.header.parts) file.part_count *= parts;
  for (uint32_t i = 0; i < file.part_count; ++i) {
    DOH_TRY(read_record(in, part, file.totals));
    const Header& h = part.header;
    file.header.width = std::max(file.header.width, h.width);
    file.header.depth = std::max(file.header.depth, h.depth);
    file.header.latents = std::max(file.header.latents, h.latents);
    file.part_weights = std::max(file.part_weights, h.weights());
    file.payload_bytes += part.payload.size();
  }
  DOH_REQUIRE(in.rest().empty(), DOH_BAD_CODES);
  return DOH_OK;
}

}  // namespace

Status read_file(std::span<const uint8_t> data, File& file) {
  for (size_t i = 0; i < kMagic.size() && i < data.size(); ++i) DOH_REQUIRE(data[i] == kMagic[i], DOH_BAD_MAGIC);
  DOH_REQUIRE(data.size() >= kMinFileBytes, DOH_TRUNCATED);
  file = {};
  file.version = data[kMagic.size()];
  DOH_REQUIRE(file.version == kOneNetwork || file.version == kMosaic, DOH_BAD_VERSION);

  const auto body = data.first(data.size() - kChecksumBytes);
  ByteReader checksums(data.last(kChecksumBytes));
  file.samples_crc = checksums.uint(4);
  file.file_crc = checksums.uint(4);
  DOH_REQUIRE(!kChecksumsCount || crc32c(data.first(data.size() - 4)) == file.file_crc, DOH_BAD_CHECKSUM);

  ByteReader in(body.subspan(kPreambleBytes));
  HeaderReader fields(in);
  if (file.version == kOneNetwork) {
    DOH_TRY(header_fields(fields, file.header, file.totals));
    file.networks = in.rest();
    file.part_count = 1;
    file.part_weights = file.totals.weights;
    file.payload_bytes = file.networks.size();
  } else {
    DOH_TRY(common_fields(fields, file.header));
    file.networks = in.rest();
    DOH_TRY(read_records(file));
  }
  file.header_bytes = body.size() - file.payload_bytes;
  return DOH_OK;
}

Status PartReader::next() {
  if (!mosaic_) return DOH_OK;
  Totals alone;  // with the others they have been judged
  return read_record(in_, part_, alone);
}

Status read_payload(const Part& part, std::span<int16_t> latents, std::span<int16_t> hidden_biases, std::span<int16_t> output_biases) {
  const Header& h = part.header;
  DOH_REQUIRE(part.payload.empty() || part.payload.back() != 0, DOH_BAD_CODES);
  RangeDecoder in(part.payload);
  DOH_TRY(read_codes(in, h.latent_shift, latents));
  DOH_TRY(read_codes(in, h.bias_shift, hidden_biases));
  DOH_TRY(read_codes(in, kOutputBiasShift, output_biases));
  DOH_REQUIRE(in.read_all(), DOH_BAD_CODES);
  if (h.on_trellis()) DOH_TRY(latents_of_codes(latents));

  if (h.generator == DOH_DENSE) {
    int64_t sum = 0;
    for (const int16_t code : latents) sum += code < 0 ? -int64_t{code} : code;
    DOH_REQUIRE(sum < kMaxDenseCodeSum, DOH_BAD_CODES);
  }
  return DOH_OK;
}

}  // namespace doh
