#include "graph.h"

#include "hash.h"

const pth_dtype pth_dtypes[PTH_N_DTYPES] = {
#define X(ID, name, storage, itemsize, packing, swap, numpy, ml) {name, storage, numpy, itemsize, packing, swap, ml},
#include "defs/dtypes.def"
#undef X
};

enum { MAX_TAGS = 16 };

typedef struct known_global {
  const char *module, *name;
  enum pth_meaning meaning;
} known_global;

static const known_global KNOWN[] = {
#define X(module, name, MEANING) {module, name, PTH_G_##MEANING},
#include "defs/globals.def"
#undef X
};
#define N_KNOWN (sizeof KNOWN / sizeof KNOWN[0])

void pth_graph_init(pth_graph *g, pth_arena *a) {
  *g = (pth_graph){.arena = a,
                   .nodes = PTH_POOL(pth_node),
                   .kids = PTH_POOL(uint32_t),
                   .chunks = PTH_POOL(pth_chunk),
                   .exts = PTH_POOL(pth_ext),
                   .globals = PTH_POOL(pth_global),
                   .text = PTH_POOL(uint8_t),
                   .root = PTH_NONE};
}

void pth_graph_free(pth_graph *g) {
  pth_pool_free(g->arena, &g->nodes);
  pth_pool_free(g->arena, &g->kids);
  pth_pool_free(g->arena, &g->chunks);
  pth_pool_free(g->arena, &g->exts);
  pth_pool_free(g->arena, &g->globals);
  pth_pool_free(g->arena, &g->text);
}

pth_bytes pth_global_module(const pth_graph *g, const pth_global *row) {
  if (row->flags & PTH_COMPUTED) return pth_text(PTH_COMPUTED_TEXT);
  const uint8_t *base = row->flags & PTH_IN_TEXT ? (const uint8_t *)g->text.data : g->in.data;
  return (pth_bytes){row->module_len ? base + row->module_off : NULL, row->module_len};
}

pth_bytes pth_global_name(const pth_graph *g, const pth_global *row) {
  if (row->flags & PTH_COMPUTED << 1) return pth_text(PTH_COMPUTED_TEXT);
  const uint8_t *base = row->flags & PTH_IN_TEXT << 1 ? (const uint8_t *)g->text.data : g->in.data;
  return (pth_bytes){row->name_len ? base + row->name_off : NULL, row->name_len};
}

uint64_t pth_utf8_valid(const uint8_t *p, uint64_t len) {
  uint64_t i = 0;
  while (i < len) {
    if (i + 8 <= len && (pth_u64(p + i) & UINT64_C(0x8080808080808080)) == 0) {
      i += 8;
      continue;
    }
    uint8_t c = p[i];
    if (c < 0x80) {
      i++;
      continue;
    }
    uint32_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || more >= len - i) return i;
    for (uint32_t k = 1; k <= more; k++) {
      if ((p[i + k] & 0xc0) != 0x80) return i;
    }
    if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f)) return i;
    i += more + 1;
  }
  return len;
}

uint64_t pth_utf8_strict(pth_bytes b) {
  uint64_t good = pth_utf8_valid(b.data, b.len);
  for (uint64_t i = 0; i + 1 < good; i++) {
    const uint8_t *lead = memchr(b.data + i, 0xed, (size_t)(good - i));
    if (lead == NULL) break;
    i = (uint64_t)(lead - b.data);
    if (i + 1 < good && b.data[i + 1] >= 0xa0) return i;
  }
  return good;
}

/* ---- globals ---- */

static int compare(pth_bytes a, const char *s) {
  pth_bytes b = pth_text(s);
  size_t n = (size_t)(a.len < b.len ? a.len : b.len);
  int c = n ? memcmp(a.data, b.data, n) : 0;
  return c ? c : (a.len > b.len) - (a.len < b.len);
}

static bool starts_with(pth_bytes a, const char *s) {
  size_t n = strlen(s);
  return a.len >= n && memcmp(a.data, s, n) == 0;
}

