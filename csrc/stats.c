#include "stats.h"

#include <math.h>
#include <string.h>

#include "tensor.h"

enum { COMPLEX_RUN = 1024 };

static const double NEAR_ZERO_MEAN = 16; /* below this share of the squares the spread is looked at once more, from the mean */

enum pth_reading pth_reading_of(uint32_t dtype) {
  switch (dtype) {
    case PTH_DT_FLOAT64:
      return (enum pth_reading)PTH_N_F64;
    case PTH_DT_FLOAT32:
      return (enum pth_reading)PTH_N_F32;
    case PTH_DT_FLOAT16:
      return (enum pth_reading)PTH_N_F16;
    case PTH_DT_BFLOAT16:
      return (enum pth_reading)PTH_N_BF16;
    case PTH_DT_INT64:
      return (enum pth_reading)PTH_N_I64;
    case PTH_DT_INT32:
    case PTH_DT_QINT32:
      return (enum pth_reading)PTH_N_I32;
    case PTH_DT_INT16:
      return (enum pth_reading)PTH_N_I16;
    case PTH_DT_UINT16:
    case PTH_DT_BITS16:
      return (enum pth_reading)PTH_N_U16;
    case PTH_DT_UINT32:
      return (enum pth_reading)PTH_N_U32;
    case PTH_DT_UINT64:
      return (enum pth_reading)PTH_N_U64;
    case PTH_DT_COMPLEX32:
      return PTH_R_C32;
    case PTH_DT_COMPLEX64:
      return PTH_R_C64;
    case PTH_DT_COMPLEX128:
      return PTH_R_C128;
    case PTH_DT_UNTYPED:
      return PTH_R_NONE;
    default:
      return PTH_R_CODES;
  }
}

static uint64_t width_of(enum pth_reading r) {
  static const uint8_t WIDTH[] = {[PTH_N_F64] = 8,   [PTH_N_F32] = 4, [PTH_N_F16] = 2, [PTH_N_BF16] = 2,  [PTH_N_I16] = 2,
                                  [PTH_N_U16] = 2,   [PTH_N_I32] = 4, [PTH_N_U32] = 4, [PTH_N_I64] = 8,   [PTH_N_U64] = 8,
                                  [PTH_R_CODES] = 1, [PTH_R_C32] = 4, [PTH_R_C64] = 8, [PTH_R_C128] = 16, [PTH_R_NONE] = 1};
  return WIDTH[r];
}

static uint32_t bits_of(uint32_t dtype) {
  switch (dtype) {
    case PTH_DT_QUINT4X2:
    case PTH_DT_FLOAT4_E2M1FN_X2:
      return 4;
    case PTH_DT_QUINT2X4:
      return 2;
    default:
      return 8;
  }
}

uint64_t pth_piece_bytes(const pth_piece *p) {
  enum pth_reading r = pth_reading_of(p->type);
  return r == PTH_R_CODES ? ((uint64_t)p->n * bits_of(p->type) + 7) / 8 : p->n * width_of(r);
}

/* ---- folding ---- */

void pth_stats_start(pth_stats *s) { *s = (pth_stats){.first = PTH_NOWHERE}; }

static uint64_t n_finite(const pth_stats *s) { return s->n - s->nan - s->posinf - s->neginf; }

/* The sum and what it lost (Knuth's two-sum). Beyond the largest double there is nothing to lose. */
static void add(double *sum, double *low, double x) {
  double total = *sum + x, part = total - *sum;
  double lost = (*sum - (total - part)) + (x - part);
  *sum = total;
  *low = total - total == 0 ? *low + lost : 0;
}

