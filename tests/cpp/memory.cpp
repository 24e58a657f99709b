// Tests of what a decode touches: its buffers to the last byte, nothing else, whatever the kernel; the workspace's formula; the stack.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <vector>

#include "check.h"
#include "decode/decode.h"
#include "format/read.h"
#include "guarded.h"
#include "net/kernels.h"
#include "sample.h"

#if DOH_GUARD_PAGES
#include <pthread.h>
#endif

#if defined(__has_feature)
#define DOH_HAS_FEATURE(x) __has_feature(x)
#else
#define DOH_HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || DOH_HAS_FEATURE(address_sanitizer) || DOH_HAS_FEATURE(memory_sanitizer) || \
    DOH_HAS_FEATURE(thread_sanitizer)
#define DOH_SANITIZED 1
#else
#define DOH_SANITIZED 0
#endif

namespace {

// The published bound (SECURITY.md): bytes of workspace of a model with n latents, D weights, B biases and c channels, for so many threads. Of a
// mosaic n and D are the largest of any network, and as many are decoded at once as there are threads.
uint64_t workspace_bound(const doh_info& info, uint64_t threads) {
  uint64_t teams = 1;
  for (const uint32_t boxes : info.parts) teams = std::min(threads, teams * std::max(boxes, 1u));
  const uint64_t n = info.part_latents, biases = uint64_t{info.depth} * info.width + info.channels;
  const uint64_t generator = info.generator == DOH_TIED ? 16 * n : 2 * n;
  return teams * (2 * n + 2 * uint64_t{info.part_weights} + 6 * biases + generator + 1024) +
         threads * (516 * uint64_t{info.width} + 256 * uint64_t{info.channels} + 1024);
}

// A decode in buffers of exactly the size asked for, each between guards; `shift` moves them off their alignment.
Bytes decode_guarded(const Bytes& file, const doh_options& options, Edge edge, size_t shift) {
  const Guarded<uint8_t> data(file.size(), edge, 0, shift);
  std::memcpy(data.data(), file.data(), file.size());
  doh_info info;
  size_t size = 0;
  CHECK_EQ(doh_read_info(data.data(), data.size(), &options, &info), DOH_OK);
  CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_OK);
  CHECK(size <= workspace_bound(info, std::max(options.threads, 1u)));
  const Guarded<uint8_t> work(size, edge, 0xFF, shift), samples(static_cast<size_t>(info.samples_bytes), edge, 0xFF, shift);
  CHECK_EQ(doh_decode(data.data(), data.size(), &options, samples.data(), samples.size(), work.data(), work.size()), DOH_OK);
  CHECK(data.intact() && work.intact() && samples.intact());
  CHECK(std::equal(file.begin(), file.end(), data.begin()));
  return {samples.begin(), samples.end()};
}

}  // namespace

TEST(decodes_stay_between_guards) {
  const std::vector<std::vector<uint64_t>> shapes = {{1}, {200}, {65, 3}, {3, 64}, {2, 3, 67}, {2, 2, 2, 33}};
  Random random(14);
  for (uint64_t round = 0; round < 48; ++round) {
    const uint32_t generator = round % 2 != 0 ? DOH_DENSE : DOH_TIED;
    Sample sample(round + 1, shapes[round % shapes.size()], static_cast<uint32_t>(random.in(1, 9)), static_cast<uint32_t>(random.in(1, 40)),
                  static_cast<uint32_t>(random.in(1, 4)), static_cast<uint32_t>(random.in(0, 5)), static_cast<uint32_t>(random.in(1, 700)), generator,
                  static_cast<uint32_t>(round % 4), random.in(0, 1) != 0);
    const Bytes file = sealed(sample);
    const Bytes expected = decode(file).samples;
    for (const doh::Kernel& kernel : doh::all_kernels()) {
      if (!kernel.available()) continue;
      doh_options options{};
      options.kernel = kernel.name;
      options.threads = round % 6 == 5 ? 3 : 1;
      CHECK(decode_guarded(file, options, Edge::kEnd, 0) == expected);
      CHECK(decode_guarded(file, options, Edge::kStart, static_cast<size_t>(random.in(0, 63))) == expected);
    }
  }
}

