#include "tar.h"

#include "graph.h"
#include "pickle.h"

typedef struct row { /* a storage, or a view of one */
  int64_t key, root; /* root -1: it is no view */
  uint64_t off, len; /* of a view: in elements, off from the start of the root */
  uint8_t dtype;
} row;

typedef struct tensor_row {
  int64_t key, storage; /* storage -1: none */
  uint32_t n_dims, dims;
  int64_t offset;
} tensor_row;

enum { KEY_SIZE = 20 }; /* digits of a key */

/* ---- headers ---- */

static bool is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* A number as Python's tarfile takes one, to the letter: int(text, 8), or big endian behind a byte of 0x80. */
static bool octal(const uint8_t *p, uint32_t n, uint64_t *value) {
  uint64_t v = 0;
  uint32_t i = 0, end = 0;
  if (p[0] == 0x80) {
    for (i = 1; i < n && !(v >> 55); i++) v = v << 8 | p[i];
    *value = v;
    return i == n;
  }
  while (end < n && p[end]) end++;
  while (end && is_blank(p[end - 1])) end--;
  while (i < end && is_blank(p[i])) i++;
  if (i < end && p[i] == '+') i++;
  if (end - i > 2 && p[i] == '0' && (p[i + 1] | 0x20) == 'o') i += 2;
  for (; i < end; i++) {
    if (p[i] == '_') continue;
    if (p[i] < '0' || p[i] > '7' || v >> 60) return false;
    v = v << 3 | (p[i] - (uint32_t)'0');
  }
  *value = v;
  return true;
}

int pth_tar_header(pth_bytes block, pth_tar_entry *out, bool *used, pth_err *err) {
  *out = (pth_tar_entry){0};
  *used = false;
  if (block.len < PTH_TAR_BLOCK) return pth_fail(err, PTH_E_TAR_HEADER, 0, PTH_TAR_BLOCK, block.len);
  uint64_t sum = 0, high = 0, said;
  for (uint32_t i = 0; i < PTH_TAR_BLOCK; i++) {
    sum += i >= 148 && i < 156 ? ' ' : block.data[i];
    high += (i < 148 || i >= 156) && block.data[i] >= 0x80;
    *used = *used || block.data[i] != 0;
  }
  if (!*used) return 0;
  /* Of unsigned bytes, or of signed ones as some tars took them. */
  if (!octal(block.data + 148, 8, &said) || (said != sum && said != sum - high * 256) || !octal(block.data + 124, 12, &out->size))
    return pth_fail(err, PTH_E_TAR_HEADER, 0, sum, 0);
  while (out->name_len < 100 && block.data[out->name_len]) out->name_len++;
  out->type = block.data[156];
  return 0;
}

/* ---- records ---- */

void pth_tar_init(pth_tar *t, pth_arena *a) {
  *t = (pth_tar){.arena = a, .rows = PTH_POOL(row), .tensors = PTH_POOL(tensor_row), .text = PTH_POOL(uint8_t)};
  t->store.arena = t->named.arena = a;
  t->store.dims = PTH_POOL(int64_t);
}

void pth_tar_free(pth_tar *t) {
  pth_pool_free(t->arena, &t->rows);
  pth_pool_free(t->arena, &t->tensors);
  pth_pool_free(t->arena, &t->text);
  pth_store_free(&t->store);
  pth_store_free(&t->named);
}

int pth_tar_count(pth_tar *t, pth_bytes in, const pth_limits *lim, uint64_t *n, uint64_t *used, pth_err *err) {
  pth_graph g;
  int64_t v = -1;
  pth_graph_init(&g, t->arena);
  int rc = pth_pickle_run(&g, in, lim, err);
  if (rc == 0 && (!pth_as_i64(&g, g.root, &v) || v < 0)) rc = pth_fail(err, PTH_E_TAR_STORAGE, 0, 0, 0);
  *n = (uint64_t)v;
  *used = g.end;
  pth_graph_free(&g);
  return rc;
}

/* One (pickle, fixed part): the pickle must be a tuple of at least `n` items. */
static int open_record(pth_tar *t, pth_graph *g, pth_bytes in, uint32_t n, int code, const pth_limits *lim, pth_err *err) {
  pth_graph_init(g, t->arena);
  int rc = pth_pickle_run(g, in, lim, err);
  if (rc == 0 && (pth_node_at(g, g->root)->kind != PTH_NODE_TUPLE || pth_n_items(g, g->root) < n)) rc = pth_fail(err, code, 0, 0, 0);
  return rc;
}

static int push_row(pth_tar *t, row r, pth_err *err) {
  int rc = pth_pool_room(t->arena, &t->rows, err);
  if (rc == 0) PTH_AT(row, t->rows, t->rows.len++) = r;
  return rc;
}

