// Tests of cpp/src/entropy: round trips, shortest form, and malformed code words.
#include <vector>

#include "check.h"
#include "entropy/codes.h"
#include "entropy/trellis.h"
#include "random.h"

using namespace doh;
using Codes = std::vector<int32_t>;

namespace {

std::vector<uint8_t> encode(const Codes& codes, unsigned shift) {
  std::vector<uint8_t> data(codes.size() * 48 + 64);
  ByteWriter out(data);
  RangeEncoder encoder(&out);
  write_codes(encoder, shift, codes);
  encoder.finish();
  CHECK_EQ(out.status(), DOH_OK);
  data.resize(out.position());
  return data;
}

void round_trip(const Codes& codes, unsigned shift) {
  const auto data = encode(codes, shift);
  CHECK(data.empty() || data.back() != 0);
  RangeEncoder measure(nullptr);
  write_codes(measure, shift, codes);
  CHECK(8 * data.size() <= measure.cost_bits() + 8);
  CHECK(measure.cost_bits() <= 8 * data.size() + 40 || data.empty());

  std::vector<int16_t> decoded(codes.size());
  RangeDecoder in(data);
  CHECK_EQ(read_codes(in, shift, decoded), DOH_OK);
  CHECK(in.read_all());
  CHECK(Codes(decoded.begin(), decoded.end()) == codes);

  if (data.empty()) return;  // no shorter string holds the same codes
  RangeDecoder cut(std::span<const uint8_t>(data).first(data.size() - 1));
  CHECK(read_codes(cut, shift, decoded) != DOH_OK || Codes(decoded.begin(), decoded.end()) != codes);
}

// Bits of the range coder by hand: 'p' and 'P' are plain 0 and 1, 'a' and 'A' an adaptive 0 and 1 on the next of `models`.
int decode_by_hand(const std::vector<bool>& more, const std::vector<bool>& plain, unsigned shift) {
  std::vector<uint8_t> data(256);
  ByteWriter out(data);
  RangeEncoder encoder(&out);
  CodeModels models;
  for (size_t k = 0; k < more.size(); ++k) encoder.adaptive(models.more[k], more[k]);
  for (const bool bit : plain) encoder.plain(bit);
  encoder.finish();
  std::vector<int16_t> decoded(1);
  RangeDecoder in(out.written());
  return read_codes(in, shift, decoded);
}

}  // namespace

TEST(trellis_of_a_few_codes) {  // by hand, from docs/format.md, section 3.1
  std::vector<int16_t> codes = {0, 1, -1, 0, 3, 0, 0, -2};
  CHECK_EQ(latents_of_codes(codes), DOH_OK);
  const std::vector<int16_t> latents = {0, 2, -1, 1, 7, 0, 0, -3};
  CHECK(codes == latents);
  CHECK(on_trellis(Codes(latents.begin(), latents.end())));
  CHECK(!on_trellis(Codes{0, 2, -2}) && !on_trellis(Codes{1}) && on_trellis(Codes{}));
}

TEST(trellis_latents_out_of_range) {
  for (const int16_t code : {int16_t{16383}, int16_t{-16384}}) {
    std::vector<int16_t> codes = {code};
    CHECK_EQ(latents_of_codes(codes), DOH_OK);
    CHECK_EQ(codes[0], 2 * code);
  }
  for (const int16_t code : {int16_t{16384}, int16_t{-16385}, int16_t{32767}, int16_t{-32768}}) {
    std::vector<int16_t> codes = {0, code};
    CHECK_EQ(latents_of_codes(codes), DOH_BAD_CODES);
  }
}

TEST(probabilities_stay_inside) {
  for (const bool bit : {false, true}) {
    AdaptiveBit model;
    CHECK_EQ(model.probability(), 32768u);
    uint32_t lowest = 65536, highest = 0;
    for (int i = 0; i < 20000; ++i) {
      model.update(bit);
      lowest = std::min(lowest, model.probability());
      highest = std::max(highest, model.probability());
    }
    CHECK(lowest >= 1 && highest <= 65535);
  }
}

TEST(random_codes) {
  Random random(2);
  for (int round = 0; round < 400; ++round) {
    Codes codes(static_cast<size_t>(random.in(0, 300)));
    const int bits = random.in(0, 15);
    for (auto& code : codes) code = random.code(bits);
    round_trip(codes, static_cast<unsigned>(round % 16));
  }
}

TEST(extreme_codes) {
  for (unsigned shift = 0; shift < 16; ++shift) {
    round_trip({}, shift);
    for (const int32_t code : {0, -1, 1, -2, 23, 24, -24, -25, 25, 32767, -32768, 32766}) {
      round_trip({code}, shift);
      round_trip(Codes(5000, code), shift);
    }
    Codes alternating(9000);
    for (size_t i = 0; i < alternating.size(); ++i) alternating[i] = i % 2 != 0 ? 32767 : -32768;
    round_trip(alternating, shift);
    Codes late(6000, 0);  // the models have learnt zeros when the largest codes come
    late.insert(late.end(), 10, -32768);
    round_trip(late, shift);
  }
}

TEST(long_runs_carry) {
  Random random(3);
  for (int round = 0; round < 200; ++round) {  // plain ones push `low` to the top of its range, so that carries run through bytes of 255
    Codes codes(100, 32767);
    codes[static_cast<size_t>(random.in(0, 99))] = random.in(-32768, 32767);
    round_trip(codes, 15);
  }
}

TEST(malformed_code_words) {
  const std::vector<bool> escape(24, true);
  auto ones = [](size_t count) { return std::vector<bool>(count, true); };
  CHECK_EQ(decode_by_hand(escape, ones(40), 0), DOH_BAD_CODES);  // t above 15
  std::vector<bool> largest = ones(15);                          // t = 15, x = 2^15 - 1: bucket 65558
  largest.push_back(false);
  largest.insert(largest.end(), 15, true);
  for (unsigned shift = 0; shift < 16; ++shift) CHECK_EQ(decode_by_hand(escape, largest, shift), DOH_BAD_CODES);
  CHECK_EQ(decode_by_hand({true, false}, ones(15), 15), DOH_BAD_CODES);  // m = 2^15 + ...
  CHECK_EQ(decode_by_hand({false}, ones(15), 15), DOH_OK);               // m = 32767
}

TEST(any_bytes_end) {
  Random random(4);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> data(static_cast<size_t>(random.in(0, 40)));
    for (auto& byte : data) byte = round % 3 == 0 ? 255 : static_cast<uint8_t>(random.next());
    std::vector<int16_t> decoded(200);
    RangeDecoder in(data);
    const int e = read_codes(in, static_cast<unsigned>(random.in(0, 15)), decoded);
    CHECK(e == DOH_OK || e == DOH_BAD_CODES);
  }
}
