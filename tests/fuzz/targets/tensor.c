/* csrc/tensor.h, names.h, audit.h: graph and store -> checked tensors and their names; the calls that made them.
 *
 *   n | n x u16 | pickle    a store of n spans with the keys "0", "1", ...: 12 bits of length, and a span that cannot be read if the rest
 *                           are ones. */
#include "fuzz.h"

enum { MAX_SPANS = 8 };

static pth_limits limits;

static int make_store(pth_store *s, pth_arena *a, pth_cursor *c, pth_err *err) {
  static const char *const keys[MAX_SPANS] = {"0", "1", "2", "3", "4", "5", "6", "7"};
  const uint8_t *n = pth_take(c, 1), *p;
  int rc = pth_store_init(s, a, n == NULL ? 0 : *n % MAX_SPANS, err);
  uint64_t off = 0;
  for (uint32_t i = 0; n != NULL && i < *n % MAX_SPANS && !rc && (p = pth_take(c, 2)) != NULL; i++) {
    pth_span span = {.key = pth_text(keys[i]), .off = off, .len = pth_u16(p) & 0xfff, .member = PTH_NONE, .dtype = PTH_N_DTYPES};
    if (pth_u16(p) >> 12 == 15) span.code = PTH_E_ZIP_EXTENT;
    off += span.len;
    rc = pth_store_add(s, &span, err);
  }
  return rc;
}

/* The same shapes once more, as a container that describes its tensors itself would give them. */
static void check_added(const pth_tensors *read, pth_arena *a) {
  pth_tensors t;
  uint32_t n_spans = read->store->spans.len;
  CHECK(pth_tensors_init(&t, a, read->graph, read->store, NULL) == 0);
  for (uint32_t i = 0; i < read->tensors.len && i < 32; i++) {
    const pth_tensor *r = &PTH_AT(pth_tensor, read->tensors, i);
    const int64_t *dims = read->dims.data, none = 0;
    uint32_t row, span = i % (n_spans + 1);
    pth_dense d = {.span = span < n_spans ? span : PTH_NONE, .dtype = r->dtype, .n_dims = r->n_dims, .offset = r->offset};
    d.sizes = r->n_dims ? dims + r->sizes : &none;
    d.strides = r->n_dims ? dims + r->strides : &none;
    CHECK(pth_tensors_add(&t, &d, &limits, &row, NULL) == 0 && row == i);
  }
  check_tensors(&t, &limits);
  pth_tensors_free(&t);
}

typedef struct answer {
  int rc;
  uint64_t digest;
} answer;

static answer read_all(pth_arena *a, const uint8_t *data, size_t size) {
  pth_cursor c = {.data = data, .len = size};
  pth_store s;
  pth_graph g;
  pth_tensors t;
  pth_err err = {0};
  answer out = {0};
  CHECK(make_store(&s, a, &c, &err) == 0);
  check_store(&s);
  pth_graph_init(&g, a);
  out.rc = pth_pickle_run(&g, fuzz_part((pth_bytes){data, size}, c.pos, pth_left(&c)), &limits, &err);
  if (out.rc == 0) {
    out.rc = pth_tensors_read(&t, &g, &s, &limits, &err);
    check_error(out.rc, &err, size);
    CHECK(out.rc == 0 || out.rc == PTH_E_LIMIT_NAMES || out.rc == PTH_E_LIMIT_NAME_BYTES);
    if (out.rc == 0) {
      check_tensors(&t, &limits);
      check_added(&t, a);
    }
    out.digest = digest_tensors(&t) ^ check_audit(&g, &t, false, &limits);
    pth_tensors_free(&t);
  }
  pth_graph_free(&g);
  pth_store_free(&s);
  CHECK(a->used == 0);
  return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_arena a = fuzz_arena(FUZZ_BUDGET, 1), b = fuzz_arena(FUZZ_BUDGET, 2);
  answer first = read_all(&a, data, size);
  if (first.digest) {
    b.exact = size % 8 == 0;
    answer again = read_all(&b, data, size);
    CHECK(again.rc == first.rc && again.digest == first.digest);
  }
  fuzz_count(first.rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  size_t head = size ? 1 + data[0] % MAX_SPANS * (size_t)2 : 0;
  if (head >= size || fuzz_random(&rng, 16) == 0) return LLVMFuzzerMutate(data, size, max);
  if (fuzz_random(&rng, 16) == 0) return (void)LLVMFuzzerMutate(data + 1, head - 1, head - 1), size;
  return head + mutate_pickle(data + head, size - head, max - head, &rng);
}
