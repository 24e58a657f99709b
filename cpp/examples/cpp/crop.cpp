// Decodes a part of a .doh image at four times its resolution to a PPM: crop IN.doh OUT.ppm X Y WIDTH HEIGHT, in pixels of the image as it is.
// A file is a function of the coordinates: the work is that of the pixels asked for, wherever they lie and however fine they are.
#include <doh.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::uint64_t kZoom = 4;

void check(int error) {
  if (error != DOH_OK) throw std::runtime_error(std::string(doh_error_name(error)) + ": " + doh_error_text(error));
}

struct Crop {
  std::uint64_t x, y, width, height;
};

void run(const std::string& in, const std::string& out, const Crop& crop) {
  std::ifstream input(in, std::ios::binary);
  if (!input) throw std::runtime_error("cannot read " + in);
  const std::vector<char> data{std::istreambuf_iterator<char>(input), {}};

  doh_options any_size{};  // of the whole image: what is decoded is judged by the usual limits
  any_size.max_samples = any_size.max_work = UINT64_MAX;
  doh_info info;
  check(doh_read_info(data.data(), data.size(), &any_size, &info));
  if (info.dims != 2 || info.channels != 3 || info.sample_type != DOH_U8) throw std::runtime_error(in + " is no image of three 8-bit channels");

  doh_region region{};
  const std::uint64_t first[2] = {crop.y, crop.x}, size[2] = {crop.height, crop.width};  // slowest dimension first
  for (int t = 0; t < 2; ++t) {
    if (size[t] == 0 || size[t] > info.shape[t] || first[t] > info.shape[t] - size[t]) throw std::runtime_error("the crop is not inside the image");
    region.grid[t] = kZoom * info.shape[t];
    region.offset[t] = kZoom * first[t];
    region.extent[t] = kZoom * size[t];
  }
  std::size_t work_size = 0;
  check(doh_workspace_size(&info, nullptr, &work_size));
  std::vector<unsigned char> samples(static_cast<std::size_t>(region.extent[0] * region.extent[1] * info.channels)), work(work_size);
  check(doh_decode_region(data.data(), data.size(), nullptr, &region, samples.data(), samples.size(), work.data(), work.size()));

  std::ofstream output(out, std::ios::binary);
  output << "P6\n" << region.extent[1] << " " << region.extent[0] << "\n255\n";
  output.write(reinterpret_cast<const char*>(samples.data()), static_cast<std::streamsize>(samples.size()));
  if (!output.flush()) throw std::runtime_error("cannot write " + out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::cerr << "usage: crop IN.doh OUT.ppm X Y WIDTH HEIGHT\n";
    return 2;
  }
  try {
    run(argv[1], argv[2], {std::stoull(argv[3]), std::stoull(argv[4]), std::stoull(argv[5]), std::stoull(argv[6])});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "crop: " << error.what() << "\n";
    return 1;
  }
}
