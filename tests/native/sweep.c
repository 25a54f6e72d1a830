/* sweep.c - every way to spoil a small file, on the core alone, under the sanitizers.
 *
 *   sweep MODE FILE...    MODE: truncate, bytes, alloc, budget
 *
 * Each case is read from a heap block of exactly its length. Whatever happens, the core must answer 0 or one of its codes, give all memory
 * back, and hand out only tensors that lie inside of the file. Prints "MODE: N cases, M read". */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pth.h"

#define CHECK(ok)                                                                                          \
  do {                                                                                                     \
    if (!(ok)) {                                                                                           \
      fprintf(stderr, "%s:%d: %s (%s, case %llu)\n", __FILE__, __LINE__, #ok, current_file, current_case); \
      abort();                                                                                             \
    }                                                                                                      \
  } while (0)

static const char *current_file;
static unsigned long long current_case, n_read;

static const pth_limits LIMITS = {
#define X(name, value, unit, why) .name = value,
#include "defs/limits.def"
#undef X
};

/* What csrc/tensor.h promises of a row with code 0, by other arithmetic. */
static void check_tensors(const pth_tensors *t, uint64_t file_len, uint64_t pickle_len) {
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, i);
    CHECK(r->code < PTH_N_CODES);
    CHECK((uint64_t)r->sizes + r->n_dims <= t->dims.len && (uint64_t)r->strides + r->n_dims <= t->dims.len);
    if (r->code || (r->kind != PTH_T_DENSE && r->kind != PTH_T_QUANTIZED)) continue;
    const pth_dtype *d = &pth_dtypes[r->dtype];
    __int128 last = r->offset, numel = 1;
    for (uint32_t k = 0; k < r->n_dims; k++) {
      int64_t size = PTH_AT(int64_t, t->dims, r->sizes + k), stride = PTH_AT(int64_t, t->dims, r->strides + k);
      CHECK(size >= 0 && stride >= 0);
      last += (__int128)(size - 1) * stride;
      numel *= size;
      if (numel == 0) break;
    }
    CHECK(numel == r->numel);
    if (numel == 0) continue;
    CHECK(r->storage < t->storages.len);
    const pth_storage *s = &PTH_AT(pth_storage, t->storages, r->storage);
    CHECK((last / d->packing + 1) * d->itemsize <= (__int128)s->nbytes);
    if (s->flags & PTH_S_IN_PICKLE) {
      CHECK((__int128)s->base + s->nbytes <= (s->flags & PTH_S_IN_TEXT ? t->graph->text.len : pickle_len));
    } else if (!(s->flags & PTH_S_META)) {
      const pth_span *span = &PTH_AT(pth_span, t->store->spans, s->span);
      CHECK(span->code == 0 && (__int128)s->base + s->nbytes <= span->len);
      /* Where it begins is known: it lies in the file. Of a zip member that is said by its local header alone. */
      if (span->member == PTH_NONE) CHECK((__int128)span->off + span->len <= file_len);
    }
  }
  for (uint32_t i = 0; i < t->names.len; i++) {
    const pth_name *n = &PTH_AT(pth_name, t->names, i);
    uint32_t len = PTH_AT(pth_path, t->paths, n->path).len;
    uint8_t *text = malloc(len ? len : 1);
    CHECK(n->tensor < t->tensors.len && text != NULL);
    pth_path_write(t, n->path, text);
    CHECK(pth_utf8_valid(text, len) == len);
    free(text);
  }
}

/* What has a place lies in the file, and in the storage that the checks above are about. */
static void check_places(const pth_tensors *t, const pth_zip *z, uint64_t file_len) {
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, i);
    uint64_t at = pth_place(t, r, z, (i & 1) != 0);
    if (at == PTH_NOWHERE) continue;
    CHECK(r->code == 0 && r->kind == PTH_T_DENSE && r->numel > 0 && pth_tensor_in_line(t, r));
    CHECK((__int128)at + (__int128)r->numel * pth_dtypes[r->dtype].itemsize <= (__int128)file_len);
  }
}

