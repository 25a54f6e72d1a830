#include "shape.h"

#include "tensor.h"

enum { HANDLED = true, UNKNOWN = false };

const pth_meaning_row pth_meanings[PTH_N_MEANINGS] = {
#define X(MEANING, status, calls, states, fills) {status, calls, states, fills},
#include "defs/meanings.def"
#undef X
};

/* -1/3, or a whole number; the part below is not zero. */
static bool is_fraction(pth_bytes b) {
  uint64_t digits = 0, slashes = 0;
  bool zero = true;
  for (uint64_t i = 0; i < b.len; i++) {
    bool slash = b.data[i] == '/' && digits && !slashes;
    if (slash) {
      slashes = 1, digits = 0, zero = true;
    } else if (b.data[i] >= '0' && b.data[i] <= '9') {
      digits++, zero = zero && b.data[i] == '0';
    } else if (b.data[i] != '-' || i) {
      return false;
    }
  }
  return digits && !(slashes && zero) && b.len <= 10000;
}

static bool is_layout(pth_bytes b) {
  static const char *const LAYOUTS[] = {"strided",    "sparse_coo", "sparse_csr", "sparse_csc",
                                        "sparse_bsr", "sparse_bsc", "_mkldnn",    "jagged"};
  if (b.len < 6 || memcmp(b.data, "torch.", 6) != 0) return false;
  for (uint32_t i = 0; i < sizeof LAYOUTS / sizeof LAYOUTS[0]; i++) {
    if (pth_bytes_equal((pth_bytes){b.data + 6, b.len - 6}, pth_text(LAYOUTS[i]))) return true;
  }
  return false;
}

static bool is_number(uint8_t kind) {
  return kind == PTH_NODE_INT || kind == PTH_NODE_BIGINT || kind == PTH_NODE_INTTEXT || kind == PTH_NODE_FALSE || kind == PTH_NODE_TRUE;
}

enum { UNHASHABLE = 1, LISTS_PAIRS = 2, LISTS_MEMBERS = 4 };

static bool has(const pth_facts *f, uint32_t id, uint8_t bit) { return (PTH_AT(uint8_t, f->of, id) & bit) != 0; }

static bool unhashable_meaning(enum pth_meaning m) {
  switch (m) {
    case PTH_G_ORDERED_DICT:
    case PTH_G_DEFAULT_DICT:
    case PTH_G_COUNTER:
    case PTH_G_DICT:
    case PTH_G_LIST:
    case PTH_G_SET:
    case PTH_G_DEQUE:
    case PTH_G_BYTEARRAY:
    case PTH_G_SLICE:
    case PTH_G_NUMPY_RECONSTRUCT:
    case PTH_G_NUMPY_FROMBUFFER:
      return true;
    default:
      return false;
  }
}

/* Tuples name only nodes before them, so one pass in order is enough. */
static bool is_unhashable(const pth_facts *f, uint32_t id) {
  const pth_node *n = pth_node_at(f->g, id);
  pth_items it = pth_items_of(f->g, id);
  switch (n->kind) {
    case PTH_NODE_LIST:
    case PTH_NODE_DICT:
    case PTH_NODE_SET:
    case PTH_NODE_BYTEARRAY:
      return true;
    case PTH_NODE_TUPLE:
      for (uint32_t kid; pth_items_next(&it, &kid);) {
        if (has(f, kid, UNHASHABLE)) return true;
      }
      return false;
    case PTH_NODE_OBJECT:
      return unhashable_meaning(pth_meaning_of_node(f->g, n->a, NULL));
    default:
      return false;
  }
}

/* Was nothing added to a list, dict or mapping after kids had this length? A call has seen what was in it then. */
static bool is_settled(const pth_graph *g, uint32_t id, uint64_t before) {
  const pth_node *n = pth_node_at(g, id);
  uint32_t tail = 0;
  if (n->kind == PTH_NODE_LIST || n->kind == PTH_NODE_DICT || n->kind == PTH_NODE_SET) {
    tail = (uint32_t)n->b;
  } else if (n->kind == PTH_NODE_OBJECT && pth_ext_of(g, n) != NULL) {
    const pth_ext *ext = pth_ext_of(g, n);
    if (ext->items.n) return false;
    tail = ext->pairs.n ? ext->pairs.tail : 0;
  }
  const pth_chunk *c = &PTH_AT(pth_chunk, g->chunks, tail);
  return tail == 0 || (uint64_t)c->at + c->n <= before;
}

/* Are the items of a list [key, value] each, or such tuples? */
static bool lists_pairs(const pth_facts *f, uint32_t id) {
  pth_items it = pth_items_of(f->g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    uint8_t k = pth_node_at(f->g, kid)->kind;
    if ((k != PTH_NODE_LIST && k != PTH_NODE_TUPLE) || pth_n_items(f->g, kid) != 2 || !is_settled(f->g, kid, it.at)) return false;
    if (has(f, pth_item(f->g, kid, 0), UNHASHABLE)) return false;
  }
  return true;
}