void pth_stats_fold(pth_stats *a, const pth_stats *b, bool is_signed) {
  uint64_t na = n_finite(a), nb = n_finite(b);
  if (a->first == PTH_NOWHERE && b->first != PTH_NOWHERE) a->first = a->n + b->first;
  a->n += b->n;
  a->nan += b->nan;
  a->posinf += b->posinf;
  a->neginf += b->neginf;
  a->zeros += b->zeros;
  a->subnormal += b->subnormal;
  a->flags |= b->flags;
  if (nb == 0) return;
  if (na == 0) {
    a->min = b->min, a->max = b->max, a->sum = b->sum, a->sum_low = b->sum_low, a->l1 = b->l1, a->l1_low = b->l1_low;
    a->spread = b->spread, a->spread_low = b->spread_low, a->least = b->least, a->most = b->most;
    return;
  }
  bool constant = a->min == a->max && b->min == b->max && a->min == b->min;
  double apart = constant ? 0 : (b->sum + b->sum_low) / (double)nb - (a->sum + a->sum_low) / (double)na;
  add(&a->spread, &a->spread_low, b->spread);
  a->spread_low += b->spread_low;
  add(&a->spread, &a->spread_low, apart * apart * ((double)na / (double)(na + nb)) * (double)nb);
  add(&a->sum, &a->sum_low, b->sum);
  a->sum_low += b->sum_low;
  add(&a->l1, &a->l1_low, b->l1);
  a->l1_low += b->l1_low;
  a->min = b->min < a->min ? b->min : a->min;
  a->max = b->max > a->max ? b->max : a->max;
  if (is_signed ? (int64_t)b->least < (int64_t)a->least : b->least < a->least) a->least = b->least;
  if (is_signed ? (int64_t)b->most > (int64_t)a->most : b->most > a->most) a->most = b->most;
}

/* ---- a run of numbers ---- */

/* The code of the smallest number that is not subnormal, without the sign; 0 where there are none below it. */
static uint64_t normal_of(enum pth_number kind) {
  switch (kind) {
    case PTH_N_F64:
      return (uint64_t)1 << 52;
    case PTH_N_F32:
      return 1u << 23;
    case PTH_N_F16:
      return 1u << 10;
    case PTH_N_BF16:
      return 1u << 7;
    default:
      return 1;
  }
}

static double least_normal(enum pth_number kind) { return kind == PTH_N_F64 ? 0x1p-1022 : kind == PTH_N_F16 ? 0x1p-14 : 0x1p-126; }

/* Minus zero is zero. */
static double plain(double x) { return x == 0 ? 0.0 : x; }

static void measure(const pth_kernel *k, enum pth_number kind, const void *data, uint32_t n, const pth_sums *sums, pth_stats *run) {
  double spread = sums->square - sums->sum * (sums->sum / n);
  if (!(spread * NEAR_ZERO_MEAN >= sums->square)) {
    double apart[2];
    k->spread(kind, data, n, sums->sum / n, apart);
    spread = apart[1] - apart[0] * (apart[0] / n);
  }
  run->min = plain(sums->min), run->max = plain(sums->max);
  run->sum = sums->sum, run->l1 = sums->l1;
  run->spread = sums->min < sums->max ? (spread < 0 ? 0 : spread) : 0;
}

static void count_special(double x, uint32_t i, pth_stats *run) {
  if (run->first == PTH_NOWHERE) run->first = i;
  if (x != x) {
    run->nan++;
  } else if (x > 0) {
    run->posinf++;
  } else {
    run->neginf++;
  }
}

/* Among them is one that is not finite, or their sum is too large for a double. Moves the finite ones to the front. */
static void special_run(const pth_kernel *k, double *x, uint32_t n, pth_stats *run) {
  uint32_t kept = 0;
  pth_sums sums;
  for (uint32_t i = 0; i < n; i++) {
    if (x[i] - x[i] == 0) {
      x[kept++] = x[i];
    } else {
      count_special(x[i], i, run);
    }
  }
  if (kept == 0) return;
  k->sums(PTH_N_F64, x, kept, &sums);
  if (sums.l1 - sums.l1 == 0) {
    measure(k, PTH_N_F64, x, kept, &sums, run);
    return;
  }
  /* The kernel has told the extremes all the same: all are finite. */
  run->min = plain(sums.min), run->max = plain(sums.max);
  run->sum = sums.sum, run->l1 = sums.l1, run->spread = INFINITY;
}

