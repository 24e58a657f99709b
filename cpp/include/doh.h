/* doh.h: the decoder's C interface: info, decode, decode a box of any grid. docs/format.md defines the bytes.
 *
 * The caller owns all memory; no function allocates, throws, keeps state or touches a file. Every function may be called from several threads at
 * once (but where no kernel is named the environment is read: not while another thread changes it). Results are the same bits on every machine.
 * Functions return DOH_OK (0) or a negative error; on an error nothing in `dst` may be relied on.
 *
 *     doh_info info;
 *     int e = doh_read_info(data, size, NULL, &info);                  checks everything but the codes; info.samples_bytes is the size of the result
 *     e = doh_decode(data, size, NULL, dst, dst_size, work, work_size); work: doh_workspace_size() bytes
 */
#ifndef DOH_H
#define DOH_H

#include <stddef.h>
#include <stdint.h>

#define DOH_VERSION "0.1.0"
#define DOH_FORMAT_VERSION 2 /* the newest; older ones are read too */
#define DOH_MAX_DIMS 4

#if defined(_WIN32) && defined(DOH_SHARED)
#  ifdef DOH_BUILDING
#    define DOH_API __declspec(dllexport)
#  else
#    define DOH_API __declspec(dllimport)
#  endif
#elif defined(__GNUC__)
#  define DOH_API __attribute__((visibility("default")))
#else
#  define DOH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* One list of errors: X(name, number, text). Numbers are never reused. */
#define DOH_ERRORS(X)                                                           \
  X(OK, 0, "no error")                                                          \
  X(TRUNCATED, -1, "the data ends before the header does")                      \
  X(BAD_MAGIC, -2, "this is not a .doh file")                                   \
  X(BAD_VERSION, -3, "a format version that this decoder does not know")        \
  X(BAD_CHECKSUM, -4, "the file's checksum does not match: it is damaged")      \
  X(BAD_VARINT, -5, "a variable-length integer is malformed")                   \
  X(BAD_SIGNAL, -6, "unknown signal kind, sample type or number of dimensions") \
  X(BAD_SHAPE, -7, "a dimension of the signal is out of range")                 \
  X(BAD_NETWORK, -8, "width, depth or encoding of the network is out of range") \
  X(BAD_GENERATOR, -9, "unknown generator or number of latents out of range")   \
  X(BAD_SCALE, -10, "a scale or a flag is out of range")                        \
  X(BAD_CODES, -11, "the entropy-coded codes are malformed")                    \
  X(BAD_SAMPLES, -12, "the decoded samples do not match the file's checksum")   \
  X(LIMIT_SAMPLES, -20, "more samples than the limit allows")                   \
  X(LIMIT_LATENTS, -21, "more latents than the limit allows")                   \
  X(LIMIT_WEIGHTS, -22, "more weights than the limit allows")                   \
  X(LIMIT_WORK, -23, "more work than the limit allows")                         \
  X(LIMIT_MEMORY, -24, "more workspace than the limit allows")                  \
  X(BAD_ARGUMENT, -30, "an argument is null or out of range")                   \
  X(BUFFER_TOO_SMALL, -31, "the output buffer is too small")                    \
  X(WORKSPACE_TOO_SMALL, -32, "the workspace is too small")                     \
  X(UNKNOWN_KERNEL, -33, "no such kernel on this machine")                      \
  X(CANCELLED, -34, "the caller ended the decode")

enum doh_error {
#define DOH_X(name, number, text) DOH_##name = number,
  DOH_ERRORS(DOH_X)
#undef DOH_X
};

enum doh_signal { DOH_ARRAY = 0, DOH_IMAGE = 1, DOH_OCCUPANCY = 2, DOH_AUDIO = 3, DOH_VOLUME = 4, DOH_VIDEO = 5 };
enum doh_sample_type { DOH_U1 = 0, DOH_U8 = 1, DOH_U16 = 2, DOH_S16 = 3 };
enum doh_generator { DOH_TIED = 0, DOH_DENSE = 1 };
enum doh_ladder { DOH_OCTAVES = 0, DOH_POWERS_OF_1_4 = 1 };

