/* kernel_body.h - the one body of the kernels. A file for each instruction set includes it, after it has defined
 *
 *   F, FL   a register of floats, and how many they are: 16, or a part of that      D, DL   the same of doubles
 *   f_load f_store f_set f_min f_max f_abs
 *   d_load d_floats d_halves d_brains (from memory), d_store d_set d_add d_sub d_mul d_abs d_min d_max
 *   d_add_square(q, d)      q + d*d, where d*d is exact
 *   d_plus(s, d)            s + d, by whatever unit of the processor has time
 *   ONE_LOOP                1: there are registers enough for all at once
 *   KERNEL                  the name of what is made
 *
 * Min and max of a NaN are whatever they are: who asks finds it in l1. */
#include <math.h>

#include "kernel.h"

enum { FN = 16 / FL, DN = 16 / DL };

/* In halves: lane i and lane i + 8, and so on. */
INLINE double fold(double *lane) {
  for (uint32_t half = PTH_LANES / 2; half; half /= 2) {
    for (uint32_t i = 0; i < half; i++) lane[i] += lane[i + half];
  }
  return lane[0];
}

INLINE double lesser(double x, double y) { return y < x ? y : x; }
INLINE double greater(double x, double y) { return y > x ? y : x; }

INLINE double scalar_at(enum pth_number kind, const void *data, uint32_t i) {
  switch (kind) {
    case PTH_N_F64:
      return ((const double *)data)[i];
    case PTH_N_F32:
      return (double)((const float *)data)[i];
    case PTH_N_F16:
      return (double)pth_half(((const uint16_t *)data)[i]);
    default:
      return (double)pth_brain(((const uint16_t *)data)[i]);
  }
}

INLINE D doubles_at(enum pth_number kind, const void *data, uint32_t i) {
  switch (kind) {
    case PTH_N_F64:
      return d_load((const double *)data + i);
    case PTH_N_F32:
      return d_floats((const float *)data + i);
    case PTH_N_F16:
      return d_halves((const uint16_t *)data + i);
    default:
      return d_brains((const uint16_t *)data + i);
  }
}

/* Of halves among their codes: as integers these are in the order of the values when those below zero are turned round. */
INLINE void extremes_of_halves(enum pth_number kind, const uint16_t *data, uint32_t n, double out[3]) {
  int16_t low = INT16_MAX, high = INT16_MIN, least = INT16_MAX;
  for (uint32_t i = 0; i < n; i++) {
    int16_t code = (int16_t)data[i], key = (int16_t)(code ^ ((code >> 15) & 0x7fff)), size = (int16_t)(code & 0x7fff);
    low = key < low ? key : low;
    high = key > high ? key : high;
    least = size < least ? size : least;
  }
  int16_t keys[3] = {low, high, least};
  for (uint32_t k = 0; k < 3; k++) {
    uint16_t code = (uint16_t)(keys[k] ^ ((keys[k] >> 15) & 0x7fff));
    out[k] = scalar_at(kind, &code, 0);
  }
}

typedef struct lanes {
  double sum[16], l1[16], square[16];
  float low[16], high[16], least[16]; /* extremes of floats are found among floats, twice as many at once */
  double min[16], max[16], nearest[16];
} lanes;

typedef struct registers {
  D sum[DN], l1[DN], square[DN], min[DN], max[DN], nearest[DN];
  F low[FN], high[FN], least[FN];
} registers;

INLINE void rank(enum pth_number kind, const void *data, uint32_t i, registers *r) {
  for (uint32_t k = 0; k < FN && kind == PTH_N_F32; k++) {
    F x = f_load((const float *)data + i + k * FL);
    r->low[k] = f_min(x, r->low[k]);
    r->high[k] = f_max(x, r->high[k]);
    r->least[k] = f_min(f_abs(x), r->least[k]);
  }
  for (uint32_t k = 0; k < DN && kind == PTH_N_F64; k++) {
    D x = d_load((const double *)data + i + k * DL);
    r->min[k] = d_min(x, r->min[k]);
    r->max[k] = d_max(x, r->max[k]);
    r->nearest[k] = d_min(d_abs(x), r->nearest[k]);
  }
}

INLINE void add(enum pth_number kind, const void *data, uint32_t i, registers *r) {
  for (uint32_t k = 0; k < DN; k++) {
    D d = doubles_at(kind, data, i + k * DL);
    r->sum[k] = kind == PTH_N_F64 ? d_add(r->sum[k], d) : d_plus(r->sum[k], d);
    r->l1[k] = d_add(r->l1[k], d_abs(d));
    r->square[k] = kind == PTH_N_F64 ? d_add(r->square[k], d_mul(d, d)) : d_add_square(r->square[k], d);
  }
}

INLINE void start(enum pth_number kind, const void *data, registers *r) {
  double first = scalar_at(kind, data, 0);
  for (uint32_t k = 0; k < DN; k++) {
    r->sum[k] = r->l1[k] = r->square[k] = d_set(0.0);
    r->min[k] = r->max[k] = d_set(first), r->nearest[k] = d_set(fabs(first));
  }
  for (uint32_t k = 0; k < FN; k++) r->low[k] = r->high[k] = f_set((float)first), r->least[k] = f_set(fabsf((float)first));
}

INLINE void spill(const registers *r, lanes *to) {
  for (uint32_t k = 0; k < DN; k++) {
    d_store(to->sum + k * DL, r->sum[k]), d_store(to->l1 + k * DL, r->l1[k]), d_store(to->square + k * DL, r->square[k]);
    d_store(to->min + k * DL, r->min[k]), d_store(to->max + k * DL, r->max[k]), d_store(to->nearest + k * DL, r->nearest[k]);
  }
  for (uint32_t k = 0; k < FN; k++)
    f_store(to->low + k * FL, r->low[k]), f_store(to->high + k * FL, r->high[k]), f_store(to->least + k * FL, r->least[k]);
}

