// The kernel table, and the choice among its entries.
#include "train/kernels.h"

#include <cstdlib>
#include <cstring>

namespace doh::train {

#define DOH_TRAIN_KERNEL(name, condition) extern const Kernel<float> kernel_##name;
#include "train/kernels.inc"
#undef DOH_TRAIN_KERNEL

namespace {

constexpr const Kernel<float>* kKernels[] = {
#define DOH_TRAIN_KERNEL(name, condition) &kernel_##name,
#include "train/kernels.inc"
#undef DOH_TRAIN_KERNEL
};

}  // namespace

std::span<const Kernel<float>* const> all_kernels() { return kKernels; }

const Kernel<float>* find_kernel(const char* name) {
  if (name == nullptr) name = std::getenv("DOH_TRAIN_KERNEL");
  const bool any = name == nullptr || *name == '\0';
  for (const Kernel<float>* kernel : kKernels)
    if ((any || std::strcmp(kernel->name, name) == 0) && kernel->available()) return kernel;
  return nullptr;
}

}  // namespace doh::train