/* Limits and choices of a caller; a zero field means the default (docs/format.md, section 11). Zero-initialise it. */
typedef struct doh_options {
  uint64_t max_samples, max_latents, max_weights, max_work, max_memory;
  uint32_t threads;             /* 0 and 1: one thread. The result does not depend on it. */
  uint32_t reserved32;
  const char *kernel;           /* NULL: the one that the environment variable DOH_KERNEL names; "", or none named: the fastest one here */
  int (*cancel)(void *context); /* NULL, or asked again and again while decoding, by the calling thread: nonzero ends it with CANCELLED. It must
                                   return: an exception or longjmp out of it would leave other threads in a stack that is gone. */
  void *cancel_context;
  uint64_t reserved[6];
} doh_options;

/* What a header says. Version 1 holds one network; version 2, a mosaic, one for each of several boxes of the signal: then width and depth are the
 * largest of any network, latents and weights sums over all, and flags and shifts 0. */
typedef struct doh_info {
  uint32_t version;             /* of the file */
  uint32_t signal, sample_type; /* enum doh_signal, enum doh_sample_type */
  uint32_t dims, channels;
  uint64_t shape[DOH_MAX_DIMS]; /* slowest first; unused entries are 1 */
  uint32_t width, depth, frequencies, ladder;
  uint32_t generator, latents;
  uint64_t seed;
  uint64_t weights;             /* D, the weights of the target network */
  uint64_t points, samples_bytes; /* grid points; bytes of the decoded default grid */
  uint64_t work;                /* of a full decode, about multiply-adds: what max_work limits */
  uint32_t bytes_per_sample;    /* 1 or 2; two-byte samples are written in the machine's byte order */
  uint32_t latent_shift, bias_shift, flags;
  uint32_t samples_crc, file_crc;
  uint64_t header_bytes, payload_bytes;
  uint32_t parts[DOH_MAX_DIMS];              /* boxes along each dimension; 1s in version 1 */
  uint32_t part_latents, part_weights;       /* the largest n and D of any network; with width and depth they size a workspace */
  uint64_t reserved[5];
} doh_info;

/* A box of a grid: grid[t] points over the signal's extent in dimension t, of which offset[t] .. offset[t] + extent[t] - 1 are decoded. */
typedef struct doh_region {
  uint64_t grid[DOH_MAX_DIMS], offset[DOH_MAX_DIMS], extent[DOH_MAX_DIMS];
} doh_region;

/* Reads and checks the header and the file's checksum; judges the limits for the default grid: for a small box of a large one give it larger
 * max_samples and max_work, and doh_decode_region those that are meant. `options` may be NULL. */
DOH_API int doh_read_info(const void *data, size_t size, const doh_options *options, doh_info *info);

/* The workspace, in bytes, that decoding with these options needs (it grows with options->threads, not with the region). Any alignment will do. */
DOH_API int doh_workspace_size(const doh_info *info, const doh_options *options, size_t *bytes);

/* Decodes the default grid into dst (row-major, channels last; info.samples_bytes) and checks the samples' checksum. */
DOH_API int doh_decode(const void *data, size_t size, const doh_options *options, void *dst, size_t dst_size, void *work, size_t work_size);

/* Decodes a box of a grid: equal to the same samples of the decode of that whole grid, at a cost in proportion to the box, and that of making
 * the weights: once a call, for each network with points in the box. */
DOH_API int doh_decode_region(const void *data, size_t size, const doh_options *options, const doh_region *region, void *dst, size_t dst_size,
                              void *work, size_t work_size);

DOH_API const char *doh_error_name(int error);    /* "BAD_MAGIC"; "UNKNOWN" for a number that is none */
DOH_API const char *doh_error_text(int error);    /* one sentence for people */
DOH_API const char *doh_version(void);            /* DOH_VERSION of the library */

#ifdef __cplusplus
}
#endif
#endif
