#include "safetensors.h"

const pth_st_dtype pth_st_dtypes[] = {
#define X(name, ID, bits) {name, PTH_DT_##ID, bits},
#include "defs/safetensors.def"
#undef X
};
const uint32_t pth_n_st_dtypes = sizeof pth_st_dtypes / sizeof pth_st_dtypes[0];

enum { BYTES_A_TENSOR = 96 }; /* a guess at what one takes in the header */

typedef struct parser {
  pth_safetensors *s;
  pth_bytes in;
  uint64_t at; /* <= in.len */
  const pth_limits *lim;
  uint32_t dtype; /* of the last tensor: most are alike */
  pth_err *err;
} parser;

static int fail(const parser *p, int code) { return pth_fail(p->err, code, p->at, 0, 0); }

/* The byte at hand, or 0, which no JSON may hold. */
static uint8_t here(const parser *p) { return p->at < p->in.len ? p->in.data[p->at] : 0; }

/* The next byte that is no space. */
static uint8_t next(parser *p) {
  uint8_t c;
  while ((c = here(p)) == ' ' || c == '\n' || c == '\r' || c == '\t') p->at++;
  return c;
}

static int expect(parser *p, char wanted) {
  if (next(p) != (uint8_t)wanted) return fail(p, PTH_E_ST_JSON);
  p->at++;
  return 0;
}

/* Behind an item: another one follows (a comma), or `end`. */
static int more(parser *p, char end, bool *another) {
  *another = next(p) == ',';
  if (!*another && here(p) != (uint8_t)end) return fail(p, PTH_E_ST_JSON);
  p->at++;
  return 0;
}

/* Behind an opening bracket: is there an item? */
static bool any(parser *p, char end) {
  if (next(p) != (uint8_t)end) return true;
  p->at++;
  return false;
}

/* ---- texts ---- */

static void put(parser *p, uint32_t byte) { PTH_AT(uint8_t, p->s->text, p->s->text.len++) = (uint8_t)byte; }

static void put_utf8(parser *p, uint32_t c) {
  if (c < 0x80) {
    put(p, c);
    return;
  }
  if (c < 0x800) {
    put(p, 0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(p, 0xe0 | c >> 12);
    } else {
      put(p, 0xf0 | c >> 18);
      put(p, 0x80 | (c >> 12 & 0x3f));
    }
    put(p, 0x80 | (c >> 6 & 0x3f));
  }
  put(p, 0x80 | (c & 0x3f));
}

/* Four hexadecimal digits. */
static int hex(parser *p, uint32_t *value) {
  *value = 0;
  for (int i = 0; i < 4; i++, p->at++) {
    uint8_t c = here(p), letter = c | 0x20;
    if (c >= '0' && c <= '9') {
      *value = *value << 4 | (c - (uint32_t)'0');
    } else if (letter >= 'a' && letter <= 'f') {
      *value = *value << 4 | (letter - (uint32_t)'a' + 10);
    } else {
      return fail(p, PTH_E_ST_JSON);
    }
  }
  return 0;
}

/* What stands behind a backslash. Half of a pair of surrogates is no character. */
static int escape(parser *p) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  uint8_t c = here(p);
  uint32_t value, low;
  for (int i = 0; from[i]; i++) {
    if (c != (uint8_t)from[i]) continue;
    p->at++;
    put(p, (uint8_t)to[i]);
    return 0;
  }
  if (c != 'u') return fail(p, PTH_E_ST_JSON);
  p->at++;
  int rc = hex(p, &value);
  if (rc) return rc;
  if (value >= 0xd800 && value < 0xe000) {
    if (value >= 0xdc00 || here(p) != '\\') return fail(p, PTH_E_ST_JSON);
    p->at++;
    if (here(p) != 'u') return fail(p, PTH_E_ST_JSON);
    p->at++;
    if ((rc = hex(p, &low)) != 0) return rc;
    if (low < 0xdc00 || low >= 0xe000) return fail(p, PTH_E_ST_JSON);
    value = 0x10000 + ((value - 0xd800) << 10 | (low - 0xdc00));
  }
  put_utf8(p, value);
  return 0;
}

/* The rest of a text that has escapes; `begin`: where it began. A text is never longer than its JSON, so one block holds all of them. */
static int decoded(parser *p, uint64_t begin, pth_bytes *out) {
  pth_pool *text = &p->s->text;
  int rc = text->cap ? 0 : pth_pool_reserve(p->s->arena, text, p->in.len, p->err);
  if (rc) return rc;
  uint32_t first = text->len;
  for (uint64_t i = begin; i < p->at; i++) put(p, p->in.data[i]);
  for (uint8_t c; (c = here(p)) != '"';) {
    if (c < 0x20) return fail(p, PTH_E_ST_JSON);
    p->at++;
    if (c != '\\') {
      put(p, c);
    } else if ((rc = escape(p)) != 0) {
      return rc;
    }
  }
  *out = (pth_bytes){&PTH_AT(uint8_t, *text, first), text->len - first};
  p->at++;
  return 0;
}

