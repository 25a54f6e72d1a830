#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

uint64_t fuzz_n_accepted, fuzz_n_refused;

void fuzz_broken(const char *file, int line, const char *promise) {
  fprintf(stderr, "%s:%d: broken promise: %s\n", file, line, promise);
  abort();
}

pth_limits fuzz_limits(void) {
  pth_limits l = {
#define X(name, value, unit, why) .name = value,
#include "defs/limits.def"
#undef X
  };
  l.max_pickle_bytes = l.max_directory_bytes = 1 << 20;
  l.max_members = 1 << 10;
  l.max_ndim = 64;
  l.max_names = 1 << 10;
  l.max_name_bytes = 1 << 16;
  return l;
}

pth_bytes fuzz_block(const uint8_t *data, uint64_t len) {
  uint8_t *copy = malloc(len ? (size_t)len : 1);
  CHECK(copy != NULL);
  if (len) memcpy(copy, data, (size_t)len);
  return (pth_bytes){copy, len};
}

void check_error(int rc, const pth_err *err, uint64_t len) {
  CHECK(rc >= 0 && rc < PTH_N_CODES && rc == err->code);
  if (rc) CHECK(err->off <= len);
}

static void mix(uint64_t *h, uint64_t v) { *h = (*h ^ v) * UINT64_C(0x9E3779B97F4A7C15), *h ^= *h >> 32; }

/* ---- graphs ---- */

/* Decodes and encodes again, unlike the core, which looks at bytes. */
static bool is_utf8(pth_bytes b) {
  for (uint64_t i = 0; i < b.len;) {
    uint32_t c = b.data[i], n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
    if (n == 0 || n > b.len - i) return false;
    c &= n == 1 ? 0x7f : 0x7fu >> n;
    for (uint32_t k = 1; k < n; k++) {
      if (b.data[i + k] >> 6 != 2) return false;
      c = c << 6 | (b.data[i + k] & 0x3f);
    }
    if (n != (c < 0x80 ? 1u : c < 0x800 ? 2u : c < 0x10000 ? 3u : 4u) || c > 0x10ffff) return false;
    i += n;
  }
  return true;
}

typedef struct owners { /* who has what: everything has one owner */
  const pth_graph *g;
  uint8_t *kids, *chunks, *exts;
} owners;

static void own_run(owners *o, uint64_t at, uint64_t n) {
  CHECK(at + n <= o->g->kids.len);
  for (uint64_t i = at; i < at + n; i++) CHECK(o->kids[i]++ == 0);
}

static void own_chain(owners *o, pth_list list) {
  uint64_t n = 0;
  if (list.n == 0) CHECK(list.head == 0 && list.tail == 0);
  for (uint32_t id = list.head, last = 0; list.n && last != list.tail; last = id, id = PTH_AT(pth_chunk, o->g->chunks, id).next) {
    CHECK(id > 0 && id < o->g->chunks.len && o->chunks[id]++ == 0);
    const pth_chunk *c = &PTH_AT(pth_chunk, o->g->chunks, id);
    CHECK(c->n > 0 && (c->next == 0) == (id == list.tail));
    own_run(o, c->at, c->n);
    n += c->n;
  }
  CHECK(n == list.n);
}

static bool unhashable(const pth_node *n) {
  return n->kind == PTH_NODE_LIST || n->kind == PTH_NODE_DICT || n->kind == PTH_NODE_SET || n->kind == PTH_NODE_BYTEARRAY ||
         (n->kind == PTH_NODE_TUPLE && n->flags & PTH_UNHASHABLE);
}

/* Equal keys have equal hashes, and texts are equal if their bytes are. */
static void check_keys(const pth_graph *g, uint32_t a, uint32_t b) {
  const pth_node *x = pth_node_at(g, a), *y = pth_node_at(g, b);
  bool same = pth_same_key(g, a, b);
  CHECK(same == pth_same_key(g, b, a) && pth_same_key(g, a, a));
  if (same) CHECK(pth_key_hash(g, a) == pth_key_hash(g, b));
  if (pth_is_text(x) && pth_is_text(y) && x->a <= PTH_LONGEST_TEXT) CHECK(same == pth_bytes_equal(pth_slice(g, x), pth_slice(g, y)));
  if (x->kind == PTH_NODE_INT && y->kind == PTH_NODE_INT) CHECK(same == (x->b == y->b));
}

