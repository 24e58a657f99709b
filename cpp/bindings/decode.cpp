// Decoding into a caller's array.
#include <chrono>
#include <vector>

#include "common.h"
#include "decode/decode.h"
#include "format/read.h"
#include "net/kernels.h"

namespace doh::bindings {
namespace {

using Samples = nb::ndarray<nb::c_contig, nb::device::cpu>;  // not const: nanobind refuses read-only arrays
using Tuple = std::optional<std::vector<uint64_t>>;

// The region named by grid, offset, extent: absent ones mean the file's own grid, the origin, and the rest of the grid.
doh_region region_of(const Header& h, const Tuple& grid, const Tuple& offset, const Tuple& extent) {
  doh_region region{};
  for (const Tuple* tuple : {&grid, &offset, &extent})
    if (*tuple && (*tuple)->size() != h.dims) throw nb::value_error("grid, offset and extent have one number for each dimension of the signal");
  for (uint32_t t = 0; t < h.dims; ++t) {
    region.grid[t] = grid ? (*grid)[t] : h.shape[t];
    region.offset[t] = offset ? (*offset)[t] : 0;
    region.extent[t] = extent ? (*extent)[t] : region.grid[t] - region.offset[t];  // an offset beyond the grid wraps: BAD_ARGUMENT
  }
  return region;
}

void check_samples(const Header& h, const Samples& out) {
  const bool fits = h.bytes_per_sample() == 1  ? out.dtype() == nb::dtype<uint8_t>()
                    : h.sample_type == DOH_S16 ? out.dtype() == nb::dtype<int16_t>()
                                               : out.dtype() == nb::dtype<uint16_t>();
  if (!fits) throw nb::type_error("out must be uint8 for u1 and u8, uint16 for u16, int16 for s16");
}

// A checked file, and what is to be decoded from it within the limits.
struct Request {
  File file;
  doh_options options;
  bool whole;  // the default grid, whose samples have a checksum
  doh_region region;
  size_t workspace;  // bytes
  uint64_t samples;  // bytes

  Request(const Bytes& data, const std::optional<nb::dict>& limits, const Tuple& grid, const Tuple& offset, const Tuple& extent, uint32_t threads)
      : options(options_of(limits)), whole(!grid && !offset && !extent) {
    options.threads = threads;
    check(read_file(span_of(data), file));
    region = region_of(file.header, grid, offset, extent);
    check(decode_needs(file, &options, whole ? nullptr : &region, workspace, samples));
  }
};

using Clock = std::chrono::steady_clock;

// Whether a signal handler of Python raises, that of Ctrl-C above all. To ask takes the GIL: twenty times a second are enough.
int interrupted(void* next) {
  auto& due = *static_cast<Clock::time_point*>(next);
  if (Clock::now() < due) return 0;
  const nb::gil_scoped_acquire acquire;
  const int raised = PyErr_CheckSignals();
  due = Clock::now() + std::chrono::milliseconds(50);
  return raised;
}

void check_region(const Bytes& data, const std::optional<nb::dict>& limits, const Tuple& grid, const Tuple& offset, const Tuple& extent) {
  Request(data, limits, grid, offset, extent, 1);
}

void decode_into(const Bytes& data, const Samples& out, const std::optional<nb::dict>& limits, const Tuple& grid, const Tuple& offset,
                 const Tuple& extent, uint32_t threads, const std::optional<std::string>& kernel) {
  Request request(data, limits, grid, offset, extent, threads);
  check_samples(request.file.header, out);
  if (out.nbytes() > request.samples) throw nb::value_error("out is larger than the decoded samples");
  request.options.kernel = kernel ? kernel->c_str() : nullptr;
  const auto workspace = buffer(request.workspace);
  auto due = Clock::now() + std::chrono::milliseconds(50);
  request.options.cancel = interrupted;
  request.options.cancel_context = &due;
  int status = DOH_OK;
  {
    nb::gil_scoped_release release;
    status = request.whole ? doh_decode(data.data(), data.size(), &request.options, out.data(), out.nbytes(), workspace.get(), request.workspace)
                           : doh_decode_region(data.data(), data.size(), &request.options, &request.region, out.data(), out.nbytes(), workspace.get(),
                                               request.workspace);
  }
  if (status == DOH_CANCELLED) throw nb::python_error();
  check(status);
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const Kernel& kernel : all_kernels())
    if (kernel.available()) names.emplace_back(kernel.name);
  return names;
}

}  // namespace

void bind_decode(nb::module_& m) {
  m.def("decode", &decode_into, nb::arg("data").noconvert(), nb::arg("out").noconvert(), nb::arg("limits") = nb::none(), nb::arg("grid") = nb::none(),
        nb::arg("offset") = nb::none(), nb::arg("extent") = nb::none(), nb::arg("threads") = 1, nb::arg("kernel") = nb::none(),
        nb::sig("def decode(data: " DOH_BYTES ", out: numpy.typing.NDArray[typing.Any], " DOH_LIMITS ", " DOH_BOX
                ", threads: int = 1, kernel: str | None = None) -> None"),
        "Fills `out` (C-contiguous, box and channels, uint8, uint16 or int16 as the file's samples) with the decoded samples: the default grid, "
        "whose checksum is compared, or the box offset, extent of a grid (tuples, one number for each dimension). Releases the GIL; in the main "
        "thread a signal handler that raises ends it. Raises DohError.");
  m.def("check_region", &check_region, nb::arg("data").noconvert(), nb::arg("limits") = nb::none(), nb::arg("grid") = nb::none(),
        nb::arg("offset") = nb::none(), nb::arg("extent") = nb::none(),
        nb::sig("def check_region(data: " DOH_BYTES ", " DOH_LIMITS ", " DOH_BOX ") -> None"),
        "Checks a file's header, a box (absent: the default grid) and the limits for it, as decode does before it decodes. Raises DohError.");
  m.def("kernels", &kernels, "The names of the kernels that run on this machine, best first.");
  m.def("version", [] { return std::string(doh_version()); }, "The version of the core.");
}

}  // namespace doh::bindings
