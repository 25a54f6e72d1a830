/* csrc/tar.h: blocks, the records of storages, views and tensors, and the store that they make. */
#include "fuzz.h"

static pth_limits limits;
static const char *const NAMES[] = {"storages", "tensors", "pickle"};
enum { STORAGES, TENSORS, PICKLE, N_MEMBERS };

typedef struct outside { /* of one tar */
  pth_bytes f, members[N_MEMBERS];
} outside;

static int read_headers(outside *o) {
  for (uint64_t at = 0; at + PTH_TAR_BLOCK <= o->f.len;) {
    pth_tar_entry e;
    bool used;
    pth_err err = {0};
    const uint8_t *p = o->f.data + at;
    int rc = pth_tar_header((pth_bytes){p, PTH_TAR_BLOCK}, &e, &used, &err);
    check_error(rc, &err, PTH_TAR_BLOCK);
    if (rc) return rc;
    if (!used) break;
    CHECK(e.name_len <= 100 && e.type == p[156] && (e.name_len == 100 || p[e.name_len] == 0));
    if (e.size > o->f.len - at - PTH_TAR_BLOCK) return PTH_E_TAR_EXTENT;
    for (int i = 0; i < N_MEMBERS; i++)
      if (pth_bytes_equal((pth_bytes){p, e.name_len}, pth_text(NAMES[i]))) o->members[i] = (pth_bytes){p + PTH_TAR_BLOCK, e.size};
    at += PTH_TAR_BLOCK + (e.size + PTH_TAR_BLOCK - 1) / PTH_TAR_BLOCK * PTH_TAR_BLOCK;
  }
  return o->members[STORAGES].data && o->members[TENSORS].data && o->members[PICKLE].data ? 0 : PTH_E_TAR_HEADER;
}

static int read_members(pth_tar *t, const outside *o, uint64_t *n_storages, pth_err *err) {
  pth_bytes m = o->members[STORAGES];
  uint64_t n = 0, used = 0, at = (uint64_t)(m.data - o->f.data), end = at + m.len, next = 0;
  int rc = pth_tar_count(t, m, &limits, &n, &used, err);
  *n_storages = n;
  at += used;
  if (rc == 0) CHECK(used > 0 && used <= m.len && n <= INT64_MAX);
  for (uint64_t i = 0; i < n && !rc; i++, at = next) {
    rc = pth_tar_storage(t, fuzz_part(o->f, at, end - at), at, end, &limits, &next, err);
    if (rc == 0) CHECK(next > at + 8 && next <= end);
  }
  if (rc == 0) rc = pth_tar_views(t, fuzz_part(o->f, at, end - at), &limits, err);
  if (rc == 0) rc = pth_tar_tensors(t, o->members[TENSORS], &limits, err);
  return rc ? rc : pth_tar_finish(t, err);
}

/* Storages lie in the order of the file, apart from each other; a view lies inside of one of them. */
static void check_spans(const pth_tar *t, const outside *o, uint64_t n_storages) {
  const pth_store *s = &t->store;
  uint64_t at = (uint64_t)(o->members[STORAGES].data - o->f.data), end = at + o->members[STORAGES].len;
  CHECK(s->fixed_little && s->named == &t->named && n_storages <= s->spans.len);
  check_store(s);
  check_store(&t->named);
  for (uint32_t i = 0; i < s->spans.len; i++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, i);
    uint32_t n;
    CHECK(span->member == PTH_NONE && span->key.len > 0 && (pth_decimal(span->key, &n) || span->key.len >= 10));
    if (i < n_storages) {
      CHECK(span->off > at + 8 && span->off + span->len <= end && span->dtype < PTH_N_DTYPES);
      CHECK(span->len % pth_dtypes[span->dtype].itemsize == 0 && (span->code == 0 || span->code == PTH_E_ZIP_DUPLICATE));
      at = span->off + span->len;
    } else if (span->code == 0) {
      bool inside = false;
      for (uint32_t k = 0; k < n_storages; k++) {
        const pth_span *root = &PTH_AT(pth_span, s->spans, k);
        inside = inside || (span->off >= root->off && span->off + span->len <= root->off + root->len && span->dtype == root->dtype);
      }
      CHECK(inside);
    }
  }
}

static void check_named(const pth_tar *t) {
  const pth_store *s = &t->store;
  CHECK(t->named.spans.len == s->tensors.len);
  for (uint32_t i = 0; i < s->tensors.len; i++) {
    const pth_named_tensor *n = &PTH_AT(pth_named_tensor, s->tensors, i);
    CHECK(PTH_AT(pth_span, t->named.spans, i).off == i && n->n_dims <= limits.max_ndim);
    CHECK((uint64_t)n->dims + 2 * (uint64_t)n->n_dims <= s->dims.len);
    CHECK(n->span == PTH_NONE || n->span < s->spans.len);
  }
}

static int read_root(pth_arena *a, pth_bytes in, const pth_store *s) {
  pth_graph g;
  pth_tensors t;
  pth_err err = {0};
  pth_graph_init(&g, a);
  int rc = pth_pickle_run(&g, in, &limits, &err);
  if (rc == 0) {
    rc = pth_tensors_read(&t, &g, s, &limits, &err);
    if (rc == 0) check_tensors(&t, &limits);
    pth_tensors_free(&t);
  }
  pth_graph_free(&g);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_arena a = fuzz_arena(FUZZ_BUDGET, 1);
  outside o = {.f = {data, size}};
  int rc = read_headers(&o);
  if (rc == 0) {
    pth_tar t;
    pth_err err = {0};
    uint64_t n_storages;
    pth_tar_init(&t, &a);
    rc = read_members(&t, &o, &n_storages, &err);
    check_error(rc, &err, UINT64_MAX);
    CHECK(rc != PTH_E_MEMORY && rc != PTH_E_BUDGET);
    if (rc == 0) {
      check_spans(&t, &o, n_storages);
      check_named(&t);
      rc = read_root(&a, o.members[PICKLE], &t.store);
    }
    pth_tar_free(&t);
    CHECK(a.used == 0);
  }
  fuzz_count(rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  size = fuzz_random(&rng, 4) ? mutate_inside(data, size, max, true, &rng) : LLVMFuzzerMutate(data, size, max);
  if (fuzz_random(&rng, 8)) mend_tar(data, size);
  return size;
}
