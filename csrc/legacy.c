#include "legacy.h"

#include "pickle.h"

/* 0x1950a86a20f9469cfc6c, as LONG1 holds it, and as protocols 0 and 1 write it. */
static const uint8_t MAGIC[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
static const char MAGIC_TEXT[] = "119547037146038801333356";
enum { VERSION = 1001 };

static int read_pickle(pth_legacy *l, int i, pth_arena *a, pth_bytes in, const pth_limits *lim, pth_err *err) {
  pth_graph *g = &l->pickles[i];
  l->at[i] = l->end;
  l->n_read = i + 1;
  pth_graph_init(g, a);
  int rc = pth_pickle_run(g, (pth_bytes){in.len > l->end ? in.data + l->end : NULL, in.len - l->end}, lim, err);
  if (rc) {
    if (err != NULL) err->off += l->end;
    return rc;
  }
  l->end += g->end;
  return 0;
}

static int check_magic(const pth_graph *g, pth_err *err) {
  const pth_node *n = pth_node_at(g, g->root);
  pth_bytes wanted = {MAGIC, sizeof MAGIC};
  if (n->kind == PTH_NODE_INTTEXT) wanted = (pth_bytes){(const uint8_t *)MAGIC_TEXT, sizeof MAGIC_TEXT - 1};
  if ((n->kind == PTH_NODE_BIGINT || n->kind == PTH_NODE_INTTEXT) && pth_bytes_equal(pth_slice(g, n), wanted)) return 0;
  return pth_fail(err, PTH_E_LEGACY_MAGIC, 0, 0, 0);
}

int pth_legacy_read(pth_legacy *l, pth_arena *a, pth_bytes in, const pth_limits *lim, pth_err *err) {
  l->end = 0;
  l->n_read = 0;
  int rc = 0;
  for (int i = 0; i < PTH_N_LEGACY && !rc; i++) {
    rc = read_pickle(l, i, a, in, lim, err);
    int64_t version = 0;
    if (rc == 0 && i == PTH_LEGACY_MAGIC) rc = check_magic(&l->pickles[i], err);
    if (rc == 0 && i == PTH_LEGACY_VERSION && (!pth_as_i64(&l->pickles[i], l->pickles[i].root, &version) || version != VERSION))
      rc = pth_fail(err, PTH_E_LEGACY_VERSION, l->at[i], (uint64_t)version, VERSION);
  }
  return rc;
}

void pth_legacy_free(pth_legacy *l) {
  for (int i = 0; i < l->n_read; i++) pth_graph_free(&l->pickles[i]);
  l->n_read = 0;
}

/* The size that a persistent id ('storage', class, key, location, numel[, view]) gives its storage. */
static bool size_of_pid(const pth_graph *g, uint32_t pid, uint8_t *dtype, uint64_t *nbytes) {
  int64_t numel;
  return pth_node_at(g, pid)->kind == PTH_NODE_TUPLE && pth_text_is(g, pth_item(g, pid, 0), "storage") &&
         pth_meaning_of_node(g, pth_item(g, pid, 1), dtype) == PTH_G_STORAGE && pth_as_i64(g, pth_item(g, pid, 4), &numel) && numel >= 0 &&
         pth_mul((uint64_t)numel, pth_dtypes[*dtype].itemsize, nbytes);
}

static int add_keys(const pth_legacy *l, pth_store *out, pth_err *err) {
  const pth_graph *keys = &l->pickles[PTH_LEGACY_KEYS];
  if (pth_node_at(keys, keys->root)->kind != PTH_NODE_LIST) return pth_fail(err, PTH_E_LEGACY_KEYS, l->at[PTH_LEGACY_KEYS], 0, 0);
  pth_items it = pth_items_of(keys, keys->root);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    const pth_node *n = pth_node_at(keys, kid);
    if (!pth_is_text(n)) return pth_fail(err, PTH_E_LEGACY_KEYS, l->at[PTH_LEGACY_KEYS], 0, 0);
    pth_span span = {.key = pth_slice(keys, n), .member = PTH_NONE, .dtype = PTH_N_DTYPES};
    int rc = pth_store_add(out, &span, err);
    if (rc) return rc;
    if (PTH_AT(pth_span, out->spans, out->spans.len - 1).code) return pth_fail(err, PTH_E_LEGACY_KEYS, l->at[PTH_LEGACY_KEYS], 0, 0);
  }
  return 0;
}

/* The first persistent id of a key says how long its storage is, as in torch. */
static void size_keys(const pth_graph *g, pth_store *out) {
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    const pth_node *n = pth_node_at(g, id);
    uint8_t dtype = 0;
    uint64_t nbytes;
    if (n->kind != PTH_NODE_PERSID || !size_of_pid(g, n->a, &dtype, &nbytes)) continue;
    const pth_node *key = pth_node_at(g, pth_item(g, n->a, 2));
    uint32_t span = pth_is_text(key) ? pth_store_find(out, pth_slice(g, key)) : PTH_NONE;
    if (span == PTH_NONE || PTH_AT(pth_span, out->spans, span).dtype != PTH_N_DTYPES) continue;
    PTH_AT(pth_span, out->spans, span).dtype = dtype;
    PTH_AT(pth_span, out->spans, span).len = nbytes;
  }
}

