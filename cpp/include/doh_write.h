/* doh_write.h: the writer's C interface: numbers of a model -> bytes of a .doh file. docs/format.md defines the bytes; errors are those of doh.h.
 *
 * A separate library from the decoder. As there, the caller owns all memory, nothing is allocated and no state is kept. */
#ifndef DOH_WRITE_H
#define DOH_WRITE_H

#include "doh.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DOH_PICK_SHIFT 255

/* A layer's scale: weight = (W_int * (2048 + m) + rounding) >> r, with q bits of weight precision. */
typedef struct doh_scale {
  uint32_t m, r, q;
} doh_scale;

/* A whole file but its checksums' values. Zero-initialise it. The codes are read only where the other fields are valid. */
typedef struct doh_model {
  uint32_t signal, sample_type;
  uint32_t dims, channels;
  uint64_t shape[DOH_MAX_DIMS];
  uint32_t width, depth, frequencies, ladder;
  uint32_t generator, latents;
  uint64_t seed;
  uint32_t flags;                       /* bit 0: one scale for each layer; bit 2: latents on the trellis */
  uint32_t scale_count;                 /* must be what flags and depth ask for (docs/format.md, section 2), else BAD_SCALE */
  const doh_scale *scales;
  uint32_t bias_m, bias_e;
  uint32_t latent_shift, bias_shift;    /* 0 to 15, or DOH_PICK_SHIFT: the one that makes the file smallest */
  const int32_t *latent_codes;          /* latents of them; all codes lie in [-32768, 32767]. On the trellis: the latents (docs/format.md,
                                           section 3.1), else BAD_CODES */
  const int32_t *bias_codes;            /* depth * width, layer by layer */
  const int32_t *output_bias_codes;     /* channels */
  uint32_t samples_crc;
  uint64_t reserved[8];
} doh_model;

/* A number of bytes that holds the file of any model with these sizes. */
DOH_API int doh_write_bound(const doh_model *model, size_t *bytes);

/* Writes the file into dst and its length into *written. Fields are checked as a reader would: a file that is written can be read. */
DOH_API int doh_write(const doh_model *model, void *dst, size_t dst_size, size_t *written);

/* The same for a mosaic: the signal is cut into parts[0] x parts[1] .. equal boxes (one number for each dimension), each with a network of its own.
 * `models` are theirs, row-major. They agree in signal, sample_type, dims, channels, shape, frequencies, ladder, generator and seed, which the file
 * holds once, else BAD_ARGUMENT; samples_crc is that of the first. */
DOH_API int doh_write_mosaic_bound(const doh_model *models, const uint32_t *parts, size_t *bytes);
DOH_API int doh_write_mosaic(const doh_model *models, const uint32_t *parts, void *dst, size_t dst_size, size_t *written);

/* Replaces the samples' checksum of a valid file, and with it the file's own. */
DOH_API int doh_set_samples_crc(void *data, size_t size, uint32_t samples_crc);

#ifdef __cplusplus
}
#endif
#endif
