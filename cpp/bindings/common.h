// What all binding files share: nanobind, array aliases, errors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "doh.h"

namespace nb = nanobind;

namespace doh::bindings {

// Read-only inputs. Always taken with .noconvert(): a conversion would copy and cut numbers without a word.
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Numpy = nb::ndarray<nb::numpy, T>;

// Types of arguments and results in signatures, for the stub.
#define DOH_BYTES "bytes | bytearray | memoryview | mmap.mmap | numpy.typing.NDArray[numpy.uint8]"
#define DOH_LIMITS "limits: dict[str, int] | None = None"
#define DOH_BOX                                                                                                                                      \
  "grid: collections.abc.Sequence[int] | None = None, offset: collections.abc.Sequence[int] | None = None, extent: collections.abc.Sequence[int] | " \
  "None = None"

inline std::span<const uint8_t> span_of(const Bytes& bytes) { return {bytes.data(), bytes.size()}; }

// A Python object as a T, without conversion; `what` names it in the TypeError. (Not `cast`: nanobind has one, which would be found first.)
template <class T>
T value_of(nb::handle object, const std::string& what) {
  T value;
  if (!nb::try_cast<T>(object, value, false)) throw nb::type_error((what + " has the wrong type or is out of range").c_str());
  return value;
}

// An error of doh.h, raised in Python as DohError.
struct Error {
  int number;
};

inline void check(int status) {
  if (status != DOH_OK) throw Error{status};
}

// A new array of `shape` that owns its memory; its elements are not initialised.
template <class T>
struct NewArray {
  T* data;
  Numpy<T> array;

  explicit NewArray(std::initializer_list<size_t> shape) {
    size_t size = 1;
    for (const size_t extent : shape) size *= extent;
    data = new T[size == 0 ? 1 : size];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    array = Numpy<T>(data, shape, owner);
  }
};

// Memory for a workspace or a result, not initialised: pages that are never touched cost nothing.
inline std::unique_ptr<uint8_t[]> buffer(size_t bytes) { return std::unique_ptr<uint8_t[]>(new uint8_t[bytes]); }

// A caller's limits (a dict with keys of doh_options, or None) as options.
doh_options options_of(const std::optional<nb::dict>& limits);

void bind_errors(nb::module_& m);
void bind_format(nb::module_& m);
void bind_decode(nb::module_& m);
void bind_generate(nb::module_& m);

}  // namespace doh::bindings
