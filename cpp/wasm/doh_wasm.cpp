// The decoder for JavaScript: numbers and addresses only. doh.mjs lays out the memory from doh_wasm_heap() on, and everything 64-bit passes through
// arrays.
#include <cstdint>

#include "doh.h"

#define DOH_EXPORT(name) extern "C" __attribute__((export_name(#name)))

extern "C" unsigned char __heap_base;  // the first byte that is neither data nor stack

namespace {

constexpr int kInfoWords = 33, kLimitWords = 5, kRegionWords = 3 * DOH_MAX_DIMS;

// Limits in the order of doh_options; NULL means the defaults. An empty kernel name means the best.
doh_options options_of(const uint64_t* limits, const char* kernel) {
  doh_options options{};
  if (limits != nullptr) {
    options.max_samples = limits[0];
    options.max_latents = limits[1];
    options.max_weights = limits[2];
    options.max_work = limits[3];
    options.max_memory = limits[4];
  }
  options.kernel = kernel != nullptr && *kernel != '\0' ? kernel : nullptr;
  return options;
}

}  // namespace

DOH_EXPORT(doh_wasm_heap) uint32_t doh_wasm_heap() { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&__heap_base)); }

// Words of the arrays, for doh.mjs to compare with its own lists.
DOH_EXPORT(doh_wasm_layout) int doh_wasm_layout() { return kInfoWords << 16 | kLimitWords << 8 | kRegionWords; }

// doh_read_info, and the workspace of a decode as the last word.
DOH_EXPORT(doh_wasm_info) int doh_wasm_info(const void* data, uint32_t size, const uint64_t* limits, uint64_t* words) {
  const doh_options options = options_of(limits, nullptr);
  doh_info info;
  int e = doh_read_info(data, size, &options, &info);
  size_t work_size = 0;
  if (e == DOH_OK) e = doh_workspace_size(&info, &options, &work_size);
  if (e != DOH_OK) return e;
  const uint64_t values[kInfoWords] = {
      info.version,     info.signal,   info.sample_type,  info.dims,          info.channels,      info.shape[0], info.shape[1],
      info.shape[2],    info.shape[3], info.width,        info.depth,         info.frequencies,   info.ladder,   info.generator,
      info.latents,     info.seed,     info.weights,      info.points,        info.samples_bytes, info.work,     info.bytes_per_sample,
      info.samples_crc, info.file_crc, info.header_bytes, info.payload_bytes, info.flags,         info.parts[0], info.parts[1],
      info.parts[2],    info.parts[3], info.part_latents, info.part_weights,  work_size,
  };
  for (int i = 0; i < kInfoWords; ++i) words[i] = values[i];
  return DOH_OK;
}

// doh_decode, or with `box` (grid, offset, extent; four words each) doh_decode_region.
DOH_EXPORT(doh_wasm_decode)
int doh_wasm_decode(const void* data, uint32_t size, const uint64_t* limits, const char* kernel, const uint64_t* box, void* dst, uint32_t dst_size,
                    void* work, uint32_t work_size) {
  const doh_options options = options_of(limits, kernel);
  if (box == nullptr) return doh_decode(data, size, &options, dst, dst_size, work, work_size);
  doh_region region{};
  for (int t = 0; t < DOH_MAX_DIMS; ++t) {
    region.grid[t] = box[t];
    region.offset[t] = box[DOH_MAX_DIMS + t];
    region.extent[t] = box[2 * DOH_MAX_DIMS + t];
  }
  return doh_decode_region(data, size, &options, &region, dst, dst_size, work, work_size);
}

DOH_EXPORT(doh_wasm_error_name) const char* doh_wasm_error_name(int error) { return doh_error_name(error); }
DOH_EXPORT(doh_wasm_error_text) const char* doh_wasm_error_text(int error) { return doh_error_text(error); }
DOH_EXPORT(doh_wasm_version) const char* doh_wasm_version() { return doh_version(); }
