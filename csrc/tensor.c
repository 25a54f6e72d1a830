/* Design
 *
 *   rebuild   one call -> one row. Wrappers (a parameter, a subclass, a type tag) are peeled off in a loop, so their nesting is bounded.
 *
 *   by_node   one word per node: a tensor's or storage's row, or what the walk of names.c knows of a container.
 *
 * Linear    What many calls can share is looked at once (nested storages, sizes, strides) or is bounded (mappings that only ever hold a
 *           few keys). */
#include "tensor.h"

#include "hash.h"
#include "legacy.h"
#include "names.h"

const char *const pth_layouts[PTH_N_LAYOUTS] = {"strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged"};

enum { MAX_WRAPPERS = 16 };

/* Mappings of keyword arguments and of tensor metadata hold a handful of keys; one that many calls share could be made endless. */
enum { FEW_KEYS = 64 };

/* ---- rows ---- */

/* Functions that fill a row return 0, the code of what is wrong with it, or, negative, that of the core's own failure. */
static int core_failure(int rc) { return rc < 0 ? -rc : 0; }

static int wrong(pth_tensor *r, uint16_t code, uint64_t want, uint64_t have) {
  r->code = code;
  r->want = want;
  r->have = have;
  return code;
}

static uint64_t capacity(const pth_dtype *d, uint64_t nbytes) { return nbytes / d->itemsize * d->packing; }

/* Extent and overflow of sizes, strides and offset against a storage of `elements`. */
static int check_extent(pth_tensor *r, const int64_t *size, const int64_t *stride, uint64_t itemsize, uint64_t elements) {
  bool empty = false;
  uint64_t numel = 1, last;
  for (uint32_t i = 0; i < r->n_dims; i++) {
    if (size[i] < 0 || stride[i] < 0) return wrong(r, PTH_E_TENSOR_NEGATIVE, 0, 0);
    empty = empty || size[i] == 0;
  }
  if (r->offset < 0) return wrong(r, PTH_E_TENSOR_NEGATIVE, 0, 0);
  r->numel = 0;
  if (empty) return 0;
  last = (uint64_t)r->offset;
  for (uint32_t i = 0; i < r->n_dims; i++) {
    uint64_t step;
    if (!pth_mul(numel, (uint64_t)size[i], &numel) || !pth_mul((uint64_t)size[i] - 1, (uint64_t)stride[i], &step) ||
        !pth_add(last, step, &last))
      return wrong(r, PTH_E_TENSOR_OVERFLOW, 0, 0);
  }
  uint64_t nbytes;
  if (!pth_mul(numel, itemsize, &nbytes) || nbytes > (uint64_t)INT64_MAX) return wrong(r, PTH_E_TENSOR_OVERFLOW, 0, 0);
  if (last >= elements) return wrong(r, PTH_E_TENSOR_BOUNDS, last + 1, elements);
  r->numel = numel;
  return 0;
}

static int push_i64(pth_tensors *t, int64_t v, pth_err *err) {
  int rc = pth_pool_room(t->arena, &t->dims, err);
  if (rc == 0) PTH_AT(int64_t, t->dims, t->dims.len++) = v;
  return rc;
}

/* ---- lists of sizes and strides: equal ones are kept once ---- */

typedef struct list_slot {
  uint32_t at, n; /* n 0: empty */
} list_slot;

static list_slot *find_list(const pth_tensors *t, uint32_t at, uint32_t n) {
  const int64_t *numbers = &PTH_AT(int64_t, t->dims, at);
  pth_sip s = pth_sip_of(t->arena->seed);
  for (uint32_t i = 0; i < n; i++) pth_sip_word(&s, (uint64_t)numbers[i]);
  uint32_t mask = t->lists.len - 1;
  for (uint32_t i = (uint32_t)pth_sip_end(&s) & mask;; i = (i + 1) & mask) {
    list_slot *slot = &PTH_AT(list_slot, t->lists, i);
    if (slot->n == 0 || (slot->n == n && memcmp(&PTH_AT(int64_t, t->dims, slot->at), numbers, n * sizeof *numbers) == 0)) return slot;
  }
}

static int grow_lists(pth_tensors *t, pth_err *err) {
  pth_pool old = t->lists;
  uint64_t size = old.len ? (uint64_t)old.len * 2 : 64;
  t->lists = PTH_POOL(list_slot);
  int rc = pth_pool_reserve(t->arena, &t->lists, size, err);
  if (rc) {
    t->lists = old;
    return rc;
  }
  t->lists.len = (uint32_t)size;
  memset(t->lists.data, 0, (size_t)size * sizeof(list_slot));
  for (uint32_t i = 0; i < old.len; i++) {
    list_slot s = PTH_AT(list_slot, old, i);
    if (s.n) *find_list(t, s.at, s.n) = s;
  }
  pth_pool_free(t->arena, &old);
  return 0;
}

/* The last n numbers of dims are a list: *at is where it stands, perhaps since earlier. */
static int keep_list(pth_tensors *t, uint32_t n, uint32_t *at, pth_err *err) {
  *at = t->dims.len - n;
  if (n == 0) return 0;
  if (t->n_lists * 2 >= t->lists.len) {
    int rc = grow_lists(t, err);
    if (rc) return rc;
  }
  list_slot *slot = find_list(t, *at, n);
  if (slot->n) {
    t->dims.len = *at;
    *at = slot->at;
    return 0;
  }
  *slot = (list_slot){*at, n};
  t->n_lists++;
  return 0;
}

static int keep_dims(pth_tensors *t, pth_tensor *r, const int64_t *sizes, const int64_t *strides, uint32_t n, pth_err *err) {
  int rc = 0;
  for (uint32_t i = 0; i < n && !rc; i++) rc = push_i64(t, sizes[i], err);
  if (rc == 0) rc = keep_list(t, n, &r->sizes, err);
  for (uint32_t i = 0; i < n && !rc; i++) rc = push_i64(t, strides[i], err);
  if (rc == 0) rc = keep_list(t, n, &r->strides, err);
  if (rc == 0) r->n_dims = n;
  return rc;
}

