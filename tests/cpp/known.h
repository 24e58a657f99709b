// Reads files, and files of known answers: lines of words; lines that start with # are comments.
#pragma once

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

// With stdio: some WebAssembly libraries have no fstream. A file that cannot be read is empty.
inline std::vector<uint8_t> read_file(const std::string& path) {
  std::vector<uint8_t> bytes;
  if (std::FILE* const file = std::fopen(path.c_str(), "rb")) {
    uint8_t buffer[4096];
    while (const size_t count = std::fread(buffer, 1, sizeof buffer, file)) bytes.insert(bytes.end(), buffer, buffer + count);
    std::fclose(file);
  }
  return bytes;
}

inline std::vector<std::vector<std::string>> known_lines(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  std::istringstream file(std::string(bytes.begin(), bytes.end()));
  std::vector<std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    lines.emplace_back();
    for (std::string word; words >> word;) lines.back().push_back(word);
  }
  return lines;
}