TEST(decodes_of_mosaics_stay_between_guards) {
  const struct {
    std::vector<uint64_t> shape;
    std::vector<uint32_t> parts;
  } cases[] = {{{200}, {3}}, {{65, 3}, {4, 3}}, {{2, 3, 67}, {1, 2, 2}}, {{2, 2, 2, 33}, {2, 1, 1, 2}}};
  Random random(16);
  for (uint64_t round = 0; round < 24; ++round) {
    const auto& c = cases[round % 4];
    const Sample first(round + 1, c.shape, static_cast<uint32_t>(random.in(1, 9)), static_cast<uint32_t>(random.in(1, 40)),
                       static_cast<uint32_t>(random.in(1, 4)), static_cast<uint32_t>(random.in(0, 5)), static_cast<uint32_t>(random.in(1, 700)),
                       round % 3 == 0 ? DOH_DENSE : DOH_TIED, static_cast<uint32_t>(round % 4));
    MosaicSample mosaic = MosaicSample::random(round, c.parts, first);
    const Bytes file = sealed(mosaic);
    const Bytes expected = decode(file).samples;
    for (const doh::Kernel& kernel : doh::all_kernels()) {
      if (!kernel.available()) continue;
      doh_options options{};
      options.kernel = kernel.name;
      options.threads = static_cast<uint32_t>(round % 5);
      CHECK(decode_guarded(file, options, Edge::kEnd, 0) == expected);
      CHECK(decode_guarded(file, options, Edge::kStart, static_cast<size_t>(random.in(0, 63))) == expected);
    }
  }
}

// Where the memory does not last for a network to each thread, several threads share one: the same samples.
TEST(mosaics_decode_in_the_memory_of_one_network) {
  Sample first(6, {40, 60}, 3, 20, 3, 4, 800);
  MosaicSample mosaic({3, 2}, first);
  while (mosaic.networks.size() < 6) mosaic.add(first);
  const Bytes file = sealed(mosaic), one = first.write();
  const Bytes expected = decode(file).samples;
  doh_info info, info_of_one;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(doh_read_info(one.data(), one.size(), nullptr, &info_of_one), DOH_OK);
  doh_options options{};
  size_t least = 0, size = 0, before = 0;
  for (options.threads = 1; options.threads <= 9; ++options.threads) {
    options.max_memory = 0;
    CHECK_EQ(doh_workspace_size(&info_of_one, &options, &least), DOH_OK);
    CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_OK);
    CHECK(options.threads == 1 ? size == least : size > least && size >= before);
    before = options.threads < 6 ? size : 0;
    for (const size_t most : {least, (least + size) / 2, size - 1}) {
      if (most < least) continue;
      options.max_memory = most;
      size_t smaller = 0;
      CHECK_EQ(doh_workspace_size(&info, &options, &smaller), DOH_OK);
      CHECK(smaller >= least && smaller <= most);
      const Guarded<uint8_t> work(smaller, Edge::kEnd, 0xFF), samples(expected.size(), Edge::kEnd, 0xFF);
      CHECK_EQ(doh_decode(file.data(), file.size(), &options, samples.data(), samples.size(), work.data(), work.size()), DOH_OK);
      CHECK(std::equal(samples.begin(), samples.end(), expected.begin()));
    }
    options.max_memory = 0;
    std::vector<uint8_t> work(least), samples(expected.size());
    CHECK_EQ(doh_decode(file.data(), file.size(), &options, samples.data(), samples.size(), work.data(), least - 1), DOH_WORKSPACE_TOO_SMALL);
    CHECK_EQ(doh_decode(file.data(), file.size(), &options, samples.data(), samples.size(), work.data(), least), DOH_OK);
    CHECK(samples == expected);
    options.max_memory = least - 1;
    CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_LIMIT_MEMORY);
    CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_LIMIT_MEMORY);
    options.max_memory = 0;
    CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_OK);
  }
}

