/* The kernels by themselves: how many bytes a second one core takes the figures of, for each type and instruction set, out of its cache and
 * out of memory; beside the plain sum of the same bytes, and the plain read of a file.
 *
 *   cc -std=c11 -O3 -fno-trapping-math -ffp-contract=off -Icsrc bench/bench_native.c csrc/stats.c csrc/cpu.c csrc/kernel_*.c -lm -o native
 *   ./native [FILE]
 *
 * Records of all instruction sets are compared before anything is timed. Each rate is that of the median of RUNS passes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "stats.h"
#include "tensor.h"

enum { RUNS = 9, SMALL = 1 << 19, LARGE = 1 << 28 };

static const struct {
  const char *name;
  uint32_t type;
} TYPES[] = {
    {"float64", PTH_DT_FLOAT64}, {"float32", PTH_DT_FLOAT32},     {"bfloat16", PTH_DT_BFLOAT16}, {"float16", PTH_DT_FLOAT16},
    {"int32", PTH_DT_INT32},     {"complex64", PTH_DT_COMPLEX64}, {"uint8", PTH_DT_UINT8},       {"float8_e4m3fn", PTH_DT_FLOAT8_E4M3FN}};
enum { N_TYPES = sizeof TYPES / sizeof TYPES[0] };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* All of the data as one tensor; gives its records. */
static void pass(const pth_kernel *k, uint32_t type, const uint8_t *data, size_t len, bool bins, pth_stats out[3]) {
  static uint64_t counts[PTH_MAGNITUDES];
  pth_codes codes;
  pth_stats piece[3];
  pth_piece p = {.type = type, .n = 1 << 16};
  size_t step = (size_t)pth_piece_bytes(&p);
  if (pth_reading_of(type) == PTH_R_CODES) pth_codes_of(&codes, type, 0);
  for (int i = 0; i < 3; i++) pth_stats_start(&out[i]);
  for (size_t at = 0; at + step <= len; at += step) {
    pth_stats_piece(k, &p, data + at, &codes, piece, bins ? counts : NULL);
    pth_stats_fold(&out[0], &piece[0], false);
  }
}

static double rate(const pth_kernel *k, uint32_t type, const uint8_t *data, size_t len, bool bins) {
  double times[RUNS];
  pth_stats out[3];
  int repeats = len < LARGE ? 64 : 1;
  for (int r = 0; r < RUNS; r++) {
    double start = now();
    for (int i = 0; i < repeats; i++) pass(k, type, data, len, bins, out);
    times[r] = now() - start;
  }
  qsort(times, RUNS, sizeof *times, by_size);
  return (double)len * repeats / times[RUNS / 2] / 1e9;
}

static double plain_sum(const uint8_t *data, size_t len) {
  double times[RUNS];
  volatile uint64_t kept;
  for (int r = 0; r < RUNS; r++) {
    double start = now();
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 64 <= len; i += 64) {
      uint64_t x[8];
      memcpy(x, data + i, 64);
      for (int l = 0; l < 8; l++) sum[l] += x[l];
    }
    kept = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
    times[r] = now() - start;
  }
  (void)kept;
  qsort(times, RUNS, sizeof *times, by_size);
  return (double)len / times[RUNS / 2] / 1e9;
}

static void plain_read(const char *path) {
  enum { BUFFER = 1 << 20 };
  int fd = open(path, O_RDONLY);
  uint8_t *buffer = malloc(BUFFER);
  double times[RUNS], size = 0;
  for (int r = 0; fd >= 0 && buffer && r < RUNS; r++) {
    double start = now();
    size = 0;
    for (ssize_t n, at = 0; (n = pread(fd, buffer, BUFFER, at)) > 0; at += n) size += (double)n;
    times[r] = now() - start;
  }
  if (fd < 0 || !buffer) {
    printf("%s: cannot be read\n", path);
    return;
  }
  qsort(times, RUNS, sizeof *times, by_size);
  printf("plain read of %s, one thread: %.1f GB/s\n", path, size / times[RUNS / 2] / 1e9);
  free(buffer);
  close(fd);
}

int main(int argc, char **argv) {
  uint8_t *data = aligned_alloc(64, LARGE);
  uint64_t x = 88172645463325252u;
  if (!data) return 1;
  enum pth_isa best = pth_cpu_best();
  printf("GB/s of one core; cache: %d KiB, memory: %d MiB\n%-14s %-9s %7s %7s %10s\n", SMALL >> 10, LARGE >> 20, "type", "set", "cache",
         "memory", "histogram");
  for (int t = 0; t < N_TYPES; t++) {
    /* Numbers near one, as weights are: no code of them is special. */
    for (size_t i = 0; i < LARGE; i += 8) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      double d = (double)(int64_t)x / 9.3e18;
      float f[2] = {(float)d, (float)-d};
      uint32_t bits[2];
      memcpy(bits, f, 8);
      uint16_t half[4] = {(uint16_t)(bits[0] >> 16), (uint16_t)(bits[1] >> 16), (uint16_t)(bits[0] >> 16), (uint16_t)(bits[1] >> 16)};
      if (TYPES[t].type == PTH_DT_FLOAT16) {
        for (int l = 0; l < 4; l++) half[l] = (uint16_t)(0x2c00 + (x >> (8 * l) & 0x0fff));
      }
      const void *from = TYPES[t].type == PTH_DT_FLOAT64                                        ? (const void *)&d
                         : TYPES[t].type == PTH_DT_BFLOAT16 || TYPES[t].type == PTH_DT_FLOAT16  ? (const void *)half
                         : TYPES[t].type == PTH_DT_FLOAT32 || TYPES[t].type == PTH_DT_COMPLEX64 ? (const void *)f
                                                                                                : (const void *)&x;
      memcpy(data + i, from, 8);
    }
    pth_stats first[3], other[3];
    for (int isa = 0; isa <= (int)best; isa++) {
      const pth_kernel *k = pth_kernel_of((enum pth_isa)isa);
      pass(k, TYPES[t].type, data, SMALL, false, isa ? other : first);
      if (isa && memcmp(&first[0], &other[0], sizeof first[0])) {
        printf("%s: %s gives other bits\n", TYPES[t].name, pth_isa_names[isa]);
        return 1;
      }
      printf("%-14s %-9s %7.1f %7.1f %10.1f\n", TYPES[t].name, pth_isa_names[isa], rate(k, TYPES[t].type, data, SMALL, false),
             rate(k, TYPES[t].type, data, LARGE, false), rate(k, TYPES[t].type, data, SMALL, true));
    }
  }
  printf("plain sum of words: %.1f GB/s of memory\n", plain_sum(data, LARGE));
  if (argc > 1) plain_read(argv[1]);
  free(data);
  return 0;
}
