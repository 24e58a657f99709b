// Status: DOH_OK or one of the negative errors of doh.h. Functions return early with DOH_TRY and DOH_REQUIRE.
#pragma once

#include "doh.h"

namespace doh {

using Status = int;

}  // namespace doh

// Returns the status of `expr` from the calling function unless it is DOH_OK.
#define DOH_TRY(expr)                                                                                 \
  do {                                                                                                \
    if (const ::doh::Status doh_try_status = (expr); doh_try_status != DOH_OK) return doh_try_status; \
  } while (0)

// Returns `error` from the calling function unless `condition` holds.
#define DOH_REQUIRE(condition, error) \
  do {                                \
    if (!(condition)) return error;   \
  } while (0)