static int read_storage(pth_tar *t, const pth_graph *g, pth_bytes window, uint64_t window_off, uint64_t member_end, uint64_t *next,
                        pth_err *err) {
  row r = {.root = -1};
  uint8_t dtype = 0;
  pth_cursor c = pth_cursor_of(window);
  (void)pth_take(&c, g->end);
  const uint8_t *p = pth_take(&c, 8);
  if (!pth_as_i64(g, pth_item(g, g->root, 0), &r.key) || r.key < 0 ||
      pth_meaning_of_node(g, pth_item(g, g->root, 2), &dtype) != PTH_G_STORAGE)
    return pth_fail(err, PTH_E_TAR_STORAGE, window_off, 0, 0);
  if (p == NULL) return pth_fail(err, PTH_E_PICKLE_TRUNCATED, window_off, 8, pth_left(&c));
  r.dtype = dtype;
  r.off = window_off + c.pos;
  if (!pth_mul(pth_u64(p), pth_dtypes[dtype].itemsize, &r.len) || !pth_add(r.off, r.len, next) || *next > member_end)
    return pth_fail(err, PTH_E_TAR_EXTENT, window_off, *next, member_end);
  return push_row(t, r, err);
}

int pth_tar_storage(pth_tar *t, pth_bytes window, uint64_t window_off, uint64_t member_end, const pth_limits *lim, uint64_t *next,
                    pth_err *err) {
  pth_graph g;
  int rc = open_record(t, &g, window, 3, PTH_E_TAR_STORAGE, lim, err);
  if (rc == 0)
    rc = read_storage(t, &g, window, window_off, member_end, next, err);
  else if (err != NULL)
    err->off += window_off;
  pth_graph_free(&g);
  return rc;
}

static int read_views(pth_tar *t, const pth_graph *g, pth_err *err) {
  if (pth_node_at(g, g->root)->kind != PTH_NODE_LIST) return pth_fail(err, PTH_E_TAR_STORAGE, 0, 0, 0);
  pth_items it = pth_items_of(g, g->root);
  for (uint32_t view; pth_items_next(&it, &view);) {
    int64_t v[4];
    for (uint32_t i = 0; i < 4; i++) {
      if (!pth_as_i64(g, pth_item(g, view, i), &v[i]) || v[i] < 0) return pth_fail(err, PTH_E_TAR_STORAGE, 0, 0, 0);
    }
    int rc = push_row(t, (row){.key = v[0], .root = v[1], .off = (uint64_t)v[2], .len = (uint64_t)v[3]}, err);
    if (rc) return rc;
  }
  return 0;
}

int pth_tar_views(pth_tar *t, pth_bytes in, const pth_limits *lim, pth_err *err) {
  pth_graph g;
  pth_graph_init(&g, t->arena);
  int rc = pth_pickle_run(&g, in, lim, err);
  if (rc == 0) rc = read_views(t, &g, err);
  pth_graph_free(&g);
  return rc;
}

static int read_tensor(pth_tar *t, const pth_graph *g, pth_cursor *c, const pth_limits *lim, pth_err *err) {
  tensor_row r = {.storage = -1, .dims = t->store.dims.len};
  uint32_t storage = pth_item(g, g->root, 1);
  const uint8_t *head = pth_take(c, 8);
  if (head == NULL || !pth_as_i64(g, pth_item(g, g->root, 0), &r.key) || r.key < 0 ||
      (pth_node_at(g, storage)->kind != PTH_NODE_NONE && !pth_as_i64(g, storage, &r.storage)))
    return pth_fail(err, PTH_E_TAR_TENSOR, c->pos, 0, 0);
  r.n_dims = pth_u32(head);
  if (r.n_dims > lim->max_ndim) return pth_fail(err, PTH_E_LIMIT_NDIM, c->pos, r.n_dims, lim->max_ndim);
  const uint8_t *p = pth_take(c, (uint64_t)r.n_dims * 16 + 8);
  if (p == NULL) return pth_fail(err, PTH_E_TAR_TENSOR, c->pos, (uint64_t)r.n_dims * 16 + 8, pth_left(c));
  int rc = pth_pool_reserve(t->arena, &t->store.dims, (uint64_t)r.n_dims * 2, err);
  if (rc == 0) rc = pth_pool_room(t->arena, &t->tensors, err);
  if (rc) return rc;
  for (uint32_t i = 0; i < r.n_dims * 2; i++) PTH_AT(int64_t, t->store.dims, t->store.dims.len++) = pth_i64_of(pth_u64(p + 8 * i));
  r.offset = pth_i64_of(pth_u64(p + 16 * (uint64_t)r.n_dims));
  PTH_AT(tensor_row, t->tensors, t->tensors.len++) = r;
  return 0;
}