INLINE void sums_of(enum pth_number kind, const void *data, uint32_t n, pth_sums *out) {
  registers r;
  lanes to;
  start(kind, data, &r);
  uint32_t whole = n & ~15u;
  if (ONE_LOOP) {
    for (uint32_t i = 0; i < whole; i += 16) rank(kind, data, i, &r), add(kind, data, i, &r);
  } else {
    for (uint32_t i = 0; i < whole; i += 16) rank(kind, data, i, &r);
    for (uint32_t i = 0; i < whole; i += 16) add(kind, data, i, &r);
  }
  spill(&r, &to);
  double min = to.min[0], max = to.max[0], least = to.nearest[0];
  for (uint32_t l = 0; l < 16; l++) {
    min = lesser(min, kind == PTH_N_F64 ? to.min[l] : (double)to.low[l]);
    max = greater(max, kind == PTH_N_F64 ? to.max[l] : (double)to.high[l]);
    least = lesser(least, kind == PTH_N_F64 ? to.nearest[l] : (double)to.least[l]);
  }
  if (kind == PTH_N_F16 || kind == PTH_N_BF16) {
    double found[3];
    extremes_of_halves(kind, data, n, found);
    min = found[0], max = found[1], least = found[2];
  }
  for (uint32_t i = whole; i < n; i++) {
    double d = scalar_at(kind, data, i);
    to.sum[i % 16] += d;
    to.l1[i % 16] += fabs(d);
    to.square[i % 16] += d * d;
    min = lesser(min, d);
    max = greater(max, d);
    least = lesser(least, fabs(d));
  }
  *out = (pth_sums){fold(to.sum), fold(to.l1), fold(to.square), min, max, least};
}

INLINE void spread_of(enum pth_number kind, const void *data, uint32_t n, double mean, double out[2]) {
  D s[DN], q[DN], m = d_set(mean);
  double sum[16], square[16];
  uint32_t whole = n & ~15u;
  for (uint32_t k = 0; k < DN; k++) s[k] = q[k] = d_set(0.0);
  for (uint32_t i = 0; i < whole; i += 16) {
    for (uint32_t k = 0; k < DN; k++) {
      D d = d_sub(doubles_at(kind, data, i + k * DL), m);
      s[k] = d_add(s[k], d);
      q[k] = d_add(q[k], d_mul(d, d));
    }
  }
  for (uint32_t k = 0; k < DN; k++) d_store(sum + k * DL, s[k]), d_store(square + k * DL, q[k]);
  for (uint32_t i = whole; i < n; i++) {
    double d = scalar_at(kind, data, i) - mean;
    sum[i % 16] += d;
    square[i % 16] += d * d;
  }
  out[0] = fold(sum);
  out[1] = fold(square);
}

static void sums(enum pth_number kind, const void *data, uint32_t n, pth_sums *out) {
  switch (kind) {
    case PTH_N_F64:
      sums_of(PTH_N_F64, data, n, out);
      break;
    case PTH_N_F32:
      sums_of(PTH_N_F32, data, n, out);
      break;
    case PTH_N_F16:
      sums_of(PTH_N_F16, data, n, out);
      break;
    default:
      sums_of(PTH_N_BF16, data, n, out);
  }
}

static void spread(enum pth_number kind, const void *data, uint32_t n, double mean, double out[2]) {
  switch (kind) {
    case PTH_N_F64:
      spread_of(PTH_N_F64, data, n, mean, out);
      break;
    case PTH_N_F32:
      spread_of(PTH_N_F32, data, n, mean, out);
      break;
    case PTH_N_F16:
      spread_of(PTH_N_F16, data, n, mean, out);
      break;
    default:
      spread_of(PTH_N_BF16, data, n, mean, out);
  }
}

#define WIDEN(type)                                                          \
  for (uint32_t i = 0; i < n; i++) out[i] = (double)((const type *)data)[i]; \
  break
static void doubles(enum pth_number kind, const void *data, uint32_t n, double *out) {
  switch (kind) {
    case PTH_N_F64:
      WIDEN(double);
    case PTH_N_F32:
      WIDEN(float);
    case PTH_N_I16:
      WIDEN(int16_t);
    case PTH_N_U16:
      WIDEN(uint16_t);
    case PTH_N_I32:
      WIDEN(int32_t);
    case PTH_N_U32:
      WIDEN(uint32_t);
    case PTH_N_I64:
      WIDEN(int64_t);
    case PTH_N_U64:
      WIDEN(uint64_t);
    default:
      for (uint32_t i = 0; i < n; i++) out[i] = scalar_at(kind, data, i);
  }
}
#undef WIDEN

#define COUNT(type)                                      \
  for (uint32_t i = 0; i < n; i++) {                     \
    type doubled = (type)(((const type *)data)[i] << 1); \
    zeros += doubled == 0;                               \
    below += doubled < (type)(normal << 1);              \
  }
static void small(uint32_t width, const void *data, uint32_t n, uint64_t normal, uint32_t out[2]) {
  uint32_t zeros = 0, below = 0;
  if (width == 2) {
    COUNT(uint16_t)
  } else if (width == 4) {
    COUNT(uint32_t)
  } else {
    COUNT(uint64_t)
  }
  out[0] = zeros;
  out[1] = below - zeros;
}
#undef COUNT

const pth_kernel KERNEL = {sums, spread, doubles, small};
