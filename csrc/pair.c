#include "pair.h"

#include <math.h>
#include <string.h>

#include "tensor.h"

enum { SHORT_RUN = 1024 }; /* of complex numbers */

void pth_pair_start(pth_pair *p) { *p = (pth_pair){.at = PTH_NOWHERE}; }

void pth_pair_fold(pth_pair *a, const pth_pair *b) {
  if (b->at != PTH_NOWHERE && (a->at == PTH_NOWHERE || b->most > a->most)) a->at = a->n + b->at;
  a->n += b->n;
  a->equal += b->equal;
  a->nan_both += b->nan_both;
  a->nan_one += b->nan_one;
  a->infinite += b->infinite;
  a->finite += b->finite;
  a->far += b->far;
  a->steps = b->steps > a->steps ? b->steps : a->steps;
  a->sum += b->sum;
  a->most = b->most > a->most ? b->most : a->most;
  a->relative += b->relative;
  a->most_relative = b->most_relative > a->most_relative ? b->most_relative : a->most_relative;
  a->dot += b->dot;
  a->aa += b->aa;
  a->bb += b->bb;
  a->dd += b->dd;
}

/* ---- elements as numbers ---- */

static bool is_float(uint32_t reading) { return reading <= PTH_N_BF16; }
static bool is_wide_integer(uint32_t reading) { return reading == PTH_N_I64 || reading == PTH_N_U64; }
static bool is_complex(uint32_t reading) { return reading == PTH_R_C32 || reading == PTH_R_C64 || reading == PTH_R_C128; }

static uint32_t bytes_each(uint32_t type) {
  pth_piece one = {.n = 1, .type = type};
  return (uint32_t)pth_piece_bytes(&one);
}

static const uint8_t *address(const pth_side *s, uint32_t i) { return (const uint8_t *)s->data + (uint64_t)i * bytes_each(s->type); }

static uint32_t code_at(const pth_side *s, uint32_t i) {
  uint32_t bits = s->codes->bits, per_byte = 8 / bits;
  return (uint32_t)((const uint8_t *)s->data)[i / per_byte] >> i % per_byte * bits & ((1u << bits) - 1);
}

static double worth(const pth_codes *c, uint32_t code) {
  switch (c->kind[code]) {
    case PTH_C_NAN:
      return (double)NAN;
    case PTH_C_POSINF:
      return (double)INFINITY;
    case PTH_C_NEGINF:
      return (double)-INFINITY;
    default:
      return c->value[code];
  }
}

static bool is_small_float(uint32_t type) {
  return type == PTH_DT_FLOAT8_E4M3FN || type == PTH_DT_FLOAT8_E5M2 || type == PTH_DT_FLOAT8_E4M3FNUZ || type == PTH_DT_FLOAT8_E5M2FNUZ;
}
static bool has_special(uint32_t type) { return is_small_float(type) || type == PTH_DT_FLOAT8_E8M0FNU; }

/* Real numbers, PTH_RUN at most, from element i on. */
static void reals(const pth_kernel *k, const pth_side *s, uint32_t i, uint32_t n, double *out) {
  uint32_t reading = pth_reading_of(s->type);
  if (reading < PTH_N_NUMBERS) {
    k->doubles((enum pth_number)reading, address(s, i), n, out);
    return;
  }
  if (s->codes->bits == 8 && !has_special(s->type)) {
    const uint8_t *data = address(s, i);
    for (uint32_t j = 0; j < n; j++) out[j] = s->codes->value[data[j]];
    return;
  }
  for (uint32_t j = 0; j < n; j++) out[j] = worth(s->codes, code_at(s, i + j));
}

/* Real and imaginary parts, SHORT_RUN at most. */
static void parts(const pth_kernel *k, const pth_side *s, uint32_t i, uint32_t n, double *re, double *im) {
  uint32_t reading = pth_reading_of(s->type);
  double both[2 * SHORT_RUN];
  if (!is_complex(reading)) {
    reals(k, s, i, n, re);
    memset(im, 0, n * sizeof *im);
    return;
  }
  enum pth_number half = reading == PTH_R_C32 ? PTH_N_F16 : reading == PTH_R_C64 ? PTH_N_F32 : PTH_N_F64;
  k->doubles(half, address(s, i), 2 * n, both);
  for (uint32_t j = 0; j < n; j++) re[j] = both[2 * j], im[j] = both[2 * j + 1];
}