static void check_items(const pth_graph *g, uint32_t id, uint8_t kind) {
  bool marred = false;
  uint32_t n = 0, step = kind == PTH_NODE_DICT ? 2 : 1, key = PTH_NODE_SMALL_INT;
  pth_items it = pth_items_of(g, id);
  for (uint32_t kid; pth_items_next(&it, &kid); n++) {
    CHECK(kid < g->nodes.len);
    if (kind == PTH_NODE_TUPLE || kind == PTH_NODE_FROZENSET) CHECK(kid < id);
    marred = marred || unhashable(pth_node_at(g, kid));
    if (kind == PTH_NODE_TUPLE || kind == PTH_NODE_LIST || n % step) continue;
    CHECK(!unhashable(pth_node_at(g, kid)));
    check_keys(g, key, kid);
    key = kid;
  }
  CHECK(n == pth_n_items(g, id) && n % step == 0);
  if (kind == PTH_NODE_TUPLE) CHECK(marred == ((pth_node_at(g, id)->flags & PTH_UNHASHABLE) != 0));
}

/* What is read as a mapping, whatever it is; the first pairs, since many may share them. */
static void check_pairs(const pth_graph *g, uint32_t id) {
  pth_pairs it;
  if (!pth_pairs_of(g, id, &it)) {
    CHECK(pth_n_pairs(g, id) == 0 && pth_node_at(g, id)->kind != PTH_NODE_DICT);
    return;
  }
  uint32_t most = it.n, n = 0;
  for (uint32_t k, v; n < 32 && pth_pairs_next(&it, &k, &v); n++) CHECK(k < g->nodes.len && v < g->nodes.len);
  CHECK(n <= most);
}

static void check_object(owners *o, uint32_t id, const pth_node *n) {
  const pth_graph *g = o->g;
  uint32_t args = pth_args_of(n), ext = (uint32_t)(n->b >> 32);
  CHECK(n->a < id && args < id && n->flags <= PTH_HOW_INST);
  uint8_t callee = pth_node_at(g, n->a)->kind, made_from = pth_node_at(g, args)->kind;
  CHECK(callee == PTH_NODE_GLOBAL || callee == PTH_NODE_OBJECT || callee == PTH_NODE_PERSID);
  CHECK(made_from == PTH_NODE_TUPLE || made_from == PTH_NODE_OBJECT);
  CHECK((pth_ext_of(g, n) == NULL) == (ext == PTH_NONE));
  check_pairs(g, id);
  if (ext == PTH_NONE) return;
  CHECK(ext < g->exts.len && o->exts[ext]++ == 0);
  const pth_ext *e = pth_ext_of(g, n);
  CHECK(e->pairs.n % 2 == 0);
  if (e->kwargs != PTH_NONE) CHECK(n->flags == PTH_HOW_NEWOBJ_EX && e->kwargs < id);
  own_chain(o, e->items);
  own_chain(o, e->pairs);
  own_chain(o, e->states);
  if (e->states.n) CHECK(pth_last_state(g, id) < g->nodes.len);
}

static void check_node(owners *o, uint32_t id, uint64_t end, uint32_t *n_globals) {
  const pth_graph *g = o->g;
  const pth_node *n = pth_node_at(g, id);
  switch (n->kind) {
    case PTH_NODE_STR:
    case PTH_NODE_STR8:
    case PTH_NODE_BYTES:
    case PTH_NODE_BYTEARRAY:
    case PTH_NODE_BIGINT:
    case PTH_NODE_INTTEXT:
    case PTH_NODE_FLOATTEXT: {
      uint64_t room = n->flags & PTH_IN_TEXT ? g->text.len : end, len = (uint64_t)n->hi << 32 | n->a;
      CHECK(n->flags <= PTH_IN_TEXT && n->b <= room && len <= room - n->b);
      if (n->kind == PTH_NODE_STR) CHECK(is_utf8(pth_slice(g, n)));
      if (n->kind == PTH_NODE_STR8) CHECK(g->has_str8);
      break;
    }
    case PTH_NODE_TUPLE:
    case PTH_NODE_FROZENSET:
      own_run(o, n->b, n->a);
      check_items(g, id, n->kind);
      break;
    case PTH_NODE_LIST:
    case PTH_NODE_SET:
    case PTH_NODE_DICT:
      own_chain(o, (pth_list){n->a, (uint32_t)n->b, (uint32_t)(n->b >> 32)});
      check_items(g, id, n->kind);
      break;
    case PTH_NODE_GLOBAL:
      CHECK(n->a == *n_globals && n->a < g->globals.len);
      ++*n_globals;
      break;
    case PTH_NODE_OBJECT:
      check_object(o, id, n);
      break;
    case PTH_NODE_PERSID:
      CHECK(n->a < id);
      break;
    case PTH_NODE_INT:
    case PTH_NODE_FLOAT:
      break;
    default:
      CHECK(n->kind <= PTH_NODE_PERSID && n->kind > PTH_NODE_TRUE); /* None, False and True stand once */
  }
}