/* Storage classes, dtypes and the old tensor classes: families by dtypes.def, so that no row has to repeat them. */
static enum pth_meaning family_of(pth_bytes module, pth_bytes name, uint8_t *dtype) {
  bool torch = compare(module, "torch") == 0;
  bool untyped = compare(module, "torch.storage") == 0; /* the only one there */
  if (!torch && !untyped && compare(module, "torch.cuda") != 0) return PTH_G_UNKNOWN;
  if (compare(name, "_UntypedStorage") == 0) {
    *dtype = PTH_DT_UNTYPED;
    return PTH_G_STORAGE;
  }
  for (uint8_t i = untyped ? PTH_DT_UNTYPED : 0; i < PTH_N_DTYPES; i++) {
    const char *storage = pth_dtypes[i].storage;
    *dtype = i;
    if (torch && i != PTH_DT_UNTYPED && compare(name, pth_dtypes[i].name) == 0) return PTH_G_DTYPE;
    if (compare(name, storage) == 0) return PTH_G_STORAGE;
    size_t stem = strlen(storage) - strlen("Storage");
    if (i != PTH_DT_UNTYPED && name.len == stem + 6 && memcmp(name.data, storage, stem) == 0 && memcmp(name.data + stem, "Tensor", 6) == 0)
      return PTH_G_TENSOR_CLASS;
  }
  *dtype = 0;
  return PTH_G_UNKNOWN;
}

enum pth_meaning pth_meaning_of(pth_bytes module, pth_bytes name, uint8_t *dtype) {
  *dtype = 0;
  size_t low = 0, high = N_KNOWN;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    int c = compare(module, KNOWN[mid].module);
    if (c == 0) c = compare(name, KNOWN[mid].name);
    if (c == 0) return KNOWN[mid].meaning;
    if (c < 0)
      high = mid;
    else
      low = mid + 1;
  }
  if (compare(module, "__torch__") == 0 || starts_with(module, "__torch__.")) return PTH_G_SCRIPT;
  return family_of(module, name, dtype);
}

/* ---- items ---- */

pth_items pth_items_of_list(const pth_graph *g, pth_list list) { return (pth_items){.g = g, .next_chunk = list.n ? list.head : 0}; }

uint32_t pth_item_of_chain(const pth_graph *g, uint32_t id, uint32_t index) {
  if (index >= pth_n_items(g, id) || pth_node_at(g, id)->kind == PTH_NODE_DICT) return PTH_NONE;
  pth_items it = pth_items_of(g, id);
  uint32_t kid = PTH_NONE;
  for (uint32_t i = 0; i <= index && pth_items_next(&it, &kid); i++) {
  }
  return kid;
}

uint32_t pth_last_state(const pth_graph *g, uint32_t object) {
  const pth_ext *ext = pth_ext_of(g, pth_node_at(g, object));
  if (ext == NULL || ext->states.n == 0) return PTH_NONE;
  const pth_chunk *last = &PTH_AT(pth_chunk, g->chunks, ext->states.tail);
  return PTH_AT(uint32_t, g->kids, last->at + last->n - 1);
}

uint32_t pth_unwrap(const pth_graph *g, uint32_t id) {
  for (int i = 0; i < MAX_TAGS && id != PTH_NONE && pth_is_meant(g, id, PTH_G_UNWRAP); i++)
    id = pth_item(g, pth_args_of(pth_node_at(g, id)), 0);
  return id;
}

/* ---- pairs ---- */

bool pth_pairs_of(const pth_graph *g, uint32_t id, pth_pairs *out) {
  if (id == PTH_NONE) return false;
  const pth_node *n = pth_node_at(g, id);
  *out = (pth_pairs){.it = {.g = g}, .later = {.g = g}};
  if (n->kind == PTH_NODE_DICT) {
    out->it = pth_items_of(g, id);
    out->n = pth_n_items(g, id) / 2;
    return true;
  }
  if (n->kind != PTH_NODE_OBJECT) return false;
  enum pth_meaning m = pth_meaning_of_node(g, n->a, NULL);
  if (m != PTH_G_ORDERED_DICT && m != PTH_G_DEFAULT_DICT && m != PTH_G_COUNTER && m != PTH_G_DICT) return false;
  const pth_ext *ext = pth_ext_of(g, n);
  if (ext != NULL) {
    out->later = pth_items_of_list(g, ext->pairs);
    out->n = ext->pairs.n / 2;
  }
  uint32_t made_from = pth_item(g, pth_args_of(n), m == PTH_G_DEFAULT_DICT ? 1 : 0);
  if (made_from == PTH_NONE) return true;
  uint8_t kind = pth_node_at(g, made_from)->kind;
  out->from_list = kind == PTH_NODE_LIST || kind == PTH_NODE_TUPLE;
  if (out->from_list || kind == PTH_NODE_DICT) {
    out->it = pth_items_of(g, made_from);
    uint64_t both = (uint64_t)out->n + pth_n_items(g, made_from) / (out->from_list ? 1 : 2);
    out->n = both < UINT32_MAX ? (uint32_t)both : UINT32_MAX;
  }
  return true;
}

uint32_t pth_n_pairs(const pth_graph *g, uint32_t id) {
  pth_pairs p;
  return pth_pairs_of(g, id, &p) ? p.n : 0;
}

