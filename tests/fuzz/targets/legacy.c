/* csrc/legacy.h: five pickles and what follows them; and the same inside of a pickle. */
#include "fuzz.h"

static pth_limits limits;

static bool says_more(int rc) { return rc == PTH_E_PICKLE_TRUNCATED || rc == PTH_E_PICKLE_LINE; }

static void check_pickles(const pth_legacy *l, bool whole, size_t size) {
  uint64_t at = 0;
  CHECK(l->n_read <= PTH_N_LEGACY && (!whole || l->n_read == PTH_N_LEGACY));
  for (int i = 0; i < l->n_read; i++) {
    const pth_graph *g = &l->pickles[i];
    bool read = g->root != PTH_NONE;
    CHECK(l->at[i] == at && g->in.len == size - at && (read || i == l->n_read - 1));
    check_graph(g, read);
    at += read ? g->end : 0;
  }
  CHECK(l->end == at && at <= size);
}

static void check_spans(const pth_legacy *l, const pth_store *s, uint64_t end, pth_bytes f) {
  uint64_t at = l->end;
  CHECK(s->fixed_little && !s->big && s->named == NULL);
  check_store(s);
  for (uint32_t i = 0; i < s->spans.len; i++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, i);
    CHECK(span->off == at + 8 && span->code == 0 && span->member == PTH_NONE && span->dtype < PTH_N_DTYPES);
    CHECK(span->len <= f.len && span->len % pth_dtypes[span->dtype].itemsize == 0);
    if (span->key.len <= PTH_LONGEST_KEY) CHECK(pth_store_find(s, span->key) == i);
    at = span->off + span->len;
  }
  CHECK(at == end && end <= f.len);
}

/* In one window or in several: the first header that says something else. */
static void check_headers(const pth_store *s, pth_bytes f) {
  uint32_t next = 0, right = 0;
  pth_err err = {0};
  int rc = pth_legacy_check(s, f, 0, &next, &err);
  check_error(rc, &err, f.len);
  for (; right < s->spans.len; right++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, right);
    if (pth_u64(f.data + span->off - 8) * pth_dtypes[span->dtype].itemsize != span->len) break;
  }
  /* A product may wrap round: then the core, which divides, stops earlier. */
  CHECK(rc ? next <= right && rc == PTH_E_LEGACY_NUMEL : next == right && right == s->spans.len);
  for (uint32_t each = 0; each < next;) {
    uint64_t at = PTH_AT(pth_span, s->spans, each).off - 8;
    uint32_t before = each;
    CHECK(pth_legacy_check(s, fuzz_part(f, at, 8), at, &each, NULL) == 0 && each > before);
  }
}

/* Marks lie on spans alone. */
static void check_used(const pth_graph *g, const pth_store *s) {
  uint8_t used[4096] = {0};
  if (s->spans.len > sizeof used) return;
  pth_audit_spans(g, s, used);
  for (uint32_t i = 0; i < sizeof used; i++) CHECK(used[i] <= (i < s->spans.len));
}

static void check_nested(const pth_legacy *l, int rc, pth_bytes f, pth_arena *a) {
  pth_nested n;
  int inside = pth_legacy_nested(f, a, &limits, &n);
  if (rc) CHECK(inside == rc);
  if (inside || rc) return;
  const pth_graph *g = &l->pickles[PTH_LEGACY_OBJECT];
  CHECK(pth_node_at(g, g->root)->kind == PTH_NODE_PERSID && n.dtype < PTH_N_DTYPES);
  if (n.plain) CHECK(n.off + n.nbytes == f.len);
  CHECK(n.off == l->end + 8 && n.off <= f.len && n.nbytes <= f.len - n.off);
  CHECK(n.nbytes % pth_dtypes[n.dtype].itemsize == 0 && pth_u64(f.data + l->end) == n.nbytes / pth_dtypes[n.dtype].itemsize);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_bytes f = {data, size};
  pth_arena a = fuzz_arena(48 * (uint64_t)size + 5 * 16384, 1), b = fuzz_arena(FUZZ_BUDGET, 2);
  pth_legacy l, cut;
  pth_err err = {0};
  pth_store s = {.arena = &a};
  uint64_t end = 0;
  int rc = pth_legacy_read(&l, &a, f, &limits, &err);
  check_error(rc, &err, size);
  CHECK(rc != PTH_E_BUDGET && rc != PTH_E_MEMORY);
  check_pickles(&l, rc == 0, size);
  a.budget = FUZZ_BUDGET;
  check_nested(&l, rc, f, &b);
  for (int i = 0; i < l.n_read; i++) (void)check_audit(&l.pickles[i], NULL, true, &limits);
  if (rc == 0) {
    CHECK(says_more(pth_legacy_read(&cut, &b, fuzz_part(f, 0, fuzz_pick(data, size, l.end)), &limits, NULL)));
    pth_legacy_free(&cut);
    rc = pth_legacy_store(&l, size, &s, &end, &err);
    check_error(rc, &err, UINT64_MAX); /* it may name a byte that is missing */
    if (rc == 0) {
      check_spans(&l, &s, end, f);
      check_headers(&s, f);
      check_used(&l.pickles[PTH_LEGACY_OBJECT], &s);
    }
    pth_store_free(&s);
  }
  pth_legacy_free(&l);
  CHECK(a.used == 0 && b.used == 0);
  fuzz_count(rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  return fuzz_random(&rng, 4) ? mutate_inside(data, size, max, false, &rng) : LLVMFuzzerMutate(data, size, max);
}