/* The table once more, from its first row to its last. */
static void check_meaning(pth_bytes module, pth_bytes name, const pth_global *row) {
  enum pth_meaning known = PTH_G_UNKNOWN;
#define X(m, n, MEANING) \
  if (pth_bytes_equal(name, (pth_bytes){(const uint8_t *)n, sizeof n - 1}) && pth_bytes_equal(module, pth_text(m))) known = PTH_G_##MEANING;
#include "defs/globals.def"
#undef X
  if (known != PTH_G_UNKNOWN) CHECK(row->meaning == known);
  if (known == PTH_G_UNKNOWN) CHECK(row->meaning <= PTH_G_SCRIPT);
  CHECK(row->dtype < PTH_N_DTYPES);
  if (row->meaning == PTH_G_STORAGE && name.len > 7) CHECK(memcmp(name.data + name.len - 7, "Storage", 7) == 0);
  if (row->meaning == PTH_G_DTYPE) CHECK(pth_bytes_equal(name, pth_text(pth_dtypes[row->dtype].name)));
}

static void check_globals(const pth_graph *g, uint64_t end) {
  for (uint32_t i = 0; i < g->globals.len; i++) {
    const pth_global *r = &PTH_AT(pth_global, g->globals, i);
    uint64_t module_room = r->flags & PTH_IN_TEXT ? g->text.len : end, name_room = r->flags & PTH_IN_TEXT << 1 ? g->text.len : end;
    CHECK(r->at < end && g->in.data[r->at] == r->op && (i == 0 || PTH_AT(pth_global, g->globals, i - 1).at < r->at));
    CHECK(r->op == 'c' || r->op == 'i' || r->op == 0x93 || (r->op >= 0x82 && r->op <= 0x84));
    if (r->op == 'c' || r->op == 'i') CHECK(r->module_len > 0 && r->name_len > 0);
    CHECK(r->module_off <= module_room && r->module_len <= module_room - r->module_off);
    CHECK(r->name_off <= name_room && r->name_len <= name_room - r->name_off);
    check_meaning(pth_global_module(g, r), pth_global_name(g, r), r);
  }
}

/* The nodes that every graph begins with; the first graph's are looked at. */
static void check_fixed(const pth_graph *g) {
  static pth_node fixed[PTH_N_FIXED];
  if (fixed[PTH_N_FIXED - 1].b != 255) {
    memcpy(fixed, g->nodes.data, sizeof fixed);
    for (uint32_t id = 0; id < PTH_N_FIXED; id++) {
      const uint8_t *kind = &fixed[id].kind;
      CHECK(id < PTH_NODE_EMPTY_TUPLE ? *kind == id : *kind == (id < PTH_NODE_SMALL_INT ? PTH_NODE_TUPLE : PTH_NODE_INT));
      CHECK(fixed[id].b == (id < PTH_NODE_SMALL_INT ? 0 : id - PTH_NODE_SMALL_INT) && fixed[id].a == 0);
    }
  }
  CHECK(memcmp(fixed, g->nodes.data, sizeof fixed) == 0);
}