/* A tuple, list or torch.Size of integers, into dims. Negative result: the core's own failure. */
static int read_ints(pth_rows *w, uint32_t id, uint32_t *at, uint32_t *n, pth_tensor *r) {
  const pth_graph *g = w->g;
  id = pth_unwrap(g, id);
  if (id != PTH_NONE && pth_node_at(g, id)->kind == PTH_NODE_OBJECT &&
      pth_meaning_of_node(g, pth_node_at(g, id)->a, NULL) == PTH_G_TORCH_SIZE)
    id = pth_item(g, pth_args_of(pth_node_at(g, id)), 0);
  if (id == PTH_NONE) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
  uint8_t kind = pth_node_at(g, id)->kind;
  if (kind != PTH_NODE_TUPLE && kind != PTH_NODE_LIST) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
  *n = pth_n_items(g, id);
  if (*n > w->lim->max_ndim) return wrong(r, PTH_E_LIMIT_NDIM, *n, w->lim->max_ndim);
  uint32_t start = w->t->dims.len;
  pth_items it = pth_items_of(g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    int64_t v;
    if (pth_node_at(g, kid)->kind != PTH_NODE_INT || !pth_as_i64(g, kid, &v)) {
      w->t->dims.len = start;
      return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
    }
    int rc = push_i64(w->t, v, w->err);
    if (rc) return -rc;
  }
  return -keep_list(w->t, *n, at, w->err);
}

/* The strides of a contiguous tensor of these sizes. */
static int contiguous(pth_tensors *t, pth_tensor *r, pth_err *err) {
  uint32_t n = r->n_dims, start = t->dims.len;
  int rc = pth_pool_reserve(t->arena, &t->dims, n, err);
  if (rc) return rc;
  t->dims.len += n;
  uint64_t step = 1;
  for (uint32_t i = n; i-- > 0;) {
    int64_t size = PTH_AT(int64_t, t->dims, r->sizes + i);
    PTH_AT(int64_t, t->dims, start + i) = (int64_t)(step & INT64_MAX);
    if (size > 0 && !pth_mul(step, (uint64_t)size, &step)) step = (uint64_t)INT64_MAX;
  }
  return keep_list(t, n, &r->strides, err);
}

/* Sizes and strides; strides of a tensor that gives none are those of a contiguous one. Negative result: the core's own failure. */
static int shape_of(pth_rows *w, pth_tensor *r, uint32_t size, uint32_t stride) {
  uint32_t n_sizes = 0, n_strides = 0;
  int rc = read_ints(w, size, &r->sizes, &n_sizes, r);
  if (rc) return rc;
  if (stride != PTH_NONE) {
    if ((rc = read_ints(w, stride, &r->strides, &n_strides, r)) != 0) return rc;
    if (n_strides != n_sizes) return wrong(r, PTH_E_TENSOR_ARGS, n_sizes, n_strides);
  }
  r->n_dims = n_sizes;
  return stride == PTH_NONE ? -contiguous(w->t, r, w->err) : 0;
}

bool pth_tensor_in_line(const pth_tensors *t, const pth_tensor *r) {
  /* Of float4_e2m1fn_x2 torch counts two numbers as one element. */
  if (pth_dtypes[r->dtype].packing != 1 || r->dtype == PTH_DT_FLOAT4_E2M1FN_X2) return false;
  uint64_t step = 1;
  for (uint32_t i = r->n_dims; i-- > 0;) {
    int64_t size = PTH_AT(int64_t, t->dims, r->sizes + i), stride = PTH_AT(int64_t, t->dims, r->strides + i);
    if (size <= 0 || (size > 1 && (stride < 0 || (uint64_t)stride != step))) return false;
    if (!pth_mul(step, (uint64_t)size, &step)) return false;
  }
  return true;
}

static int new_storage(pth_tensors *t, const pth_storage *s, uint32_t *row, pth_err *err) {
  int rc = pth_pool_room(t->arena, &t->storages, err);
  if (rc) return -rc;
  *row = t->storages.len++;
  PTH_AT(pth_storage, t->storages, *row) = *s;
  return 0;
}

/* ---- storages ---- */

/* The i-th part of ('storage', class, key, location, numel[, view]). */
static uint32_t pid_item(const pth_graph *g, uint32_t pid, uint32_t i) { return pth_item(g, pid, i); }

static bool storage_class(const pth_graph *g, uint32_t node, uint8_t *dtype) {
  return pth_meaning_of_node(g, node, dtype) == PTH_G_STORAGE;
}

bool pth_key_text(const pth_graph *g, uint32_t id, uint8_t buf[PTH_DIGITS], pth_bytes *key) {
  int64_t v;
  if (id == PTH_NONE) return false;
  const pth_node *n = pth_node_at(g, id);
  if (pth_is_text(n)) {
    *key = pth_slice(g, n);
    return true;
  }
  if (n->kind != PTH_NODE_INT || !pth_as_i64(g, id, &v) || v < 0) return false;
  uint8_t *p = buf + PTH_DIGITS;
  do *--p = (uint8_t)('0' + v % 10);
  while ((v /= 10) != 0);
  *key = (pth_bytes){p, (uint64_t)(buf + PTH_DIGITS - p)};
  return true;
}