static void number_run(const pth_kernel *k, enum pth_number kind, const void *data, uint32_t n, pth_stats *run) {
  double wide[PTH_RUN];
  bool is_float = kind <= PTH_N_BF16;
  pth_sums sums;
  pth_stats_start(run);
  run->n = n;
  if (!is_float) k->doubles(kind, data, n, wide);
  k->sums(is_float ? kind : PTH_N_F64, is_float ? data : wide, n, &sums);
  bool special = !(sums.l1 - sums.l1 == 0);
  if (special) {
    k->doubles(kind, data, n, wide);
    special_run(k, wide, n, run);
  } else {
    measure(k, is_float ? kind : PTH_N_F64, is_float ? data : wide, n, &sums, run);
  }
  if (is_float ? special || sums.least < least_normal(kind) : sums.least == 0) {
    uint32_t few[2];
    uint32_t width = is_float ? (uint32_t)width_of((enum pth_reading)kind) : 8;
    k->small(width, is_float ? data : wide, n, normal_of(is_float ? kind : PTH_N_F64), few);
    run->zeros = few[0], run->subnormal = few[1];
  }
}

static void extremes_of_integers(enum pth_number kind, const void *data, uint32_t n, pth_stats *s) {
  const uint64_t turn = kind == PTH_N_I64 ? (uint64_t)1 << 63 : 0; /* puts signed ones in the order of unsigned ones */
  uint64_t least = UINT64_MAX, most = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint64_t x = ((const uint64_t *)data)[i] ^ turn;
    least = x < least ? x : least;
    most = x > most ? x : most;
  }
  s->least = least ^ turn;
  s->most = most ^ turn;
}

static bool is_wide(const uint32_t *data, uint32_t n) {
  uint32_t all = 0;
  for (uint32_t i = 0; i < n; i++) all |= data[i];
  return (all & 0xffff) != 0;
}

/* ---- magnitudes ---- */

static void magnitude(double x, uint64_t count, uint64_t *bins) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint64_t exponent = bits >> 52 & 0x7ff, mantissa = bits & (((uint64_t)1 << 52) - 1);
  if (exponent == 0x7ff || (exponent == 0 && mantissa == 0)) return;
  uint32_t bin = (uint32_t)exponent + 51;
  if (exponent == 0) {
    for (bin = 0; mantissa > 1; mantissa >>= 1) bin++;
  }
  bins[bin] += count;
}

/* Numbers of 16 or 32 bits by their exponents, of a whole piece: four tables, so that equal neighbours do not wait for each other. Half
 * precision has subnormal numbers everywhere: each code of these has a place of its own, behind those of the exponents. */
enum { EXPONENTS = 256, SMALL_HALVES = 1024 };
typedef struct exponents {
  uint32_t table[4][EXPONENTS + SMALL_HALVES];
} exponents;

static bool has_exponents(enum pth_number kind) { return kind == PTH_N_F32 || kind == PTH_N_F16 || kind == PTH_N_BF16; }

static uint32_t place_of_float(uint32_t code) { return code >> 23 & 255; }

static uint32_t place_of_brain(uint16_t code) { return code >> 7 & 255u; }

static uint32_t place_of_half(uint16_t code) {
  uint32_t exponent = code >> 10 & 31u;
  return exponent ? exponent : EXPONENTS + (code & (SMALL_HALVES - 1u));
}

#define COUNT_EXPONENTS(type, place)                                                    \
  for (uint32_t i = 0; i < (n & ~3u); i += 4) {                                         \
    const type *x = (const type *)data + i;                                             \
    e->table[0][place(x[0])]++;                                                         \
    e->table[1][place(x[1])]++;                                                         \
    e->table[2][place(x[2])]++;                                                         \
    e->table[3][place(x[3])]++;                                                         \
  }                                                                                     \
  for (uint32_t i = n & ~3u; i < n; i++) e->table[0][place(((const type *)data)[i])]++; \
  break

