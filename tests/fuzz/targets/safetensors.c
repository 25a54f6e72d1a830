/* csrc/safetensors.h: the header, its store, and the rows of its tensors. Whoever takes it for JSON must count as many entries. */
#include <stdlib.h>

#include "fuzz.h"

static pth_limits limits;

/* Entries of the outer object, by brackets and quotes alone; nothing is deeper than a tensor's lists. */
static uint64_t count_entries(pth_bytes in, uint64_t end) {
  uint64_t n = 0;
  int depth = 0;
  bool quoted = false, empty = true;
  for (uint64_t i = PTH_ST_LENGTH; i < end; i++) {
    uint8_t c = in.data[i];
    CHECK(c >= 0x20 || (!quoted && (c == '\n' || c == '\r' || c == '\t')));
    if (quoted) {
      if (c == '\\') i++;
      if (c == '"') quoted = false;
      continue;
    }
    if (c == '"') quoted = true, empty = false;
    if (c == '{' || c == '[') CHECK(++depth <= 3);
    if (c == '}' || c == ']') CHECK(--depth >= 0 && (depth > 0 || i + 1 == end));
    n += c == ',' && depth == 1;
  }
  CHECK(depth == 0 && !quoted);
  return n + !empty;
}

static void check_text(const pth_safetensors *s, pth_bytes in, pth_bytes text) {
  const uint8_t *own = s->text.data;
  bool inside = text.data >= in.data && text.data + text.len <= in.data + in.len;
  CHECK(text.len == 0 || inside || (text.data >= own && text.data + text.len <= own + s->text.len));
  CHECK(pth_utf8_strict(text) == text.len);
}

static void check_row(const pth_safetensors *s, uint32_t i, uint64_t *reach) {
  const pth_safetensor *row = &PTH_AT(pth_safetensor, s->rows, i);
  const pth_span *span = &PTH_AT(pth_span, s->store.spans, i);
  CHECK(row->dtype < PTH_N_DTYPES && row->code < PTH_N_CODES && row->n_dims <= limits.max_ndim);
  CHECK((uint64_t)row->dims + 2 * (uint64_t)row->n_dims <= s->dims.len && span->off >= s->data && span->len <= INT64_MAX - span->off);
  CHECK(span->off + span->len <= s->end || span->len == 0);
  CHECK(span->code == 0 || row->code == span->code);
  if (s->in_order) CHECK(span->off == *reach);
  *reach = span->off + span->len;
  __int128 numel = 1, step = 1;
  for (uint32_t k = 0; k < row->n_dims && row->code == 0; k++) numel *= PTH_AT(int64_t, s->dims, row->dims + k);
  if (row->code == 0) CHECK(numel * pth_dtypes[row->dtype].itemsize == (__int128)span->len && row->dtype != PTH_DT_UNTYPED);
  for (uint32_t k = row->n_dims; k-- > 0 && row->code == 0 && numel > 0;) {
    CHECK(PTH_AT(int64_t, s->dims, row->dims + row->n_dims + k) == step);
    step *= PTH_AT(int64_t, s->dims, row->dims + k);
  }
}

static void check_header(const pth_safetensors *s, pth_bytes in) {
  uint64_t n = count_entries(in, s->json), reach = s->data;
  CHECK(s->data == in.len && s->json <= in.len && s->end >= s->data && s->store.fixed_little);
  for (uint64_t i = s->json; i < in.len; i++) CHECK(in.data[i] != 0 && strchr(" \t\r\n", in.data[i]) != NULL);
  CHECK(s->rows.len == s->store.spans.len && s->pairs.len % 2 == 0);
  CHECK(n == s->rows.len + (s->pairs.len > 0) || (s->pairs.len == 0 && n == s->rows.len + 1));
  check_store(&s->store);
  for (uint32_t i = 0; i < s->rows.len; i++) {
    check_text(s, in, PTH_AT(pth_span, s->store.spans, i).key);
    check_row(s, i, &reach);
  }
  for (uint32_t i = 0; i < s->pairs.len; i++) check_text(s, in, PTH_AT(pth_bytes, s->pairs, i));
}

