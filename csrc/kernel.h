/* kernel.h - sums and extremes of a short run of numbers: one body (kernel_body.h), compiled for each instruction set.
 *
 * Element i goes to lane i % 16, each lane is added up in order, and lanes are folded in halves: so an instruction set of any width, and
 * plain C, give the same bits. A fused multiply-add is used where the product is exact in double (squares of float32 and narrower), and
 * nowhere else: it rounds as the two would.
 * All are of at most PTH_RUN elements, one at least, and of finite ones: where one is not, `l1` is not finite, and nothing else is said. */
#ifndef PTH_KERNEL_H
#define PTH_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu.h"

/* What must be part of its caller, to be compiled for the caller's instruction set. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static __forceinline
#endif

#define PTH_RUN 4096u
#define PTH_LANES 16u

typedef struct pth_sums {
  double sum, l1, square; /* of x, |x| and x*x */
  double min, max, least; /* least: the smallest |x| */
} pth_sums;

/* Of pairs (x, y): |x - y|; its share of the larger of |x| and |y|, 0 of two zeros; x*y, x*x, y*y, and the square of x - y.
 * far: the largest |x - y| - (atol + rtol * |y|): where it is above zero, some pairs are not close. */
typedef struct pth_pair_sums {
  double sum, most, relative, most_relative, dot, aa, bb, dd, far;
} pth_pair_sums;
typedef struct pth_tolerance {
  double rtol, atol; /* finite, and not below zero */
  bool equal_nan;
} pth_tolerance;

/* What is added up: names of defs/dtypes.def, and below them what their elements are turned into. */
enum pth_number {
  PTH_N_F64,
  PTH_N_F32,
  PTH_N_F16,
  PTH_N_BF16,
  PTH_N_I16,
  PTH_N_U16,
  PTH_N_I32,
  PTH_N_U32,
  PTH_N_I64,
  PTH_N_U64,
  PTH_N_NUMBERS
};

typedef struct pth_kernel {
  /* of F64, F32, F16 and BF16; others are turned into doubles first */
  void (*sums)(enum pth_number kind, const void *data, uint32_t n, pth_sums *out);
  /* sum of x - mean, and of its square: in that order */
  void (*spread)(enum pth_number kind, const void *data, uint32_t n, double mean, double out[2]);
  void (*doubles)(enum pth_number kind, const void *data, uint32_t n, double *out);
  /* codes that are zero, and those above it and below `normal`: bits without the sign; `width`: 2, 4 or 8 bytes */
  void (*small)(uint32_t width, const void *data, uint32_t n, uint64_t normal, uint32_t out[2]);
  /* of F64, F32, F16 and BF16. Where a number is not finite, or a square is beyond a double, aa + bb is not finite, and nothing else is said */
  void (*pair)(enum pth_number kind, const void *a, const void *b, uint32_t n, const pth_tolerance *t, pth_pair_sums *out);
  /* finite ones that are equal, and the most steps between neighbours from one to the other (ULP); `width`: 2, 4 or 8 bytes */
  void (*steps)(uint32_t width, const void *a, const void *b, uint32_t n, uint64_t out[2]);
} pth_kernel;

/* NULL: this build has none for it. */
const pth_kernel *pth_kernel_of(enum pth_isa isa);
extern const pth_kernel pth_kernel_baseline, pth_kernel_avx2, pth_kernel_avx512;

/* A number of half precision, exactly. */
static inline float pth_half(uint16_t h) {
  /* The exponent moves by 112 by a product: so that subnormal ones come out right as well. */
  union {
    uint32_t bits;
    float value;
  } x = {(uint32_t)(h & 0x7fff) << 13}, scale = {0x77800000}; /* 2^112 */
  bool special = (h & 0x7c00) == 0x7c00;
  x.value *= scale.value;
  if (special) x.bits |= 0x7f800000;
  x.bits |= (uint32_t)(h & 0x8000) << 16;
  return x.value;
}

static inline float pth_brain(uint16_t h) {
  union {
    uint32_t bits;
    float value;
  } x = {(uint32_t)h << 16};
  return x.value;
}

#endif
