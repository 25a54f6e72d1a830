/* A whole file, as pthparse/formats goes about it: chosen by its first bytes, then directory -> store -> pickle -> tensors -> names.
 * Read three times, with another hash seed and with one failing allocation: the answer is the same, or that memory is out. */
#include <stdlib.h>

#include "fuzz.h"

static pth_limits limits;

typedef struct reading {
  pth_arena arena;
  pth_bytes f;
  uint64_t digest; /* of all answers so far */
} reading;

static void mix(reading *r, uint64_t v) { r->digest = (r->digest ^ v) * UINT64_C(0x9E3779B97F4A7C15) + 1; }

/* What stands in the file itself: where a storage begins is known of all but zip members. */
static void check_places(const pth_tensors *t, uint64_t file_len) {
  for (uint32_t i = 0; i < t->storages.len; i++) {
    const pth_storage *s = &PTH_AT(pth_storage, t->storages, i);
    if (s->code || s->span == PTH_NONE) continue;
    const pth_span *span = &PTH_AT(pth_span, t->store->spans, s->span);
    if (span->member == PTH_NONE) CHECK((__int128)span->off + s->base + s->nbytes <= file_len);
  }
}

/* z: whose members the store means. The last tensor is credited first. */
static int claim(reading *r, const pth_tensors *t, pth_ledger *l, const pth_zip *z) {
  pth_err err = {0};
  uint32_t n = t->tensors.len, *order = malloc((n + 1) * sizeof *order), *first = malloc((n + 1) * sizeof *first);
  CHECK(order != NULL && first != NULL);
  for (uint32_t i = 0; i < n; i++) order[i] = n - 1 - i;
  int rc = pth_same_elements(t, order, first, &err);
  for (uint32_t i = 0; i < n && rc == 0; i++) CHECK(first[i] < n && first[first[i]] == first[i]);
  if (rc == 0 && z == NULL) rc = pth_ledger_spans(l, t->store, 8, &err);
  if (rc == 0) rc = pth_ledger_tensors(l, t, z, order, first, n & 1 ? PTH_INFLATED : 0, 7, &err);
  check_error(rc, &err, UINT64_MAX);
  free(order);
  free(first);
  uint64_t said = rc ? 0 : check_ledger(l);
  if (rc) pth_ledger_free(l);
  mix(r, said);
  return said ? 0 : PTH_E_MEMORY;
}

static int read_tensors(reading *r, const pth_graph *g, const pth_store *s, pth_ledger *l, const pth_zip *z) {
  pth_tensors t;
  pth_err err = {0};
  int rc = pth_tensors_read(&t, g, s, &limits, &err);
  check_error(rc, &err, UINT64_MAX);
  if (rc == 0) {
    check_tensors(&t, &limits);
    check_places(&t, r->f.len);
    mix(r, digest_tensors(&t));
    rc = claim(r, &t, l, z);
  } else {
    pth_ledger_free(l);
  }
  pth_tensors_free(&t);
  return rc;
}

/* The same of the file as if it were cut in the middle of what its storages say. */
static int read_cut(reading *r, const pth_graph *g, pth_store *s) {
  uint64_t half = r->f.len / 2, behind = 0;
  pth_store_cut(s, half);
  for (uint32_t i = 0; i < s->spans.len; i++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, i);
    bool beyond = (__int128)span->off + span->len > half;
    CHECK(!beyond || span->code);
    behind += beyond;
  }
  mix(r, behind);
  pth_ledger l;
  pth_ledger_init(&l, &r->arena, half);
  return read_tensors(r, g, s, &l, NULL);
}

static int read_pickle(reading *r, pth_bytes in, pth_store *s, pth_ledger *l, const pth_zip *z) {
  pth_graph g;
  pth_err err = {0};
  pth_graph_init(&g, &r->arena);
  int rc = pth_pickle_run(&g, in, &limits, &err);
  check_error(rc, &err, in.len);
  if (rc != PTH_E_MEMORY) check_graph(&g, rc == 0);
  for (uint32_t i = 0; i < g.globals.len && !rc; i++) mix(r, PTH_AT(pth_global, g.globals, i).at);
  if (rc == 0 && s != NULL) {
    rc = read_tensors(r, &g, s, l, z);
    if (rc == 0 && z == NULL) rc = read_cut(r, &g, s);
  } else if (l != NULL) {
    pth_ledger_free(l);
  }
  pth_graph_free(&g);
  return rc;
}

/* ---- zip ---- */

static bool ends_with(pth_bytes name, const char *end) {
  size_t n = strlen(end);
  return name.len >= n && memcmp(name.data + name.len - n, end, n) == 0;
}

