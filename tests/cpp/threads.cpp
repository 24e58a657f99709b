// Threads: `threads FOLDER` decodes the valid vectors of FOLDER from several threads at once, each decode with threads of its own, and again while
// the system refuses threads. All samples must be those of a decode alone. pthread_create comes through the linker's --wrap.
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "doh.h"
#include "known.h"

extern "C" int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument);

namespace {

constexpr int kDecoders = 4;       // threads that decode at the same time
constexpr uint32_t kThreads = 5;   // of each decode
std::atomic<uint64_t> refused{0};  // bit i: the i-th pthread_create of a decode fails
std::atomic<uint32_t> created{0}, failures{0};

// Memory that is not initialised: MemorySanitizer then sees what a decode reads before writing it.
struct Raw {
  explicit Raw(size_t bytes) : size(bytes), memory(new uint8_t[bytes]) {}
  size_t size;
  std::unique_ptr<uint8_t[]> memory;
};

void expect(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  ++failures;
}

struct File {
  std::string name;
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> samples;  // of a decode alone
};

std::vector<uint8_t> decode(const File& file, uint32_t threads) {
  doh_options options{};
  options.threads = threads;
  doh_info info;
  size_t size = 0;
  int e = doh_read_info(file.bytes.data(), file.bytes.size(), &options, &info);
  if (e == DOH_OK) e = doh_workspace_size(&info, &options, &size);
  expect(e == DOH_OK, file.name + ": " + doh_error_name(e));
  if (e != DOH_OK) return {};
  const Raw work(size), samples(static_cast<size_t>(info.samples_bytes));
  e = doh_decode(file.bytes.data(), file.bytes.size(), &options, samples.memory.get(), samples.size, work.memory.get(), work.size);
  expect(e == DOH_OK, file.name + ": " + doh_error_name(e));
  return {samples.memory.get(), samples.memory.get() + samples.size};
}

void* decode_all(void* argument) {
  for (const File& file : *static_cast<const std::vector<File>*>(argument))
    expect(decode(file, kThreads) == file.samples, file.name + ": other samples beside other decodes");
  return nullptr;
}

}  // namespace

extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  if ((refused >> (created++ & 63) & 1) != 0) return 11;  // EAGAIN
  return __real_pthread_create(thread, attributes, run, argument);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: threads FOLDER\n");
    return 2;
  }
  std::vector<File> files;
  const std::string folder = std::string(argv[1]) + "/valid/";
  for (const auto& row : known_lines(folder + "expected.tsv")) files.push_back({row.at(0), read_file(folder + row[0]), {}});
  for (File& file : files) file.samples = decode(file, 1);

  pthread_t decoders[kDecoders];
  for (pthread_t& decoder : decoders) expect(__real_pthread_create(&decoder, nullptr, decode_all, &files) == 0, "no thread for the test itself");
  for (const pthread_t decoder : decoders) pthread_join(decoder, nullptr);
  expect(created > 0, "nothing was decoded with threads");

  // Every pattern of refusals, for making the weights and for the tiles; and all refused.
  for (uint64_t refuse = 0; refuse < uint64_t{1} << (kThreads - 1); ++refuse)
    for (const File& file : files) {
      created = 0;
      refused = refuse == 0 ? UINT64_MAX : refuse | refuse << (kThreads - 1);
      expect(decode(file, kThreads) == file.samples, file.name + ": other samples when threads are refused");
    }
  std::printf("%zu files, %u failures\n", files.size(), failures.load());
  return failures != 0 || files.empty();
}
