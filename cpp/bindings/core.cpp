// The extension module doh._core: the C++ core as Python sees it.
#include "common.h"

NB_MODULE(_core, m) {
  m.doc() = "The integer core of doh: files, codes, generators and the decoder. doh.container and doh.codec are the interfaces for people.";
  doh::bindings::bind_errors(m);
  doh::bindings::bind_format(m);
  doh::bindings::bind_decode(m);
  doh::bindings::bind_generate(m);
}