// Width from one network, depth from another, latents from a third: each has room, and what they would need together is not asked for.
TEST(a_workspace_is_for_the_largest_of_each) {
  MosaicSample mosaic({3}, Sample(1, {9}, 1, 1000, 1, 0, 5));
  mosaic.add(Sample(2, {9}, 1, 2, 64, 0, 5, DOH_TIED, DOH_U8, true));
  mosaic.add(Sample(3, {9}, 1, 3, 1, 0, 9000));
  const Bytes file = sealed(mosaic);
  doh_info info;
  size_t size = 0;
  CHECK_EQ(doh_read_info(file.data(), file.size(), nullptr, &info), DOH_OK);
  CHECK(info.width == 1000 && info.depth == 64 && info.part_latents == 9000 && info.part_weights == 2000);
  CHECK_EQ(doh_workspace_size(&info, nullptr, &size), DOH_OK);
  CHECK(size <= workspace_bound(info, 1));
  CHECK(size < 2000000);  // of width 1000 and depth 64 the weights alone are 126 MB
  CHECK_EQ(decode(file).error, DOH_OK);
}

TEST(the_workspace_stays_below_its_formula) {
  Random random(15);
  for (int round = 0; round < 20000; ++round) {
    doh_info info{};
    if (round % 4 == 1)
      for (uint32_t& boxes : info.parts) boxes = static_cast<uint32_t>(random.in(1, 4));
    info.dims = static_cast<uint32_t>(random.in(1, 4));
    info.channels = static_cast<uint32_t>(random.in(1, 32));
    info.width = static_cast<uint32_t>(random.in(1, round % 2 != 0 ? 1024 : 40));
    info.depth = static_cast<uint32_t>(random.in(1, round % 2 != 0 ? 9 : 64));
    info.frequencies = static_cast<uint32_t>(random.in(0, 16));
    info.generator = static_cast<uint32_t>(random.in(0, 1));
    info.part_latents = static_cast<uint32_t>(random.in(1, 1 << random.in(0, 22)));
    info.part_weights = static_cast<uint32_t>(uint64_t{info.width} * (info.dims * (1 + 2 * info.frequencies)) +
                                              uint64_t{info.width} * info.width * (info.depth - 1) + uint64_t{info.width} * info.channels);
    doh_options options{};
    options.max_memory = UINT64_MAX;
    options.threads = static_cast<uint32_t>(random.in(1, 256));
    size_t size = 0;
    CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_OK);
    CHECK(size <= workspace_bound(info, options.threads));
  }
}

TEST(needs_are_those_of_the_c_interface) {
  Sample sample(1, {30, 40}, 3, 9, 2, 3, 50, DOH_TIED, DOH_U16);
  const Bytes bytes = sealed(sample);
  doh_info info;
  CHECK_EQ(doh_read_info(bytes.data(), bytes.size(), nullptr, &info), DOH_OK);
  doh::File file;
  CHECK_EQ(doh::read_file(bytes, file), DOH_OK);
  doh_options options{};
  for (options.threads = 0; options.threads < 4; ++options.threads) {
    size_t size = 0, needed = 0;
    uint64_t samples = 0;
    CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_OK);
    CHECK_EQ(doh::decode_needs(file, &options, nullptr, needed, samples), DOH_OK);
    CHECK_EQ(needed, size);
    CHECK_EQ(samples, info.samples_bytes);
  }
  MosaicSample mosaic = MosaicSample::random(1, {2, 3}, sample);
  const Bytes mosaic_bytes = mosaic.write();
  doh::File mosaic_file;
  CHECK_EQ(doh_read_info(mosaic_bytes.data(), mosaic_bytes.size(), nullptr, &info), DOH_OK);
  CHECK_EQ(doh::read_file(mosaic_bytes, mosaic_file), DOH_OK);
  for (options.threads = 0; options.threads < 9; ++options.threads)
    for (const uint64_t memory : {0, 50000, 80000}) {
      options.max_memory = memory;
      size_t size = 0, needed = 0;
      uint64_t samples = 0;
      CHECK_EQ(doh_workspace_size(&info, &options, &size), doh::decode_needs(mosaic_file, &options, nullptr, needed, samples));
      CHECK_EQ(needed, size);
    }
  const doh_region box{{100, 100, 0, 0}, {90, 0, 0, 0}, {10, 7, 0, 0}}, outside{{100, 100, 0, 0}, {91, 0, 0, 0}, {10, 7, 0, 0}};
  size_t needed = 0;
  uint64_t samples = 0;
  CHECK_EQ(doh::decode_needs(file, nullptr, &box, needed, samples), DOH_OK);
  CHECK_EQ(samples, 10u * 7 * 3 * 2);
  CHECK_EQ(doh::decode_needs(file, nullptr, &outside, needed, samples), DOH_BAD_ARGUMENT);
}