void check_graph(const pth_graph *g, bool whole) {
  uint64_t end = whole ? g->end : g->in.len;
  uint32_t n_globals = 0;
  CHECK(end <= g->in.len && g->proto <= PTH_PICKLE_PROTOCOL && g->n_ops <= g->in.len);
  CHECK(g->nodes.len >= PTH_N_FIXED && g->chunks.len >= 1);
  CHECK(whole ? g->root < g->nodes.len && end > 0 && g->in.data[end - 1] == '.' : g->root == PTH_NONE);
  uint64_t held = 0;
  const pth_pool *pools[] = {&g->nodes, &g->kids, &g->chunks, &g->exts, &g->globals, &g->text};
  for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
    CHECK(pools[i]->len <= pools[i]->cap);
    held += (uint64_t)pools[i]->cap * pools[i]->item;
  }
  CHECK(held <= g->arena->used && g->arena->used <= g->arena->budget);

  size_t n_owned = (size_t)g->kids.len + g->chunks.len + g->exts.len;
  uint8_t *owned = calloc(n_owned, 1);
  CHECK(owned != NULL);
  owners o = {g, owned, owned + g->kids.len, owned + g->kids.len + g->chunks.len};
  o.chunks[0] = 1; /* is no chunk */
  check_fixed(g);
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) check_node(&o, id, end, &n_globals);
  if (whole) CHECK(memchr(owned, 0, n_owned) == NULL);
  CHECK(n_globals == g->globals.len);
  free(owned);
  check_globals(g, end);
}

static void check_same_pool(pth_pool a, pth_pool b) {
  CHECK(a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, (size_t)a.len * a.item) == 0));
}

void check_same_globals(const pth_graph *a, const pth_graph *b, uint32_t n) {
  CHECK(n <= a->globals.len && n <= b->globals.len);
  for (uint32_t i = 0; i < n; i++) {
    const pth_global *x = &PTH_AT(pth_global, a->globals, i), *y = &PTH_AT(pth_global, b->globals, i);
    CHECK(pth_bytes_equal(pth_global_module(a, x), pth_global_module(b, y)));
    CHECK(pth_bytes_equal(pth_global_name(a, x), pth_global_name(b, y)));
    CHECK(x->at == y->at && x->op == y->op && x->meaning == y->meaning && x->dtype == y->dtype);
  }
}

void check_same_graph(const pth_graph *a, const pth_graph *b) {
  CHECK(a->root == b->root && a->end == b->end && a->n_ops == b->n_ops && a->proto == b->proto);
  CHECK(a->has_str8 == b->has_str8 && a->frame_straddled == b->frame_straddled && a->late_proto == b->late_proto);
  check_same_pool(a->nodes, b->nodes);
  check_same_pool(a->kids, b->kids);
  check_same_pool(a->chunks, b->chunks);
  check_same_pool(a->exts, b->exts);
  check_same_pool(a->text, b->text);
  CHECK(a->globals.len == b->globals.len);
  check_same_globals(a, b, a->globals.len);
}

/* ---- stores ---- */

void check_store(const pth_store *s) {
  for (uint32_t i = 0; i < s->spans.len; i++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, i);
    uint32_t found = pth_store_find(s, span->key);
    CHECK(span->code < PTH_N_CODES);
    if (span->key.len > PTH_LONGEST_KEY) continue;
    CHECK(found < s->spans.len && pth_bytes_equal(PTH_AT(pth_span, s->spans, found).key, span->key));
    if (found != i) CHECK(span->code && PTH_AT(pth_span, s->spans, found).code && found < i);
  }
}

/* ---- tensors ---- */

static void check_node_or_none(const pth_tensors *t, uint32_t id) { CHECK(id == PTH_NONE || id < t->graph->nodes.len); }

/* Where the bytes of a storage lie, and that there are so many. */
static void check_storage(const pth_tensors *t, const pth_storage *s) {
  CHECK(s->dtype < PTH_N_DTYPES && s->code < PTH_N_CODES);
  CHECK(s->span == PTH_NONE || s->span < t->store->spans.len);
  check_node_or_none(t, s->key);
  check_node_or_none(t, s->location);
  if (s->code) return;
  const __int128 end = (__int128)s->base + s->nbytes;
  if (s->flags & PTH_S_IN_PICKLE) {
    CHECK(s->span == PTH_NONE && end <= (s->flags & PTH_S_IN_TEXT ? t->graph->text.len : t->graph->end));
  } else if (!(s->flags & PTH_S_META)) {
    CHECK(s->span != PTH_NONE);
    const pth_span *span = &PTH_AT(pth_span, t->store->spans, s->span);
    CHECK(span->code == 0 && end <= span->len);
  }
}