static bool lists_members(const pth_facts *f, uint32_t id) {
  pth_items it = pth_items_of(f->g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    if (has(f, kid, UNHASHABLE)) return false;
  }
  return true;
}

int pth_facts_learn(pth_facts *f, const pth_graph *g, pth_err *err) {
  *f = (pth_facts){.g = g, .of = PTH_POOL(uint8_t)};
  uint32_t n = f->g->nodes.len;
  if (n < PTH_N_FIXED) return 0; /* the pickle was given up before its first opcode */
  int rc = pth_pool_reserve(g->arena, &f->of, n, err);
  if (rc) return rc;
  f->of.len = n;
  memset(f->of.data, 0, n);
  for (uint32_t id = 0; id < n; id++) PTH_AT(uint8_t, f->of, id) = is_unhashable(f, id) ? UNHASHABLE : 0;
  for (uint32_t id = PTH_N_FIXED; id < n; id++) {
    uint8_t k = pth_node_at(f->g, id)->kind;
    if (k == PTH_NODE_LIST && lists_pairs(f, id)) PTH_AT(uint8_t, f->of, id) |= LISTS_PAIRS;
    if ((k == PTH_NODE_LIST || k == PTH_NODE_TUPLE) && lists_members(f, id)) PTH_AT(uint8_t, f->of, id) |= LISTS_MEMBERS;
  }
  PTH_AT(uint8_t, f->of, PTH_NODE_EMPTY_TUPLE) |= LISTS_MEMBERS;
  return 0;
}

void pth_facts_free(pth_facts *f) { pth_pool_free(f->g->arena, &f->of); }

/* Every second item is a key, from the first on; of a set each is. */
static bool keys_hash(const pth_facts *f, pth_items it, bool pairs) {
  for (uint32_t key, value; pth_items_next(&it, &key);) {
    if (has(f, key, UNHASHABLE)) return false;
    if (pairs) pth_items_next(&it, &value);
  }
  return true;
}

bool pth_keys_hash(const pth_facts *f, uint32_t id) {
  const pth_node *n = pth_node_at(f->g, id);
  switch (n->kind) {
    case PTH_NODE_DICT:
    case PTH_NODE_SET:
    case PTH_NODE_FROZENSET:
      return keys_hash(f, pth_items_of(f->g, id), n->kind == PTH_NODE_DICT);
    case PTH_NODE_OBJECT:
      return pth_ext_of(f->g, n) == NULL || keys_hash(f, pth_items_of_list(f->g, pth_ext_of(f->g, n)->pairs), true);
    default:
      return true;
  }
}

static bool is_plain_bool(uint8_t kind) { return kind == PTH_NODE_FALSE || kind == PTH_NODE_TRUE; }

static bool is_meant_one_of(const pth_graph *g, uint32_t id, enum pth_meaning m, enum pth_meaning or_m) {
  return pth_is_meant(g, id, m) || pth_is_meant(g, id, or_m);
}

/* An OrderedDict that holds nothing: hooks are not saved. torch 0.4 wrote None. */
static bool is_no_hooks(const pth_graph *g, uint32_t id) {
  pth_pairs it;
  if (id == PTH_NODE_NONE) return true;
  return pth_is_meant(g, id, PTH_G_ORDERED_DICT) && pth_pairs_of(g, id, &it) && it.n == 0;
}

/* {'conj': True} and the like: torch looks at the keys alone. */
static bool is_view_flags(const pth_graph *g, uint32_t id) {
  pth_pairs it;
  if (!pth_pairs_of(g, id, &it) || it.n > 2) return false;
  for (uint32_t key, value; pth_pairs_next(&it, &key, &value);) {
    if (!pth_text_is(g, key, "conj") && !pth_text_is(g, key, "neg")) return false;
    if (pth_unwrap(g, value) != PTH_NODE_TRUE) return false;
  }
  return true;
}

enum { FEW_ATTRIBUTES = 64, FEW_DIMS = 256 };

static bool lists_integers(const pth_graph *g, uint32_t id) {
  if (pth_n_items(g, id) > FEW_DIMS) return false;
  pth_items it = pth_items_of(g, id);
  for (uint32_t item; pth_items_next(&it, &item);) {
    if (pth_node_at(g, item)->kind != PTH_NODE_INT) return false;
  }
  return true;
}

