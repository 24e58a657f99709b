// Tests of cpp/src/rng.
#include <string>

#include "check.h"
#include "known.h"
#include "rng/philox.h"

using namespace doh;

TEST(philox_known_answers) {
  const auto lines = known_lines(DOH_KAT "/philox.txt");
  CHECK(lines.size() >= 3);
  for (const auto& line : lines) {
    CHECK_EQ(line.size(), 10u);
    std::vector<uint32_t> words;
    for (const auto& word : line) words.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
    const auto result = philox(uint64_t{words[5]} << 32 | words[4], {words[0], words[1], words[2], words[3]});
    for (size_t i = 0; i < 4; ++i) CHECK_EQ(result[i], words[6 + i]);
  }
}

TEST(philox_batches_equal_single_calls) {
  PhiloxBatch batch;
  for (const uint32_t block : {0u, 1000u, 0xFFFFFFF0u}) {
    philox_batch(0x123456789ABCDEF0, {block, 5, 6, 2}, batch);
    for (size_t i = 0; i < kPhiloxBatch; ++i) {
      const auto words = philox(0x123456789ABCDEF0, {block + static_cast<uint32_t>(i), 5, 6, 2});
      for (size_t w = 0; w < 4; ++w) CHECK_EQ(batch[w][i], words[w]);
    }
  }
}
