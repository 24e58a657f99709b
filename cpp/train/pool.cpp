// A pool for the whole process. It is never destroyed: its threads sleep until the process ends. A forked child starts without one.
#include "train/pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace doh::train {
namespace {

// A thread that has nothing to do looks so many times, half a millisecond in all, before it goes to sleep: a step hands out work several times, the
// next step soon follows, and to be woken takes longer than a small piece of it.
constexpr int kLooks = 2000;

template <class Done>
void look_out(Done&& done) {
  for (int i = 0; i < kLooks && !done(); ++i) std::this_thread::yield();
}

struct Job {
  Item item;
  void* context;
  size_t items;
  std::atomic<size_t> next{0};

  void work(unsigned thread) {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) item(context, i, thread);
  }
};

struct Pool {
  std::mutex busy;  // held by the caller whose job it is

  std::mutex mutex;  // of all that follows, where it is written
  std::condition_variable wake, done;
  unsigned threads = 1;              // with the caller's
  std::atomic<uint64_t> jobs{0};     // so far
  Job* job = nullptr;                // null once its items are all taken: a thread that wakes late has nothing to do, and nobody waits for it
  unsigned wanted = 0;               // threads 1 .. wanted - 1 may take part
  std::atomic<unsigned> working{0};  // of which so many do

  void grow(unsigned to) {
    for (; threads < to; ++threads) try {
        std::thread([this, thread = threads, seen = jobs.load()] { serve(thread, seen); }).detach();
      } catch (const std::system_error&) {
        return;
      }
  }

  [[noreturn]] void serve(unsigned thread, uint64_t seen) {
    std::unique_lock lock(mutex);
    for (;;) {
      const auto news = [&] { return jobs.load() != seen; };
      if (thread < wanted) {
        lock.unlock();
        look_out(news);
        lock.lock();
      }
      wake.wait(lock, news);
      seen = jobs.load();
      if (job == nullptr || thread >= wanted) continue;
      Job* const mine = job;
      ++working;
      lock.unlock();
      mine->work(thread);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }

  void run(unsigned count, Job& todo) {
    std::unique_lock lock(mutex);
    grow(count);
    job = &todo;
    wanted = count;
    ++jobs;
    lock.unlock();
    wake.notify_all();
    todo.work(0);
    lock.lock();
    job = nullptr;
    const auto over = [&] { return working.load() == 0; };
    if (over()) return;
    lock.unlock();
    look_out(over);
    lock.lock();
    done.wait(lock, over);
  }
};

std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  static std::mutex making;
  Pool* found = the_pool.load();
  if (found != nullptr) return *found;
  const std::lock_guard lock(making);
#if defined(__unix__) || defined(__APPLE__)
  static const int once = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });  // a child has none of its threads
  static_cast<void>(once);
#endif
  if (the_pool.load() == nullptr) the_pool.store(new Pool);
  return *the_pool.load();
}

}  // namespace

void for_each(unsigned threads, size_t items, Item item, void* context) {
  const auto count = static_cast<unsigned>(std::min<size_t>({threads, items, kMaxThreads}));
  Job job{item, context, items};
  if (count <= 1) return job.work(0);
  Pool& shared = pool();
  const std::unique_lock mine(shared.busy, std::try_to_lock);
  if (mine.owns_lock())
    shared.run(count, job);
  else
    job.work(0);
}

}  // namespace doh::train
