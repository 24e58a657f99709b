// doh-decode: a .doh file -> PPM, PGM, PAM or raw samples. Uses the public C interface only.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#ifdef _WIN32
#include <io.h>
#else
#include <unistd.h>
#endif

#include "doh.h"

namespace {

constexpr const char* kUsage =
    "usage: doh-decode IN.doh OUT [--scale N[/D]] [--crop X,Y,W,H] [--kernel NAME]\n"
    "\n"
    "Decodes IN.doh. The name of OUT says the form of the samples:\n"
    "  .ppm  image of 3 channels, .pgm  image of 1 channel, .pam  image of 1 to 4 channels (16-bit samples are big-endian, as these formats ask)\n"
    "  .raw  any signal: samples row-major, channels last, 16-bit samples little-endian\n"
    "\n"
    "  --scale N[/D]     zoom every dimension by N/D, such as 8 or 3/2\n"
    "  --crop X,Y,W,H    only this part of an image, in pixels of the unscaled image\n"
    "  --kernel NAME     the kernel to decode with; the samples do not depend on it\n"
    "  --help, --version\n"
    "\n"
    "OUT is written under another name and renamed when it is complete. Exit status: 0, or 1 after one line of what went wrong.\n";

constexpr uint64_t kMaxSamples = uint64_t{1} << 30;  // the decoder's default limit, here before a buffer is made

// What the user asked for wrongly, or what the system refused; main prints it.
struct Failure {
  std::string message;
};

struct Request {
  std::string in, out;
  uint64_t scale = 1, scale_divisor = 1;
  std::optional<std::vector<uint64_t>> crop;  // x, y, width, height
  std::string kernel;
};

// Numbers separated by `separator`, each at most 2^31 - 1.
std::vector<uint64_t> numbers(std::string_view text, char separator, const std::string& option) {
  std::vector<uint64_t> values;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    uint64_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value > 0x7FFFFFFF) throw Failure{option + ": not a number from 0 to 2147483647 in '" + std::string(text) + "'"};
    values.push_back(value);
    if (next == end) return values;
    if (*next != separator) throw Failure{option + ": cannot read '" + std::string(text) + "'"};
    at = next + 1;
  }
}

void parse_option(Request& request, const std::string& option, const std::string& value) {
  if (option == "--scale") {
    const auto parts = numbers(value, '/', option);
    if (parts.size() > 2 || std::count(parts.begin(), parts.end(), 0u) > 0) throw Failure{"--scale takes a positive number N or fraction N/D"};
    request.scale = parts[0];
    request.scale_divisor = parts.size() == 2 ? parts[1] : 1;
  } else if (option == "--crop") {
    request.crop = numbers(value, ',', option);
    if (request.crop->size() != 4) throw Failure{"--crop takes four numbers: X,Y,W,H"};
  } else if (option == "--kernel") {
    request.kernel = value;
  } else {
    throw Failure{"unknown option " + option + " (see --help)"};
  }
}

Request parse(int argc, char** argv) {
  Request request;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.size() < 2 || word[0] != '-') {
      files.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    if (equals == std::string::npos && i + 1 == argc) throw Failure{"unknown option " + word + ", or its value is missing (see --help)"};
    parse_option(request, word.substr(0, equals), equals == std::string::npos ? argv[++i] : word.substr(equals + 1));
  }
  if (files.size() != 2) throw Failure{"two file names are needed: IN.doh and OUT (see --help)"};
  request.in = files[0];
  request.out = files[1];
  return request;
}

std::vector<uint8_t> read_file(const std::string& name) {
  std::FILE* const file = std::fopen(name.c_str(), "rb");
  if (file == nullptr) throw Failure{"cannot open " + name + ": " + std::strerror(errno)};
  std::vector<uint8_t> data;
  size_t got = 1;
  while (got > 0) {
    const size_t size = data.size();
    data.resize(size + (size_t{1} << 16));
    got = std::fread(data.data() + size, 1, data.size() - size, file);
    data.resize(size + got);
  }
  const bool failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) throw Failure{"cannot read " + name};
  return data;
}

// Bytes on the disk under the final name, or no change at all.
void write_file(const std::string& name, const std::string& head, const std::vector<uint8_t>& body) {
  const std::string temporary = name + "." + std::to_string(std::random_device{}()) + ".tmp";
  std::FILE* const file = std::fopen(temporary.c_str(), "wbx");
  if (file == nullptr) throw Failure{"cannot write " + temporary + ": " + std::strerror(errno)};
  bool good = std::fwrite(head.data(), 1, head.size(), file) == head.size() && std::fwrite(body.data(), 1, body.size(), file) == body.size();
  good = std::fflush(file) == 0 && good;
#ifdef _WIN32
  good = _commit(_fileno(file)) == 0 && good;
#else
  good = fsync(fileno(file)) == 0 && good;
#endif
  good = std::fclose(file) == 0 && good;
  std::error_code error;
  if (good) std::filesystem::rename(temporary, name, error);
  if (good && !error) return;
  const std::string why = error ? error.message() : std::strerror(errno);
  std::filesystem::remove(temporary, error);
  throw Failure{"cannot write " + name + ": " + why};
}

void check(int status) {
  if (status != DOH_OK) throw Failure{std::string(doh_error_name(status)) + ": " + doh_error_text(status)};
}