/* A stored member's bytes: behind its local header, and in the file. */
static int member(reading *r, pth_zip *z, uint32_t i, pth_bytes *out, pth_err *err) {
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, i);
  uint64_t off = 0;
  uint16_t odd;
  int rc = pth_zip_check(z, i, err);
  if (rc == 0) rc = pth_zip_local(z, i, fuzz_part(r->f, e->lho, r->f.len - e->lho), &off, &odd, err);
  if (rc) return rc;
  CHECK(off + e->csize <= e->room_end && e->room_end <= r->f.len);
  *out = fuzz_part(r->f, off, e->csize);
  mix(r, off ^ e->csize);
  return e->method == PTH_ZIP_STORED ? 0 : PTH_E_ZIP_METHOD; /* inflating is Python's */
}

/* What each byte of the archive is for, but for the tensors'. */
static int claim_members(reading *r, pth_zip *z, const pth_zip_end *end, pth_ledger *l, pth_err *err) {
  uint8_t *kinds = malloc(z->entries.len + 1u);
  CHECK(kinds != NULL);
  memset(kinds, PTH_L_UNUSED, z->entries.len + 1u);
  uint64_t want = 0;
  bool more = true;
  pth_ledger_init(l, &r->arena, r->f.len);
  int rc = pth_ledger_zip(l, z, kinds, fuzz_part(r->f, 0, end->dir_off), 0, end->dir_off, &want, &more, err);
  CHECK(rc || !more);
  if (rc == 0) rc = pth_ledger_zip_end(l, end, err);
  free(kinds);
  if (rc) pth_ledger_free(l);
  return rc;
}

/* The root of a folder, with the storages beside it. */
static int read_root(reading *r, pth_zip *z, const pth_zip_end *end, uint32_t i) {
  pth_bytes in = {0}, name = pth_zip_name(z, i);
  uint8_t prefix[512];
  pth_store s;
  pth_err err = {0};
  uint64_t stem = name.len - 8;
  if (stem + 5 > sizeof prefix) return PTH_E_LIMIT_MEMBERS;
  int rc = member(r, z, i, &in, &err);
  if (rc) return rc;
  memcpy(prefix, name.data, (size_t)stem);
  memcpy(prefix + stem, "data/", 5);
  rc = pth_zip_store(z, (pth_bytes){prefix, stem + 5}, (pth_bytes){0}, &s, &err);
  if (rc == 0) check_store(&s);
  pth_ledger l;
  if (rc == 0) rc = claim_members(r, z, end, &l, &err);
  if (rc == 0) rc = read_pickle(r, in, &s, &l, z);
  pth_store_free(&s);
  return rc;
}

static int read_zip(reading *r) {
  pth_zip z;
  pth_zip_end end;
  pth_err err = {0};
  uint64_t from = r->f.len > PTH_ZIP_TAIL ? r->f.len - PTH_ZIP_TAIL : 0;
  int rc = pth_zip_find(fuzz_part(r->f, from, r->f.len - from), from, r->f.len, &end, &err);
  if (rc) return rc;
  rc = pth_zip_read(&z, &r->arena, fuzz_part(r->f, end.dir_off, end.dir_len), &end, &limits, &err);
  uint32_t n_roots = 0;
  for (uint32_t i = 0; i < z.entries.len && !rc; i++) {
    pth_bytes name = pth_zip_name(&z, i);
    if (ends_with(name, "data.pkl") && n_roots++ < 4) {
      rc = read_root(r, &z, &end, i);
    } else if (ends_with(name, ".pkl")) {
      pth_bytes in;
      if (member(r, &z, i, &in, &err) == 0) rc = read_pickle(r, in, NULL, NULL, NULL);
    }
  }
  pth_zip_free(&z);
  return rc ? rc : n_roots ? 0 : PTH_E_ZIP_HEADER;
}

/* ---- the others ---- */

static int read_legacy(reading *r) {
  pth_legacy l;
  pth_store s = {.arena = &r->arena};
  pth_err err = {0};
  uint64_t end = 0;
  uint32_t next = 0;
  int rc = pth_legacy_read(&l, &r->arena, r->f, &limits, &err);
  if (rc == 0) rc = pth_legacy_store(&l, r->f.len, &s, &end, &err);
  if (rc == 0) rc = pth_legacy_check(&s, r->f, 0, &next, &err);
  if (rc == 0) CHECK(end <= r->f.len && next == s.spans.len);
  pth_ledger ledger;
  pth_ledger_init(&ledger, &r->arena, r->f.len);
  if (rc == 0) rc = read_tensors(r, &l.pickles[PTH_LEGACY_OBJECT], &s, &ledger, NULL);
  if (rc == 0) rc = read_cut(r, &l.pickles[PTH_LEGACY_OBJECT], &s);
  pth_store_free(&s);
  pth_legacy_free(&l);
  return rc;
}