static void count_exponents(enum pth_number kind, const void *data, uint32_t n, exponents *e) {
  switch (kind) {
    case PTH_N_F32:
      COUNT_EXPONENTS(uint32_t, place_of_float);
    case PTH_N_F16:
      COUNT_EXPONENTS(uint16_t, place_of_half);
    default:
      COUNT_EXPONENTS(uint16_t, place_of_brain);
  }
}
#undef COUNT_EXPONENTS

static uint64_t counted(const exponents *e, uint32_t place) {
  return (uint64_t)e->table[0][place] + e->table[1][place] + e->table[2][place] + e->table[3][place];
}

static void keep_exponents(enum pth_number kind, const exponents *e, uint64_t *bins) {
  uint32_t most = kind == PTH_N_F16 ? 31 : 255, first = PTH_LEAST_POWER - (kind == PTH_N_F16 ? 15 : 127);
  for (uint32_t x = 1; x < most; x++) bins[x + first] += counted(e, x);
  for (uint32_t code = 1; kind == PTH_N_F16 && code < SMALL_HALVES; code++)
    magnitude((double)pth_half((uint16_t)code), counted(e, EXPONENTS + code), bins);
}

/* Of a run: of all, or of the subnormal ones alone, which have no exponents. */
static void magnitudes_of(const pth_kernel *k, enum pth_number kind, const void *data, uint32_t n, uint64_t *bins) {
  double wide[PTH_RUN];
  bool alone = has_exponents(kind);
  k->doubles(kind, data, n, wide);
  for (uint32_t i = 0; i < n; i++) {
    if (!alone || fabs(wide[i]) < least_normal(kind)) magnitude(wide[i], 1, bins);
  }
}

/* ---- complex numbers ---- */

static void complex_run(const pth_kernel *k, enum pth_reading r, const uint8_t *data, uint32_t n, pth_stats out[3], uint64_t *bins) {
  double part[3][COMPLEX_RUN];
  enum pth_number half = r == PTH_R_C32 ? PTH_N_F16 : r == PTH_R_C64 ? PTH_N_F32 : PTH_N_F64;
  double both[2 * COMPLEX_RUN];
  pth_stats run;
  double copy[2 * COMPLEX_RUN];
  k->doubles(half, memcpy(copy, data, n * width_of(r)), 2 * n, both);
  uint64_t subnormal = 0;
  for (uint32_t i = 0; i < n; i++) {
    double re = both[2 * i], im = both[2 * i + 1], size = r == PTH_R_C128 ? hypot(re, im) : sqrt(re * re + im * im);
    if (re != re || im != im) size = NAN; /* not infinite, whatever the other part is */
    bool finite = size - size == 0 || (re - re == 0 && im - im == 0);
    part[0][i] = finite ? re : NAN;
    part[1][i] = finite ? im : NAN;
    part[2][i] = size;
    double small = least_normal(half);
    subnormal += (re != 0 && fabs(re) < small) || (im != 0 && fabs(im) < small);
    if (bins) magnitude(size, 1, bins);
  }
  for (uint32_t p = 0; p < 3; p++) {
    number_run(k, PTH_N_F64, part[p], n, &run);
    run.subnormal = subnormal;
    pth_stats_fold(&out[p], &run, false);
  }
}

/* ---- codes of a byte ---- */

/* A small float of exponent and mantissa bits, and what its highest codes mean. */
static void small_float(pth_codes *c, uint32_t code, uint32_t exponent_bits, uint32_t mantissa_bits, int bias) {
  uint32_t mantissa = code & ((1u << mantissa_bits) - 1), exponent = code >> mantissa_bits & ((1u << exponent_bits) - 1);
  double value = exponent ? ldexp(1.0 + (double)mantissa / (double)(1u << mantissa_bits), (int)exponent - bias)
                          : ldexp((double)mantissa / (double)(1u << mantissa_bits), 1 - bias);
  bool negative = code >> (exponent_bits + mantissa_bits) & 1;
  c->value[code] = negative && value != 0 ? -value : value;
  c->kind[code] = exponent ? PTH_C_NORMAL : mantissa ? PTH_C_SUBNORMAL : PTH_C_ZERO;
}