/* A storage that is a part of another one: (view_key, offset, numel), old legacy files only. */
static int view_of(pth_rows *w, uint32_t view, pth_storage *s, pth_tensor *r) {
  int64_t offset, numel;
  const pth_dtype *d = &pth_dtypes[s->dtype];
  uint64_t base, len, end;
  if (!pth_as_i64(w->g, pth_item(w->g, view, 1), &offset) || !pth_as_i64(w->g, pth_item(w->g, view, 2), &numel) || offset < 0 || numel < 0)
    return wrong(r, PTH_E_STORAGE_ID, 0, 0);
  if (!pth_mul((uint64_t)offset, d->itemsize, &base) || !pth_mul((uint64_t)numel, d->itemsize, &len) || !pth_add(base, len, &end) ||
      end > s->nbytes)
    return wrong(r, PTH_E_TENSOR_BOUNDS, (uint64_t)offset + (uint64_t)numel, capacity(d, s->nbytes));
  s->base = base;
  s->nbytes = len;
  return 0;
}

static int storage_of_pid(pth_rows *w, uint32_t pid, pth_tensor *r) {
  const pth_graph *g = w->g;
  pth_tensors *t = w->t;
  uint8_t buf[PTH_DIGITS], dtype = 0;
  pth_bytes key;
  int64_t numel;
  uint64_t need;
  uint32_t n = pth_node_at(g, pid)->kind == PTH_NODE_TUPLE ? pth_n_items(g, pid) : 0;
  if (pth_is_text(pth_node_at(g, pid))) return wrong(r, PTH_E_STORAGE_TEXT, 0, 0);
  if ((n != 5 && n != 6) || !pth_text_is(g, pid_item(g, pid, 0), "storage") || !pth_key_text(g, pid_item(g, pid, 2), buf, &key) ||
      !pth_as_i64(g, pid_item(g, pid, 4), &numel) || numel < 0)
    return wrong(r, PTH_E_STORAGE_ID, 0, 0);
  if (!storage_class(g, pid_item(g, pid, 1), &dtype)) return wrong(r, PTH_E_STORAGE_CLASS, 0, 0);
  r->dtype = dtype;
  if (!pth_mul((uint64_t)numel, pth_dtypes[dtype].itemsize, &need)) return wrong(r, PTH_E_TENSOR_OVERFLOW, 0, 0);

  pth_storage s = {.key = pid_item(g, pid, 2), .location = pid_item(g, pid, 3), .dtype = dtype, .nbytes = need};
  bool meta = pth_text_is(g, s.location, "meta");
  s.span = t->store != NULL && !meta ? pth_store_find(t->store, key) : PTH_NONE;
  uint32_t view = n == 6 ? pid_item(g, pid, 5) : PTH_NONE;
  bool viewed = view != PTH_NONE && pth_node_at(g, view)->kind == PTH_NODE_TUPLE;
  if (s.span == PTH_NONE) {
    s.flags = meta ? PTH_S_META : 0;
    s.code = meta ? 0 : PTH_E_STORAGE_MISSING;
    return new_storage(t, &s, &r->storage, w->err);
  }
  const pth_span *span = &PTH_AT(pth_span, t->store->spans, s.span);
  uint32_t *row = &PTH_AT(uint32_t, w->span_row, s.span);
  if (*row != PTH_NONE && !viewed) {
    pth_storage *first = &PTH_AT(pth_storage, t->storages, *row);
    if (first->dtype != dtype || first->nbytes != need) first->flags |= PTH_S_MIXED;
    r->storage = *row;
    if (need > span->len) return wrong(r, PTH_E_STORAGE_SIZE, need, span->len);
    return 0;
  }
  s.code = span->code;
  if (!s.code && need > span->len) s.code = PTH_E_STORAGE_SIZE;
  if (need < span->len) s.flags |= PTH_S_LARGER;
  if (viewed && !s.code) {
    int rc = view_of(w, view, &s, r);
    if (rc) return rc;
  }
  int rc = new_storage(t, &s, &r->storage, w->err);
  if (rc == 0 && !viewed) *row = r->storage;
  return rc;
}

/* A storage pickled by value: the bytes of a whole legacy file, whose one object is the storage. They are read once, however many calls
 * name them: by_node notes their row. */
static int storage_of_bytes(pth_rows *w, uint32_t call, pth_tensor *r) {
  const pth_graph *g = w->g;
  pth_tensors *t = w->t;
  uint32_t arg = pth_item(g, pth_args_of(pth_node_at(g, call)), 0);
  if (arg == PTH_NONE) return wrong(r, PTH_E_STORAGE_NESTED, 0, 0);
  const pth_node *n = pth_node_at(g, arg);
  if (n->kind != PTH_NODE_BYTES && n->kind != PTH_NODE_STR8) return wrong(r, PTH_E_STORAGE_NESTED, 0, 0);
  uint32_t *noted = &PTH_AT(uint32_t, t->by_node, arg);
  if (*noted == PTH_NONE) {
    pth_nested nested;
    int rc = pth_legacy_nested(pth_slice(g, n), t->arena, w->lim, &nested);
    if (rc == PTH_E_BUDGET || rc == PTH_E_MEMORY) return -pth_fail(w->err, rc, 0, 0, t->arena->budget);
    pth_storage s = {.span = PTH_NONE,
                     .key = PTH_NONE,
                     .location = PTH_NONE,
                     .dtype = nested.dtype,
                     .code = rc ? PTH_E_STORAGE_NESTED : 0,
                     .flags = n->flags & PTH_IN_TEXT ? PTH_S_IN_PICKLE | PTH_S_IN_TEXT : PTH_S_IN_PICKLE,
                     .base = n->b + nested.off,
                     .nbytes = nested.nbytes};
    uint32_t row;
    if ((rc = new_storage(t, &s, &row, w->err)) != 0) return rc;
    *noted = PTH_STORAGE_ROW | row;
  }
  const pth_storage *s = &PTH_AT(pth_storage, t->storages, *noted & ~PTH_STORAGE_ROW);
  if (s->code) return wrong(r, s->code, 0, 0);
  r->dtype = s->dtype;
  r->storage = *noted & ~PTH_STORAGE_ROW;
  return 0;
}