/* Of types of one byte: sign and magnitude, as all floats of 8 bits are that have both. */
static uint64_t steps_of_codes(uint32_t x, uint32_t y) {
  int32_t p = (int32_t)(x & 0x7f), q = (int32_t)(y & 0x7f);
  p = x & 0x80 ? -p : p, q = y & 0x80 ? -q : q;
  return (uint64_t)(p > q ? p - q : q - p);
}

static uint64_t steps_at(const pth_kernel *k, const pth_side *a, const pth_side *b, uint32_t i) {
  uint64_t found[2] = {0, 0};
  if (a->type != b->type) return 0;
  if (is_float(pth_reading_of(a->type))) {
    k->steps(bytes_each(a->type), address(a, i), address(b, i), 1, found);
    return found[1];
  }
  return is_small_float(a->type) ? steps_of_codes(code_at(a, i), code_at(b, i)) : 0;
}

/* ---- pair by pair ---- */

static double larger(double x, double y) { return y > x ? y : x; }
static bool is_finite(double x) { return x - x == 0; }

/* A pair of finite numbers; `i`: its index. */
static void add_finite(const pth_tolerance *t, uint64_t i, double apart, double x, double y, double dot, pth_pair *out) {
  double most = larger(x, y);                                                            /* moduli */
  double share = apart == 0 ? 0 : is_finite(apart) ? apart / most : x / most + y / most; /* the difference may be beyond a double */
  out->finite++;
  out->far += !(apart <= t->atol + t->rtol * y) || !is_finite(apart);
  out->sum += apart;
  out->relative += share;
  out->most_relative = larger(out->most_relative, share);
  out->dot += dot, out->aa += x * x, out->bb += y * y, out->dd += apart * apart;
  if (apart > out->most) out->most = apart, out->at = i;
}

/* False: the pair is finite, and is to be added. */
static bool is_special(const pth_tolerance *t, double x, double y, bool equal, pth_pair *out) {
  bool nan_x = x != x, nan_y = y != y;
  if (nan_x || nan_y) {
    out->nan_both += nan_x && nan_y;
    out->nan_one += nan_x != nan_y;
    out->far += !(nan_x && nan_y && t->equal_nan);
    return true;
  }
  out->equal += equal;
  if (is_finite(x) && is_finite(y)) return false;
  out->infinite += !equal;
  out->far += !equal;
  return true;
}

static void real_run(const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, uint32_t at, uint32_t n,
                     const double *x, const double *y, pth_pair *out) {
  for (uint32_t i = 0; i < n; i++) {
    if (is_special(t, x[i], y[i], x[i] == y[i], out)) continue;
    double apart = fabs(x[i] - y[i]);
    if (apart != 0) {
      uint64_t steps = steps_at(k, a, b, at + i);
      out->steps = steps > out->steps ? steps : out->steps;
    }
    add_finite(t, at + i, apart, fabs(x[i]), fabs(y[i]), x[i] * y[i], out);
  }
}

/* 64-bit integers of one type: doubles do not tell them apart. */
static void wide_run(const pth_tolerance *t, uint32_t reading, const uint64_t *a, const uint64_t *b, uint32_t at, uint32_t n,
                     pth_pair *out) {
  for (uint32_t i = 0; i < n; i++) {
    bool is_signed = reading == PTH_N_I64, more = is_signed ? (int64_t)a[i] > (int64_t)b[i] : a[i] > b[i];
    double x = is_signed ? (double)(int64_t)a[i] : (double)a[i], y = is_signed ? (double)(int64_t)b[i] : (double)b[i];
    uint64_t apart = more ? a[i] - b[i] : b[i] - a[i];
    out->equal += apart == 0;
    add_finite(t, at + i, (double)apart, fabs(x), fabs(y), x * y, out);
  }
}