/* Whatever became of a pickle, each of its globals is counted once. */
static int audit(const pth_graph *g, const pth_tensors *t) {
  pth_audit a;
  pth_err err = {0};
  uint64_t uses = 0;
  int rc = pth_audit_graph(&a, g, t, (g->in.len & 1) != 0, &LIMITS, &err);
  CHECK(rc == err.code);
  for (uint32_t i = 0; i < a.refs.len && rc == 0; i++) uses += PTH_AT(pth_ref, a.refs, i).uses;
  CHECK(rc || uses == g->globals.len);
  for (uint32_t i = 0; i < a.nested.len; i++) CHECK(PTH_AT(uint32_t, a.nested, i) < g->nodes.len);
  pth_audit_free(&a);
  return rc;
}

/* Whoever claims what, every byte is somebody's. */
static int settle(pth_ledger *l) {
  pth_err err = {0};
  uint64_t sum = 0;
  int rc = pth_ledger_settle(l, &err);
  CHECK(rc == err.code);
  for (int i = 0; i < PTH_N_LEDGER && rc == 0; i++) {
    CHECK(l->nbytes[i] <= l->size);
    sum += l->nbytes[i];
  }
  CHECK(rc || sum == l->size);
  for (uint32_t i = 0; i < l->claims.len && rc == 0; i++) CHECK(PTH_AT(pth_claim, l->claims, i).nbytes <= l->size);
  pth_ledger_free(l);
  return rc;
}

/* The last tensor first. */
static int claim_tensors(const pth_tensors *t, const pth_store *s, uint64_t file_len) {
  pth_ledger l;
  pth_err err = {0};
  uint32_t n = t->tensors.len, *order = malloc((n + 1) * sizeof *order), *first = malloc((n + 1) * sizeof *first);
  CHECK(order != NULL && first != NULL);
  for (uint32_t i = 0; i < n; i++) order[i] = n - 1 - i;
  pth_ledger_init(&l, t->arena, file_len);
  int rc = pth_same_elements(t, order, first, &err);
  if (rc == 0 && s != NULL) rc = pth_ledger_spans(&l, s, 8, &err);
  if (rc == 0) rc = pth_ledger_tensors(&l, t, NULL, order, first, n & 1 ? PTH_INFLATED : 0, 7, &err);
  for (uint32_t i = 0; i < n && rc == 0; i++) CHECK(first[i] < n && first[first[i]] == first[i]);
  if (rc)
    pth_ledger_free(&l);
  else
    rc = settle(&l);
  free(order);
  free(first);
  return rc;
}

static int read_graph(const pth_graph *g, const pth_store *s, const pth_zip *z, uint64_t file_len) {
  pth_tensors t;
  pth_err err = {0};
  int rc = pth_tensors_read(&t, g, s, &LIMITS, &err);
  CHECK(rc == err.code);
  if (rc == 0) check_tensors(&t, file_len, g->in.len);
  if (rc == 0) check_places(&t, z, file_len);
  if (rc == 0) rc = audit(g, &t);
  if (rc == 0) rc = claim_tensors(&t, s, file_len);
  pth_tensors_free(&t);
  return rc;
}

static int read_pickle(pth_arena *a, pth_bytes in, const pth_store *s, const pth_zip *z, uint64_t file_len) {
  pth_graph g;
  pth_err err = {0};
  pth_graph_init(&g, a);
  int rc = pth_pickle_run(&g, in, &LIMITS, &err);
  CHECK(rc == err.code && err.off <= in.len);
  if (rc == 0)
    rc = read_graph(&g, s, z, file_len);
  else
    (void)audit(&g, NULL);
  pth_graph_free(&g);
  return rc;
}

/* Every byte before the directory, by windows as small as may be: the walk ends, and where it says. */
static int account(pth_zip *z, pth_bytes f, uint64_t dir_off) {
  pth_zip_sweep sweep = {0};
  pth_err err = {0};
  bool more = true;
  for (uint64_t at = 0; more; at = sweep.want) {
    uint64_t len = dir_off - at < PTH_ZIP_WINDOW ? dir_off - at : PTH_ZIP_WINDOW;
    int rc = pth_zip_sweep_window(z, &sweep, (pth_bytes){f.data + at, len}, at, dir_off, &more, &err);
    if (rc) return rc;
    CHECK(!more || (sweep.want > at && sweep.want <= dir_off));
  }
  CHECK(sweep.next == z->order.len && sweep.n_odds >= z->odds.len);
  return 0;
}

