// Target regions: code between DOH_TARGET_BEGIN("avx2") and DOH_TARGET_END may use that target's instructions, and no other code does.
// Flags for a whole file would leak: an inline function that two files share could be emitted with instructions that the machine lacks. So all
// headers come before the region, and all that is inside it is local to its file.
#pragma once

#define DOH_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define DOH_TARGET_BEGIN(features) DOH_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define DOH_TARGET_END _Pragma("clang attribute pop")
#else
#define DOH_TARGET_BEGIN(features) _Pragma("GCC push_options") DOH_PRAGMA(GCC target(features))
#define DOH_TARGET_END _Pragma("GCC pop_options")
#endif

// Bring to the cache what will be read soon.
#if defined(__GNUC__)
#define DOH_PREFETCH(address) __builtin_prefetch(address)
#else
#define DOH_PREFETCH(address) static_cast<void>(address)
#endif

// Before a loop over a small constant number of vectors: its array is then nothing but registers.
#if defined(__clang__)
#define DOH_UNROLL DOH_PRAGMA(clang loop unroll(full))
#else
#define DOH_UNROLL DOH_PRAGMA(GCC unroll 16)
#endif