static int read_rows(pth_safetensors *s, uint64_t *digest) {
  pth_graph g;
  pth_tensors t;
  pth_err err = {0};
  pth_graph_init(&g, s->arena);
  int rc = pth_tensors_init(&t, s->arena, &g, &s->store, &err);
  if (rc == 0) rc = pth_safetensors_tensors(s, &t, &limits, &err);
  check_error(rc, &err, UINT64_MAX);
  if (rc == 0) {
    check_tensors(&t, &limits);
    CHECK(t.tensors.len == s->rows.len && t.storages.len == s->rows.len);
    for (uint32_t i = 0; i < t.tensors.len; i++) {
      const pth_tensor *r = &PTH_AT(pth_tensor, t.tensors, i);
      CHECK(r->code == PTH_AT(pth_safetensor, s->rows, i).code && PTH_AT(pth_storage, t.storages, r->storage).span == i);
    }
    *digest = digest_tensors(&t);
  }
  pth_tensors_free(&t);
  pth_graph_free(&g);
  return rc;
}

static int read_all(pth_arena *a, pth_bytes in, uint64_t *digest) {
  pth_safetensors s;
  pth_err err = {0};
  int rc = pth_safetensors_read(&s, a, in, &limits, &err);
  check_error(rc, &err, in.len);
  if (rc == 0) {
    CHECK(a->used <= 64 * in.len + (1 << 16));
    check_header(&s, in);
    rc = read_rows(&s, digest);
  }
  pth_safetensors_free(&s);
  CHECK(a->used == 0);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_arena a = fuzz_arena(FUZZ_BUDGET, 1), b = fuzz_arena(FUZZ_BUDGET, 2);
  uint64_t digest = 0, again = 0;
  pth_bytes in = fuzz_block(data, size);
  int rc = read_all(&a, in, &digest);
  CHECK(rc != PTH_E_MEMORY && rc != PTH_E_BUDGET);
  CHECK(read_all(&b, in, &again) == rc && again == digest);
  if (a.n_allocs) {
    b = fuzz_arena(FUZZ_BUDGET, 1);
    b.exact = true;
    b.fail_at = 1 + fuzz_pick(data, size, a.n_allocs);
    int failed = read_all(&b, in, &again);
    CHECK(failed == PTH_E_MEMORY || (failed == rc && again == digest));
  }
  free((void *)(uintptr_t)in.data);
  fuzz_count(rc);
  return 0;
}

static const char *const PIECES[] = {"{",
                                     "}",
                                     "[",
                                     "]",
                                     ",",
                                     ":",
                                     "\"",
                                     "\\",
                                     "\\ud83d",
                                     "\\ude00",
                                     "\\u0041",
                                     "\\n",
                                     "0",
                                     "1",
                                     "-",
                                     ".",
                                     "e",
                                     " ",
                                     "\n",
                                     "null",
                                     "\"shape\":[2,3]",
                                     "\"F4\"",
                                     "\"F6_E2M3\"",
                                     "\"BF16\"",
                                     "\"dtype\":",
                                     "\xc3\xa9",
                                     "\xed\xa0\x80",
                                     "\"__metadata__\":{\"a\":\"b\"},",
                                     "9223372036854775807",
                                     "18446744073709551615"};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  if (fuzz_random(&rng, 4) == 0 || size <= PTH_ST_LENGTH) return LLVMFuzzerMutate(data, size, max);
  size_t at = PTH_ST_LENGTH + fuzz_random(&rng, size - PTH_ST_LENGTH), n = 1 + fuzz_random(&rng, 24);
  if (n > size - at) n = size - at;
  switch (fuzz_random(&rng, 4)) {
    case 0: /* away */
      memmove(data + at, data + at + n, size - at - n);
      return size - n;
    case 1: /* once more */
      if (n > max - size) return size;
      memmove(data + at + n, data + at, size - at);
      return size + n;
    case 2: /* a digit */
      for (size_t i = at; i < size; i++) {
        if (data[i] < '0' || data[i] > '9') continue;
        data[i] = (uint8_t)('0' + fuzz_random(&rng, 10));
        break;
      }
      return size;
    default: {
      const char *piece = PIECES[fuzz_random(&rng, sizeof PIECES / sizeof *PIECES)];
      size_t len = strlen(piece);
      if (len > max - size) return size;
      memmove(data + at + len, data + at, size - at);
      memcpy(data + at, piece, len);
      return size + len;
    }
  }
}