// n * scale, rounded to the nearest integer, halves up.
uint64_t scaled(const Request& request, uint64_t n) { return (2 * n * request.scale + request.scale_divisor) / (2 * request.scale_divisor); }

// The box that a request names: the whole signal, or its crop, on the scaled grid.
doh_region region_of(const Request& request, const doh_info& info) {
  doh_region region{};
  if (request.crop && info.dims != 2) throw Failure{"--crop is for signals of two dimensions"};
  for (uint32_t t = 0; t < info.dims; ++t) {
    const uint64_t grid = std::max<uint64_t>(1, scaled(request, info.shape[t]));
    if (grid > 0x7FFFFFFF) throw Failure{"--scale makes the grid too large"};
    uint64_t first = 0, end = grid;
    if (request.crop) {
      const uint64_t start = (*request.crop)[1 - t], size = (*request.crop)[3 - t];
      if (size == 0 || start + size > info.shape[t]) throw Failure{"the crop is not inside the image"};
      first = std::min(scaled(request, start), grid - 1);
      end = std::min(std::max(scaled(request, start + size), first + 1), grid);
    }
    region.grid[t] = grid;
    region.offset[t] = first;
    region.extent[t] = end - first;
  }
  return region;
}

enum class Form { kRaw, kPgm, kPpm, kPam };

Form form_of(const std::string& name, const doh_info& info) {
  const std::string extension = std::filesystem::path(name).extension().string();
  if (extension == ".raw") return Form::kRaw;
  const Form form = extension == ".pgm" ? Form::kPgm : extension == ".ppm" ? Form::kPpm : Form::kPam;
  if (form == Form::kPam && extension != ".pam") throw Failure{"OUT must end in .ppm, .pgm, .pam or .raw"};
  if (info.dims != 2 || info.sample_type == DOH_S16) throw Failure{"this signal is no image of unsigned samples: OUT must end in .raw"};
  if (form == Form::kPgm && info.channels != 1) throw Failure{"a .pgm has 1 channel and this image does not: use .ppm, .pam or .raw"};
  if (form == Form::kPpm && info.channels != 3) throw Failure{"a .ppm has 3 channels and this image does not: use .pgm, .pam or .raw"};
  if (info.channels > 4) throw Failure{"an image of more than 4 channels: OUT must end in .raw"};
  return form;
}

std::string head_of(Form form, const doh_info& info, const doh_region& region) {
  if (form == Form::kRaw) return "";
  const std::string width = std::to_string(region.extent[1]), height = std::to_string(region.extent[0]);
  const std::string top = info.sample_type == DOH_U1 ? "1" : info.sample_type == DOH_U8 ? "255" : "65535";
  if (form != Form::kPam) return (form == Form::kPgm ? "P5\n" : "P6\n") + width + " " + height + "\n" + top + "\n";
  constexpr const char* kTupleTypes[] = {"GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"};
  return "P7\nWIDTH " + width + "\nHEIGHT " + height + "\nDEPTH " + std::to_string(info.channels) + "\nMAXVAL " + top + "\nTUPLTYPE " +
         kTupleTypes[info.channels - 1] + "\nENDHDR\n";
}

void run(const Request& request) {
  const std::vector<uint8_t> data = read_file(request.in);
  doh_options options{};
  options.kernel = request.kernel.empty() ? nullptr : request.kernel.c_str();
  doh_options header_only = options;  // the default grid may be beyond limits that the box keeps; the decoder judges the box
  header_only.max_samples = uint64_t{1} << 40;
  header_only.max_work = UINT64_MAX;
  doh_info info;
  check(doh_read_info(data.data(), data.size(), &header_only, &info));
  const Form form = form_of(request.out, info);
  const doh_region region = region_of(request, info);
  const bool whole = std::equal(region.extent, region.extent + info.dims, info.shape) && std::equal(region.grid, region.grid + info.dims, info.shape);

  uint64_t samples_count = info.channels;
  for (uint32_t t = 0; t < info.dims; ++t) {
    samples_count *= region.extent[t];  // below 2^61
    if (samples_count > kMaxSamples) check(DOH_LIMIT_SAMPLES);
  }
  size_t work_size = 0;
  check(doh_workspace_size(&info, &options, &work_size));
  std::vector<uint8_t> samples(static_cast<size_t>(samples_count * info.bytes_per_sample)), work(work_size);
  check(whole ? doh_decode(data.data(), data.size(), &options, samples.data(), samples.size(), work.data(), work.size())
              : doh_decode_region(data.data(), data.size(), &options, &region, samples.data(), samples.size(), work.data(), work.size()));

  const bool file_is_little = form == Form::kRaw;
  if (info.bytes_per_sample == 2 && file_is_little != (std::endian::native == std::endian::little))
    for (size_t i = 0; i + 1 < samples.size(); i += 2) std::swap(samples[i], samples[i + 1]);
  write_file(request.out, head_of(form, info, region), samples);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") return std::fputs(kUsage, stdout) < 0;
    if (word == "--version") return std::printf("doh-decode %s, file format %d\n", doh_version(), DOH_FORMAT_VERSION) < 0;
  }
  try {
    run(parse(argc, argv));
    return 0;
  } catch (const Failure& failure) {
    std::fprintf(stderr, "doh-decode: %s\n", failure.message.c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "doh-decode: not enough memory\n");
  }
  return 1;
}