bool pth_pairs_next(pth_pairs *it, uint32_t *key, uint32_t *value) {
  if (it->from_list) {
    for (uint32_t pair; pth_items_next(&it->it, &pair);) {
      *key = pth_item(it->it.g, pair, 0);
      *value = pth_item(it->it.g, pair, 1);
      if (pth_n_items(it->it.g, pair) == 2 && *key != PTH_NONE && *value != PTH_NONE) return true;
    }
  } else if (pth_items_next(&it->it, key)) {
    return pth_items_next(&it->it, value);
  }
  return pth_items_next(&it->later, key) && pth_items_next(&it->later, value);
}

uint32_t pth_lookup(const pth_graph *g, uint32_t mapping, const char *key) {
  pth_pairs it;
  uint32_t found = PTH_NONE;
  if (!pth_pairs_of(g, mapping, &it)) return PTH_NONE;
  for (uint32_t k, v; pth_pairs_next(&it, &k, &v);) {
    if (pth_text_is(g, k, key)) found = v;
  }
  return found;
}

uint32_t pth_attribute(const pth_graph *g, uint32_t object, const char *key) {
  if (object == PTH_NONE || pth_node_at(g, object)->kind != PTH_NODE_OBJECT) return PTH_NONE;
  const pth_node *n = pth_node_at(g, object);
  const pth_ext *ext = pth_ext_of(g, n);
  /* A module that torch.fx traced is called back to life with the dict of its attributes. */
  uint32_t found = pth_meaning_of_node(g, n->a, NULL) == PTH_G_GRAPH_MODULE ? pth_lookup(g, pth_item(g, pth_args_of(n), 0), key) : PTH_NONE;
  if (ext == NULL) return found;
  pth_items states = pth_items_of_list(g, ext->states);
  for (uint32_t state; pth_items_next(&states, &state);) {
    uint32_t v = pth_lookup(g, state, key);
    if (v == PTH_NONE && pth_node_at(g, state)->kind == PTH_NODE_TUPLE && pth_n_items(g, state) == 2) {
      v = pth_lookup(g, pth_item(g, state, 1), key);
      if (v == PTH_NONE) v = pth_lookup(g, pth_item(g, state, 0), key);
    }
    if (v != PTH_NONE) found = v;
  }
  return found;
}

/* What two keys are compared by. One long text may be the key of any number of pairs: such go by identity. */
typedef struct key_value {
  enum { KEY_SELF, KEY_TEXT, KEY_BYTES, KEY_LONG, KEY_INTEGER, KEY_REAL } kind;
  pth_bytes bytes;
  uint64_t bits;
} key_value;

/* A float that is a whole number equals that int; what is no number equals nothing. */
static key_value key_of_float(uint32_t id, uint64_t bits) {
  double d;
  memcpy(&d, &bits, sizeof d);
  if (d >= -9007199254740992.0 && d <= 9007199254740992.0 && d == (double)(int64_t)d)
    return (key_value){.kind = KEY_INTEGER, .bits = (uint64_t)(int64_t)d};
  return d == d ? (key_value){.kind = KEY_REAL, .bits = bits} : (key_value){.kind = KEY_SELF, .bits = id};
}

static key_value key_of(const pth_graph *g, uint32_t id) {
  const pth_node *n = pth_node_at(g, id);
  int64_t v;
  if (pth_as_i64(g, id, &v)) return (key_value){.kind = KEY_INTEGER, .bits = (uint64_t)v};
  if (n->kind == PTH_NODE_FLOAT) return key_of_float(id, n->b);
  key_value key = {.kind = pth_is_text(n)               ? KEY_TEXT
                           : n->kind == PTH_NODE_BYTES  ? KEY_BYTES
                           : n->kind == PTH_NODE_BIGINT ? KEY_LONG
                                                        : KEY_SELF,
                   .bits = id};
  if (key.kind != KEY_SELF) key.bytes = pth_slice(g, n);
  if (key.bytes.len > PTH_LONGEST_TEXT) key.kind = KEY_SELF;
  return key;
}

bool pth_same_key(const pth_graph *g, uint32_t a, uint32_t b) {
  if (a == b) return true;
  key_value x = key_of(g, a), y = key_of(g, b);
  if (x.kind != y.kind || x.kind == KEY_SELF) return false;
  return x.kind < KEY_INTEGER ? pth_bytes_equal(x.bytes, y.bytes) : x.bits == y.bits;
}

uint64_t pth_key_hash(const pth_graph *g, uint32_t id) {
  key_value key = key_of(g, id);
  uint64_t seed = g->arena->seed ^ (uint64_t)key.kind;
  return key.kind == KEY_SELF || key.kind >= KEY_INTEGER ? pth_hash_number(key.bits, seed) : pth_hash(key.bytes, seed);
}
