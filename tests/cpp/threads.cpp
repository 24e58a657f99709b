// Threads: `threads FOLDER` decodes the valid vectors of FOLDER from several threads at once, each decode with threads of its own, and again while
// the system refuses threads. All samples must be those of a decode alone. And doh_options.cancel is asked all along, whoever does the work.
// pthread_create comes through the linker's --wrap.
#include <pthread.h>
#include <time.h>

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
std::atomic<int64_t> wait_for{0};  // new threads begin when the caller was asked so many times, or after kPatience
constexpr int kPatience = 10'000;  // ms

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

// A caller who says yes to the last of so many questions.
struct Caller {
  std::atomic<int64_t> asked{0};
  int64_t patience;

  static int ask(void* context) {
    Caller& caller = *static_cast<Caller*>(context);
    return ++caller.asked >= caller.patience;
  }
};
std::atomic<Caller*> the_caller{nullptr};

int decode(const File& file, uint32_t threads, std::vector<uint8_t>& to, Caller* caller = nullptr) {
  doh_options options{};
  options.threads = threads;
  options.cancel = caller != nullptr ? Caller::ask : nullptr;
  options.cancel_context = caller;
  the_caller = caller;
  doh_info info;
  size_t size = 0;
  int e = doh_read_info(file.bytes.data(), file.bytes.size(), &options, &info);
  if (e == DOH_OK) e = doh_workspace_size(&info, &options, &size);
  expect(e == DOH_OK, file.name + ": " + doh_error_name(e));
  if (e != DOH_OK) return e;
  const Raw work(size), samples(static_cast<size_t>(info.samples_bytes));
  e = doh_decode(file.bytes.data(), file.bytes.size(), &options, samples.memory.get(), samples.size, work.memory.get(), work.size);
  to.assign(samples.memory.get(), samples.memory.get() + samples.size);
  return e;
}

std::vector<uint8_t> decode(const File& file, uint32_t threads) {
  std::vector<uint8_t> samples;
  const int e = decode(file, threads, samples);
  expect(e == DOH_OK, file.name + ": " + doh_error_name(e));
  return samples;
}

void* decode_all(void* argument) {
  for (const File& file : *static_cast<const std::vector<File>*>(argument))
    expect(decode(file, kThreads) == file.samples, file.name + ": other samples beside other decodes");
  return nullptr;
}

// What a new thread is to do, after a while.
struct Late {
  void* (*run)(void*);
  void* argument;
};

void* begin_late(void* late) {
  const std::unique_ptr<Late> start(static_cast<Late*>(late));
  constexpr timespec kNap{0, 1'000'000};
  for (int i = 0; i < kPatience && the_caller.load()->asked < wait_for; ++i) nanosleep(&kNap, nullptr);
  return start->run(start->argument);
}

// While nobody but the caller's thread is at work, or nobody at all, it is asked no less often than in a decode without other threads.
void test_cancel(const File& file) {
  std::vector<uint8_t> samples;
  Caller alone{.patience = INT64_MAX}, refusing{.patience = INT64_MAX};
  expect(decode(file, 1, samples, &alone) == DOH_OK, file.name + ": not decoded");
  refused = UINT64_MAX;
  expect(decode(file, kThreads, samples, &refusing) == DOH_OK, file.name + ": not decoded without threads");
  expect(refusing.asked >= alone.asked, file.name + ": asked " + std::to_string(refusing.asked) + " times, not " + std::to_string(alone.asked));
  Caller ends{.patience = alone.asked};
  expect(decode(file, kThreads, samples, &ends) == DOH_CANCELLED, file.name + ": not cancelled when threads are refused");

  refused = 0;
  created = 0;
  Caller waits{.patience = alone.asked + 20};  // more questions than all of the work has: it must be asked while it waits
  wait_for = waits.patience;
  const int e = decode(file, 2, samples, &waits);
  expect(created == 0 || e == DOH_CANCELLED, file.name + ": not cancelled while the caller waits");
  wait_for = 0;
}

}  // namespace

extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  if ((refused >> (created++ & 63) & 1) != 0) return 11;  // EAGAIN
  if (wait_for == 0) return __real_pthread_create(thread, attributes, run, argument);
  return __real_pthread_create(thread, attributes, begin_late, new Late{run, argument});
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
  for (const File& file : files) test_cancel(file);
  std::printf("%zu files, %u failures\n", files.size(), failures.load());
  return failures != 0 || files.empty();
}
