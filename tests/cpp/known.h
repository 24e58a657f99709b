// Reads files, and files of known answers: lines of words; lines that start with # are comments.
#pragma once

#include <cstdint>
#include <cstdio>
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

// Without streams, whose code in the C++ library MemorySanitizer cannot see.
inline std::vector<std::vector<std::string>> known_lines(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  std::vector<std::vector<std::string>> lines;
  for (size_t at = 0; at < bytes.size(); ++at) {  // a line a turn
    std::vector<std::vector<char>> words(1);
    for (; at < bytes.size() && bytes[at] != '\n'; ++at) {
      const bool space = bytes[at] == ' ' || bytes[at] == '\t' || bytes[at] == '\r';
      if (!space) words.back().push_back(static_cast<char>(bytes[at]));
      if (space && !words.back().empty()) words.emplace_back();
    }
    if (words.back().empty()) words.pop_back();
    if (words.empty() || words[0][0] == '#') continue;
    lines.emplace_back();
    for (const auto& word : words) lines.back().emplace_back(word.begin(), word.end());
  }
  return lines;
}