static void float8(pth_codes *c, uint32_t dtype, uint32_t code) {
  uint32_t size = code & 0x7f;
  switch (dtype) {
    case PTH_DT_FLOAT8_E4M3FN: /* no infinities */
      small_float(c, code, 4, 3, 7);
      if (size == 0x7f) c->kind[code] = PTH_C_NAN;
      break;
    case PTH_DT_FLOAT8_E5M2: /* as half precision */
      small_float(c, code, 5, 2, 15);
      if (size > 0x7c) c->kind[code] = PTH_C_NAN;
      if (size == 0x7c) c->kind[code] = code >> 7 ? PTH_C_NEGINF : PTH_C_POSINF;
      break;
    case PTH_DT_FLOAT8_E4M3FNUZ: /* one NaN where minus zero would be */
      small_float(c, code, 4, 3, 8);
      if (code == 0x80) c->kind[code] = PTH_C_NAN;
      break;
    case PTH_DT_FLOAT8_E5M2FNUZ:
      small_float(c, code, 5, 2, 16);
      if (code == 0x80) c->kind[code] = PTH_C_NAN;
      break;
    default: /* e8m0fnu: powers of two */
      c->value[code] = ldexp(1.0, (int)code - 127);
      c->kind[code] = code == 0xff ? PTH_C_NAN : PTH_C_NORMAL;
  }
}

void pth_codes_of(pth_codes *c, uint32_t dtype, int32_t zero) {
  c->bits = bits_of(dtype);
  for (uint32_t code = 0; code < 1u << c->bits; code++) {
    switch (dtype) {
      case PTH_DT_FLOAT8_E4M3FN:
      case PTH_DT_FLOAT8_E5M2:
      case PTH_DT_FLOAT8_E4M3FNUZ:
      case PTH_DT_FLOAT8_E5M2FNUZ:
      case PTH_DT_FLOAT8_E8M0FNU:
        float8(c, dtype, code);
        continue;
      case PTH_DT_FLOAT4_E2M1FN_X2:
        small_float(c, code, 2, 1, 1);
        continue;
      case PTH_DT_INT8:
      case PTH_DT_QINT8:
        c->value[code] = (double)(int8_t)code - (double)zero;
        break;
      case PTH_DT_BOOL:
        c->value[code] = code ? 1 : 0;
        break;
      default:
        c->value[code] = (double)code - (double)zero;
    }
    c->kind[code] = c->value[code] == 0 ? PTH_C_ZERO : PTH_C_NORMAL;
  }
}

/* How often each code stands in the elements. */
static void count_codes(const uint8_t *data, uint32_t n, uint32_t bits, uint32_t counts[256]) {
  uint32_t table[4][256] = {{0}}, per_byte = 8 / bits, n_bytes = n / per_byte, whole = n_bytes & ~3u;
  for (uint32_t i = 0; i < whole; i += 4) {
    table[0][data[i]]++;
    table[1][data[i + 1]]++;
    table[2][data[i + 2]]++;
    table[3][data[i + 3]]++;
  }
  for (uint32_t i = whole; i < n_bytes; i++) table[0][data[i]]++;
  memset(counts, 0, 256 * sizeof *counts);
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t count = table[0][byte] + table[1][byte] + table[2][byte] + table[3][byte];
    for (uint32_t part = 0; part < per_byte; part++) counts[byte >> part * bits & ((1u << bits) - 1)] += count;
  }
  for (uint32_t part = 0; part < n % per_byte; part++) counts[data[n_bytes] >> part * bits & ((1u << bits) - 1)]++;
}

static uint64_t first_special(const uint8_t *data, uint32_t n, const pth_codes *c) {
  uint32_t per_byte = 8 / c->bits;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t code = (uint32_t)data[i / per_byte] >> i % per_byte * c->bits & ((1u << c->bits) - 1);
    if (c->kind[code] >= PTH_C_NAN) return i;
  }
  return PTH_NOWHERE;
}