static int text(parser *p, pth_bytes *out) {
  int rc = expect(p, '"');
  if (rc) return rc;
  uint64_t begin = p->at, at = begin;
  while (at < p->in.len && p->in.data[at] != '"' && p->in.data[at] != '\\' && p->in.data[at] >= 0x20) at++;
  p->at = at;
  if (here(p) == '\\') return decoded(p, begin, out);
  if (here(p) != '"') return fail(p, PTH_E_ST_JSON);
  *out = (pth_bytes){p->in.data + begin, p->at - begin};
  p->at++;
  return 0;
}

/* ---- numbers ---- */

/* A whole number below 2^63, as JSON writes it: no sign, no leading zero, no fraction, no exponent. */
static int number(parser *p, uint64_t *out) {
  uint8_t c = next(p);
  if (c < '0' || c > '9') return fail(p, PTH_E_ST_NUMBER);
  bool zero = c == '0';
  *out = 0;
  for (uint64_t digits = 0; (c = here(p)) >= '0' && c <= '9'; p->at++, digits++) {
    if ((zero && digits) || *out > (uint64_t)INT64_MAX / 10) return fail(p, PTH_E_ST_NUMBER);
    *out = *out * 10 + (c - (uint64_t)'0');
    if (*out > (uint64_t)INT64_MAX) return fail(p, PTH_E_ST_NUMBER);
  }
  return c == '.' || c == 'e' || c == 'E' ? fail(p, PTH_E_ST_NUMBER) : 0;
}

static int push_dim(parser *p, uint64_t v) {
  pth_pool *dims = &p->s->dims;
  int rc = pth_pool_room(p->s->arena, dims, p->err);
  if (rc == 0) PTH_AT(int64_t, *dims, dims->len++) = (int64_t)v;
  return rc;
}

/* ---- one tensor ---- */

enum field { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };

typedef struct entry {
  pth_safetensor row;
  pth_bytes dtype;
  uint64_t offsets[2];
} entry;

static int shape(parser *p, entry *e) {
  int rc = expect(p, '[');
  e->row.dims = p->s->dims.len;
  bool another = rc == 0 && any(p, ']');
  while (rc == 0 && another) {
    uint64_t size;
    if ((rc = number(p, &size)) != 0) break;
    if (e->row.n_dims++ < p->lim->max_ndim) rc = push_dim(p, size);
    if (rc == 0) rc = more(p, ']', &another);
  }
  return rc;
}

static int offsets(parser *p, entry *e) {
  int rc = expect(p, '[');
  if (rc == 0) rc = number(p, &e->offsets[0]);
  if (rc == 0) rc = expect(p, ',');
  if (rc == 0) rc = number(p, &e->offsets[1]);
  return rc ? rc : expect(p, ']');
}

static int fields(parser *p, entry *e) {
  static const char *const names[] = {"dtype", "shape", "data_offsets"};
  uint32_t seen = 0;
  int rc = expect(p, '{');
  bool another = rc == 0 && any(p, '}');
  while (rc == 0 && another) {
    pth_bytes key;
    uint64_t at = p->at;
    uint32_t field = 0;
    if ((rc = text(p, &key)) != 0) break;
    while (field < 3 && !pth_bytes_equal(key, pth_text(names[field]))) field++;
    if (field == 3 || seen & 1u << field) return pth_fail(p->err, PTH_E_ST_FIELD, at, 0, 0);
    seen |= 1u << field;
    if ((rc = expect(p, ':')) != 0) break;
    rc = field == 0 ? text(p, &e->dtype) : field == 1 ? shape(p, e) : offsets(p, e);
    if (rc == 0) rc = more(p, '}', &another);
  }
  return rc ? rc : seen == (DTYPE | SHAPE | OFFSETS) ? 0 : fail(p, PTH_E_ST_FIELD);
}

static const pth_st_dtype *dtype_of(parser *p, pth_bytes name) {
  for (uint32_t k = 0; k < pth_n_st_dtypes; k++) {
    uint32_t i = (p->dtype + k) % pth_n_st_dtypes;
    if (!pth_bytes_equal(name, pth_text(pth_st_dtypes[i].name))) continue;
    p->dtype = i;
    return &pth_st_dtypes[i];
  }
  return NULL;
}

static void wrong(pth_safetensor *row, uint16_t code, uint64_t want, uint64_t have) {
  row->code = code;
  row->want = want;
  row->have = have;
}