static int read_tar_members(reading *r, pth_tar *t, const pth_bytes *members) {
  pth_err err = {0};
  uint64_t n, used, at = (uint64_t)(members[0].data - r->f.data), end = at + members[0].len, next = 0;
  int rc = pth_tar_count(t, members[0], &limits, &n, &used, &err);
  for (at += rc ? 0 : used; n > 0 && !rc; n--, at = next)
    rc = pth_tar_storage(t, fuzz_part(r->f, at, end - at), at, end, &limits, &next, &err);
  if (rc == 0) rc = pth_tar_views(t, fuzz_part(r->f, at, end - at), &limits, &err);
  if (rc == 0) rc = pth_tar_tensors(t, members[1], &limits, &err);
  if (rc == 0) rc = pth_tar_finish(t, &err);
  pth_ledger l;
  pth_ledger_init(&l, &r->arena, r->f.len);
  if (rc == 0) rc = read_pickle(r, members[2], &t->store, &l, NULL);
  return rc ? rc : read_pickle(r, members[3], NULL, NULL, NULL);
}

static int read_tar(reading *r) {
  static const char *const names[] = {"storages", "tensors", "pickle", "sys_info"};
  pth_bytes members[4] = {{0}};
  for (uint64_t at = 0; at + PTH_TAR_BLOCK <= r->f.len;) {
    pth_tar_entry e;
    bool used;
    int rc = pth_tar_header(fuzz_part(r->f, at, PTH_TAR_BLOCK), &e, &used, NULL);
    if (rc) return rc;
    if (!used) break;
    if (e.size > r->f.len - at - PTH_TAR_BLOCK) return PTH_E_TAR_EXTENT;
    for (int i = 0; i < 4; i++)
      if (pth_bytes_equal((pth_bytes){r->f.data + at, e.name_len}, pth_text(names[i])))
        members[i] = (pth_bytes){r->f.data + at + PTH_TAR_BLOCK, e.size};
    at += PTH_TAR_BLOCK + (e.size + PTH_TAR_BLOCK - 1) / PTH_TAR_BLOCK * PTH_TAR_BLOCK;
  }
  for (int i = 0; i < 4; i++)
    if (members[i].data == NULL) return PTH_E_TAR_HEADER;
  pth_tar t;
  pth_tar_init(&t, &r->arena);
  int rc = read_tar_members(r, &t, members);
  pth_tar_free(&t);
  return rc;
}

static bool is_legacy(pth_bytes f) {
  static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
  static const char text[] = "L119547037146038801333356L\n.";
  for (uint64_t i = 1; f.len && f.data[0] == 0x80 && i + sizeof magic <= f.len && i + sizeof magic <= 32; i++)
    if (memcmp(f.data + i, magic, sizeof magic) == 0) return true;
  return f.len >= sizeof text - 1 && memcmp(f.data, text, sizeof text - 1) == 0;
}

static int read_file(reading *r) {
  pth_store nothing = {0};
  pth_ledger l;
  pth_bytes f = r->f;
  pth_ledger_init(&l, &r->arena, f.len);
  r->digest = 0;
  int rc = f.len >= 4 && memcmp(f.data, "PK\3\4", 4) == 0          ? read_zip(r)
           : f.len >= 262 && memcmp(f.data + 257, "ustar", 5) == 0 ? read_tar(r)
           : is_legacy(f)                                          ? read_legacy(r)
                                                                   : read_pickle(r, f, &nothing, &l, NULL);
  CHECK(rc >= 0 && rc < PTH_N_CODES && rc != PTH_E_BUDGET && r->arena.used == 0);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  reading first = {.arena = fuzz_arena(FUZZ_BUDGET, 1), .f = {data, size}};
  int rc = read_file(&first);
  CHECK(rc != PTH_E_MEMORY);
  if (first.arena.n_allocs) {
    reading again = {.arena = fuzz_arena(FUZZ_BUDGET, 2), .f = first.f}, short_of = again;
    CHECK(read_file(&again) == rc && again.digest == first.digest);
    short_of.arena.fail_at = 1 + fuzz_pick(data, size, first.arena.n_allocs);
    int failed = read_file(&short_of);
    CHECK(failed == PTH_E_MEMORY || (failed == rc && short_of.digest == first.digest));
  }
  fuzz_count(rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  bool zip = size >= 2 && memcmp(data, "PK", 2) == 0, tar = size >= 262 && memcmp(data + 257, "ustar", 5) == 0;
  size = fuzz_random(&rng, 4) ? mutate_inside(data, size, max, zip || tar, &rng) : LLVMFuzzerMutate(data, size, max);
  if (tar && fuzz_random(&rng, 8)) mend_tar(data, size);
  return size;
}
