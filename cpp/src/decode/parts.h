// The networks of a file that a box needs.
#pragma once

#include "base/status.h"
#include "decode/box.h"
#include "format/read.h"

namespace doh {

// Calls visit(part, box) for each network with points in `whole`, and the box of these points, in the order of the file; stops at the first error.
template <class Visit>
[[nodiscard]] Status for_parts(const File& file, const Box& whole, Visit&& visit) {
  PartReader parts(file);
  for (uint32_t i = 0; i < file.part_count; ++i) {
    DOH_TRY(parts.next());
    Box box;
    if (box_of_part(whole, i, box)) DOH_TRY(visit(parts.part(), box));
  }
  return DOH_OK;
}

}  // namespace doh
