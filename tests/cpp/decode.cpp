// Tests of cpp/src/decode and of the C interface: regions, limits, errors, buffers, damage.
#include <algorithm>
#include <cstring>

#include "check.h"
#include "decode/box.h"
#include "decode/decode.h"
#include "decode/limits.h"
#include "decode/tiles.h"
#include "format/read.h"
#include "net/kernels.h"
#include "sample.h"

namespace {

doh_options limit(uint64_t doh_options::* field, uint64_t value) {
  doh_options options{};
  options.*field = value;
  return options;
}

}  // namespace

TEST(regions_are_crops_of_whole_grids) {
  Random random(7);
  const std::vector<std::vector<uint64_t>> grids = {{1},      {63},     {64},       {65},       {300},        {1, 1},       {130, 3},
                                                    {3, 130}, {70, 70}, {5, 6, 80}, {33, 2, 4}, {3, 4, 5, 6}, {1, 70, 1, 2}};
  for (size_t i = 0; i < grids.size(); ++i)
    for (const uint32_t type : {DOH_U8, DOH_S16}) {
      const auto& grid = grids[i];
      Sample sample(i + 1, std::vector<uint64_t>(grid.size(), 10), static_cast<uint32_t>(random.in(1, 4)), 7, 2, 3, 60, DOH_TIED, type);
      const Bytes file = sample.write();
      const auto dims = static_cast<uint32_t>(grid.size());
      doh_region all{};
      for (uint32_t t = 0; t < dims; ++t) all.grid[t] = all.extent[t] = grid[t];
      const Decoded whole = decode(file, &all);
      CHECK_EQ(whole.error, DOH_OK);
      for (int round = 0; round < 12; ++round) {
        doh_region region = all;
        for (uint32_t t = 0; t < dims; ++t) {
          region.offset[t] = static_cast<uint64_t>(random.in(0, static_cast<int64_t>(grid[t]) - 1));
          region.extent[t] = static_cast<uint64_t>(random.in(1, static_cast<int64_t>(grid[t] - region.offset[t])));
        }
        const Decoded part = decode(file, &region);
        CHECK_EQ(part.error, DOH_OK);
        CHECK(part.samples == cut(whole.samples, region, dims, sample.model.channels * (type == DOH_S16 ? 2 : 1)));
      }
    }
}

TEST(any_split_of_the_tiles_gives_the_same_samples) {
  Sample sample(3, {40, 100}, 3, 6, 2, 2, 50);
  const Bytes bytes = sample.write();
  doh::File file;
  CHECK_EQ(doh::read_file(bytes, file), DOH_OK);
  const doh::Box box = doh::whole_grid(file.header);
  const doh::Tiling tiling(box, box);
  CHECK_EQ(tiling.tiles, 80u);
  std::vector<uint8_t> work(doh::workspace_bytes(file.header.sizes(), 1));
  doh::Arena arena(work);
  const doh::ModelSpace model_space(file.header.sizes(), arena);
  const doh::TileSpace tile_space(file.header.sizes(), arena);
  const doh::Kernel& kernel = *doh::find_kernel("scalar");
  doh::PartReader reader(file);
  CHECK_EQ(reader.next(), DOH_OK);
  doh::Network net;
  doh::Cancel cancel(nullptr);
  CHECK_EQ(doh::load_network(reader.part(), model_space, kernel, {1, true, cancel}, net), DOH_OK);
  Bytes whole(12000), parts(12000);
  doh::decode_tiles({net, box, tiling, kernel, whole.data(), cancel}, tile_space, 0, tiling.tiles, true);
  for (uint64_t step : {1u, 7u, 41u}) {
    std::fill(parts.begin(), parts.end(), uint8_t{0xAA});
    for (uint64_t last = tiling.tiles; last > 0;) {  // backwards
      const uint64_t first = last > step ? last - step : 0;
      doh::decode_tiles({net, box, tiling, kernel, parts.data(), cancel}, tile_space, first, last, true);
      last = first;
    }
    CHECK(parts == whole);
  }
}