static void codes_piece(const pth_codes *c, const uint8_t *data, uint32_t n, pth_stats *s, uint64_t *bins) {
  uint32_t counts[256];
  uint64_t kinds[PTH_C_NEGINF + 1] = {0}, finite = 0;
  count_codes(data, n, c->bits, counts);
  for (uint32_t code = 0; code < 1u << c->bits; code++) {
    uint32_t count = counts[code];
    kinds[c->kind[code]] += count;
    if (count == 0 || c->kind[code] >= PTH_C_NAN) continue;
    double x = c->value[code];
    s->min = finite == 0 || x < s->min ? x : s->min;
    s->max = finite == 0 || x > s->max ? x : s->max;
    finite += count;
    add(&s->sum, &s->sum_low, x * count);
    add(&s->l1, &s->l1_low, fabs(x) * count);
    if (bins) magnitude(x, count, bins);
  }
  s->n = n;
  s->zeros = kinds[PTH_C_ZERO], s->subnormal = kinds[PTH_C_SUBNORMAL];
  s->nan = kinds[PTH_C_NAN], s->posinf = kinds[PTH_C_POSINF], s->neginf = kinds[PTH_C_NEGINF];
  if (s->nan || s->posinf || s->neginf) s->first = first_special(data, n, c);
  if (finite == 0) return;
  double mean = (s->sum + s->sum_low) / (double)finite;
  for (uint32_t code = 0; code < 1u << c->bits && s->min < s->max; code++) {
    double apart = c->value[code] - mean;
    if (counts[code] && c->kind[code] < PTH_C_NAN) add(&s->spread, &s->spread_low, apart * apart * counts[code]);
  }
}

/* ---- a piece ---- */

static void numbers_piece(const pth_kernel *k, const pth_piece *p, enum pth_number kind, const uint8_t *data, pth_stats *out,
                          uint64_t *bins) {
  const uint64_t width = width_of((enum pth_reading)kind);
  bool aligned = (uintptr_t)data % width == 0, wide = kind != PTH_N_F32;
  double copy[PTH_RUN]; /* old files put numbers anywhere */
  exponents seen;
  if (bins) seen = (exponents){{{0}}};
  pth_stats run;
  for (uint32_t at = 0, n; at < p->n; at += n) {
    const void *x = data + at * width;
    n = p->n - at < PTH_RUN ? p->n - at : PTH_RUN;
    if (!aligned) x = memcpy(copy, x, n * width);
    number_run(k, kind, x, n, &run);
    if (kind == PTH_N_I64 || kind == PTH_N_U64) extremes_of_integers(kind, x, n, &run);
    if (!wide && is_wide(x, n)) wide = true, run.flags = PTH_STATS_WIDE;
    pth_stats_fold(out, &run, kind == PTH_N_I64);
    if (bins && has_exponents(kind)) count_exponents(kind, x, n, &seen);
    if (bins && ((run.subnormal && kind != PTH_N_F16) || !has_exponents(kind))) magnitudes_of(k, kind, x, n, bins);
  }
  if (bins && has_exponents(kind)) keep_exponents(kind, &seen, bins);
}

void pth_stats_piece(const pth_kernel *k, const pth_piece *p, const void *data, const pth_codes *codes, pth_stats *out, uint64_t *bins) {
  enum pth_reading r = pth_reading_of(p->type);
  const uint8_t *at = data;
  uint32_t parts = r == PTH_R_C32 || r == PTH_R_C64 || r == PTH_R_C128 ? 3 : 1;
  for (uint32_t i = 0; i < parts; i++) pth_stats_start(&out[i]);
  if (r == PTH_R_CODES) {
    codes_piece(codes, at, p->n, out, bins);
  } else if (parts == 3) {
    for (uint32_t i = 0, n; i < p->n; i += n) {
      n = p->n - i < COMPLEX_RUN ? p->n - i : COMPLEX_RUN;
      complex_run(k, r, at + i * width_of(r), n, out, bins);
    }
  } else if (r != PTH_R_NONE) {
    numbers_piece(k, p, (enum pth_number)r, at, out, bins);
  }
}
