/* kernel_body.h - the one body of the kernels. A file for each instruction set includes it, after it has defined
 *
 *   F, FL   a register of floats, and how many they are: 16, or a part of that      D, DL   the same of doubles
 *   f_load f_store f_set f_min f_max f_abs
 *   d_load d_floats d_halves d_brains (from memory), d_store d_set d_add d_sub d_mul d_div d_abs d_min d_max
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

/* ---- pairs ---- */

/* The smallest that a share is taken of: a difference of two zeros is no share of anything. */
INLINE double floor_of(enum pth_number kind) { return kind == PTH_N_F64 ? 0x1p-1074 : 0x1p-1022; }

typedef struct pair_lanes {
  double sum[16], most[16], relative[16], most_relative[16], dot[16], aa[16], bb[16], dd[16], far[16];
} pair_lanes;

/* Of the lanes of one register: one register after the other, so that all of a pass stay where they are. */
INLINE void pair_pass(enum pth_number kind, const void *a, const void *b, uint32_t n, uint32_t lane, const pth_tolerance *t,
                      pair_lanes *to) {
  D zero = d_set(0.0), least = d_set(floor_of(kind)), atol = d_set(t->atol), rtol = d_set(t->rtol);
  D sum = zero, most = zero, relative = zero, most_relative = zero, dot = zero, aa = zero, bb = zero, dd = zero, far = d_set(-1.0);
  for (uint32_t i = lane; i < n; i += 16) {
    D x = doubles_at(kind, a, i), y = doubles_at(kind, b, i), ax = d_abs(x), ay = d_abs(y), d = d_abs(d_sub(x, y));
    D share = d_div(d, d_max(d_max(ax, ay), least));
    sum = d_add(sum, d), most = d_max(most, d);
    relative = d_add(relative, share), most_relative = d_max(most_relative, share);
    dot = d_add(dot, d_mul(x, y)), aa = d_add(aa, d_mul(x, x)), bb = d_add(bb, d_mul(y, y)), dd = d_add(dd, d_mul(d, d));
    far = d_max(far, d_sub(d, d_add(atol, d_mul(rtol, ay))));
  }
  d_store(to->sum + lane, sum), d_store(to->most + lane, most), d_store(to->relative + lane, relative);
  d_store(to->most_relative + lane, most_relative), d_store(to->dot + lane, dot);
  d_store(to->aa + lane, aa), d_store(to->bb + lane, bb), d_store(to->dd + lane, dd), d_store(to->far + lane, far);
}

INLINE void pair_of(enum pth_number kind, const void *a, const void *b, uint32_t n, const pth_tolerance *t, pth_pair_sums *out) {
  pair_lanes to;
  uint32_t whole = n & ~15u;
  double most = 0, most_relative = 0, far = -1.0;
  for (uint32_t k = 0; k < DN; k++) pair_pass(kind, a, b, whole, k * DL, t, &to);
  for (uint32_t i = whole; i < n; i++) {
    double x = scalar_at(kind, a, i), y = scalar_at(kind, b, i), d = fabs(x - y);
    double share = d / greater(greater(fabs(x), fabs(y)), floor_of(kind));
    to.sum[i % 16] += d, to.relative[i % 16] += share;
    to.dot[i % 16] += x * y, to.aa[i % 16] += x * x, to.bb[i % 16] += y * y, to.dd[i % 16] += d * d;
    most = greater(most, d), most_relative = greater(most_relative, share);
    far = greater(far, d - (t->atol + t->rtol * fabs(y)));
  }
  for (uint32_t l = 0; l < 16; l++) {
    most = greater(most, to.most[l]), most_relative = greater(most_relative, to.most_relative[l]);
    far = greater(far, to.far[l]);
  }
  *out = (pth_pair_sums){fold(to.sum), most, fold(to.relative), most_relative, fold(to.dot), fold(to.aa), fold(to.bb), fold(to.dd), far};
}

static void pair(enum pth_number kind, const void *a, const void *b, uint32_t n, const pth_tolerance *t, pth_pair_sums *out) {
  switch (kind) {
    case PTH_N_F64:
      pair_of(PTH_N_F64, a, b, n, t, out);
      break;
    case PTH_N_F32:
      pair_of(PTH_N_F32, a, b, n, t, out);
      break;
    case PTH_N_F16:
      pair_of(PTH_N_F16, a, b, n, t, out);
      break;
    default:
      pair_of(PTH_N_BF16, a, b, n, t, out);
  }
}

/* Codes with a sign become integers in the order of the values, of which two neighbours are one apart and both zeros are 0. */
#define STEPS(U, S, size)                                                                                   \
  U most = 0;                                                                                               \
  for (uint32_t i = 0; i < n; i++) {                                                                        \
    U x = ((const U *)a)[i], y = ((const U *)b)[i];                                                         \
    S sx = (S)((S)x >> (size - 1)), sy = (S)((S)y >> (size - 1));                                           \
    S p = (S)((S)((S)(x & ((U) ~(U)0 >> 1)) ^ sx) - sx), q = (S)((S)((S)(y & ((U) ~(U)0 >> 1)) ^ sy) - sy); \
    U apart = p > q ? (U)((U)p - (U)q) : (U)((U)q - (U)p);                                                  \
    equal += apart == 0;                                                                                    \
    most = apart > most ? apart : most;                                                                     \
  }                                                                                                         \
  out[1] = most
static void steps(uint32_t width, const void *a, const void *b, uint32_t n, uint64_t out[2]) {
  uint32_t equal = 0;
  if (width == 2) {
    STEPS(uint16_t, int16_t, 16);
  } else if (width == 4) {
    STEPS(uint32_t, int32_t, 32);
  } else {
    STEPS(uint64_t, int64_t, 64);
  }
  out[0] = equal;
}
#undef STEPS

const pth_kernel KERNEL = {sums, spread, doubles, small, pair, steps};
