// Any bytes -> header: a named error, or fields that agree with each other and that write the very same bytes. Built without the checksum's verdict.
#include <algorithm>
#include <vector>

#include "common.h"
#include "format/fields.h"
#include "format/read.h"

namespace {

void writes_the_same(const uint8_t* data, size_t size) {
  doh::File file;
  FUZZ_CHECK(doh::read_file({data, size}, file) == DOH_OK);
  std::vector<uint8_t> buffer(size);
  doh::ByteWriter out(buffer);
  doh::HeaderWriter fields(out);
  doh::Totals totals;
  for (size_t i = 0; i < doh::kPreambleBytes; ++i) out.byte(data[i]);
  FUZZ_CHECK((file.version == doh::kMosaic ? doh::common_fields(fields, file.header) : doh::header_fields(fields, file.header, totals)) == DOH_OK);
  doh::PartReader parts(file);
  for (uint32_t i = 0; i < file.part_count; ++i) {
    FUZZ_CHECK(parts.next() == DOH_OK);
    const size_t start = out.position();
    doh::Header h = parts.part().header;
    if (file.version == doh::kMosaic) FUZZ_CHECK(doh::record_fields(fields, h, totals) == DOH_OK);
    for (const uint8_t byte : parts.part().payload) out.byte(byte);
    if (file.version == doh::kMosaic) out.length_before(start);
  }
  const auto written = out.written();
  FUZZ_CHECK(out.status() == DOH_OK && written.size() + doh::kChecksumBytes == size);
  FUZZ_CHECK(std::equal(written.begin(), written.end(), data));
  FUZZ_CHECK(totals.latents == file.totals.latents && totals.weights == file.totals.weights);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  doh_options open{};
  open.max_samples = open.max_latents = open.max_weights = open.max_work = open.max_memory = UINT64_MAX;
  doh_info info, judged;
  const int e = doh_read_info(data, size, &open, &info);
  FUZZ_CHECK(known_error(e) && (e == DOH_OK || e > DOH_LIMIT_SAMPLES));
  const int with_limits = doh_read_info(data, size, nullptr, &judged);
  if (e != DOH_OK) {
    FUZZ_CHECK(with_limits == e);
    return 0;
  }
  FUZZ_CHECK(info.header_bytes + info.payload_bytes + 8 == size);
  FUZZ_CHECK(info.points >= 1 && info.points * info.channels <= uint64_t{1} << 40);
  FUZZ_CHECK(info.samples_bytes == info.points * info.channels * info.bytes_per_sample);
  writes_the_same(data, size);

  size_t work = 0;
  FUZZ_CHECK(doh_workspace_size(&info, &open, &work) == DOH_OK);
  FUZZ_CHECK(with_limits == DOH_OK || (with_limits <= DOH_LIMIT_SAMPLES && with_limits >= DOH_LIMIT_MEMORY));
  if (with_limits == DOH_OK) FUZZ_CHECK(work <= uint64_t{1} << 28 && info.work <= uint64_t{1} << 42 && info.weights <= 1u << 20);
  return 0;
}
