// Memory for tests that shows what is written or read outside it: pages without access on both sides where the system has them, and a pattern in the
// bytes between those pages and the memory itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#if defined(__unix__) || defined(__APPLE__)
#define DOH_GUARD_PAGES 1
#include <sys/mman.h>
#include <unistd.h>
#else
#define DOH_GUARD_PAGES 0
#endif

// Which side of the memory lies right at a page without access.
enum class Edge { kStart, kEnd };

// `count` values of T, filled with `fill`; of types without constructors. With Edge::kEnd, `shift` bytes are left before the guard (for other
// alignments).
template <class T>
class Guarded {
 public:
  Guarded(size_t count, Edge edge, uint8_t fill = kPattern, size_t shift = 0) : count_(count) {
    const size_t bytes = count * sizeof(T), page = page_size(), inner = (bytes + shift + page - 1) / page * page;
    whole_ = {allocate(inner + 2 * page), inner + 2 * page};
    usable_ = whole_.subspan(page, inner);
    data_ = usable_.data() + (edge == Edge::kStart ? shift : inner - bytes - shift);
    std::memset(usable_.data(), kPattern, usable_.size());
    protect(whole_.first(page));
    protect(whole_.last(page));
    std::memset(data_, fill, bytes);
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { release(); }

  T* data() const { return reinterpret_cast<T*>(data_); }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data()[i]; }
  T* begin() const { return data(); }
  T* end() const { return data() + count_; }

  // Whether the bytes around the memory still hold the pattern. (A page without access cannot be written at all.)
  bool intact() const {
    const uint8_t* const last = data_ + count_ * sizeof(T);
    for (const uint8_t* p = usable_.data(); p != usable_.data() + usable_.size(); ++p)
      if ((p < data_ || p >= last) && *p != kPattern) return false;
    return true;
  }

 private:
  static constexpr uint8_t kPattern = 0x5A;

#if DOH_GUARD_PAGES
  static size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
  static uint8_t* allocate(size_t bytes) {
    void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
  }
  static void protect(std::span<uint8_t> page) { mprotect(page.data(), page.size(), PROT_NONE); }
  void release() { munmap(whole_.data(), whole_.size()); }
#else
  static size_t page_size() { return 4096; }
  static uint8_t* allocate(size_t bytes) { return static_cast<uint8_t*>(::operator new(bytes)); }
  void protect(std::span<uint8_t> page) {  // no such pages: the pattern stands in for them
    std::memset(page.data(), kPattern, page.size());
    usable_ = whole_;
  }
  void release() { ::operator delete(whole_.data()); }
#endif

  size_t count_;
  std::span<uint8_t> whole_, usable_;
  uint8_t* data_ = nullptr;
};