/* The storage of a tensor: its node is noted with it. */
static int storage_of(pth_rows *w, uint32_t id, pth_tensor *r) {
  const pth_graph *g = w->g;
  id = pth_unwrap(g, id);
  const pth_node *n = id == PTH_NONE ? NULL : pth_node_at(g, id);
  int rc;
  if (n != NULL && n->kind == PTH_NODE_PERSID)
    rc = storage_of_pid(w, n->a, r);
  else if (n != NULL && n->kind == PTH_NODE_OBJECT && pth_meaning_of_node(g, n->a, NULL) == PTH_G_LOAD_FROM_BYTES)
    rc = storage_of_bytes(w, id, r);
  else
    return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
  if (r->storage != PTH_NONE) PTH_AT(uint32_t, w->t->by_node, id) = PTH_STORAGE_ROW | r->storage;
  return rc;
}

static const int64_t *dims_at(const pth_tensors *t, const pth_tensor *r, uint32_t at) {
  static const int64_t none[1] = {0};
  return r->n_dims ? &PTH_AT(int64_t, t->dims, at) : none;
}

/* A shape alone, of a tensor whose elements lie elsewhere or nowhere. */
static int check_shape(const pth_rows *w, pth_tensor *r, uint64_t itemsize) {
  return check_extent(r, dims_at(w->t, r, r->sizes), dims_at(w->t, r, r->strides), itemsize, INT64_MAX);
}

/* Everything is known: does the tensor lie inside of its storage? */
static int check_dense(pth_rows *w, pth_tensor *r) {
  pth_tensors *t = w->t;
  const pth_dtype *d = &pth_dtypes[r->dtype];
  const pth_storage *s = &PTH_AT(pth_storage, t->storages, r->storage);
  if (s->flags & PTH_S_META) {
    r->kind = PTH_T_META;
    return check_shape(w, r, d->itemsize);
  }
  uint64_t have = s->code == PTH_E_STORAGE_SIZE ? PTH_AT(pth_span, t->store->spans, s->span).len : s->nbytes;
  int rc = check_extent(r, dims_at(t, r, r->sizes), dims_at(t, r, r->strides), d->itemsize, capacity(d, have));
  if (s->code && !rc) rc = wrong(r, s->code, s->nbytes, have);
  return rc;
}

/* ---- calls that rebuild a tensor ---- */

bool pth_is_tensor_meaning(enum pth_meaning m) {
  switch (m) {
    case PTH_G_TENSOR:
    case PTH_G_TENSOR_V1:
    case PTH_G_TENSOR_V3:
    case PTH_G_TENSOR_CLASS:
    case PTH_G_PARAMETER_CALL:
    case PTH_G_PARAMETER_STATE:
    case PTH_G_PARAMETER_CLASS:
    case PTH_G_FROM_TYPE:
    case PTH_G_QTENSOR:
    case PTH_G_SPARSE:
    case PTH_G_NESTED:
    case PTH_G_NESTED_JAGGED:
    case PTH_G_META:
    case PTH_G_WRAPPER:
    case PTH_G_UNINITIALIZED:
    case PTH_G_UNINITIALIZED_PARAMETER:
    case PTH_G_DEVICE_FROM_CPU:
    case PTH_G_FROM_NUMPY:
      return true;
    default:
      return false;
  }
}

bool pth_is_named_tensor(const pth_rows *w, uint32_t id) {
  return w->t->store != NULL && w->t->store->named != NULL && pth_node_at(w->g, id)->kind == PTH_NODE_PERSID &&
         pth_is_text(pth_node_at(w->g, pth_node_at(w->g, id)->a));
}

bool pth_rebuilds_tensor(const pth_graph *g, uint32_t node) {
  const pth_node *n = pth_node_at(g, node);
  if (n->kind != PTH_NODE_OBJECT) return false;
  enum pth_meaning m = pth_meaning_of_node(g, n->a, NULL);
  /* A class alone is no tensor yet: FloatTensor() and Parameter() get theirs from BUILD or an argument. */
  if (m == PTH_G_TENSOR_CLASS) return pth_last_state(g, node) != PTH_NONE;
  if (m == PTH_G_PARAMETER_CLASS) return pth_last_state(g, node) != PTH_NONE || pth_n_items(g, pth_args_of(n)) > 0;
  if (m == PTH_G_FROM_TYPE) return pth_is_tensor_meaning(pth_meaning_of_node(g, pth_item(g, pth_args_of(n), 0), NULL));
  return pth_is_tensor_meaning(m);
}

static void flag(pth_tensor *r, uint8_t bit, bool on) { r->flags = (uint8_t)(on ? r->flags | bit : r->flags & ~bit); }

static void grad_of(const pth_graph *g, uint32_t id, pth_tensor *r) {
  bool on;
  if (pth_as_bool(g, id, &on)) flag(r, PTH_F_GRAD, on);
}

/* The value of a key in a mapping of few. */
static uint32_t keyword(const pth_graph *g, uint32_t mapping, const char *key) {
  return pth_n_pairs(g, mapping) > FEW_KEYS ? PTH_NONE : pth_lookup(g, mapping, key);
}

/* The same in the state of an object: a dict, or (dict, slots). */
static uint32_t state_keyword(const pth_graph *g, uint32_t state, const char *key) {
  if (state != PTH_NONE && pth_node_at(g, state)->kind == PTH_NODE_TUPLE) state = pth_item(g, state, 0);
  return keyword(g, state, key);
}

static int view_flags(const pth_graph *g, uint32_t metadata, pth_tensor *r) {
  bool on;
  metadata = pth_unwrap(g, metadata);
  uint32_t n = pth_n_pairs(g, metadata);
  if (n > FEW_KEYS) return wrong(r, PTH_E_TENSOR_ARGS, n, FEW_KEYS);
  if (pth_as_bool(g, pth_lookup(g, metadata, "conj"), &on)) flag(r, PTH_F_CONJ, on);
  if (pth_as_bool(g, pth_lookup(g, metadata, "neg"), &on)) flag(r, PTH_F_NEG, on);
  return 0;
}