/* Names of attributes, none of which a tensor has already: setting those would make another tensor of it. */
static bool is_attributes(const pth_graph *g, uint32_t id) {
  static const char *const OWN[] = {
#define X(name) name,
#include "defs/attributes.def"
#undef X
  };
  pth_pairs it;
  if (pth_node_at(g, id)->kind != PTH_NODE_DICT || !pth_pairs_of(g, id, &it) || it.n > FEW_ATTRIBUTES) return false;
  for (uint32_t key, value; pth_pairs_next(&it, &key, &value);) {
    if (!pth_is_text(pth_node_at(g, key))) return false;
    pth_bytes name = pth_slice(g, pth_node_at(g, key));
    if (name.len == 0 || (name.len > 1 && name.data[0] == '_' && name.data[1] == '_')) return false;
    for (uint32_t i = 0; i < sizeof OWN / sizeof OWN[0]; i++) {
      if (pth_bytes_equal(name, pth_text(OWN[i]))) return false;
    }
  }
  return true;
}

/* A dict of them, or (dict or None, dict of those in slots or None). */
static bool is_attribute_state(const pth_graph *g, uint32_t id) {
  if (pth_node_at(g, id)->kind != PTH_NODE_TUPLE) return is_attributes(g, id);
  uint32_t first = pth_item(g, id, 0), second = pth_item(g, id, 1);
  return pth_n_items(g, id) == 2 && (first == PTH_NODE_NONE || is_attributes(g, first)) &&
         (second == PTH_NODE_NONE || is_attributes(g, second));
}

/* Of tensors. What TorchScript tags with a type is looked at without the tag. */
static bool fits_tensor(const pth_facts *f, uint32_t id, char letter) {
  const pth_graph *g = f->g;
  id = pth_unwrap(g, id);
  if (id == PTH_NONE || !is_settled(g, id, f->before)) return false;
  uint8_t k = pth_node_at(g, id)->kind;
  switch (letter) {
    case 'e':
      return k == PTH_NODE_PERSID || pth_is_meant(g, id, PTH_G_LOAD_FROM_BYTES);
    case 'w': /* old tar files name their tensors by persistent ids */
      return pth_rebuilds_tensor(g, id) || (k == PTH_NODE_PERSID && pth_is_text(pth_node_at(g, pth_node_at(g, id)->a)));
    case 'c':
      return k == PTH_NODE_TUPLE || k == PTH_NODE_LIST || pth_is_meant(g, id, PTH_G_TORCH_SIZE);
    case 'k':
      return pth_meaning_of_node(g, id, NULL) == PTH_G_DTYPE;
    case 'u':
      return pth_meaning_of_node(g, id, NULL) == PTH_G_PER_TENSOR;
    case 'p':
      return pth_meaning_of_node(g, id, NULL) == PTH_G_PER_CHANNEL;
    case 'j':
      return pth_is_meant(g, id, PTH_G_LAYOUT);
    case 'h':
      return is_no_hooks(g, id);
    case 'm':
      return is_view_flags(g, id);
    default:
      return letter == 'A' && is_attribute_state(g, id);
  }
}

/* Is the value one of the letter's? (defs/meanings.def) */
static bool fits(const pth_facts *f, uint32_t id, char letter) {
  const pth_graph *g = f->g;
  const pth_node *n = pth_node_at(g, id);
  uint8_t k = n->kind;
  pth_pairs pairs;
  switch (letter) {
    case 'n':
      return k == PTH_NODE_NONE;
    case 'b':
      return is_plain_bool(k);
    case 'z':
      return k == PTH_NODE_INT;
    case 'i':
      return is_number(k);
    case 'N':
      return k == PTH_NODE_INT && pth_i64_of(n->b) >= 0;
    case 'Z':
      return k == PTH_NODE_BIGINT || (k == PTH_NODE_INT && pth_i64_of(n->b) != 0);
    case 'r':
      return k == PTH_NODE_FLOAT || k == PTH_NODE_FLOATTEXT;
    case 'f':
      return is_number(k) || k == PTH_NODE_FLOAT || k == PTH_NODE_FLOATTEXT;
    case 's':
      return pth_is_text(n);
    case 'q':
      return pth_is_text(n) && is_fraction(pth_slice(g, n));
    case 'L':
      return pth_is_text(n) && is_layout(pth_slice(g, n));
    case 'I':
      return (k == PTH_NODE_LIST || k == PTH_NODE_TUPLE) && is_settled(g, id, f->before) && lists_integers(g, id);
    case 'O':
      return pth_is_meant(g, id, PTH_G_TIMEDELTA);
    case 'T': /* one that is not known may be a zone as well */
      return k == PTH_NODE_OBJECT && (pth_is_meant(g, id, PTH_G_TIMEZONE) || !pth_meanings[pth_meaning_of_node(g, n->a, NULL)].handled);
    case 'y':
      return k == PTH_NODE_BYTES || k == PTH_NODE_BYTEARRAY || k == PTH_NODE_STR8 || is_meant_one_of(g, id, PTH_G_BYTEARRAY, PTH_G_BYTES);
    case 't':
      return k == PTH_NODE_TUPLE;
    case 'l':
      return k == PTH_NODE_LIST && is_settled(g, id, f->before);
    case 'd':
      return (k == PTH_NODE_DICT || (k == PTH_NODE_OBJECT && pth_pairs_of(g, id, &pairs))) && is_settled(g, id, f->before);
    case 'D':
      return k == PTH_NODE_LIST && has(f, id, LISTS_PAIRS) && is_settled(g, id, f->before);
    case 'H':
      return (k == PTH_NODE_LIST || k == PTH_NODE_TUPLE) && has(f, id, LISTS_MEMBERS) && is_settled(g, id, f->before);
    case 'g':
      return k == PTH_NODE_GLOBAL;
    case 'o':
      return k == PTH_NODE_OBJECT;
    case 'x':
      return k != PTH_NODE_GLOBAL && k != PTH_NODE_OBJECT;
    case 'v':
      return k != PTH_NODE_GLOBAL;
    case 'a':
      return true;
    default:
      return fits_tensor(f, id, letter);
  }
}

