// Tests of format version 2: which part a point belongs to, the form of the file, what a decode reads of it.
#include <algorithm>

#include "base/bytes.h"
#include "check.h"
#include "decode/box.h"
#include "format/read.h"
#include "net/coordinates.h"
#include "net/kernels.h"
#include "sample.h"

using namespace doh;

namespace {

// A file written byte by byte, so that each of them can be wrong.
class Hand {
 public:
  // A grey array, no encoding, tied, seed 0.
  Hand(const std::vector<uint64_t>& shape, const std::vector<uint64_t>& parts) {
    for (const uint8_t byte : Bytes{0xD0, 0x48, 0x0D, 0x0A, 2, 0x10, static_cast<uint8_t>(shape.size())}) bytes.push_back(byte);
    for (const uint64_t points : shape) varint(points);
    for (const uint64_t boxes : parts) varint(boxes);
    for (int i = 0; i < 3; ++i) bytes.push_back(0);  // encoding, generator, seed
  }

  Hand& varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes.push_back(static_cast<uint8_t>(value | 128));
    bytes.push_back(static_cast<uint8_t>(value));
    return *this;
  }

  // The fields of a network with scales of zeros, and its payload; `length` is what its record says of itself, by default the truth.
  Hand& record(uint64_t width, uint64_t depth, uint64_t latents, const Bytes& payload = {}, int64_t longer = 0) {
    Hand fields({}, {});
    fields.bytes.clear();
    fields.varint(width).bytes.push_back(static_cast<uint8_t>(depth));
    fields.varint(latents).bytes.resize(fields.bytes.size() + 1 + (depth == 1 ? 6 : 9) + 3);
    fields.bytes.insert(fields.bytes.end(), payload.begin(), payload.end());
    varint(fields.bytes.size() + static_cast<uint64_t>(longer));
    bytes.insert(bytes.end(), fields.bytes.begin(), fields.bytes.end());
    return *this;
  }

  Bytes file() const {
    Bytes whole = bytes;
    whole.resize(whole.size() + 8);
    seal(whole);
    return whole;
  }

  int read() const {
    File parsed;
    return read_file(file(), parsed);
  }

  Bytes bytes;
};

Hand two_records(uint64_t parts = 2) { return Hand({10}, {parts}).record(3, 2, 10).record(2, 1, 7); }

doh_region line(uint64_t grid, uint64_t offset, uint64_t extent) { return {{grid, 0, 0, 0}, {offset, 0, 0, 0}, {extent, 0, 0, 0}}; }

}  // namespace

TEST(every_point_lies_in_the_part_that_its_coordinate_says) {
  for (uint32_t points = 1; points <= 64; ++points)
    for (uint32_t parts = 1; parts <= 70; ++parts) {
      std::vector<uint32_t> first(parts + 1, points);
      for (uint32_t i = points; i-- > 0;) {
        const uint64_t v = ((2 * uint64_t{i} + 1) << 31) / points * parts;
        for (uint32_t a = 0; a <= v >> 32; ++a) first[a] = i;
        CHECK_EQ(part_of(i, points, parts), static_cast<uint32_t>(v >> 32));
        CHECK_EQ(int64_t{coordinate(i, points, parts)}, static_cast<int64_t>(v % (uint64_t{1} << 32)) - (int64_t{1} << 31));
      }
      for (uint32_t a = 0; a <= parts; ++a) CHECK_EQ(first_index(a, parts, points), first[a]);
    }
  Random random(21);
  for (int round = 0; round < 200000; ++round) {
    const auto points = static_cast<uint32_t>(random.next() % kMaxExtent >> random.in(0, 30)) + 1;
    const auto parts = static_cast<uint32_t>(random.next() % kMaxParts >> random.in(0, 15)) + 1;
    const auto part = static_cast<uint32_t>(random.in(0, parts));
    const uint32_t first = first_index(part, parts, points);
    CHECK(first <= points && (first < points || part_of(points - 1, points, parts) < part));
    if (first < points) CHECK(part_of(first, points, parts) >= part);
    if (first > 0) CHECK(part_of(first - 1, points, parts) < part);
  }
  CHECK_EQ(first_index(65535, 65536, 0x7FFFFFFF), 0x7FFFFFFFu - 32768u);
  CHECK_EQ(part_of(0x7FFFFFFE, 0x7FFFFFFF, 65536), 65535u);
}