/* Do dtype, shape and bytes belong together? */
static void check(parser *p, entry *e) {
  pth_safetensor *row = &e->row;
  const pth_st_dtype *d = dtype_of(p, e->dtype);
  uint64_t begin = e->offsets[0], end = e->offsets[1], bits = 1;
  row->dtype = d == NULL ? PTH_DT_UNTYPED : d->dtype;
  if (d == NULL) wrong(row, PTH_E_ST_DTYPE, 0, 0);
  if (row->n_dims > p->lim->max_ndim) {
    wrong(row, PTH_E_LIMIT_NDIM, row->n_dims, p->lim->max_ndim);
    row->n_dims = 0;
  }
  if (begin > end) wrong(row, PTH_E_ST_OFFSETS, begin, end);
  if (row->code || d == NULL) return;
  int64_t *sizes = row->n_dims ? &PTH_AT(int64_t, p->s->dims, row->dims) : NULL;
  bool fits = true;
  for (uint32_t i = 0; i < row->n_dims; i++) fits = fits && pth_mul(bits, (uint64_t)sizes[i], &bits);
  if (!fits || !pth_mul(bits, d->bits, &bits)) {
    wrong(row, PTH_E_TENSOR_OVERFLOW, 0, 0);
  } else if (bits % 8) {
    wrong(row, PTH_E_ST_BITS, bits, 0);
  } else if (bits / 8 != end - begin) {
    wrong(row, PTH_E_ST_SIZE, bits / 8, end - begin);
  } else if (d->dtype == PTH_DT_UNTYPED) {
    wrong(row, PTH_E_ST_NO_ARRAY, d->bits, 0);
  } else if (d->bits == 4) {
    if (row->n_dims && sizes[row->n_dims - 1] % 2 == 0)
      sizes[row->n_dims - 1] /= 2;
    else
      wrong(row, PTH_E_ST_HALVES, 0, 0);
  }
}

/* Row-major, as there is nothing else in such a file. */
static int strides(parser *p, const pth_safetensor *row) {
  pth_pool *dims = &p->s->dims;
  int rc = pth_pool_reserve(p->s->arena, dims, row->n_dims, p->err);
  if (rc) return rc;
  uint64_t step = 1;
  for (uint32_t i = row->n_dims; i-- > 0;) {
    uint64_t size = (uint64_t)PTH_AT(int64_t, *dims, row->dims + i);
    PTH_AT(int64_t, *dims, dims->len + i) = (int64_t)(step & INT64_MAX);
    if (size && !pth_mul(step, size, &step)) step = (uint64_t)INT64_MAX;
  }
  dims->len += row->n_dims;
  return 0;
}

static int tensor(parser *p, pth_bytes name) {
  pth_safetensors *s = p->s;
  entry e = {.row = {.n_dims = 0}};
  if (s->rows.len >= p->lim->max_names) return pth_fail(p->err, PTH_E_LIMIT_NAMES, p->at, s->rows.len, p->lim->max_names);
  int rc = fields(p, &e);
  if (rc) return rc;
  uint64_t begin, end;
  if (!pth_add(s->data, e.offsets[0], &begin) || !pth_add(s->data, e.offsets[1], &end) || end > (uint64_t)INT64_MAX)
    return fail(p, PTH_E_ST_NUMBER);
  check(p, &e);
  if ((rc = strides(p, &e.row)) != 0 || (rc = pth_pool_room(s->arena, &s->rows, p->err)) != 0) return rc;
  bool backwards = e.row.code == PTH_E_ST_OFFSETS;
  pth_span span = {.key = name,
                   .off = begin,
                   .len = backwards ? 0 : end - begin,
                   .member = PTH_NONE,
                   .code = backwards ? PTH_E_ST_OFFSETS : 0,
                   .dtype = PTH_N_DTYPES};
  if ((rc = pth_store_add(&s->store, &span, p->err)) != 0) return rc;
  PTH_AT(pth_safetensor, s->rows, s->rows.len++) = e.row;
  s->in_order = s->in_order && !backwards && begin == s->end;
  if (!backwards && end > s->end) s->end = end;
  return 0;
}

/* ---- the whole ---- */

static int metadata(parser *p) {
  pth_pool *pairs = &p->s->pairs;
  int rc = expect(p, '{');
  bool another = rc == 0 && any(p, '}');
  while (rc == 0 && another) {
    pth_bytes pair[2];
    rc = text(p, &pair[0]);
    if (rc == 0) rc = expect(p, ':');
    if (rc == 0) rc = text(p, &pair[1]);
    if (rc == 0) rc = pth_pool_reserve(p->s->arena, pairs, 2, p->err);
    if (rc) return rc;
    for (int i = 0; i < 2; i++) PTH_AT(pth_bytes, *pairs, pairs->len++) = pair[i];
    rc = more(p, '}', &another);
  }
  return rc;
}