/* Do the items of a tuple have the shape of one alternative? */
static bool shape_fits(const pth_facts *f, uint32_t args, const char *shape) {
  pth_items it = pth_items_of(f->g, args), outer = it;
  uint32_t id = 0;
  char letter = 0;
  bool more = pth_items_next(&it, &id);
  for (; *shape && *shape != '|'; shape++) {
    if (*shape == '(') {
      if (!more || pth_node_at(f->g, id)->kind != PTH_NODE_TUPLE) return false;
      outer = it;
      it = pth_items_of(f->g, id);
      more = pth_items_next(&it, &id);
    } else if (*shape == ')') {
      if (more) return false;
      it = outer;
      more = pth_items_next(&it, &id);
    } else if (*shape == '+') {
      for (; more && fits(f, id, letter); more = pth_items_next(&it, &id)) {
      }
    } else {
      letter = *shape;
      if (!more || !fits(f, id, letter)) return false;
      more = pth_items_next(&it, &id);
    }
  }
  return !more;
}

/* The same of any alternative. */
bool pth_args_fit(pth_facts *f, uint32_t args, bool newobj, const char *shapes) {
  const pth_node *n = pth_node_at(f->g, args);
  if (n->kind != PTH_NODE_TUPLE) return false;
  f->before = n->a ? (uint32_t)n->b : UINT32_MAX;
  for (const char *at = shapes;; at++) {
    bool of_newobj = *at == '!';
    if (of_newobj) at++;
    if (of_newobj == newobj && shape_fits(f, args, at)) return true;
    while (*at && *at != '|') at++;
    if (*at == 0) return false;
  }
}

bool pth_call_fits(pth_facts *f, const pth_node *call, const char *shapes) {
  return (call->flags == PTH_HOW_REDUCE || call->flags == PTH_HOW_NEWOBJ) &&
         pth_args_fit(f, pth_args_of(call), call->flags == PTH_HOW_NEWOBJ, shapes);
}

/* A dict of `_metadata` alone: what a state dict carries beside its tensors. Other attributes could stand before its methods. */
static bool metadata_alone(const pth_graph *g, uint32_t state) {
  pth_pairs it;
  uint32_t key, value;
  if (pth_node_at(g, state)->kind != PTH_NODE_DICT || !pth_pairs_of(g, state, &it)) return false;
  while (pth_pairs_next(&it, &key, &value)) {
    if (!pth_text_is(g, key, "_metadata")) return false;
  }
  return true;
}

static bool state_fits(pth_facts *f, uint32_t state, const char *states) {
  const pth_graph *g = f->g;
  if (pth_has_letter(states, 'a')) return true;
  if (*states == '=') return pth_args_fit(f, state, false, states + 1);
  if (pth_has_letter(states, 'm') && metadata_alone(g, state)) return true;
  return (pth_has_letter(states, 'd') && pth_node_at(g, state)->kind == PTH_NODE_DICT) ||
         (pth_has_letter(states, 't') && fits(f, state, 't')) || (pth_has_letter(states, 'l') && fits(f, state, 'l'));
}

bool pth_additions_fit(pth_facts *f, const pth_ext *ext, const pth_meaning_row *known) {
  if (ext->items.n && !pth_has_letter(known->fills, 'i')) return false;
  if (ext->pairs.n && !pth_has_letter(known->fills, 'p')) return false;
  if (ext->states.n > 1 && !pth_has_letter(known->states, 'a')) return false;
  pth_items it = pth_items_of_list(f->g, ext->states);
  for (uint32_t state; pth_items_next(&it, &state);) {
    if (!state_fits(f, state, known->states)) return false;
  }
  return true;
}
