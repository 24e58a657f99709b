// Runs a fuzz target over files, without a fuzzer: `replay FILE|FOLDER...`. A target aborts where something is wrong.
#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "../cpp/known.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// The path, or the files in it where it is a folder; nothing where it does not exist.
std::vector<std::string> files_of(const std::string& path) {
  std::vector<std::string> files;
  if (DIR* const folder = opendir(path.c_str())) {
    while (const dirent* const entry = readdir(folder))
      if (entry->d_name[0] != '.') files.push_back(path + "/" + entry->d_name);
    closedir(folder);
  } else if (std::FILE* const file = std::fopen(path.c_str(), "rb")) {
    std::fclose(file);
    files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i)
    for (const std::string& name : files_of(argv[i])) {
      const std::vector<uint8_t> read = read_file(name);
      const std::vector<uint8_t> bytes(read.begin(), read.end());  // without room to spare behind it
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++count;
    }
  std::printf("%zu files\n", count);
  return count == 0;
}