static int dtype_of(pth_rows *w, uint32_t id, pth_tensor *r) {
  uint8_t dtype = 0;
  if (pth_meaning_of_node(w->g, id, &dtype) != PTH_G_DTYPE) return wrong(r, PTH_E_TENSOR_DTYPE, 0, 0);
  r->dtype = dtype;
  return 0;
}

/* (storage, offset, size, stride, ...): what all dense calls begin with. */
static int dense(pth_rows *w, uint32_t args, pth_tensor *r) {
  const pth_graph *g = w->g;
  int rc = storage_of(w, pth_item(g, args, 0), r);
  int shaped = shape_of(w, r, pth_item(g, args, 2), pth_item(g, args, 3));
  if (shaped < 0) return shaped;
  if (rc) return rc;
  if (shaped) return shaped;
  if (!pth_as_i64(g, pth_item(g, args, 1), &r->offset)) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
  return 0;
}

/* Complex numbers have conjugates, and numbers negatives: what numpy, too, has by its name, and not as raw bytes. */
static int check_views(pth_tensor *r) {
  const pth_dtype *d = &pth_dtypes[r->dtype];
  bool complex = r->dtype == PTH_DT_COMPLEX32 || r->dtype == PTH_DT_COMPLEX64 || r->dtype == PTH_DT_COMPLEX128;
  bool number = complex || (r->dtype != PTH_DT_BOOL && strcmp(d->name, d->numpy) == 0);
  if ((r->flags & PTH_F_CONJ && !complex) || (r->flags & PTH_F_NEG && !number)) return wrong(r, PTH_E_TENSOR_VIEW, 0, 0);
  return 0;
}

static int tensor_v2(pth_rows *w, uint32_t args, pth_tensor *r) {
  int rc = dense(w, args, r);
  grad_of(w->g, pth_item(w->g, args, 4), r);
  if (rc == 0) rc = view_flags(w->g, pth_item(w->g, args, 6), r);
  if (rc == 0) rc = check_views(r);
  return rc ? rc : check_dense(w, r);
}

static int tensor_v3(pth_rows *w, uint32_t args, pth_tensor *r) {
  int rc = dense(w, args, r);
  int typed = dtype_of(w, pth_item(w->g, args, 6), r);
  grad_of(w->g, pth_item(w->g, args, 4), r);
  if (rc == 0) rc = typed;
  if (rc == 0) rc = view_flags(w->g, pth_item(w->g, args, 7), r);
  if (rc == 0) rc = check_views(r);
  return rc ? rc : check_dense(w, r);
}

static int quantized(pth_rows *w, uint32_t args, pth_tensor *r) {
  r->kind = PTH_T_QUANTIZED;
  r->part = pth_unwrap(w->g, pth_item(w->g, args, 4));
  grad_of(w->g, pth_item(w->g, args, 5), r);
  int rc = dense(w, args, r);
  return rc ? rc : check_dense(w, r);
}

static int meta(pth_rows *w, uint32_t args, pth_tensor *r) {
  r->kind = PTH_T_META;
  int rc = dtype_of(w, pth_item(w->g, args, 0), r);
  int shaped = shape_of(w, r, pth_item(w->g, args, 1), pth_item(w->g, args, 2));
  grad_of(w->g, pth_item(w->g, args, 3), r);
  if (shaped) return shaped;
  return rc ? rc : check_shape(w, r, 1);
}

/* (class, dtype, size, stride, offset, layout, device, requires_grad): an outside; the insides are in the state. */
static int wrapper(pth_rows *w, uint32_t args, pth_tensor *r) {
  const pth_graph *g = w->g;
  r->kind = PTH_T_SUBCLASS;
  r->cls = pth_item(g, args, 0);
  int rc = dtype_of(w, pth_item(g, args, 1), r);
  int shaped = shape_of(w, r, pth_item(g, args, 2), pth_item(g, args, 3));
  (void)pth_as_i64(g, pth_item(g, args, 4), &r->offset);
  r->device = pth_item(g, args, 6);
  grad_of(g, pth_item(g, args, 7), r);
  if (shaped) return shaped;
  return rc ? rc : check_shape(w, r, 1);
}

static int layout_of(pth_rows *w, uint32_t id, pth_tensor *r) {
  const pth_graph *g = w->g;
  uint32_t name = id;
  int64_t number;
  if (id != PTH_NONE && pth_node_at(g, id)->kind == PTH_NODE_OBJECT && pth_meaning_of_node(g, pth_node_at(g, id)->a, NULL) == PTH_G_LAYOUT)
    name = pth_item(g, pth_args_of(pth_node_at(g, id)), 0);
  for (uint8_t i = PTH_L_SPARSE_COO; i <= PTH_L_SPARSE_BSC; i++) {
    char text[24] = "torch.";
    memcpy(text + 6, pth_layouts[i], strlen(pth_layouts[i]) + 1);
    if (pth_text_is(g, name, text)) {
      r->layout = i;
      return 0;
    }
  }
  /* TorchScript writes the number of c10::Layout. */
  static const uint8_t by_number[] = {0, PTH_L_SPARSE_COO, PTH_L_SPARSE_CSR, 0, PTH_L_SPARSE_CSC, PTH_L_SPARSE_BSR, PTH_L_SPARSE_BSC};
  if (pth_as_i64(g, id, &number) && number > 0 && number < 7 && by_number[number]) {
    r->layout = by_number[number];
    return 0;
  }
  return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
}