TEST(threads_and_kernels_change_nothing) {
  for (const uint32_t generator : {DOH_TIED, DOH_DENSE}) {
    Sample sample(generator + 5, {37, 150}, 3, 11, 3, 4, 300, generator, DOH_U16);
    const Bytes file = sealed(sample);
    const Decoded alone = decode(file);
    CHECK_EQ(alone.error, DOH_OK);
    for (const doh::Kernel& kernel : doh::all_kernels())
      for (const uint32_t threads : {0u, 1u, 2u, 3u, 16u, 1000u}) {
        if (!kernel.available()) continue;
        doh_options options{};
        options.kernel = kernel.name;
        options.threads = threads;
        const Decoded many = decode(file, nullptr, &options);
        CHECK_EQ(many.error, DOH_OK);
        CHECK(many.samples == alone.samples);
      }
  }
}

TEST(a_box_of_the_largest_grid) {
  Sample sample(2, {9, 9}, 1, 4, 2, 16, 20);
  const Bytes file = sample.write();
  const uint64_t most = 0x7FFFFFFF;
  const doh_region corner{{most, most, 0, 0}, {most - 3, most - 70, 0, 0}, {3, 70, 0, 0}};
  CHECK_EQ(decode(file, &corner).error, DOH_OK);
}

TEST(the_samples_checksum_is_compared) {
  for (const uint32_t type : {DOH_U1, DOH_U8, DOH_U16, DOH_S16}) {
    Sample sample(type + 1, {20, 30}, 2, 5, 2, 2, 40, DOH_DENSE, type);
    Bytes file = sealed(sample);
    CHECK_EQ(decode(file).error, DOH_OK);
    file[file.size() - 6] ^= 1;
    seal(file);
    CHECK_EQ(decode(file).error, DOH_BAD_SAMPLES);
    const doh_region whole = whole_region(sample);
    CHECK_EQ(decode(file, &whole).error, DOH_OK);
  }
}

TEST(limits_stop_a_decode) {
  Sample sample(1, {10, 20}, 3, 8, 2, 2, 50);  // D = 80 + 64 + 24 = 168, 600 samples
  const Bytes file = sealed(sample);
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(info.weights, 168u);
  CHECK_EQ(info.work, 4u * 50 + 200 * (168 + 16 * 16));
  size_t memory = 0;
  CHECK_EQ(doh_workspace_size(&info, nullptr, &memory), DOH_OK);
  const struct {
    uint64_t doh_options::* field;
    uint64_t enough;
    int error;
  } cases[] = {{&doh_options::max_samples, 600, DOH_LIMIT_SAMPLES},
               {&doh_options::max_latents, 50, DOH_LIMIT_LATENTS},
               {&doh_options::max_weights, 168, DOH_LIMIT_WEIGHTS},
               {&doh_options::max_work, info.work, DOH_LIMIT_WORK},
               {&doh_options::max_memory, memory, DOH_LIMIT_MEMORY}};
  for (const auto& c : cases) {
    const doh_options enough = limit(c.field, c.enough), less = limit(c.field, c.enough - 1);
    CHECK_EQ(decode(file, nullptr, &enough).error, DOH_OK);
    CHECK_EQ(doh_read_info(file.data(), file.size(), &less, &info), c.error);
    std::vector<uint8_t> samples(600), work(memory);
    CHECK_EQ(doh_decode(file.data(), file.size(), &less, samples.data(), samples.size(), work.data(), work.size()), c.error);
  }
}

TEST(default_limits) {
  Bytes file;
  doh_info info;
  auto read = [&](Sample sample) {
    CHECK_EQ(sample.try_write(file), DOH_OK);
    return doh_read_info(file.data(), file.size(), nullptr, &info);
  };
  CHECK_EQ(read(Sample(1, {1 << 30}, 1, 1, 1, 0, 1)), DOH_OK);
  CHECK_EQ(read(Sample(1, {(1 << 30) + 1}, 1, 1, 1, 0, 1)), DOH_LIMIT_SAMPLES);
  CHECK_EQ(read(Sample(1, {1}, 1, 1, 1, 0, (1 << 20) + 1)), DOH_LIMIT_LATENTS);
  CHECK_EQ(read(Sample(1, {1}, 1, 1024, 2, 0, 1)), DOH_LIMIT_WEIGHTS);
  CHECK_EQ(read(Sample(1, {1 << 30}, 1, 100, 2, 0, 1)), DOH_LIMIT_WORK);
  CHECK_EQ(read(Sample(1, {1}, 1, 600, 3, 0, 1 << 20)), DOH_OK);
  CHECK_EQ(read(Sample(1, {1 << 30}, 1, 5, 39, 0, 1)), DOH_OK);
  CHECK_EQ(read(Sample(1, {1 << 30}, 1, 5, 40, 0, 1)), DOH_LIMIT_WORK);      // by its sines
  CHECK_EQ(read(Sample(1, {1}, 1, 510, 2, 0, 1 << 20, DOH_DENSE)), DOH_OK);  // 2^38 entries of the matrix
  CHECK_EQ(read(Sample(1, {1}, 1, 512, 2, 0, 1 << 20, DOH_DENSE)), DOH_LIMIT_WORK);
}

