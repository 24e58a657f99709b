/* doh.h and doh_write.h alone, as C99, and a decoder linked without a C++ run-time library. */
#include "doh.h"

#include "doh_write.h"

#include <stdio.h>
#include <string.h>

int main(void) {
  /* A model of one weight per layer; its file is decoded. */
  const doh_scale scales[2] = {{0, 4, 10}, {0, 4, 10}};
  const int32_t latent = 100, bias = 3, output_bias = 2000;
  doh_model model;
  doh_info info;
  uint8_t file[1024], work[65536], samples[6];
  size_t size = 0, work_size = 0;
  doh_region region;
  memset(&model, 0, sizeof model);
  memset(&region, 0, sizeof region);
  model.sample_type = DOH_U8;
  model.dims = 1;
  model.channels = 1;
  model.shape[0] = 6;
  model.width = model.depth = model.latents = 1;
  model.scale_count = 2;
  model.scales = scales;
  model.bias_e = 10;
  model.latent_shift = model.bias_shift = DOH_PICK_SHIFT;
  model.latent_codes = &latent;
  model.bias_codes = &bias;
  model.output_bias_codes = &output_bias;
  region.grid[0] = region.extent[0] = 6;
  if (doh_write(&model, file, sizeof file, &size) != DOH_OK) return 1;
  if (doh_read_info(file, size, NULL, &info) != DOH_OK || info.points != 6) return 2;
  if (doh_workspace_size(&info, NULL, &work_size) != DOH_OK || work_size > sizeof work) return 3;
  if (doh_decode_region(file, size, NULL, &region, samples, sizeof samples, work, work_size) != DOH_OK) return 4;
  if (doh_decode(file, size, NULL, samples, sizeof samples, work, work_size) != DOH_BAD_SAMPLES) return 5;
  printf("%s %s\n", doh_version(), doh_error_name(DOH_BAD_SAMPLES));
  return 0;
}