TEST(parts_tile_a_box) {
  Random random(22);
  for (int round = 0; round < 3000; ++round) {
    Box box;
    uint64_t count = 1;
    for (uint32_t t = 0; t < kMaxDims; ++t) {
      box.grid[t] = static_cast<uint32_t>(random.in(1, 9));
      box.offset[t] = static_cast<uint32_t>(random.in(0, box.grid[t] - 1));
      box.extent[t] = static_cast<uint32_t>(random.in(1, box.grid[t] - box.offset[t]));
      box.parts[t] = static_cast<uint32_t>(random.in(1, 6));
      count *= box.parts[t];
    }
    uint64_t points = 0, touched = 0;
    for (uint32_t i = 0; i < count; ++i) {
      Box piece;
      if (!box_of_part(box, i, piece)) continue;
      ++touched;
      points += piece.points();
      uint32_t rest = i;
      for (uint32_t t = kMaxDims; t-- > 0; rest /= box.parts[t])
        for (uint32_t at = 0; at < piece.extent[t]; ++at) CHECK_EQ(part_of(piece.offset[t] + at, box.grid[t], box.parts[t]), rest % box.parts[t]);
    }
    CHECK_EQ(points, box.points());
    CHECK(touched >= 1 && touched <= parts_of(box));
  }
}

TEST(mosaics_are_read_back) {
  MosaicSample sample = MosaicSample::random(1, {2, 1, 3}, Sample(3, {7, 200, 9}, 5, 20, 5, 6, 3000, DOH_TIED, DOH_S16, true));
  const Bytes bytes = sample.write();
  File file;
  CHECK_EQ(read_file(bytes, file), DOH_OK);
  CHECK_EQ(file.version, 2u);
  CHECK_EQ(file.part_count, 6u);
  doh_info info;
  CHECK_EQ(doh_read_info(bytes.data(), bytes.size(), nullptr, &info), DOH_OK);
  uint64_t latents = 0, weights = 0, most_weights = 0, payload = 0, work = 0;
  uint32_t width = 0, depth = 0, most_latents = 0;
  PartReader reader(file);
  for (size_t i = 0; i < 6; ++i) {
    CHECK_EQ(reader.next(), DOH_OK);
    const Part& part = reader.part();
    const Header& h = part.header;
    Sample& network = sample.networks[i];
    CHECK(h.shape == (std::array<uint32_t, 4>{7, 200, 9, 1}) && h.parts == (std::array<uint32_t, 4>{2, 1, 3, 1}));
    CHECK_EQ(h.seed, sample.model.seed);
    CHECK_EQ(h.channels, 5u);
    CHECK_EQ(h.width, network.model.width);
    CHECK_EQ(h.depth, network.model.depth);
    CHECK_EQ(h.flags, network.model.flags);
    CHECK_EQ(h.scale_count(), static_cast<uint32_t>(network.scales.size()));
    for (size_t s = 0; s < network.scales.size(); ++s) CHECK(h.scales[s].m == network.scales[s].m && h.scales[s].q == network.scales[s].q);
    std::vector<int16_t> codes(network.latents.size()), hidden(network.biases.size()), output(network.output_biases.size());
    CHECK_EQ(h.latents, static_cast<uint32_t>(codes.size()));
    CHECK_EQ(read_payload(part, codes, hidden, output), DOH_OK);
    CHECK(std::equal(codes.begin(), codes.end(), network.latents.begin()) && std::equal(hidden.begin(), hidden.end(), network.biases.begin()) &&
          std::equal(output.begin(), output.end(), network.output_biases.begin()));
    latents += h.latents;
    weights += h.weights();
    payload += part.payload.size();
    most_latents = std::max(most_latents, h.latents);
    most_weights = std::max(most_weights, h.weights());
    width = std::max(width, h.width);
    depth = std::max(depth, h.depth);
    const uint64_t points = (i < 3 ? 3 : 4) * 200 * 3;  // of the 7 the fourth lies on the border, which belongs to what comes after it
    work += (h.weights() + h.latents - 1) / h.latents * h.latents + points * (h.weights() + 16 * h.depth * h.width);
  }
  CHECK(file.totals.latents == latents && file.totals.weights == weights && file.part_weights == most_weights);
  CHECK(info.version == 2 && info.latents == latents && info.weights == weights && info.part_latents == most_latents);
  CHECK(info.part_weights == most_weights && info.width == width && info.depth == depth);
  CHECK(info.parts[0] == 2 && info.parts[1] == 1 && info.parts[2] == 3 && info.parts[3] == 1);
  CHECK(info.flags == 0 && info.latent_shift == 0 && info.bias_shift == 0);
  CHECK_EQ(info.payload_bytes, payload);
  CHECK_EQ(info.header_bytes + payload + 8, bytes.size());
  CHECK_EQ(info.work, work);
  struct Word {
    uint64_t word;
  };
  static_assert(sizeof(doh_info) == (alignof(Word) == 4 ? 220 : 224));  // as in every version of the library; 32-bit x86 aligns words to 4
}

