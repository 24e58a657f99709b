// The tests' own framework: TEST defines one, CHECK and CHECK_EQ count what fails in it; main.cpp runs them all.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& all_tests() {
  static std::vector<Test> tests;
  return tests;
}

inline int& failures() {
  static int count = 0;
  return count;
}

inline void report(bool good, const char* file, int line, const std::string& what) {
  if (good) return;
  if (++failures() <= 50) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <class A, class B>
void check_equal(const A& a, const B& b, const char* file, int line, const char* text) {
  if (a == b) return;
  std::ostringstream what;
  what << text << ": " << a << " and " << b;
  report(false, file, line, what.str());
}

#define CHECK(condition) report(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) check_equal(a, b, __FILE__, __LINE__, #a " == " #b)
#define TEST(name)                                                                           \
  static void test_##name();                                                                 \
  static const bool registered_##name = (all_tests().push_back({#name, test_##name}), true); \
  static void test_##name()