TEST(regions_are_judged_by_their_own_size) {
  Sample sample(1, {1 << 20, 1 << 20}, 1, 3, 1, 0, 5);
  const Bytes file = sample.write();
  CHECK_EQ(decode(file).error, DOH_LIMIT_SAMPLES);
  doh_region region{{1 << 20, 1 << 20, 0, 0}, {5, 1000000, 0, 0}, {4, 3, 0, 0}};
  CHECK_EQ(decode(file, &region).error, DOH_OK);

  std::vector<uint8_t> samples(12), work(1 << 16);
  auto decode_box = [&](const doh_region& box) {
    return doh_decode_region(file.data(), file.size(), nullptr, &box, samples.data(), samples.size(), work.data(), work.size());
  };
  const uint64_t most = 0x7FFFFFFF;
  CHECK_EQ(decode_box({{most, most, 0, 0}, {}, {most, most, 0, 0}}), DOH_LIMIT_SAMPLES);
  for (const doh_region& bad :
       {doh_region{{0, 5, 0, 0}, {}, {1, 1, 0, 0}}, doh_region{{5, 5, 0, 0}, {}, {1, 0, 0, 0}}, doh_region{{5, 5, 0, 0}, {}, {1, 6, 0, 0}},
        doh_region{{5, 5, 0, 0}, {0, 5, 0, 0}, {1, 1, 0, 0}}, doh_region{{5, 5, 0, 0}, {3, 0, 0, 0}, {3, 1, 0, 0}},
        doh_region{{most + 1, 5, 0, 0}, {}, {1, 1, 0, 0}}, doh_region{{5, 5, 0, 0}, {UINT64_MAX, 0, 0, 0}, {2, 1, 0, 0}}})
    CHECK_EQ(decode_box(bad), DOH_BAD_ARGUMENT);
}

TEST(sizes_of_2_to_the_64_and_more_are_over_the_limits) {
  Sample flat(1, {4, 4, 4, 4}, 1, 3, 1, 0, 5), stereo(1, {4, 4, 4}, 2, 3, 1, 0, 5);
  doh_options all{};
  all.max_samples = all.max_work = UINT64_MAX;
  std::vector<uint8_t> samples(16), work(1 << 16);
  MosaicSample flats = MosaicSample::random(3, {2, 1, 2, 1}, flat), stereos = MosaicSample::random(3, {2, 2, 2}, stereo);
  for (const Bytes& file : {flat.write(), stereo.write(), sealed(flats), sealed(stereos)})
    for (const uint64_t side : {uint64_t{1} << 16, uint64_t{1} << 21, uint64_t{0x7FFFFFFF}}) {  // 2^64 samples in 4 dimensions, then in 3
      const doh_region region{{side, side, side, side}, {}, {side, side, side, side}};
      for (const doh_options* options : {static_cast<const doh_options*>(nullptr), static_cast<const doh_options*>(&all)})
        CHECK_EQ(doh_decode_region(file.data(), file.size(), options, &region, samples.data(), samples.size(), work.data(), work.size()),
                 DOH_LIMIT_SAMPLES);
    }
}

