// Any bytes -> samples, under small limits and in buffers of exactly the size asked for. The whole grid as a region, by another kernel, gives the
// same samples, and half of it the same half. The bytes of samples_crc also choose how the decoder is called.
//
// Two programs: one checks checksums as users do (there the mutator signs most inputs again, as an attacker would), one does not.
#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "common.h"
#include "net/kernels.h"

namespace {

doh_options small_limits() {
  doh_options options{};
  options.max_samples = 1 << 10;
  options.max_latents = 1 << 9;
  options.max_weights = 1 << 11;
  options.max_work = 1 << 18;
  options.max_memory = 1 << 17;
  return options;
}

// Decodes into memory of its own. `shift` moves workspace and samples off their alignment.
struct Decode {
  Raw work, samples;
  uint8_t* first;
  int error;

  Decode(std::span<const uint8_t> data, const doh_options& options, const doh_info& info, const doh_region* region, uint64_t bytes, size_t shift)
      : work(work_size(info, options) + shift), samples(static_cast<size_t>(bytes) + shift), first(samples.data() + shift) {
    uint8_t* const space = work.data() + shift;
    error = region != nullptr ? doh_decode_region(data.data(), data.size(), &options, region, first, samples.size - shift, space, work.size - shift)
                              : doh_decode(data.data(), data.size(), &options, first, samples.size - shift, space, work.size - shift);
    FUZZ_CHECK(known_error(error) && error > DOH_BAD_ARGUMENT);  // what is left are the file's own faults and the limits
  }

  static size_t work_size(const doh_info& info, const doh_options& options) {
    size_t size = 0;
    FUZZ_CHECK(doh_workspace_size(&info, &options, &size) == DOH_OK);
    return size;
  }
};

// Whether `part` holds the box `region` of `whole`.
bool is_part(const uint8_t* part, const uint8_t* whole, const doh_info& info, const doh_region& region) {
  const size_t point_bytes = size_t{info.channels} * info.bytes_per_sample;
  uint64_t points = 1;
  for (uint32_t t = 0; t < info.dims; ++t) points *= region.extent[t];
  for (uint64_t i = 0; i < points; ++i) {
    uint64_t rest = i, from = 0, stride = 1;
    for (uint32_t t = info.dims; t-- > 0;) {
      from += (region.offset[t] + rest % region.extent[t]) * stride;
      rest /= region.extent[t];
      stride *= region.grid[t];
    }
    if (std::memcmp(part + i * point_bytes, whole + from * point_bytes, point_bytes) != 0) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> file(data, size);
  doh_options options = small_limits();
  doh_info info;
  const int header = doh_read_info(data, size, &options, &info);
  FUZZ_CHECK(known_error(header));
  if (header != DOH_OK) return 0;

  const uint32_t choice = info.samples_crc;
  const size_t shift = choice & 63;
  options.threads = (choice >> 6 & 15) == 15 ? 3 : 1;
  const auto kernels = doh::all_kernels();
  const doh::Kernel& other = kernels[(choice >> 10) % kernels.size()];
  if (Decode::work_size(info, small_limits()) > options.max_memory / 3) options.threads = 1;
  const Decode whole(file, options, info, nullptr, info.samples_bytes, shift);

  options.kernel = other.available() ? other.name : nullptr;
  options.threads = 1;
  doh_region region{};
  for (uint32_t t = 0; t < info.dims; ++t) region.grid[t] = region.extent[t] = info.shape[t];
  const Decode box(file, options, info, &region, info.samples_bytes, 0);
  const bool decoded = whole.error == DOH_OK || whole.error == DOH_BAD_SAMPLES;
  FUZZ_CHECK(box.error == (decoded ? DOH_OK : whole.error));
  if (!decoded) return 0;
  if (whole.error == DOH_OK) FUZZ_CHECK(std::memcmp(whole.first, box.first, static_cast<size_t>(info.samples_bytes)) == 0);

  uint64_t bytes = uint64_t{info.channels} * info.bytes_per_sample;
  for (uint32_t t = 0; t < info.dims; ++t) {
    const bool second_half = (choice >> (16 + t) & 1) != 0;
    region.offset[t] = second_half ? info.shape[t] / 2 : 0;
    region.extent[t] = second_half ? info.shape[t] - info.shape[t] / 2 : (info.shape[t] + 1) / 2;
    bytes *= region.extent[t];
  }
  const Decode part(file, options, info, &region, bytes, shift);
  FUZZ_CHECK(part.error == DOH_OK && is_part(part.first, box.first, info, region));
  return 0;
}

#if defined(DOH_FUZZER) && !defined(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (size < 32 || seed % 8 == 0) return size;
  const uint32_t crc = doh::crc32c({data, size - 4});
  for (size_t i = 0; i < 4; ++i) data[size - 4 + i] = static_cast<uint8_t>(crc >> (8 * i));
  return size;
}
#endif
