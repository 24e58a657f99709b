// Tests of doh_options.cancel: who is asked, what comes of it.
#include <algorithm>
#include <thread>
#include <vector>

#include "check.h"
#include "sample.h"

namespace {

struct Caller {
  std::thread::id thread = std::this_thread::get_id();
  int64_t left;  // questions to be answered with no
  int64_t asked = 0;
  bool elsewhere = false;

  static int ask(void* context) {
    Caller& caller = *static_cast<Caller*>(context);
    caller.elsewhere |= std::this_thread::get_id() != caller.thread;
    ++caller.asked;
    return caller.left-- <= 0;
  }
};

doh_options options_for(Caller& caller, uint32_t threads) {
  doh_options options{};
  options.threads = threads;
  options.cancel = Caller::ask;
  options.cancel_context = &caller;
  return options;
}

}  // namespace

TEST(a_decode_ends_when_its_caller_says_so) {
  Sample tied(1, {70, 300}, 3, 9, 3, 4, 200), dense(2, {40, 65}, 1, 30, 3, 4, 60, DOH_DENSE);
  MosaicSample mosaic = MosaicSample::random(3, {2, 3}, tied);
  for (const Bytes& file : {sealed(tied), sealed(dense), sealed(mosaic)}) {
    const Decoded plain = decode(file);
    CHECK_EQ(plain.error, DOH_OK);
    for (const uint32_t threads : {1u, 2u, 5u}) {
      Caller patient{.left = INT64_MAX};
      const doh_options never = options_for(patient, threads);
      const Decoded whole = decode(file, nullptr, &never);
      CHECK_EQ(whole.error, DOH_OK);
      CHECK(whole.samples == plain.samples);
      CHECK((patient.asked > 10 || threads > 1) && !patient.elsewhere);
      for (int64_t left : {int64_t{0}, int64_t{1}, patient.asked / 2, std::max<int64_t>(patient.asked, 1) - 1}) {
        Caller caller{.left = left};
        const doh_options options = options_for(caller, threads);
        const bool cancelled = decode(file, nullptr, &options).error == DOH_CANCELLED;
        CHECK(!caller.elsewhere);
        // Of several threads others may have done all before the caller's asks a second time. After a yes it does not ask again.
        CHECK(cancelled ? caller.asked == left + 1 : threads > 1 && caller.asked <= left);
      }
    }
  }
}
