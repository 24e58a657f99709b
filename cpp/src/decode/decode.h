// The decoder's spine: file -> for each network: codes -> network -> samples.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "decode/cancel.h"
#include "decode/parallel.h"
#include "decode/workspace.h"
#include "format/header.h"
#include "net/kernels.h"
#include "net/network.h"

namespace doh {

// Some threads for one network after the other. The first of them is the caller's if the team `asks`.
struct Team {
  uint32_t threads;
  bool asks;
  Cancel& cancel;

  // work(thread, asks) for each of `count` threads; the caller is asked while his own waits, too.
  template <class Work>
  void share(uint32_t count, Work&& work) const {
    auto run = [&](uint32_t thread, bool own) { work(thread, asks && own); };
    if (asks && cancel.possible())
      parallel(count, run, [&] { cancel.wanted(true); });
    else
      parallel(count, run);
  }
};

// Reads the codes of a part and makes its network, all in `space`. The network refers to the part.
[[nodiscard]] Status load_network(const Part& part, const ModelSpace& space, const Kernel& kernel, const Team& team, Network& net);

// Reads and checks a file and judges it against the limits for its default grid.
[[nodiscard]] Status open_file(std::span<const uint8_t> data, const doh_options* options, File& file);

// Decodes a box of a grid (NULL: the default grid, then the samples' checksum is compared) into `samples`, row-major, channels last.
[[nodiscard]] Status decode(std::span<const uint8_t> data, const doh_options* options, const doh_region* region, std::span<uint8_t> samples,
                            std::span<uint8_t> workspace);

// What a decode of `region` (NULL: the default grid) of a checked file takes, within the limits: bytes of workspace, bytes of samples.
[[nodiscard]] Status decode_needs(const File& file, const doh_options* options, const doh_region* region, size_t& workspace, uint64_t& samples);

// CRC-32C of decoded samples in their canonical, little-endian form.
uint32_t samples_crc(const Header& h, std::span<const uint8_t> samples);

}  // namespace doh