/* torch.save: (layout, parts). TorchScript: (layout number, size, requires_grad, parts..., hooks). */
static int sparse(pth_rows *w, uint32_t args, pth_tensor *r) {
  const pth_graph *g = w->g;
  r->kind = PTH_T_SPARSE;
  int rc = layout_of(w, pth_item(g, args, 0), r);
  if (rc) return rc;
  bool script = pth_n_items(g, args) > 2;
  r->part = script ? args : pth_item(g, args, 1);
  if (script) grad_of(g, pth_item(g, args, 2), r);
  uint32_t size = script ? pth_item(g, args, 1) : pth_item(g, r->part, r->layout == PTH_L_SPARSE_COO ? 2 : 3);
  rc = shape_of(w, r, size, PTH_NONE);
  return rc ? rc : check_shape(w, r, 1);
}

static int array(pth_rows *w, uint32_t args, pth_tensor *r) {
  const pth_graph *g = w->g;
  r->kind = PTH_T_ARRAY;
  r->part = pth_item(g, args, 0);
  r->device = pth_item(g, args, 2);
  grad_of(g, pth_item(g, args, 3), r);
  int rc = dtype_of(w, pth_item(g, args, 1), r);
  if (rc) return rc;
  if (r->part == PTH_NONE || pth_node_at(g, r->part)->kind != PTH_NODE_OBJECT) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
  /* The state of an ndarray is (version, shape, dtype, is_fortran, data); _frombuffer has (data, dtype, shape, order). */
  uint32_t state = pth_last_state(g, r->part);
  uint32_t size = state != PTH_NONE ? pth_item(g, state, 1) : pth_item(g, pth_args_of(pth_node_at(g, r->part)), 2);
  rc = shape_of(w, r, size, PTH_NONE);
  return rc ? rc : check_shape(w, r, 16);
}

static bool is_parameter_class(const pth_graph *g, uint32_t cls) { return pth_meaning_of_node(g, cls, NULL) == PTH_G_PARAMETER_CLASS; }

/* Fills a row from a call. 0 or a code of the row; negative: the core's own failure. */
static int rebuild(pth_rows *w, uint32_t node, pth_tensor *r) {
  const pth_graph *g = w->g;
  int grad = -1; /* of the outermost wrapper that says */
  bool on;
  int rc = -1;
  for (int depth = 0; depth < MAX_WRAPPERS; depth++) {
    node = pth_unwrap(g, node);
    if (node == PTH_NONE || pth_node_at(g, node)->kind != PTH_NODE_OBJECT) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
    uint8_t dtype = 0;
    enum pth_meaning m = pth_meaning_of_node(g, pth_node_at(g, node)->a, &dtype);
    uint32_t args = pth_args_of(pth_node_at(g, node)), state = pth_last_state(g, node);
    if (m == PTH_G_FROM_TYPE) {
      uint32_t cls = pth_item(g, args, 1);
      bool parameter = is_parameter_class(g, cls);
      if (!parameter) r->cls = cls;
      m = pth_meaning_of_node(g, pth_item(g, args, 0), &dtype);
      r->part = pth_item(g, args, 3);
      /* nn.Parameter of a subclass marks the object itself. */
      flag(r, PTH_F_PARAMETER, parameter || (pth_as_bool(g, state_keyword(g, r->part, "_is_param"), &on) && on));
      args = pth_item(g, args, 2);
      if (args == PTH_NONE) return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
    }
    switch (m) {
      case PTH_G_PARAMETER_CALL:
      case PTH_G_PARAMETER_STATE:
      case PTH_G_PARAMETER_CLASS: {
        flag(r, PTH_F_PARAMETER, true);
        uint32_t inner = pth_item(g, args, 0), says = pth_item(g, args, 1);
        if (m == PTH_G_PARAMETER_STATE && r->part == PTH_NONE) r->part = pth_item(g, args, 3);
        if (m == PTH_G_PARAMETER_CLASS && state != PTH_NONE) {
          bool whole = pth_n_items(g, state) == 5; /* (data, grad, hooks, requires_grad, volatile) */
          if (whole) inner = pth_item(g, state, 0);
          says = pth_item(g, state, whole ? 3 : 0);
        }
        if (grad < 0 && pth_as_bool(g, says, &on)) grad = on;
        if (m == PTH_G_PARAMETER_CLASS && grad < 0) grad = 1; /* Parameter(data) */
        node = inner;
        continue;
      }
      case PTH_G_DEVICE_FROM_CPU:
        if (r->cast == PTH_DT_UNTYPED && pth_meaning_of_node(g, pth_item(g, args, 1), &dtype) == PTH_G_DTYPE) r->cast = dtype;
        r->device = pth_item(g, args, 2);
        if (grad < 0 && pth_as_bool(g, pth_item(g, args, 3), &on)) grad = on;
        node = pth_item(g, args, 0);
        continue;
      case PTH_G_TENSOR:
      case PTH_G_TENSOR_V1:
        rc = tensor_v2(w, args, r);
        break;
      case PTH_G_TENSOR_V3:
        rc = tensor_v3(w, args, r);
        break;
      case PTH_G_TENSOR_CLASS:
        rc = dense(w, state, r);
        if (rc == 0) rc = check_dense(w, r);
        break;
      case PTH_G_QTENSOR:
        rc = quantized(w, args, r);
        break;
      case PTH_G_SPARSE:
        rc = sparse(w, args, r);
        break;
      case PTH_G_NESTED:
      case PTH_G_NESTED_JAGGED:
        r->kind = PTH_T_NESTED;
        r->layout = m == PTH_G_NESTED ? PTH_L_STRIDED : PTH_L_JAGGED;
        r->part = m == PTH_G_NESTED ? args : pth_item(g, args, 0);
        r->cls = m == PTH_G_NESTED ? r->cls : PTH_NONE;
        grad_of(g, keyword(g, r->part, "requires_grad"), r);
        rc = 0;
        break;
      case PTH_G_META:
        rc = meta(w, args, r);
        break;
      case PTH_G_WRAPPER:
        rc = wrapper(w, args, r);
        break;
      case PTH_G_FROM_NUMPY:
        rc = array(w, args, r);
        break;
      case PTH_G_UNINITIALIZED:
      case PTH_G_UNINITIALIZED_PARAMETER:
        flag(r, PTH_F_PARAMETER, m == PTH_G_UNINITIALIZED_PARAMETER);
        r->kind = PTH_T_UNINITIALIZED;
        r->dtype = PTH_DT_FLOAT32; /* what torch makes of it; the file does not say */
        grad_of(g, pth_item(g, args, 0), r);
        rc = 0;
        break;
      default:
        return wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
    }
    if (grad >= 0) flag(r, PTH_F_GRAD, grad == 1);
    return rc;
  }
  return wrong(r, PTH_E_TENSOR_NESTING, MAX_WRAPPERS + 1, MAX_WRAPPERS);
}