// A file of one latent asks for as many permutations as there are weights: it must not cost much more than a file of many latents.
TEST(few_latents_cost_no_more_than_many) {
  auto seconds = [](uint32_t latents) {
    Sample sample(1, {1}, 1, 300, 3, 0, latents);
    const Bytes file = sample.write();
    const doh_region all = whole_region(sample);
    double least = 1e9;
    for (int round = 0; round < 3; ++round) {
      const std::clock_t start = std::clock();
      CHECK_EQ(decode(file, &all).error, DOH_OK);
      least = std::min(least, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    }
    return least;
  };
  const double many = seconds(1000);
  for (const uint32_t few : {1u, 2u, 3u, 16u, 64u, 65u}) CHECK(seconds(few) < 40 * many + 0.02);
}

#if DOH_GUARD_PAGES && !DOH_SANITIZED
namespace {

constexpr size_t kStack = 48 << 10;    // what an embedder may count on; sanitizers take more
constexpr size_t kThread = 512 << 10;  // of the thread that is watched: systems ask for 16 to 128 KiB at least
constexpr uint8_t kPaint = 0xC5;

struct OnSmallStack {
  const Bytes* file;
  const doh_options* options;
  uint8_t* samples;
  std::vector<uint8_t>* work;
  uint64_t bytes;
  int error;
};

void* decode_on_small_stack(void* argument) {
  auto& job = *static_cast<OnSmallStack*>(argument);
  job.error =
      doh_decode(job.file->data(), job.file->size(), job.options, job.samples, static_cast<size_t>(job.bytes), job.work->data(), job.work->size());
  return nullptr;
}

}  // namespace

TEST(a_small_stack_is_enough) {
  for (const uint32_t generator : {DOH_TIED, DOH_DENSE})
    for (const doh::Kernel& kernel : doh::all_kernels())
      for (const bool many : {false, true}) {
        if (!kernel.available()) continue;
        Sample sample(3, {20, 70}, 3, 30, 64, 16, 3000, generator, DOH_U8, true);
        MosaicSample mosaic = MosaicSample::random(4, {1, 3}, sample);
        const Bytes file = many ? sealed(mosaic) : sealed(sample);
        doh_options options{};
        options.kernel = kernel.name;
        options.threads = 256;
        doh_info info;
        size_t size = 0;
        CHECK_EQ(doh_read_info(file.data(), file.size(), &options, &info), DOH_OK);
        CHECK_EQ(doh_workspace_size(&info, &options, &size), DOH_OK);
        std::vector<uint8_t> work(size);
        Bytes samples(info.samples_bytes);
        OnSmallStack job{&file, &options, samples.data(), &work, info.samples_bytes, 1};
        // Painted, and full from its top down, with what the system puts there: how far down the paint is gone tells what was used.
        std::unique_ptr<uint8_t, decltype(&std::free)> stack(static_cast<uint8_t*>(std::aligned_alloc(1 << 16, kThread)), &std::free);
        std::memset(stack.get(), kPaint, kThread);
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        CHECK_EQ(pthread_attr_setstack(&attributes, stack.get(), kThread), 0);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, &attributes, decode_on_small_stack, &job), 0);
        pthread_join(thread, nullptr);
        pthread_attr_destroy(&attributes);
        const uint8_t* used = std::find_if(stack.get(), stack.get() + kThread, [](uint8_t byte) { return byte != kPaint; });
        CHECK(used > stack.get() && static_cast<size_t>(stack.get() + kThread - used) <= kStack);
        CHECK_EQ(job.error, DOH_OK);
        CHECK(samples == decode(file).samples);
      }
}
#endif