static void check_tensor(const pth_tensors *t, const pth_tensor *r, const pth_limits *lim) {
  CHECK(r->code < PTH_N_CODES && r->kind <= PTH_T_ARRAY && r->dtype < PTH_N_DTYPES && r->cast < PTH_N_DTYPES && r->layout < PTH_N_LAYOUTS);
  CHECK(r->n_dims <= lim->max_ndim && (r->storage == PTH_NONE || r->storage < t->storages.len));
  CHECK((uint64_t)r->sizes + r->n_dims <= t->dims.len && (uint64_t)r->strides + r->n_dims <= t->dims.len);
  check_node_or_none(t, r->node);
  check_node_or_none(t, r->part);
  check_node_or_none(t, r->cls);
  check_node_or_none(t, r->device);
  if (r->code || r->kind == PTH_T_NESTED || r->kind == PTH_T_UNINITIALIZED) return;
  const pth_dtype *d = &pth_dtypes[r->dtype];
  bool empty = false, dense = r->kind == PTH_T_DENSE || r->kind == PTH_T_QUANTIZED;
  __int128 last = r->offset, numel = 1;
  CHECK(r->kind == PTH_T_SUBCLASS || r->offset >= 0);
  for (uint32_t k = 0; k < r->n_dims; k++) {
    int64_t size = PTH_AT(int64_t, t->dims, r->sizes + k), stride = PTH_AT(int64_t, t->dims, r->strides + k);
    CHECK(size >= 0 && stride >= 0);
    empty = empty || size == 0;
  }
  for (uint32_t k = 0; k < r->n_dims && !empty; k++) {
    int64_t size = PTH_AT(int64_t, t->dims, r->sizes + k), stride = PTH_AT(int64_t, t->dims, r->strides + k);
    last += (__int128)(size - 1) * stride;
    numel *= size;
    CHECK(numel <= INT64_MAX && last <= (__int128)INT64_MAX * 2);
  }
  if (empty) numel = 0;
  CHECK(numel == r->numel);
  if (!dense || empty) return;
  CHECK(numel * d->itemsize <= INT64_MAX && r->storage < t->storages.len);
  const pth_storage *s = &PTH_AT(pth_storage, t->storages, r->storage);
  CHECK(s->code == 0 && !(s->flags & PTH_S_META));
  CHECK((last / d->packing + 1) * d->itemsize <= (__int128)s->nbytes);
}

typedef struct text {
  uint8_t *data;
  uint32_t len;
} text;

static int by_text(const void *a, const void *b) {
  const text *x = a, *y = b;
  if (x->len != y->len) return x->len < y->len ? -1 : 1;
  return memcmp(x->data, y->data, x->len);
}

static void check_names(const pth_tensors *t, const pth_limits *lim) {
  uint32_t n = t->names.len;
  uint64_t total = 0;
  for (uint32_t i = 0; i < t->paths.len; i++) {
    const pth_path *p = &PTH_AT(pth_path, t->paths, i);
    CHECK((p->kind == PTH_P_ROOT) == (i == 0) && p->kind <= PTH_P_STRANGE && p->owner < t->graph->nodes.len);
    CHECK(i == 0 ? p->parent == PTH_NONE && p->len == 0 : p->parent < i && p->len >= PTH_AT(pth_path, t->paths, p->parent).len);
    if (p->kind == PTH_P_KEY) CHECK(p->key < t->graph->nodes.len);
  }
  CHECK(n <= lim->max_names);
  text *names = malloc((n + 1) * sizeof *names);
  CHECK(names != NULL);
  for (uint32_t i = 0; i < n; i++) {
    const pth_name *name = &PTH_AT(pth_name, t->names, i);
    CHECK(name->tensor < t->tensors.len && name->path < t->paths.len);
    uint32_t len = PTH_AT(pth_path, t->paths, name->path).len;
    names[i] = (text){malloc(len ? len : 1), len};
    CHECK(names[i].data != NULL);
    memset(names[i].data, 0xff, len); /* no byte of UTF-8: what is not written shows */
    pth_path_write(t, name->path, names[i].data);
    CHECK(is_utf8((pth_bytes){names[i].data, len}));
    total += len;
  }
  CHECK(total <= lim->max_name_bytes && total <= 16 * t->graph->end + (1 << 16));
  qsort(names, n, sizeof *names, by_text);
  for (uint32_t i = 0; i + 1 < n && t->flat; i++) CHECK(by_text(&names[i], &names[i + 1]) != 0);
  for (uint32_t i = 0; i < n; i++) free(names[i].data);
  free(names);
}