static void complex_run(const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, uint32_t at, uint32_t n,
                        pth_pair *out) {
  double re[2][SHORT_RUN], im[2][SHORT_RUN];
  parts(k, a, at, n, re[0], im[0]);
  parts(k, b, at, n, re[1], im[1]);
  for (uint32_t i = 0; i < n; i++) {
    double xr = re[0][i], xi = im[0][i], yr = re[1][i], yi = im[1][i];
    bool nan_x = xr != xr || xi != xi, nan_y = yr != yr || yi != yi;
    double x = nan_x ? (double)NAN : hypot(xr, xi), y = nan_y ? (double)NAN : hypot(yr, yi);
    if (is_special(t, x, y, xr == yr && xi == yi, out)) continue;
    add_finite(t, at + i, hypot(xr - yr, xi - yi), x, y, xr * yr + xi * yi, out);
  }
}

/* ---- runs of finite numbers ---- */

static uint32_t n_far(const pth_tolerance *t, const double *x, const double *y, uint32_t n) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < n; i++) found += fabs(x[i] - y[i]) > t->atol + t->rtol * fabs(y[i]);
  return found;
}

static uint32_t first_of(double most, const double *x, const double *y, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (fabs(x[i] - y[i]) == most) return i;
  return 0;
}

/* `kind`: how both are read; x and y: room for PTH_RUN numbers, and filled in if `kind` is F64 for want of one in common. */
static void finite_run(const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, bool alike, uint32_t at,
                       uint32_t n, pth_pair *out) {
  double x[PTH_RUN], y[PTH_RUN];
  uint32_t kind = alike ? (uint32_t)pth_reading_of(a->type) : (uint32_t)PTH_N_F64;
  const void *p = alike ? (const void *)address(a, at) : x, *q = alike ? (const void *)address(b, at) : y;
  pth_pair_sums s;
  uint64_t steps[2];
  bool filled = !alike;
  if (filled) reals(k, a, at, n, x), reals(k, b, at, n, y);
  k->pair((enum pth_number)kind, p, q, n, t, &s);
  if (!is_finite(s.aa + s.bb)) {
    if (!filled) reals(k, a, at, n, x), reals(k, b, at, n, y);
    real_run(k, t, a, b, at, n, x, y, out);
    return;
  }
  k->steps(alike ? bytes_each(a->type) : 8, p, q, n, steps);
  out->equal += steps[0];
  out->finite += n;
  if (alike && steps[1] > out->steps) out->steps = steps[1];
  bool exact = t->rtol == 0 && t->atol == 0, count = s.far > 0 && !exact;
  if (!filled && (count || s.most > out->most)) reals(k, a, at, n, x), reals(k, b, at, n, y);
  if (exact) out->far += n - steps[0];
  if (count) out->far += n_far(t, x, y, n);
  if (s.most > out->most) out->most = s.most, out->at = at + first_of(s.most, x, y, n);
  out->sum += s.sum, out->relative += s.relative;
  out->most_relative = larger(out->most_relative, s.most_relative);
  out->dot += s.dot, out->aa += s.aa, out->bb += s.bb, out->dd += s.dd;
}

void pth_pair_piece(const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, uint32_t n, pth_pair *out) {
  uint32_t ra = pth_reading_of(a->type), rb = pth_reading_of(b->type);
  bool of_complex = is_complex(ra) || is_complex(rb);
  uint32_t most = of_complex ? SHORT_RUN : PTH_RUN;
  bool codes = a->type == b->type && is_small_float(a->type);
  pth_pair_start(out);
  for (uint32_t i = 0, few; i < n; i += few) {
    few = n - i < most ? n - i : most;
    if (of_complex) {
      complex_run(k, t, a, b, i, few, out);
    } else if (ra == rb && is_wide_integer(ra)) {
      wide_run(t, ra, (const uint64_t *)a->data + i, (const uint64_t *)b->data + i, i, few, out);
    } else if (codes) {
      double x[PTH_RUN], y[PTH_RUN];
      reals(k, a, i, few, x), reals(k, b, i, few, y);
      real_run(k, t, a, b, i, few, x, y, out);
    } else {
      finite_run(k, t, a, b, ra == rb && is_float(ra), i, few, out);
    }
  }
  out->n = n;
}