/* All local headers, by windows as small as may be. */
static void locate(pth_zip *z, pth_bytes f, uint64_t dir_off) {
  uint32_t next = 0;
  bool more = true;
  for (uint64_t at = 0, want = 0; more; at = want) {
    uint64_t len = dir_off - at < PTH_ZIP_WINDOW ? dir_off - at : PTH_ZIP_WINDOW;
    more = pth_zip_locals(z, &next, (pth_bytes){f.data + at, len}, at, dir_off, &want);
    CHECK(!more || (want > at && want <= dir_off));
  }
  CHECK(next == z->order.len);
  for (uint32_t i = 0; i < z->entries.len; i++) {
    const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, i);
    CHECK(e->data_off == 0 || (e->code == 0 && e->data_off + e->csize <= e->room_end));
  }
}

static int claim_members(pth_zip *z, pth_bytes f, const pth_zip_end *end) {
  pth_ledger l;
  pth_err err = {0};
  uint8_t *kinds = calloc(z->entries.len + 1u, 1);
  CHECK(kinds != NULL);
  bool more = true;
  int rc = 0;
  pth_ledger_init(&l, z->arena, f.len);
  for (uint64_t at = 0, want = 0; more && rc == 0; at = want) {
    uint64_t len = end->dir_off - at < PTH_ZIP_WINDOW ? end->dir_off - at : PTH_ZIP_WINDOW;
    rc = pth_ledger_zip(&l, z, kinds, (pth_bytes){f.data + at, len}, at, end->dir_off, &want, &more, &err);
    CHECK(rc || !more || (want > at && want <= end->dir_off));
  }
  if (rc == 0) rc = pth_ledger_zip_end(&l, end, &err);
  free(kinds);
  if (rc == 0) return settle(&l);
  pth_ledger_free(&l);
  return rc;
}

static int read_zip(pth_arena *a, pth_bytes f) {
  pth_zip z = {.arena = a};
  pth_zip_end end;
  pth_err err = {0};
  uint64_t tail = f.len < PTH_ZIP_TAIL ? f.len : PTH_ZIP_TAIL;
  int rc = pth_zip_find((pth_bytes){f.data + f.len - tail, tail}, f.len - tail, f.len, &end, &err);
  if (rc) return rc;
  CHECK(end.dir_off + end.dir_len <= f.len);
  rc = pth_zip_read(&z, a, (pth_bytes){f.data + end.dir_off, end.dir_len}, &end, &LIMITS, &err);
  if (rc == 0) locate(&z, f, end.dir_off);
  for (uint32_t i = 0; i < z.entries.len && !rc; i++) {
    pth_bytes name = pth_zip_name(&z, i);
    pth_zip_entry e = PTH_AT(pth_zip_entry, z.entries, i);
    uint64_t off = 0;
    uint16_t odd = 0;
    if (e.code == PTH_E_ZIP_EXTENT || e.lho > f.len) continue;
    int local = pth_zip_local(&z, i, (pth_bytes){f.data + e.lho, f.len - e.lho}, &off, &odd, &err);
    if (local) continue;
    CHECK(off + e.csize <= e.room_end && e.room_end <= f.len);
    uint64_t stem = name.len >= 8 ? name.len - 8 : 0;
    if (name.len < 8 || memcmp(name.data + stem, "data.pkl", 8) != 0 || e.method != PTH_ZIP_STORED) continue;
    uint8_t prefix[512];
    pth_store s;
    if (stem > 500) continue;
    if (stem) memcpy(prefix, name.data, stem);
    memcpy(prefix + stem, "data/", 5);
    rc = pth_zip_store(&z, (pth_bytes){prefix, stem + 5}, (pth_bytes){0}, &s, &err);
    if (rc == 0) rc = read_pickle(a, (pth_bytes){f.data + off, e.csize}, &s, &z, f.len);
    pth_store_free(&s);
  }
  if (rc == 0) rc = claim_members(&z, f, &end);
  if (rc == 0) rc = account(&z, f, end.dir_off);
  pth_zip_free(&z);
  return rc;
}