TEST(parts_out_of_range) {
  CHECK_EQ(two_records().read(), DOH_OK);
  CHECK_EQ(two_records(0).read(), DOH_BAD_SHAPE);
  CHECK_EQ(two_records(1).read(), DOH_BAD_SHAPE);
  CHECK_EQ(two_records(3).read(), DOH_TRUNCATED);
  CHECK_EQ(two_records(10).read(), DOH_TRUNCATED);
  CHECK_EQ(two_records(11).read(), DOH_BAD_SHAPE);
  CHECK_EQ(two_records(UINT64_MAX).read(), DOH_BAD_SHAPE);
  auto error = [](const std::vector<uint64_t>& parts) { return Hand({70000, 1000}, parts).record(1, 1, 1).record(1, 1, 1).read(); };
  CHECK_EQ(error({1, 1}), DOH_BAD_SHAPE);
  CHECK_EQ(error({1, 2}), DOH_OK);
  CHECK_EQ(error({65536, 1}), DOH_TRUNCATED);
  CHECK_EQ(error({65537}), DOH_BAD_SHAPE);
  CHECK_EQ(error({256, 257}), DOH_BAD_SHAPE);
  CHECK_EQ(error({70000, 1000}), DOH_BAD_SHAPE);
}

TEST(records_out_of_range) {
  auto second = [](uint64_t width, uint64_t depth, uint64_t latents) {
    return Hand({10}, {2}).record(3, 2, 10).record(width, depth, latents).read();
  };
  CHECK_EQ(second(1024, 1, 1), DOH_OK);
  CHECK_EQ(second(0, 1, 1), DOH_BAD_NETWORK);
  CHECK_EQ(second(1025, 1, 1), DOH_BAD_NETWORK);
  CHECK_EQ(second(1, 0, 1), DOH_BAD_NETWORK);
  CHECK_EQ(second(1, 65, 1), DOH_BAD_NETWORK);
  CHECK_EQ(second(1024, 20, 1), DOH_BAD_NETWORK);
  CHECK_EQ(second(1, 1, 0), DOH_BAD_GENERATOR);
  CHECK_EQ(second(1, 1, (1 << 22) - 10), DOH_OK);
  CHECK_EQ(second(1, 1, (1 << 22) - 9), DOH_BAD_GENERATOR);  // the sum
  // D = 2048 + (depth - 1) * 2^20
  CHECK_EQ(Hand({10}, {2}).record(1024, 9, 1).record(1024, 8, 1).read(), DOH_OK);
  CHECK_EQ(Hand({10}, {2}).record(1024, 9, 1).record(1024, 9, 1).read(), DOH_BAD_NETWORK);
  CHECK_EQ(Hand({10}, {2}).record(1024, 9, 1).record(1024, 9, 0).read(), DOH_BAD_NETWORK);
  Bytes flagged = two_records().file();
  flagged[flagged.size() - 18] |= 2;
  seal(flagged);
  File file;
  CHECK_EQ(read_file(flagged, file), DOH_BAD_SCALE);
}

