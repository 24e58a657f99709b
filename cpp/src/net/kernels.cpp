// The kernel table, and the choice among its entries.
#include "net/kernels.h"

#include <cstdlib>
#include <cstring>

#include "net/cpu.h"

namespace doh {
namespace {

constexpr Kernel kKernels[] = {
#define DOH_KERNEL(name, condition, dense, blocks) {#name, [] { return condition; }, forward_##name, dense_sum_##dense, blocks},
#include "net/kernels.inc"
#undef DOH_KERNEL
};

}  // namespace

std::span<const Kernel> all_kernels() { return kKernels; }

const Kernel* find_kernel(const char* name) {
#ifndef DOH_NO_ENVIRONMENT  // a WebAssembly module would have to import it
  if (name == nullptr) name = std::getenv("DOH_KERNEL");
#endif
  const bool any = name == nullptr || *name == '\0';
  for (const Kernel& kernel : kKernels)
    if ((any || std::strcmp(kernel.name, name) == 0) && kernel.available()) return &kernel;
  return nullptr;
}

}  // namespace doh