TEST(arguments_are_checked) {
  Sample sample(1, {4}, 1, 3, 1, 0, 5, DOH_TIED, DOH_U16);
  const Bytes file = sealed(sample);
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(info.samples_bytes, 8u);
  size_t size = 0;
  CHECK_EQ(doh_workspace_size(&info, nullptr, &size), DOH_OK);
  std::vector<uint8_t> out(9), work(size + 1);
  auto run = [&](const void* data, void* dst, size_t dst_size, void* space, size_t space_size, const doh_options* options = nullptr) {
    return doh_decode(data, file.size(), options, dst, dst_size, space, space_size);
  };
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size), DOH_OK);
  CHECK_EQ(run(file.data(), out.data() + 1, 8, work.data() + 1, size), DOH_OK);  // any alignment
  CHECK_EQ(run(file.data(), out.data(), 7, work.data(), size), DOH_BUFFER_TOO_SMALL);
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size - 1), DOH_WORKSPACE_TOO_SMALL);
  CHECK_EQ(run(nullptr, out.data(), 8, work.data(), size), DOH_BAD_ARGUMENT);
  CHECK_EQ(run(file.data(), nullptr, 8, work.data(), size), DOH_BAD_ARGUMENT);
  CHECK_EQ(run(file.data(), out.data(), 8, nullptr, size), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_read_info(nullptr, 5, nullptr, &info), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_read_info(nullptr, 0, nullptr, &info), DOH_TRUNCATED);
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, nullptr), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_workspace_size(nullptr, nullptr, &size), DOH_BAD_ARGUMENT);
  CHECK_EQ(doh_decode_region(file.data(), file.size(), nullptr, nullptr, out.data(), 8, work.data(), size), DOH_BAD_ARGUMENT);

  doh_options options{};
  options.kernel = "none such";
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size, &options), DOH_UNKNOWN_KERNEL);
#ifndef _WIN32
  setenv("DOH_KERNEL", "none such", 1);
  options.kernel = nullptr;
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size, &options), DOH_UNKNOWN_KERNEL);
  options.kernel = "";  // the fastest, without a look at the environment
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size, &options), DOH_OK);
  unsetenv("DOH_KERNEL");
#endif
  options.kernel = "scalar";
  options.threads = 4;  // each needs room of its own
  size_t more = 0;
  CHECK_EQ(doh_workspace_size(&info, &options, &more), DOH_OK);
  CHECK(more > size);
  work.resize(more + 1);
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), more, &options), DOH_OK);
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), more - 1, &options), DOH_WORKSPACE_TOO_SMALL);
  options.threads = 1;
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size, &options), DOH_OK);
  options.reserved[3] = 1;
  CHECK_EQ(run(file.data(), out.data(), 8, work.data(), size, &options), DOH_BAD_ARGUMENT);

  doh_info forged = info;
  forged.width = 2000;
  CHECK_EQ(doh_workspace_size(&forged, nullptr, &size), DOH_BAD_ARGUMENT);
  forged = {};
  CHECK_EQ(doh_workspace_size(&forged, nullptr, &size), DOH_BAD_ARGUMENT);
  forged = info;
  forged.part_weights = (1 << 24) + 1;
  CHECK_EQ(doh_workspace_size(&forged, nullptr, &size), DOH_BAD_ARGUMENT);
  options = {};
  options.threads = 4;
  size_t four = 0, many = 0;
  forged = info;
  forged.parts[0] = 4;
  CHECK_EQ(doh_workspace_size(&forged, &options, &four), DOH_OK);
  for (uint32_t& boxes : forged.parts) boxes = 1 << 16;  // 2^64 in all
  CHECK_EQ(doh_workspace_size(&forged, &options, &many), DOH_OK);
  CHECK(four > more && many == four);
}

TEST(errors_have_names_and_texts) {
  CHECK_EQ(std::string(doh_error_name(DOH_OK)), "OK");
  CHECK_EQ(std::string(doh_error_name(DOH_BAD_MAGIC)), "BAD_MAGIC");
  CHECK_EQ(std::string(doh_error_name(DOH_UNKNOWN_KERNEL)), "UNKNOWN_KERNEL");
  CHECK_EQ(std::string(doh_error_name(DOH_CANCELLED)), "CANCELLED");
  CHECK_EQ(std::string(doh_error_name(1)), "UNKNOWN");
  CHECK_EQ(std::string(doh_error_name(-1000)), "UNKNOWN");
  CHECK_EQ(std::string(doh_error_text(DOH_BAD_MAGIC)), "this is not a .doh file");
  CHECK(std::strlen(doh_error_text(12345)) > 0);
  CHECK_EQ(std::string(doh_version()), DOH_VERSION);
}