/* A tensor that the container itself describes: ancient tar files. */
static int named_tensor(pth_rows *w, uint32_t node, pth_tensor *r) {
  pth_tensors *t = w->t;
  uint32_t at = pth_store_find(t->store->named, pth_slice(w->g, pth_node_at(w->g, pth_node_at(w->g, node)->a)));
  if (at == PTH_NONE) return wrong(r, PTH_E_STORAGE_MISSING, 0, 0);
  const pth_named_tensor *n = &PTH_AT(pth_named_tensor, t->store->tensors, PTH_AT(pth_span, t->store->named->spans, at).off);
  if (n->n_dims > w->lim->max_ndim) return wrong(r, PTH_E_LIMIT_NDIM, n->n_dims, w->lim->max_ndim);
  r->offset = n->offset;
  if (n->n_dims) {
    const int64_t *dims = &PTH_AT(int64_t, t->store->dims, n->dims);
    int rc = keep_dims(t, r, dims, dims + n->n_dims, n->n_dims, w->err);
    if (rc) return -rc;
  }
  if (n->code) return wrong(r, n->code, 0, 0);
  if (n->span == PTH_NONE) { /* an empty one; it had no dimensions then */
    static const int64_t none[] = {0, 1};
    int rc = n->n_dims ? 0 : keep_dims(t, r, &none[0], &none[1], 1, w->err);
    return rc ? -rc : check_extent(r, dims_at(t, r, r->sizes), dims_at(t, r, r->strides), pth_dtypes[r->dtype].itemsize, 0);
  }
  const pth_span *span = &PTH_AT(pth_span, t->store->spans, n->span);
  r->dtype = span->dtype;
  if (span->code) return wrong(r, span->code, 0, span->len);
  uint32_t *row = &PTH_AT(uint32_t, w->span_row, n->span);
  if (*row == PTH_NONE) {
    pth_storage s = {.span = n->span, .key = PTH_NONE, .location = PTH_NONE, .dtype = span->dtype, .nbytes = span->len};
    int rc = new_storage(t, &s, row, w->err);
    if (rc) return rc;
  }
  r->storage = *row;
  return check_dense(w, r);
}

int pth_row_for(pth_rows *w, uint32_t node, uint32_t *row) {
  pth_tensors *t = w->t;
  *row = pth_row_of_node(t, node);
  if (*row != PTH_NONE) return 0;
  pth_tensor r = {.node = node,
                  .storage = PTH_NONE,
                  .part = PTH_NONE,
                  .cls = PTH_NONE,
                  .device = PTH_NONE,
                  .dtype = PTH_DT_UNTYPED,
                  .cast = PTH_DT_UNTYPED};
  int rc = core_failure(pth_node_at(w->g, node)->kind == PTH_NODE_PERSID ? named_tensor(w, node, &r) : rebuild(w, node, &r));
  if (rc) return rc;
  if (t->tensors.len >= PTH_STORAGE_ROW) return pth_fail(w->err, PTH_E_BUDGET, 0, t->tensors.len, PTH_STORAGE_ROW);
  if ((rc = pth_pool_room(t->arena, &t->tensors, w->err)) != 0) return rc;
  *row = t->tensors.len++;
  PTH_AT(pth_tensor, t->tensors, *row) = r;
  PTH_AT(uint32_t, t->by_node, node) = *row;
  return 0;
}

/* Tensors that no name leads to (parts of others, attributes of modules) get rows too, so that the whole graph can show them; and so
 * do storages that are saved by themselves. */
static int rest_of_graph(pth_rows *w) {
  const pth_graph *g = w->g;
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    const pth_node *n = pth_node_at(g, id);
    if ((n->kind != PTH_NODE_OBJECT && n->kind != PTH_NODE_PERSID) || PTH_AT(uint32_t, w->t->by_node, id) < PTH_DONE_FULL) continue;
    uint32_t row;
    pth_tensor r = {.storage = PTH_NONE};
    int rc = 0;
    if (pth_rebuilds_tensor(g, id))
      rc = pth_row_for(w, id, &row);
    else if (n->kind == PTH_NODE_PERSID || pth_is_meant(g, id, PTH_G_LOAD_FROM_BYTES))
      rc = core_failure(storage_of(w, id, &r));
    if (rc) return rc;
  }
  return 0;
}