static int entries(parser *p) {
  bool told = false;
  int rc = expect(p, '{');
  bool another = rc == 0 && any(p, '}');
  while (rc == 0 && another) {
    pth_bytes name;
    if ((rc = text(p, &name)) != 0 || (rc = expect(p, ':')) != 0) break;
    bool meta = pth_bytes_equal(name, pth_text("__metadata__"));
    if (meta && told) return fail(p, PTH_E_ST_FIELD);
    told = told || meta;
    rc = meta ? metadata(p) : tensor(p, name);
    if (rc == 0) rc = more(p, '}', &another);
  }
  return rc;
}

/* The store says of a name that is there twice what is true of a zip. */
static void tell_doubled(pth_safetensors *s) {
  for (uint32_t i = 0; i < s->store.spans.len; i++) {
    pth_span *span = &PTH_AT(pth_span, s->store.spans, i);
    if (span->code != PTH_E_ZIP_DUPLICATE) continue;
    span->code = PTH_E_ST_DUPLICATE;
    PTH_AT(pth_safetensor, s->rows, i).code = PTH_E_ST_DUPLICATE;
    s->doubled = true;
  }
}

int pth_safetensors_read(pth_safetensors *s, pth_arena *a, pth_bytes in, const pth_limits *lim, pth_err *err) {
  *s = (pth_safetensors){.arena = a,
                         .rows = PTH_POOL(pth_safetensor),
                         .dims = PTH_POOL(int64_t),
                         .pairs = PTH_POOL(pth_bytes),
                         .text = PTH_POOL(uint8_t),
                         .data = in.len,
                         .end = in.len,
                         .in_order = true};
  parser p = {.s = s, .in = in, .at = PTH_ST_LENGTH, .lim = lim, .err = err};
  int rc = pth_store_init(&s->store, a, 0, err);
  if (rc) return rc;
  s->store.fixed_little = true;
  if (in.len < PTH_ST_LENGTH) return pth_fail(err, PTH_E_ST_JSON, in.len, 0, 0);
  if (in.len - PTH_ST_LENGTH > lim->max_header_bytes)
    return pth_fail(err, PTH_E_LIMIT_HEADER, 0, in.len - PTH_ST_LENGTH, lim->max_header_bytes);
  uint64_t good = PTH_ST_LENGTH + pth_utf8_strict((pth_bytes){in.data + PTH_ST_LENGTH, in.len - PTH_ST_LENGTH});
  if (good < in.len) return pth_fail(err, PTH_E_ST_UTF8, good, 0, 0);
  if (here(&p) != '{') return fail(&p, PTH_E_ST_JSON);
  pth_pool_expect(a, &s->rows, in.len / BYTES_A_TENSOR);
  pth_pool_expect(a, &s->dims, in.len / BYTES_A_TENSOR * 4);
  pth_store_expect(&s->store, in.len / BYTES_A_TENSOR);
  if ((rc = entries(&p)) != 0) return rc;
  s->json = p.at;
  if (next(&p) != 0 || p.at < in.len) return fail(&p, PTH_E_ST_JSON);
  tell_doubled(s);
  return 0;
}

void pth_safetensors_free(pth_safetensors *s) {
  pth_store_free(&s->store);
  pth_pool_free(s->arena, &s->rows);
  pth_pool_free(s->arena, &s->dims);
  pth_pool_free(s->arena, &s->pairs);
  pth_pool_free(s->arena, &s->text);
}

int pth_safetensors_tensors(const pth_safetensors *s, pth_tensors *t, const pth_limits *lim, pth_err *err) {
  static const int64_t none[1] = {0};
  pth_pool_expect(t->arena, &t->tensors, s->rows.len);
  pth_pool_expect(t->arena, &t->storages, s->rows.len);
  for (uint32_t i = 0; i < s->rows.len; i++) {
    const pth_safetensor *row = &PTH_AT(pth_safetensor, s->rows, i);
    const int64_t *sizes = row->n_dims ? &PTH_AT(int64_t, s->dims, row->dims) : none;
    pth_dense d = {.span = i, .dtype = row->dtype, .n_dims = row->n_dims, .sizes = sizes, .strides = sizes + row->n_dims};
    uint32_t added;
    int rc = pth_tensors_add(t, &d, lim, &added, err);
    if (rc) return rc;
    pth_tensor *made = &PTH_AT(pth_tensor, t->tensors, added);
    if (row->code == 0) continue;
    made->code = row->code;
    made->want = row->want;
    made->have = row->have;
  }
  return 0;
}