int pth_legacy_store(const pth_legacy *l, uint64_t total_len, pth_store *out, uint64_t *end, pth_err *err) {
  const pth_graph *g = &l->pickles[PTH_LEGACY_OBJECT], *keys = &l->pickles[PTH_LEGACY_KEYS];
  int rc = pth_store_init(out, g->arena, pth_n_items(keys, keys->root), err);
  if (rc == 0) rc = add_keys(l, out, err);
  if (rc) return rc;
  out->fixed_little = true;
  size_keys(g, out);
  uint64_t at = l->end;
  for (uint32_t i = 0; i < out->spans.len; i++) {
    pth_span *s = &PTH_AT(pth_span, out->spans, i);
    if (s->dtype == PTH_N_DTYPES) return pth_fail(err, PTH_E_LEGACY_UNUSED, at, i, out->spans.len);
    if (!pth_add(at, 8, &s->off) || !pth_add(s->off, s->len, &at) || at > total_len)
      return pth_fail(err, PTH_E_LEGACY_EXTENT, s->off, at, total_len);
  }
  *end = at;
  return 0;
}

int pth_legacy_check(const pth_store *s, pth_bytes window, uint64_t window_off, uint32_t *next, pth_err *err) {
  for (; *next < s->spans.len; ++*next) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, *next);
    if (span->code) continue;
    uint64_t at = span->off - 8;
    if (at < window_off || at - window_off > window.len || window.len - (at - window_off) < 8) return 0;
    uint64_t have = pth_u64(window.data + (at - window_off)), want = span->len / pth_dtypes[span->dtype].itemsize;
    if (have != want) return pth_fail(err, PTH_E_LEGACY_NUMEL, at, want, have);
  }
  return 0;
}

/* Devices that torch names, and that others have renamed theirs to. */
bool pth_is_device(pth_bytes b) {
  static const char *const TYPES[] = {"cpu",    "cuda", "hip", "xpu", "mps", "xla",  "hpu",  "mtia", "ipu",
                                      "vulkan", "npu",  "mlu", "gcu", "dml", "sdaa", "musa", "maia", "privateuseone"};
  uint64_t n = 0;
  while (n < b.len && b.data[n] != ':') n++;
  for (uint64_t i = n + 1; i < b.len; i++) {
    if (b.data[i] < '0' || b.data[i] > '9' || b.len - n > 4) return false;
  }
  for (uint32_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
    if (n + 1 != b.len && pth_bytes_equal((pth_bytes){b.data, n}, pth_text(TYPES[i]))) return true;
  }
  return false;
}

static bool same_key(const pth_graph *g, uint32_t id, const pth_graph *keys, uint32_t key) {
  return pth_is_text(pth_node_at(g, id)) && pth_is_text(pth_node_at(keys, key)) &&
         pth_bytes_equal(pth_slice(g, pth_node_at(g, id)), pth_slice(keys, pth_node_at(keys, key)));
}

/* Does it name storage classes alone, and do its pickles call nothing? */
static bool names_storages_alone(const pth_legacy *l) {
  for (int i = 0; i < l->n_read; i++) {
    const pth_graph *g = &l->pickles[i];
    for (uint32_t row = 0; row < g->globals.len; row++) {
      if (PTH_AT(pth_global, g->globals, row).meaning != PTH_G_STORAGE) return false;
    }
    for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
      if (pth_node_at(g, id)->kind == PTH_NODE_OBJECT) return false;
    }
    if (g->frame_straddled || g->late_proto || g->far_memo) return false;
  }
  return true;
}

/* (..., device, numel, view): is it of a device, and no view? */
static bool is_written(const pth_graph *g, uint32_t pid) {
  uint32_t device = pth_item(g, pid, 3);
  return pth_n_items(g, pid) == 6 && pth_is_text(pth_node_at(g, device)) && pth_is_device(pth_slice(g, pth_node_at(g, device))) &&
         pth_node_at(g, pth_item(g, pid, 4))->kind == PTH_NODE_INT && pth_item(g, pid, 5) == PTH_NODE_NONE;
}

int pth_legacy_nested(pth_bytes in, pth_arena *a, const pth_limits *lim, pth_nested *out) {
  pth_legacy l;
  pth_err err = {0};
  *out = (pth_nested){0};
  int rc = pth_legacy_read(&l, a, in, lim, &err);
  if (rc == 0) {
    const pth_graph *g = &l.pickles[PTH_LEGACY_OBJECT], *keys = &l.pickles[PTH_LEGACY_KEYS];
    const pth_node *root = pth_node_at(g, g->root);
    uint64_t header_end, end;
    rc = PTH_E_STORAGE_NESTED;
    if (root->kind == PTH_NODE_PERSID && size_of_pid(g, root->a, &out->dtype, &out->nbytes) && pth_n_items(keys, keys->root) == 1 &&
        same_key(g, pth_item(g, root->a, 2), keys, pth_item(keys, keys->root, 0)) && pth_add(l.end, 8, &header_end) &&
        pth_add(header_end, out->nbytes, &end) && end <= in.len &&
        pth_u64(in.data + l.end) == out->nbytes / pth_dtypes[out->dtype].itemsize) {
      out->off = header_end;
      out->plain = end == in.len && names_storages_alone(&l) && is_written(g, root->a);
      rc = 0;
    }
  }
  pth_legacy_free(&l);
  return rc;
}
