// doh.h's errors -> the exception DohError, with the attributes `name` and `number`.
#include <string>

#include "common.h"

namespace doh::bindings {

void bind_errors(nb::module_& m) {
  nb::object type = nb::steal(PyErr_NewExceptionWithDoc("doh._core.DohError",
                                                        "A file that cannot be decoded, or a limit or argument that stands in the way. `name` is the "
                                                        "error's name (docs/format.md, section 12), `number` its number.",
                                                        PyExc_ValueError, nullptr));
  if (!type.is_valid()) throw nb::python_error();
  m.attr("DohError") = type;

  nb::register_exception_translator(
      [](const std::exception_ptr& p, void* payload) {
        try {
          std::rethrow_exception(p);
        } catch (const Error& e) {
          const std::string message = std::string(doh_error_name(e.number)) + ": " + doh_error_text(e.number);
          nb::object error = nb::handle(static_cast<PyObject*>(payload))(message);
          error.attr("name") = doh_error_name(e.number);
          error.attr("number") = e.number;
          PyErr_SetObject(static_cast<PyObject*>(payload), error.ptr());
        }
      },
      type.release().ptr());  // the module never goes away before its translator
}

doh_options options_of(const std::optional<nb::dict>& limits) {
  doh_options options{};
  if (!limits) return options;
  for (const auto& [key, value] : *limits) {
    const auto name = value_of<std::string>(key, "the name of a limit");
    uint64_t* const field = name == "max_samples"   ? &options.max_samples
                            : name == "max_latents" ? &options.max_latents
                            : name == "max_weights" ? &options.max_weights
                            : name == "max_work"    ? &options.max_work
                            : name == "max_memory"  ? &options.max_memory
                                                    : nullptr;
    if (field == nullptr) throw nb::key_error(("unknown limit " + name).c_str());
    *field = value_of<uint64_t>(value, name);
  }
  return options;
}

}  // namespace doh::bindings