static int read_legacy(pth_arena *a, pth_bytes f) {
  pth_legacy l;
  pth_err err = {0};
  pth_store s = {.arena = a};
  uint64_t end = 0;
  int rc = pth_legacy_read(&l, a, f, &LIMITS, &err);
  if (rc == 0) {
    uint32_t next = 0;
    rc = pth_legacy_store(&l, f.len, &s, &end, &err);
    if (rc == 0) rc = pth_legacy_check(&s, f, 0, &next, &err);
    if (rc == 0) CHECK(next == s.spans.len && end <= f.len);
    if (rc == 0) rc = read_graph(&l.pickles[PTH_LEGACY_OBJECT], &s, NULL, f.len);
    if (rc == 0) {
      uint64_t half = f.len - (f.len - l.end) / 2; /* of the storages: the file may have been cut there */
      pth_store_cut(&s, half);
      for (uint32_t i = 0; i < s.spans.len; i++) {
        const pth_span *span = &PTH_AT(pth_span, s.spans, i);
        CHECK((span->code != 0) == (span->off + span->len > half));
      }
      rc = read_graph(&l.pickles[PTH_LEGACY_OBJECT], &s, NULL, half);
    }
    pth_store_free(&s);
  }
  pth_legacy_free(&l);
  return rc;
}

static int read_tar_members(pth_tar *t, pth_bytes f, const pth_bytes *members, pth_err *err) {
  uint64_t n, used, at = (uint64_t)(members[0].data - f.data), end = at + members[0].len;
  int rc = pth_tar_count(t, members[0], &LIMITS, &n, &used, err);
  for (at += used; n > 0 && !rc; n--) {
    uint64_t next = 0;
    rc = pth_tar_storage(t, (pth_bytes){f.data + at, end - at}, at, end, &LIMITS, &next, err);
    at = next;
  }
  if (rc == 0) rc = pth_tar_views(t, (pth_bytes){f.data + at, end - at}, &LIMITS, err);
  if (rc == 0) rc = pth_tar_tensors(t, members[1], &LIMITS, err);
  if (rc == 0) rc = pth_tar_finish(t, err);
  return rc ? rc : read_pickle(t->arena, members[2], &t->store, NULL, f.len);
}

static int read_tar(pth_arena *a, pth_bytes f) {
  static const char *const names[] = {"storages", "tensors", "pickle"};
  pth_bytes members[3] = {{0}};
  pth_err err = {0};
  for (uint64_t at = 0; at + PTH_TAR_BLOCK <= f.len;) {
    pth_tar_entry e;
    bool used;
    int rc = pth_tar_header((pth_bytes){f.data + at, PTH_TAR_BLOCK}, &e, &used, &err);
    if (rc) return rc;
    if (!used) break;
    if (e.size > f.len - at - PTH_TAR_BLOCK) return PTH_E_TAR_EXTENT;
    for (int i = 0; i < 3; i++) {
      if (e.name_len == strlen(names[i]) && memcmp(f.data + at, names[i], e.name_len) == 0)
        members[i] = (pth_bytes){f.data + at + PTH_TAR_BLOCK, e.size};
    }
    at += PTH_TAR_BLOCK + (e.size + PTH_TAR_BLOCK - 1) / PTH_TAR_BLOCK * PTH_TAR_BLOCK;
  }
  if (!members[0].data || !members[1].data || !members[2].data) return PTH_E_TAR_HEADER;
  pth_tar t;
  pth_tar_init(&t, a);
  int rc = read_tar_members(&t, f, members, &err);
  pth_tar_free(&t);
  return rc;
}