void check_tensors(const pth_tensors *t, const pth_limits *lim) {
  for (uint32_t i = 0; i < t->storages.len; i++) check_storage(t, &PTH_AT(pth_storage, t->storages, i));
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, i);
    check_tensor(t, r, lim);
    CHECK(pth_place(t, r, NULL, false) == PTH_NOWHERE || (r->code == 0 && pth_tensor_in_line(t, r)));
    CHECK(r->node == PTH_NONE || pth_row_of_node(t, r->node) == i);
  }
  check_names(t, lim);
}

uint64_t digest_tensors(const pth_tensors *t) {
  uint64_t h = (uint64_t)t->flat << 1 | t->whole_module;
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, i);
    const uint64_t said[] = {r->node,   r->kind, r->dtype, r->layout,           r->flags, r->storage, r->part, r->cls,
                             r->device, r->code, r->cast,  (uint64_t)r->offset, r->numel, r->want,    r->have, r->n_dims};
    for (size_t k = 0; k < sizeof said / sizeof *said; k++) mix(&h, said[k]);
    for (uint32_t k = 0; k < r->n_dims; k++) {
      mix(&h, (uint64_t)PTH_AT(int64_t, t->dims, r->sizes + k));
      mix(&h, (uint64_t)PTH_AT(int64_t, t->dims, r->strides + k));
    }
  }
  for (uint32_t i = 0; i < t->storages.len; i++) {
    const pth_storage *s = &PTH_AT(pth_storage, t->storages, i);
    const uint64_t said[] = {s->span, s->key, s->location, s->code, s->dtype, s->flags, s->base, s->nbytes};
    for (size_t k = 0; k < sizeof said / sizeof *said; k++) mix(&h, said[k]);
  }
  for (uint32_t i = 0; i < t->names.len; i++) {
    const pth_name *n = &PTH_AT(pth_name, t->names, i);
    mix(&h, n->tensor);
    for (uint32_t id = n->path; id != PTH_NONE; id = PTH_AT(pth_path, t->paths, id).parent) {
      const pth_path *p = &PTH_AT(pth_path, t->paths, id);
      const uint64_t said[] = {p->key, p->owner, p->len, p->kind, p->sep};
      for (size_t k = 0; k < sizeof said / sizeof *said; k++) mix(&h, said[k]);
    }
  }
  return h;
}

/* ---- the ledger ---- */

/* Of each byte that somebody claims the first kind that does. Tensors leave what lies between their elements to unused storages. */
static void first_claims(const pth_ledger *l, uint64_t *sums) {
  uint8_t *owner = malloc(l->size + 1);
  CHECK(owner != NULL);
  memset(owner, PTH_L_TRAILING, l->size + 1);
  for (uint32_t i = 0; i < l->claims.len; i++) {
    const pth_claim *c = &PTH_AT(pth_claim, l->claims, i);
    for (uint64_t at = c->begin; at < c->end && at < l->size; at++)
      if (c->kind < owner[at]) owner[at] = c->kind;
  }
  for (uint64_t at = 0; at < l->size; at++) sums[owner[at]]++;
  free(owner);
}

uint64_t check_ledger(pth_ledger *l) {
  enum { MOST_STEPS = 1 << 20 };
  uint64_t sums[PTH_N_LEDGER] = {0}, total = 0, h = 1;
  bool few = (uint64_t)l->claims.len * l->size < MOST_STEPS;
  pth_err err = {0};
  if (few) first_claims(l, sums);
  int rc = pth_ledger_settle(l, &err);
  check_error(rc, &err, UINT64_MAX);
  for (int i = 0; i < PTH_N_LEDGER && rc == 0; i++) {
    total += l->nbytes[i];
    mix(&h, l->nbytes[i] ^ l->n_claims[i] << 32);
    if (few && i > PTH_L_PICKLE) CHECK(l->nbytes[i] == sums[i]);
  }
  CHECK(rc || total == l->size);
  if (few && rc == 0 && l->decoded == 0) { /* else tensors have a part of the pickles */
    CHECK(l->nbytes[PTH_L_PICKLE] == sums[PTH_L_PICKLE] && l->nbytes[PTH_L_TENSOR] <= sums[PTH_L_TENSOR]);
    CHECK(l->nbytes[PTH_L_TENSOR] + l->nbytes[PTH_L_UNUSED] == sums[PTH_L_TENSOR] + sums[PTH_L_UNUSED]);
  }
  for (uint32_t i = 0; i < l->claims.len && rc == 0; i++) {
    const pth_claim *c = &PTH_AT(pth_claim, l->claims, i);
    CHECK(c->kind != PTH_L_TENSOR || c->nbytes <= c->end - c->begin);
  }
  pth_ledger_free(l);
  return rc ? 0 : h;
}