TEST(nothing_outside_the_buffers_is_written) {
  Sample sample(1, {7, 9}, 3, 5, 2, 1, 30);
  const Bytes file = sealed(sample);
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  size_t size = 0;
  CHECK_EQ(doh_workspace_size(&info, nullptr, &size), DOH_OK);
  for (size_t shift = 0; shift < 64; shift += 7) {
    std::vector<uint8_t> out(info.samples_bytes + 128, 0x5A), work(size + 128, 0x5A);
    CHECK_EQ(doh_decode(file.data(), file.size(), nullptr, out.data() + shift, info.samples_bytes, work.data() + shift, size), DOH_OK);
    auto untouched = [&](const std::vector<uint8_t>& memory, size_t used) {
      for (size_t i = 0; i < memory.size(); ++i)
        if ((i < shift || i >= shift + used) && memory[i] != 0x5A) return false;
      return true;
    };
    CHECK(untouched(out, info.samples_bytes));
    CHECK(untouched(work, size));
  }
}

TEST(every_bit_flip_and_truncation_is_found) {
  Sample sample(1, {6, 5}, 3, 4, 2, 2, 20);
  MosaicSample mosaic = MosaicSample::random(1, {2, 1}, sample);
  for (const Bytes& file : {sealed(sample), sealed(mosaic)}) {
    for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
      Bytes damaged = file;
      damaged[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      const int e = decode(damaged).error;
      CHECK(e == DOH_BAD_CHECKSUM || e == DOH_BAD_MAGIC || e == DOH_BAD_VERSION);
    }
    for (size_t length = 0; length < file.size(); ++length)
      CHECK_EQ(decode(Bytes(file.begin(), file.begin() + static_cast<Bytes::difference_type>(length))).error,
               length < 32 ? DOH_TRUNCATED : DOH_BAD_CHECKSUM);
  }
}

// An attacker signs again: whatever the bytes say, a decode ends in samples or a named error, inside its buffers.
TEST(damage_with_a_right_checksum_is_harmless) {
  Random random(8);
  doh_options options{};
  options.max_samples = 1 << 14;
  options.max_work = 1 << 22;
  options.max_memory = 1 << 20;
  std::vector<int> seen(64, 0);
  std::vector<Bytes> files;
  for (const uint32_t generator : {DOH_TIED, DOH_DENSE}) {
    Sample sample(generator + 1, {6, 5}, 3, 4, 2, 2, 20, generator);
    MosaicSample mosaic = MosaicSample::random(generator, {2, 2}, sample);
    files.push_back(sealed(sample));
    files.push_back(sealed(mosaic));
  }
  for (const Bytes& file : files) {
    options.threads = file[4] == 2 ? 2 : 1;
    for (int round = 0; round < 6000; ++round) {
      Bytes damaged = file;
      const int kind = round % 3;
      const auto changes = static_cast<size_t>(random.in(1, 3));
      for (size_t i = 0; i < changes; ++i) {
        const int32_t place = random.in(5, static_cast<int64_t>(file.size()) - 9);
        damaged[static_cast<size_t>(place)] = static_cast<uint8_t>(random.next());
      }
      if (kind == 1) damaged.resize(static_cast<size_t>(random.in(32, file[4] == 2 ? 150 : 60)));
      if (kind == 2) {
        const int32_t place = random.in(5, static_cast<int64_t>(file.size()) - 15);
        damaged.insert(damaged.begin() + place, static_cast<uint8_t>(random.next()));
      }
      seal(damaged);
      const int e = decode(damaged, nullptr, &options).error;
      CHECK(e <= 0 && e > -64 && std::strcmp(doh_error_name(e), "UNKNOWN") != 0);
      ++seen[static_cast<size_t>(-e)];
    }
  }
  for (const int error : {DOH_TRUNCATED, DOH_BAD_VARINT, DOH_BAD_SIGNAL, DOH_BAD_SHAPE, DOH_BAD_NETWORK, DOH_BAD_GENERATOR, DOH_BAD_SCALE,
                          DOH_BAD_CODES, DOH_BAD_SAMPLES, DOH_LIMIT_WORK})
    if (seen[static_cast<size_t>(-error)] == 0) CHECK_EQ(std::string(doh_error_name(error)), "seen");
}
