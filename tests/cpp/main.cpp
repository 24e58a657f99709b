// Runs all tests, or those whose names contain one of the arguments.
#include <cstring>

#include "check.h"

int main(int argc, char** argv) {
  int run = 0;
  for (const Test& test : all_tests()) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::strstr(test.name, argv[i]) != nullptr;
    if (!wanted) continue;
    const int before = failures();
    test.run();
    ++run;
    if (failures() != before) std::fprintf(stderr, "FAILED %s\n", test.name);
  }
  std::printf("%d tests, %d failures\n", run, failures());
  return failures() != 0 || run == 0;
}