/* ---- the audit ---- */

/* Each global is counted once, by its names; each call of one too. */
static void check_refs(const pth_audit *a, const pth_graph *g) {
  uint64_t uses = 0, calls = 0;
  CHECK(a->ref_of.len == g->globals.len && a->refs.len <= g->globals.len);
  for (uint32_t i = 0; i < a->refs.len; i++) {
    const pth_ref *r = &PTH_AT(pth_ref, a->refs, i);
    CHECK(r->row < g->globals.len && PTH_AT(uint32_t, a->ref_of, r->row) == i && r->uses > 0);
    CHECK(i == 0 || r->row > PTH_AT(pth_ref, a->refs, i - 1).row);
    CHECK((r->calls == 0) == (r->call == PTH_NONE));
    uses += r->uses;
    calls += r->calls;
  }
  CHECK(uses == g->globals.len);
  for (uint32_t row = 0; row < g->globals.len; row++) {
    const pth_global *x = &PTH_AT(pth_global, g->globals, row);
    const pth_ref *r = &PTH_AT(pth_ref, a->refs, PTH_AT(uint32_t, a->ref_of, row));
    const pth_global *y = &PTH_AT(pth_global, g->globals, r->row);
    CHECK(r->row <= row && pth_bytes_equal(pth_global_module(g, x), pth_global_module(g, y)));
    CHECK(pth_bytes_equal(pth_global_name(g, x), pth_global_name(g, y)));
  }
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    const pth_node *n = pth_node_at(g, id);
    calls -= n->kind == PTH_NODE_OBJECT && pth_node_at(g, n->a)->kind == PTH_NODE_GLOBAL;
  }
  CHECK(calls == 0);
}

uint64_t check_audit(const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim) {
  pth_audit a;
  pth_err err = {0};
  uint64_t h = 0;
  int rc = pth_audit_graph(&a, g, t, legacy, lim, &err);
  check_error(rc, &err, UINT64_MAX);
  CHECK(rc == 0);
  check_refs(&a, g);
  CHECK(a.n_odds >= a.odds.len && a.odds.len <= PTH_AUDIT_MOST_ODDS * PTH_N_FINDINGS &&
        (a.n_odds == a.odds.len || a.odds.len >= PTH_AUDIT_MOST_ODDS));
  for (uint32_t i = 0; i < a.odds.len; i++) {
    const pth_odd *o = &PTH_AT(pth_odd, a.odds, i);
    CHECK(o->node < g->nodes.len && (o->ref == PTH_NONE || o->ref < a.refs.len) && o->finding > 0 && o->finding < PTH_N_FINDINGS);
    mix(&h, (uint64_t)o->node << 32 | o->finding);
  }
  for (uint32_t i = 0; i < a.nested.len; i++) {
    uint32_t id = PTH_AT(uint32_t, a.nested, i);
    CHECK(id < g->nodes.len && (pth_node_at(g, id)->kind == PTH_NODE_BYTES || pth_node_at(g, id)->kind == PTH_NODE_STR8));
    for (uint32_t k = 0; k < i; k++) CHECK(PTH_AT(uint32_t, a.nested, k) != id);
    mix(&h, id);
  }
  for (uint32_t i = 0; i < a.refs.len; i++) mix(&h, PTH_AT(pth_ref, a.refs, i).row ^ (uint64_t)PTH_AT(pth_ref, a.refs, i).call << 32);
  mix(&h, a.n_odds);
  pth_audit_free(&a);
  return h;
}
