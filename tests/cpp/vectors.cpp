// Decodes the conformance vectors of a folder: `vectors FOLDER [KERNEL]`. FOLDER/valid/expected.tsv lists file, SHA-256 of the file, SHA-256 of its
// canonical samples; FOLDER/valid/regions.tsv lists file, grid, offset, extent, SHA-256 of the samples; FOLDER/invalid/expected.tsv lists file,
// error.
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "doh.h"
#include "known.h"
#include "sha256.h"

namespace {

using Bytes = std::vector<uint8_t>;

int failed = 0, checked = 0;
const char* kernel = nullptr;

void expect(const std::string& what, const std::string& got, const std::string& wanted) {
  ++checked;
  if (got == wanted) return;
  ++failed;
  std::fprintf(stderr, "%s: %s, not %s\n", what.c_str(), got.c_str(), wanted.c_str());
}

// "SHA-256 of the canonical samples" or the error's name.
std::string decode(const Bytes& file, const doh_region* region) {
  doh_options options{}, header_only{};
  options.kernel = kernel;
  if (region != nullptr) header_only.max_samples = header_only.max_work = UINT64_MAX;
  doh_info info;
  size_t work_size = 0;
  int e = doh_read_info(file.data(), file.size(), &header_only, &info);
  if (e == DOH_OK) e = doh_workspace_size(&info, &options, &work_size);
  if (e != DOH_OK) return doh_error_name(e);
  uint64_t bytes = uint64_t{info.channels} * info.bytes_per_sample;
  for (uint32_t t = 0; t < info.dims; ++t) bytes *= region != nullptr ? region->extent[t] : info.shape[t];
  Bytes samples(static_cast<size_t>(bytes)), work(work_size);
  e = region != nullptr ? doh_decode_region(file.data(), file.size(), &options, region, samples.data(), samples.size(), work.data(), work.size())
                        : doh_decode(file.data(), file.size(), &options, samples.data(), samples.size(), work.data(), work.size());
  if (e != DOH_OK) return doh_error_name(e);
  if (info.bytes_per_sample == 2 && std::endian::native == std::endian::big)
    for (size_t i = 0; i + 1 < samples.size(); i += 2) std::swap(samples[i], samples[i + 1]);
  return sha256(samples);
}

// Comma-separated numbers.
void parse(const std::string& text, uint64_t (&numbers)[DOH_MAX_DIMS]) {
  const char* at = text.c_str();
  for (size_t t = 0; t < DOH_MAX_DIMS && *at != '\0'; ++t) {
    char* end = nullptr;
    numbers[t] = std::strtoull(at, &end, 10);
    at = *end == ',' ? end + 1 : end;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: vectors FOLDER [KERNEL]\n");
    return 2;
  }
  if (argc == 3) {
    kernel = argv[2];
    doh_options options{};
    options.kernel = kernel;
    uint8_t byte = 0;  // the kernel is looked up before anything is read
    if (doh_decode(&byte, 1, &options, &byte, 1, &byte, 1) == DOH_UNKNOWN_KERNEL) {
      std::printf("SKIP: no kernel %s here\n", kernel);
      return 77;
    }
  }
  const std::string valid = std::string(argv[1]) + "/valid/", invalid = std::string(argv[1]) + "/invalid/";
  for (const auto& row : known_lines(valid + "expected.tsv")) {
    const Bytes file = read_file(valid + row.at(0));
    expect(row[0] + ", file", sha256(file), row.at(1));
    expect(row[0] + ", samples", decode(file, nullptr), row.at(2));
  }
  for (const auto& row : known_lines(valid + "regions.tsv")) {
    doh_region region{};
    parse(row.at(1), region.grid);
    parse(row.at(2), region.offset);
    parse(row.at(3), region.extent);
    expect(row[0] + ", region " + row[2] + " + " + row[3] + " of " + row[1], decode(read_file(valid + row[0]), &region), row.at(4));
  }
  for (const auto& row : known_lines(invalid + "expected.tsv")) expect(row.at(0), decode(read_file(invalid + row[0]), nullptr), row.at(1));
  std::printf("%d comparisons, %d failures\n", checked, failed);
  return failed != 0 || checked == 0;
}
