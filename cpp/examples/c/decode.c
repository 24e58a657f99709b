/* Decodes a .doh image of three channels to a PPM: decode IN.doh OUT.ppm. C99, linked without a C++ run-time library. */
#include <doh.h>
#include <stdio.h>
#include <stdlib.h>

/* The bytes of a file, to be freed; NULL when it cannot be read. */
static unsigned char *read_file(const char *name, size_t *size) {
  unsigned char *data = NULL;
  FILE *file = fopen(name, "rb");
  long end;
  if (file == NULL) return NULL;
  if (fseek(file, 0, SEEK_END) == 0 && (end = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0) {
    data = malloc((size_t)end + 1);
    *size = data == NULL ? 0 : fread(data, 1, (size_t)end, file);
  }
  fclose(file);
  return data;
}

static int write_ppm(const char *name, const doh_info *info, const unsigned char *samples) {
  FILE *file = fopen(name, "wb");
  size_t written;
  if (file == NULL) return 0;
  fprintf(file, "P6\n%llu %llu\n255\n", (unsigned long long)info->shape[1], (unsigned long long)info->shape[0]);
  written = fwrite(samples, 1, (size_t)info->samples_bytes, file);
  return fclose(file) == 0 && written == info->samples_bytes;
}

int main(int argc, char **argv) {
  doh_info info;
  doh_options options = {0};
  unsigned char *data, *samples = NULL, *work = NULL;
  size_t size = 0, work_size = 0;
  int e;
  if (argc != 3) return fprintf(stderr, "usage: decode IN.doh OUT.ppm\n"), 2;
  if ((data = read_file(argv[1], &size)) == NULL) return fprintf(stderr, "cannot read %s\n", argv[1]), 1;

  options.threads = 2;
  options.max_samples = 100u * 1000 * 1000; /* what this program is ready to hold; the other limits stay at their defaults */
  e = doh_read_info(data, size, &options, &info);
  if (e == DOH_OK) e = doh_workspace_size(&info, &options, &work_size);
  if (e == DOH_OK && (info.dims != 2 || info.channels != 3 || info.sample_type != DOH_U8)) {
    fprintf(stderr, "%s is no image of three 8-bit channels\n", argv[1]);
    e = DOH_BAD_ARGUMENT;
  } else if (e == DOH_OK) {
    samples = malloc((size_t)info.samples_bytes);
    work = malloc(work_size);
    if (samples == NULL || work == NULL) return fprintf(stderr, "not enough memory\n"), 1;
    e = doh_decode(data, size, &options, samples, (size_t)info.samples_bytes, work, work_size);
  }
  if (e != DOH_OK) fprintf(stderr, "%s: %s\n", doh_error_name(e), doh_error_text(e));
  if (e == DOH_OK && !write_ppm(argv[2], &info, samples)) e = 1, fprintf(stderr, "cannot write %s\n", argv[2]);
  free(work);
  free(samples);
  free(data);
  return e != DOH_OK;
}