/* What only the parts know: the dtype of a sparse or nested tensor, the shape of a nested one. */
static int finish_parts(pth_rows *w) {
  pth_tensors *t = w->t;
  const pth_graph *g = w->g;
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, i);
    if (r->code || (r->kind != PTH_T_SPARSE && r->kind != PTH_T_NESTED)) continue;
    bool script = r->kind == PTH_T_SPARSE && pth_n_items(g, r->part) > 4;
    uint32_t values, sizes = PTH_NONE;
    if (r->kind == PTH_T_SPARSE) {
      uint32_t at = r->layout == PTH_L_SPARSE_COO ? 1 : 2;
      values = pth_item(g, r->part, script ? at + 3 : at);
    } else if (r->layout == PTH_L_JAGGED) {
      values = keyword(g, r->part, "values");
    } else {
      values = pth_item(g, r->part, 0);
      sizes = pth_item(g, r->part, 1);
    }
    uint32_t row = pth_row_of_node(t, values);
    if (row == PTH_NONE || PTH_AT(pth_tensor, t->tensors, row).kind == PTH_T_SPARSE ||
        PTH_AT(pth_tensor, t->tensors, row).kind == PTH_T_NESTED) {
      wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
      continue;
    }
    r->dtype = PTH_AT(pth_tensor, t->tensors, row).dtype;
    /* These are made of their values anew, and so inherit what asks for gradients. */
    bool inherits = r->layout != PTH_L_JAGGED && !script;
    if (inherits && PTH_AT(pth_tensor, t->tensors, row).flags & PTH_F_GRAD) flag(r, PTH_F_GRAD, true);
    if (sizes == PTH_NONE) continue;
    uint32_t of = pth_row_of_node(t, sizes);
    const pth_tensor *s = of == PTH_NONE ? NULL : &PTH_AT(pth_tensor, t->tensors, of);
    if (s == NULL || s->n_dims != 2) {
      wrong(r, PTH_E_TENSOR_ARGS, 0, 0);
    } else {
      r->numel = PTH_AT(pth_tensor, t->tensors, row).numel;
    }
  }
  return 0;
}

int pth_tensors_init(pth_tensors *t, pth_arena *a, const pth_graph *g, const pth_store *s, pth_err *err) {
  (void)err;
  *t = (pth_tensors){.arena = a,
                     .graph = g,
                     .store = s,
                     .tensors = PTH_POOL(pth_tensor),
                     .storages = PTH_POOL(pth_storage),
                     .dims = PTH_POOL(int64_t),
                     .lists = PTH_POOL(list_slot),
                     .paths = PTH_POOL(pth_path),
                     .names = PTH_POOL(pth_name),
                     .by_node = PTH_POOL(uint32_t)};
  return 0;
}

void pth_tensors_free(pth_tensors *t) {
  pth_pool_free(t->arena, &t->tensors);
  pth_pool_free(t->arena, &t->storages);
  pth_pool_free(t->arena, &t->dims);
  pth_pool_free(t->arena, &t->lists);
  pth_pool_free(t->arena, &t->paths);
  pth_pool_free(t->arena, &t->names);
  pth_pool_free(t->arena, &t->by_node);
}

static int fill_pool(pth_rows *w, pth_pool *p, uint32_t n) {
  int rc = pth_pool_reserve(w->t->arena, p, n, w->err);
  if (rc) return rc;
  p->len = n;
  if (n) memset(p->data, 0xff, (size_t)n * p->item);
  return 0;
}

static int read_all(pth_rows *w) {
  uint32_t likely = w->t->store ? w->t->store->spans.len : 0;
  pth_pool_expect(w->t->arena, &w->t->tensors, likely);
  pth_pool_expect(w->t->arena, &w->t->storages, likely);
  pth_pool_expect(w->t->arena, &w->t->paths, likely);
  pth_pool_expect(w->t->arena, &w->t->names, likely);
  int rc = fill_pool(w, &w->t->by_node, w->g->nodes.len);
  if (rc == 0) rc = fill_pool(w, &w->span_row, likely);
  if (rc == 0) rc = pth_name_all(w);
  if (rc == 0) rc = rest_of_graph(w);
  return rc ? rc : finish_parts(w);
}

int pth_tensors_read(pth_tensors *t, const pth_graph *g, const pth_store *s, const pth_limits *lim, pth_err *err) {
  int rc = pth_tensors_init(t, g->arena, g, s, err);
  pth_rows w = {.t = t, .g = g, .lim = lim, .err = err, .span_row = PTH_POOL(uint32_t)};
  if (rc == 0) rc = read_all(&w);
  pth_pool_free(t->arena, &w.span_row);
  return rc;
}

int pth_tensors_add(pth_tensors *t, const pth_dense *d, const pth_limits *lim, uint32_t *row, pth_err *err) {
  int rc = 0;
  pth_tensor r = {.node = PTH_NONE,
                  .storage = PTH_NONE,
                  .part = PTH_NONE,
                  .cls = PTH_NONE,
                  .device = PTH_NONE,
                  .dtype = (uint8_t)d->dtype,
                  .cast = PTH_DT_UNTYPED,
                  .flags = d->requires_grad ? PTH_F_GRAD : 0,
                  .offset = d->offset};
  if (d->n_dims > lim->max_ndim) {
    wrong(&r, PTH_E_LIMIT_NDIM, d->n_dims, lim->max_ndim);
  } else {
    if ((rc = keep_dims(t, &r, d->sizes, d->strides, d->n_dims, err)) != 0) return rc;
    const pth_span *span = d->span == PTH_NONE ? NULL : &PTH_AT(pth_span, t->store->spans, d->span);
    pth_storage s = {.span = d->span, .key = PTH_NONE, .location = PTH_NONE, .dtype = (uint8_t)d->dtype};
    if (span != NULL) s.nbytes = span->len;
    s.code = span != NULL ? span->code : PTH_E_STORAGE_MISSING;
    for (uint32_t i = t->storages.len; i-- > 0 && r.storage == PTH_NONE && d->span != PTH_NONE;) {
      if (PTH_AT(pth_storage, t->storages, i).span == d->span) r.storage = i;
      if (t->storages.len - i > 64) break; /* tensors that share lie near each other in such files */
    }
    if (r.storage == PTH_NONE && (rc = new_storage(t, &s, &r.storage, err)) != 0) return -rc;
    const pth_dtype *type = &pth_dtypes[d->dtype];
    if (s.code)
      wrong(&r, s.code, 0, 0);
    else
      check_extent(&r, d->sizes, d->strides, type->itemsize, capacity(type, s.nbytes));
  }
  if ((rc = pth_pool_room(t->arena, &t->tensors, err)) != 0) return rc;
  *row = t->tensors.len++;
  PTH_AT(pth_tensor, t->tensors, *row) = r;
  return 0;
}