static const uint8_t LEGACY[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

static int read_safetensors(pth_arena *a, pth_bytes f) {
  uint64_t length = f.len >= PTH_ST_LENGTH ? pth_u64(f.data) : 0, start = PTH_ST_LENGTH + length;
  if (f.len < PTH_ST_LENGTH || start < length || start > f.len) return PTH_E_ST_JSON;
  pth_safetensors s;
  pth_graph g;
  pth_tensors t;
  pth_err err = {0};
  pth_graph_init(&g, a);
  int rc = pth_safetensors_read(&s, a, (pth_bytes){f.data, start}, &LIMITS, &err);
  if (rc == 0 && s.end > f.len) rc = PTH_E_ST_SIZE;
  if (rc == 0) {
    rc = pth_tensors_init(&t, a, &g, &s.store, &err);
    if (rc == 0) rc = pth_safetensors_tensors(&s, &t, &LIMITS, &err);
    for (uint32_t i = 0; i < t.tensors.len && !rc; i++) {
      const pth_tensor *r = &PTH_AT(pth_tensor, t.tensors, i);
      const pth_span *span = &PTH_AT(pth_span, s.store.spans, i);
      if (r->code == 0)
        CHECK(span->off >= start && span->off + span->len <= f.len && r->numel * pth_dtypes[r->dtype].itemsize == span->len);
    }
    if (rc == 0) check_places(&t, NULL, f.len);
    if (rc == 0) rc = claim_tensors(&t, &s.store, f.len);
    pth_tensors_free(&t);
  }
  pth_safetensors_free(&s);
  pth_graph_free(&g);
  return rc;
}

enum kind { ZIP, LEGACY_STREAM, TAR, SAFETENSORS, PICKLE };

static enum kind kind_of(const uint8_t *p, size_t len) {
  if (len >= 4 && memcmp(p, "PK\003\004", 4) == 0) return ZIP;
  if (len >= 262 && memcmp(p + 257, "ustar", 5) == 0) return TAR;
  if (len >= 9 && p[7] == 0 && p[8] == '{') return SAFETENSORS;
  if (len >= 14 && memcmp(p + 2, LEGACY, sizeof LEGACY) == 0) return LEGACY_STREAM;
  return PICKLE;
}

/* One case: the kind is that of the file before it was spoilt. */
static int read_case(pth_arena *a, enum kind kind, const uint8_t *data, size_t len) {
  uint8_t *copy = malloc(len ? len : 1);
  CHECK(copy != NULL);
  if (len) memcpy(copy, data, len);
  pth_bytes f = {copy, len};
  int rc = kind == ZIP             ? read_zip(a, f)
           : kind == LEGACY_STREAM ? read_legacy(a, f)
           : kind == TAR           ? read_tar(a, f)
           : kind == SAFETENSORS   ? read_safetensors(a, f)
                                   : read_pickle(a, f, NULL, NULL, len);
  CHECK(a->used == 0);
  CHECK(rc >= 0 && rc < PTH_N_CODES);
  free(copy);
  current_case++;
  n_read += rc == 0;
  return rc;
}

static pth_arena arena(uint64_t budget, uint64_t fail_at, bool exact) {
  return (pth_arena){.budget = budget, .fail_at = fail_at, .exact = exact, .seed = 7};
}

static void sweep(const char *mode, uint8_t *data, size_t len) {
  enum kind kind = kind_of(data, len);
  const uint64_t plenty = UINT64_C(1) << 32;
  pth_arena a = arena(plenty, 0, true);
  CHECK(read_case(&a, kind, data, len) == 0); /* unspoilt, it reads */
  if (strcmp(mode, "truncate") == 0) {
    for (size_t n = 0; n < len; n++) {
      a = arena(plenty, 0, true);
      int rc = read_case(&a, kind, data, n);
      CHECK(rc != 0 || kind == PICKLE || kind == TAR); /* padding may go; nothing else may */
    }
  } else if (strcmp(mode, "bytes") == 0) {
    for (size_t i = 0; i < len; i++) {
      uint8_t old = data[i], some[] = {0x00, 0xff, old ^ 0x01, old ^ 0x80, (uint8_t)(old + 1), 0x2e, 0x52, 0x28};
      int n = len < 400 ? 256 : (int)sizeof some;
      for (int k = 0; k < n; k++) {
        data[i] = n == 256 ? (uint8_t)k : some[k];
        a = arena(plenty, 0, false);
        read_case(&a, kind, data, len);
      }
      data[i] = old;
    }
  } else if (strcmp(mode, "alloc") == 0) {
    for (uint64_t k = 1;; k++) {
      a = arena(plenty, k, true);
      int rc = read_case(&a, kind, data, len);
      CHECK(rc == 0 || rc == PTH_E_MEMORY);
      if (a.n_allocs < k) break;
    }
  } else {
    for (uint64_t budget = 0;; budget += budget / 64 + 1) {
      a = arena(budget, 0, budget % 2 == 0);
      int rc = read_case(&a, kind, data, len);
      CHECK(rc == 0 || rc == PTH_E_BUDGET);
      if (rc == 0) break;
    }
  }
}

int main(int argc, char **argv) {
  for (int i = 2; i < argc; i++) {
    FILE *f = fopen(argv[i], "rb");
    if (f == NULL || fseek(f, 0, SEEK_END)) return 2;
    size_t len = (size_t)ftell(f);
    uint8_t *data = malloc(len ? len : 1);
    rewind(f);
    if (data == NULL || fread(data, 1, len, f) != len) return 2;
    fclose(f);
    current_file = argv[i];
    sweep(argv[1], data, len);
    free(data);
  }
  printf("%s: %llu cases, %llu read\n", argv[1], current_case, n_read);
  return 0;
}
