// Tests of what a decode touches: its buffers to the last byte, nothing else, whatever the kernel; the workspace's formula; the stack.
#include <algorithm>
#include <cstring>
#include <ctime>
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

// The published bound (SECURITY.md): bytes of workspace of a model with n latents, D weights, B biases and c channels, for so many threads.
uint64_t workspace_bound(const doh_info& info, uint64_t threads) {
  const uint64_t n = info.latents, biases = uint64_t{info.depth} * info.width + info.channels;
  const uint64_t generator = info.generator == DOH_TIED ? 16 * n : 2 * n;
  return 2 * n + 2 * info.weights + 6 * biases + generator + 1024 + threads * (516 * uint64_t{info.width} + 256 * uint64_t{info.channels} + 1024);
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

TEST(the_workspace_stays_below_its_formula) {
  Random random(15);
  for (int round = 0; round < 20000; ++round) {
    doh_info info{};
    info.dims = static_cast<uint32_t>(random.in(1, 4));
    info.channels = static_cast<uint32_t>(random.in(1, 32));
    info.width = static_cast<uint32_t>(random.in(1, round % 2 != 0 ? 1024 : 40));
    info.depth = static_cast<uint32_t>(random.in(1, round % 2 != 0 ? 9 : 64));
    info.frequencies = static_cast<uint32_t>(random.in(0, 16));
    info.generator = static_cast<uint32_t>(random.in(0, 1));
    info.latents = static_cast<uint32_t>(random.in(1, 1 << random.in(0, 22)));
    info.weights = uint64_t{info.width} * (info.dims * (1 + 2 * info.frequencies)) + uint64_t{info.width} * info.width * (info.depth - 1) +
                   uint64_t{info.width} * info.channels;
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

constexpr size_t kStack = 48 << 10;  // what an embedder may count on; sanitizers take more

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
    for (const doh::Kernel& kernel : doh::all_kernels()) {
      if (!kernel.available()) continue;
      Sample sample(3, {20, 70}, 3, 30, 64, 16, 3000, generator, DOH_U8, true);
      const Bytes file = sealed(sample);
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
      pthread_attr_t attributes;
      pthread_attr_init(&attributes);
      CHECK_EQ(pthread_attr_setstacksize(&attributes, kStack), 0);  // with a guard page below it
      pthread_t thread;
      CHECK_EQ(pthread_create(&thread, &attributes, decode_on_small_stack, &job), 0);
      pthread_join(thread, nullptr);
      pthread_attr_destroy(&attributes);
      CHECK_EQ(job.error, DOH_OK);
      CHECK(samples == decode(file).samples);
    }
}
#endif