int pth_tar_tensors(pth_tar *t, pth_bytes member, const pth_limits *lim, pth_err *err) {
  uint64_t n, used;
  int rc = pth_tar_count(t, member, lim, &n, &used, err);
  pth_cursor c = pth_cursor_of(member);
  if (rc == 0) (void)pth_take(&c, used);
  for (uint64_t i = 0; i < n && !rc; i++) {
    pth_graph g;
    rc = open_record(t, &g, (pth_bytes){pth_left(&c) ? c.data + c.pos : NULL, pth_left(&c)}, 2, PTH_E_TAR_TENSOR, lim, err);
    if (rc == 0) {
      (void)pth_take(&c, g.end);
      rc = read_tensor(t, &g, &c, lim, err);
    } else if (err != NULL) {
      err->off += c.pos;
    }
    pth_graph_free(&g);
  }
  return rc;
}

/* ---- the store ---- */

static pth_bytes write_key(pth_tar *t, int64_t key) {
  uint8_t digits[KEY_SIZE];
  uint32_t n = 0;
  do digits[KEY_SIZE - ++n] = (uint8_t)('0' + key % 10);
  while ((key /= 10) != 0);
  uint8_t *out = &PTH_AT(uint8_t, t->text, t->text.len);
  memcpy(out, digits + KEY_SIZE - n, n);
  t->text.len += n;
  return (pth_bytes){out, n};
}

/* Where a view lies. One of something unknown, or of more than there is, cannot be read: the span says so. */
static void place_view(pth_tar *t, const row *r, pth_span *span) {
  uint32_t found = pth_store_find(&t->store, write_key(t, r->root));
  span->code = PTH_E_STORAGE_MISSING;
  if (found == PTH_NONE) return;
  const pth_span *root = &PTH_AT(pth_span, t->store.spans, found);
  uint64_t from = 0, len = 0, end = 0, itemsize = pth_dtypes[root->dtype].itemsize;
  span->dtype = root->dtype;
  span->code = PTH_E_TENSOR_BOUNDS;
  if (!pth_mul(r->off, itemsize, &from) || !pth_mul(r->len, itemsize, &len) || !pth_add(from, len, &end) || end > root->len) return;
  span->off = root->off + from;
  span->len = len;
  span->code = root->code;
}

static int add_storages(pth_tar *t, pth_err *err) {
  int rc = 0;
  for (uint32_t i = 0; i < t->rows.len && !rc; i++) {
    row r = PTH_AT(row, t->rows, i);
    pth_span span = {.key = write_key(t, r.key), .member = PTH_NONE};
    if (r.root < 0) {
      span.off = r.off;
      span.len = r.len;
      span.dtype = r.dtype;
    } else {
      place_view(t, &r, &span);
    }
    rc = pth_store_add(&t->store, &span, err);
  }
  return rc;
}

static int add_tensors(pth_tar *t, pth_err *err) {
  int rc = pth_pool_reserve(t->arena, &t->store.tensors, t->tensors.len, err);
  for (uint32_t i = 0; i < t->tensors.len && !rc; i++) {
    tensor_row r = PTH_AT(tensor_row, t->tensors, i);
    pth_named_tensor n = {.span = PTH_NONE, .n_dims = r.n_dims, .dims = r.dims, .offset = r.offset};
    if (r.storage >= 0) {
      n.span = pth_store_find(&t->store, write_key(t, r.storage));
      if (n.span == PTH_NONE) n.code = PTH_E_STORAGE_MISSING;
    }
    PTH_AT(pth_named_tensor, t->store.tensors, t->store.tensors.len++) = n;
    pth_span named = {.key = write_key(t, r.key), .off = i, .member = PTH_NONE};
    rc = pth_store_add(&t->named, &named, err);
  }
  return rc;
}

int pth_tar_finish(pth_tar *t, pth_err *err) {
  pth_pool dims = t->store.dims;
  t->store.dims = PTH_POOL(int64_t);
  int rc = pth_store_init(&t->store, t->arena, t->rows.len, err);
  t->store.dims = dims;
  t->store.fixed_little = true;
  if (rc == 0) rc = pth_store_init(&t->named, t->arena, t->tensors.len, err);
  /* Keys are borrowed by the stores: their pool may not move once it is used. */
  if (rc == 0) rc = pth_pool_reserve(t->arena, &t->text, 2 * ((uint64_t)t->rows.len + t->tensors.len) * KEY_SIZE, err);
  if (rc == 0) rc = add_storages(t, err);
  if (rc == 0) rc = add_tensors(t, err);
  t->store.named = &t->named;
  return rc;
}