TEST(lengths_of_records) {
  const Bytes whole = two_records().file();
  File file;
  CHECK_EQ(read_file(whole, file), DOH_OK);
  for (size_t end = 24; end < whole.size() - 8; ++end) {
    Bytes cut(whole.begin(), whole.begin() + static_cast<Bytes::difference_type>(end));
    cut.resize(end + 8);
    seal(cut);
    CHECK_EQ(read_file(cut, file), DOH_TRUNCATED);
  }
  auto last = [](int64_t longer, const Bytes& payload = {}) { return Hand({10}, {2}).record(3, 2, 10).record(2, 1, 7, payload, longer).read(); };
  CHECK_EQ(last(0, {1, 2, 3}), DOH_OK);
  CHECK_EQ(last(-1, {1, 2, 3}), DOH_BAD_CODES);  // a byte that is in no record
  CHECK_EQ(last(-3, {1, 2, 3}), DOH_BAD_CODES);
  CHECK_EQ(last(-4, {1, 2, 3}), DOH_TRUNCATED);
  CHECK_EQ(last(1), DOH_TRUNCATED);
  CHECK_EQ(last(-2), DOH_TRUNCATED);
  CHECK_EQ(last(-1 - 13), DOH_TRUNCATED);  // 2^64 - 1 of them
  CHECK_EQ(two_records().record(1, 1, 1).read(), DOH_BAD_CODES);
  // The first record ends inside its own fields: the rest is not looked at.
  Hand early({10}, {2});
  early.record(3, 2, 10, {}, -1);
  for (int i = 0; i < 20; ++i) early.bytes.push_back(1);
  CHECK_EQ(early.read(), DOH_TRUNCATED);
  Hand malformed({10}, {2});
  malformed.bytes.insert(malformed.bytes.end(), {0x8D, 0x00, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK_EQ(malformed.read(), DOH_BAD_VARINT);
}

TEST(one_network_writes_version_1) {
  Sample sample(1, {5}, 1, 2, 1, 0, 3);
  const Bytes file = sample.write();
  CHECK_EQ(file[4], 1);
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK(info.version == 1 && info.parts[0] == 1 && info.parts[3] == 1 && info.part_latents == 3 && info.part_weights == info.weights);
}

// Grids of powers of two: a part's samples are those of a file of its network alone.
TEST(a_part_is_a_signal_of_its_own) {
  for (const uint32_t generator : {DOH_TIED, DOH_DENSE}) {
    MosaicSample mosaic = MosaicSample::random(5, {2, 4}, Sample(9, {16, 256}, 3, 9, 3, 4, 120, generator, DOH_U16));
    const Bytes file = mosaic.write();
    for (uint32_t part = 0; part < 8; ++part) {
      Sample alone = mosaic.networks[part];
      alone.model.shape[0] = 8;
      alone.model.shape[1] = 64;
      const doh_region own = whole_region(alone);
      const doh_region box{{16, 256, 0, 0}, {part / 4 * 8, part % 4 * 64, 0, 0}, {8, 64, 0, 0}};
      const Decoded expected = decode(alone.write(), &own), got = decode(file, &box);
      CHECK_EQ(expected.error, DOH_OK);
      CHECK_EQ(got.error, DOH_OK);
      CHECK(got.samples == expected.samples);
    }
  }
}

TEST(regions_of_mosaics_are_crops_of_whole_grids) {
  const struct {
    std::vector<uint64_t> shape, grid;
    std::vector<uint32_t> parts;
  } cases[] = {{{90}, {97}, {7}},
               {{9}, {5}, {9}},
               {{64, 70}, {65, 70}, {2, 3}},
               {{8, 200}, {9, 301}, {4, 2}},
               {{6, 5, 40}, {7, 5, 80}, {3, 1, 2}},
               {{4, 4, 4, 4}, {3, 5, 4, 9}, {2, 2, 1, 3}}};
  Random random(23);
  uint64_t seed = 0;
  for (const auto& c : cases)
    for (const uint32_t generator : {DOH_TIED, DOH_DENSE}) {
      ++seed;
      const uint32_t type = generator == DOH_DENSE ? DOH_S16 : DOH_U8;
      MosaicSample mosaic = MosaicSample::random(seed, c.parts, Sample(seed, c.shape, 3, 12, 4, 3, 200, generator, type));
      const Bytes file = sealed(mosaic);
      const Bytes canonical = decode(file).samples;
      const auto dims = static_cast<uint32_t>(c.grid.size());
      const size_t point_bytes = type == DOH_S16 ? 6 : 3;
      doh_region all{};
      for (uint32_t t = 0; t < dims; ++t) all.grid[t] = all.extent[t] = c.grid[t];
      const Decoded whole = decode(file, &all);
      CHECK_EQ(whole.error, DOH_OK);
      for (const Kernel& kernel : all_kernels())
        for (const uint32_t threads : {1u, 2u, 5u, 40u}) {
          if (!kernel.available()) continue;
          doh_options options{};
          options.kernel = kernel.name;
          options.threads = threads;
          CHECK(decode(file, nullptr, &options).samples == canonical);
          CHECK(decode(file, &all, &options).samples == whole.samples);
          for (int round = 0; round < 6; ++round) {
            doh_region region = all;
            for (uint32_t t = 0; t < dims; ++t) {
              region.offset[t] = static_cast<uint64_t>(random.in(0, static_cast<int64_t>(c.grid[t]) - 1));
              region.extent[t] = static_cast<uint64_t>(random.in(1, static_cast<int64_t>(c.grid[t] - region.offset[t])));
            }
            const Decoded part = decode(file, &region, &options);
            CHECK_EQ(part.error, DOH_OK);
            CHECK(part.samples == cut(whole.samples, region, dims, point_bytes));
          }
        }
    }
}

TEST(codes_are_read_where_the_box_has_points) {
  const Bytes file = Hand({9}, {3}).record(2, 1, 5).record(3, 2, 4, {7, 0}).record(1, 1, 1).file();  // the second payload ends in a zero
  CHECK_EQ(decode(file).error, DOH_BAD_CODES);
  auto error = [&](const doh_region& region, uint32_t threads = 1) {
    doh_options options{};
    options.threads = threads;
    return decode(file, &region, &options).error;
  };
  CHECK_EQ(error(line(9, 0, 3)), DOH_OK);
  CHECK_EQ(error(line(9, 0, 4)), DOH_BAD_CODES);
  CHECK_EQ(error(line(9, 0, 9), 3), DOH_BAD_CODES);
  CHECK_EQ(error(line(9, 3, 1)), DOH_BAD_CODES);
  CHECK_EQ(error(line(9, 5, 2)), DOH_BAD_CODES);
  CHECK_EQ(error(line(9, 6, 3)), DOH_OK);
  CHECK_EQ(error(line(1, 0, 1)), DOH_BAD_CODES);  // the point in the middle
  CHECK_EQ(error(line(2, 0, 2)), DOH_OK);         // one in the first, one in the last
  CHECK_EQ(error(line(4, 0, 4)), DOH_BAD_CODES);
}

TEST(work_counts_the_parts_with_points) {
  const Bytes file = Hand({9}, {3}).record(2, 1, 5).record(3, 2, 4).record(1, 1, 1).file();  // D = 4, 15, 2; 2, 6, 1 sines, which count 16 each
  constexpr uint64_t kPoint[] = {4 + 32, 15 + 96, 2 + 16};
  doh_info info;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(info.work, (5u + 3 * kPoint[0]) + (16u + 3 * kPoint[1]) + (2u + 3 * kPoint[2]));
  auto error = [&](const doh_region& region, uint64_t work) {
    std::vector<uint8_t> samples(9), memory(1 << 16);
    doh_options options{};
    options.max_work = work;
    return doh_decode_region(file.data(), file.size(), &options, &region, samples.data(), samples.size(), memory.data(), memory.size());
  };
  CHECK_EQ(error(line(9, 0, 9), info.work), DOH_OK);
  CHECK_EQ(error(line(9, 0, 9), info.work - 1), DOH_LIMIT_WORK);
  CHECK_EQ(error(line(9, 1, 2), 5 + 2 * kPoint[0]), DOH_OK);
  CHECK_EQ(error(line(9, 1, 2), 5 + 2 * kPoint[0] - 1), DOH_LIMIT_WORK);
  CHECK_EQ(error(line(9, 5, 2), 16 + kPoint[1] + 2 + kPoint[2]), DOH_OK);
  CHECK_EQ(error(line(9, 5, 2), 16 + kPoint[1] + 2 + kPoint[2] - 1), DOH_LIMIT_WORK);
  doh_options options{};
  options.max_latents = 9;
  CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_LIMIT_LATENTS);
  options.max_latents = 10;
  options.max_weights = 20;
  CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_LIMIT_WEIGHTS);
  options.max_weights = 21;
  CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_OK);
}

// As many networks as there may be, in little more than a megabyte: each point is the middle of its part, so all are equal.
TEST(as_many_parts_as_there_may_be) {
  Hand hand({256, 256}, {256, 256});
  for (uint32_t i = 0; i < 65535; ++i) hand.record(1, 1, 1);
  CHECK_EQ(hand.read(), DOH_TRUNCATED);
  const Bytes file = hand.record(1, 1, 1).file();
  for (const uint32_t threads : {1u, 4u}) {
    doh_options options{};
    options.threads = threads;
    const doh_region all{{256, 256, 0, 0}, {}, {256, 256, 0, 0}};
    const Decoded whole = decode(file, &all, &options);
    CHECK_EQ(whole.error, DOH_OK);
    CHECK(std::count(whole.samples.begin(), whole.samples.end(), whole.samples[0]) == 65536);
  }
  const doh_region point{{0x7FFFFFFF, 0x7FFFFFFF, 0, 0}, {0x7FFFFFFE, 0, 0, 0}, {1, 1, 0, 0}};
  CHECK_EQ(decode(file, &point).error, DOH_OK);
}
