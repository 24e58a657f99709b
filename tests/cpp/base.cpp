// Tests of cpp/src/base.
#include <limits>
#include <vector>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "check.h"
#include "random.h"

using namespace doh;

namespace {

uint64_t read_varint(std::vector<uint8_t> data, int expected) {
  ByteReader in(data);
  const uint64_t value = in.varint();
  CHECK_EQ(in.status(), expected);
  return value;
}

}  // namespace

TEST(crc32c_known_answers) {
  const std::vector<uint8_t> digits = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
  CHECK_EQ(crc32c(digits), 0xE3069283u);
  CHECK_EQ(crc32c({}), 0u);
  CHECK_EQ(crc32c(std::vector<uint8_t>(32, 0)), 0x8A9136AAu);     // RFC 3720, B.4
  CHECK_EQ(crc32c(std::vector<uint8_t>(32, 0xFF)), 0x62A8AB43u);  // RFC 3720, B.4
}

TEST(crc32c_of_pieces) {
  Random random(1);
  std::vector<uint8_t> data(1000);
  for (auto& byte : data) byte = static_cast<uint8_t>(random.next());
  for (size_t cut = 0; cut <= 40; ++cut) {
    const std::span<const uint8_t> all(data);
    CHECK_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), crc32c(all));
  }
}

TEST(varints) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{16383}, uint64_t{16384}, uint64_t{1} << 62,
                               (uint64_t{1} << 63) - 1, uint64_t{1} << 63, UINT64_MAX}) {
    std::vector<uint8_t> data(10);
    ByteWriter out(data);
    out.varint(value);
    CHECK_EQ(out.status(), DOH_OK);
    data.resize(out.position());
    CHECK_EQ(read_varint(data, DOH_OK), value);
    data.pop_back();
    read_varint(data, DOH_TRUNCATED);
  }
  read_varint({0x80, 0x00}, DOH_BAD_VARINT);  // not the shortest form
  read_varint({0xFF, 0x80, 0x00}, DOH_BAD_VARINT);
  std::vector<uint8_t> ten(9, 0xFF);
  for (const int last : {0x00, 0x02, 0x7F, 0x80, 0x81, 0xFF}) {
    ten.resize(9);
    ten.push_back(static_cast<uint8_t>(last));
    ten.push_back(0x01);
    read_varint(ten, DOH_BAD_VARINT);
  }
}

TEST(reader_errors_stick) {
  const std::vector<uint8_t> data = {1, 2, 3};
  ByteReader in(data);
  CHECK_EQ(in.uint(2), 0x0201u);
  CHECK_EQ(in.uint(2), 0u);
  CHECK_EQ(in.status(), DOH_TRUNCATED);
  CHECK_EQ(in.uint(1), 0u);
  CHECK_EQ(in.status(), DOH_TRUNCATED);
}

TEST(writer_stops_at_the_end) {
  std::vector<uint8_t> data(3);
  ByteWriter out(data);
  out.uint(3, 0xCCBBAA);
  CHECK_EQ(out.status(), DOH_OK);
  CHECK(data == std::vector<uint8_t>({0xAA, 0xBB, 0xCC}));
  out.byte(1);
  CHECK_EQ(out.status(), DOH_BUFFER_TOO_SMALL);
  CHECK_EQ(out.position(), 3u);
}

TEST(saturating_arithmetic) {
  CHECK_EQ(saturating_mul(0, UINT64_MAX), 0u);
  CHECK_EQ(saturating_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1), UINT64_MAX - (uint64_t{1} << 32) + 1);
  CHECK_EQ(saturating_mul(uint64_t{1} << 32, uint64_t{1} << 32), UINT64_MAX);
  CHECK_EQ(saturating_add(UINT64_MAX, 1), UINT64_MAX);
  CHECK_EQ(saturating_add(UINT64_MAX - 1, 1), UINT64_MAX);
  CHECK_EQ(ceil_div(UINT64_MAX, 2), uint64_t{1} << 63);
  CHECK_EQ(ceil_div(6, 3), 2u);
}

TEST(arena_counts_what_it_deals_out) {
  std::vector<uint8_t> memory(4096);
  for (size_t shift = 0; shift < 70; ++shift) {
    Arena counter;
    CHECK(counter.take<uint32_t>(7).empty());
    counter.take<int16_t>(33);
    const auto bytes = static_cast<size_t>(counter.bytes());
    Arena arena(std::span<uint8_t>(memory).subspan(shift, bytes));
    const auto a = arena.take<uint32_t>(7);
    const auto b = arena.take<int16_t>(33);
    CHECK_EQ(reinterpret_cast<uintptr_t>(a.data()) % 64, 0u);
    CHECK_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u);
    CHECK(reinterpret_cast<uint8_t*>(a.data()) >= memory.data() + shift);
    CHECK(reinterpret_cast<uint8_t*>(a.data() + a.size()) <= reinterpret_cast<uint8_t*>(b.data()));
    CHECK(reinterpret_cast<uint8_t*>(b.data() + b.size()) <= memory.data() + shift + bytes);
  }
}
