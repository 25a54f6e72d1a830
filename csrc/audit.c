#include "audit.h"

#include "hash.h"
#include "legacy.h"

enum { HANDLED = true, UNKNOWN = false };

const pth_meaning_row pth_meanings[PTH_N_MEANINGS] = {
#define X(MEANING, status, calls, states, fills) {status, calls, states, fills},
#include "defs/meanings.def"
#undef X
};

static const pth_global *global_at(const pth_graph *g, uint32_t row) { return &PTH_AT(pth_global, g->globals, row); }

/* ---- globals ---- */

typedef struct name_slot {
  pth_bytes text;
  uint32_t id; /* PTH_NONE: an empty slot */
} name_slot;

typedef struct ref_slot {
  uint32_t module, name, ref; /* ref PTH_NONE: empty */
} ref_slot;

typedef struct names {
  pth_arena *arena;
  pth_pool by_place, by_text; /* name_slot: by where a text stands, without a look at it; by what it says */
  pth_pool pairs;             /* ref_slot */
  uint32_t n_places, n_texts, n_pairs;
} names;

static int empty_slots(pth_arena *a, pth_pool *p, uint64_t size, pth_err *err) {
  int rc = pth_pool_reserve(a, p, size, err);
  if (rc) return rc;
  p->len = (uint32_t)size;
  memset(p->data, 0xff, (size_t)size * p->item); /* ids of PTH_NONE */
  return 0;
}

static uint64_t hash_place(const names *t, pth_bytes text) {
  return pth_hash_number((uint64_t)(uintptr_t)text.data, t->arena->seed) ^ pth_hash_number(text.len, ~t->arena->seed);
}

static name_slot *place_slot(const names *t, const pth_pool *slots, pth_bytes text) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)hash_place(t, text) & mask;; i = (i + 1) & mask) {
    name_slot *s = &PTH_AT(name_slot, *slots, i);
    if (s->id == PTH_NONE || (s->text.data == text.data && s->text.len == text.len)) return s;
  }
}

static name_slot *text_slot(const names *t, const pth_pool *slots, pth_bytes text) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)pth_hash(text, t->arena->seed) & mask;; i = (i + 1) & mask) {
    name_slot *s = &PTH_AT(name_slot, *slots, i);
    if (s->id == PTH_NONE || pth_bytes_equal(s->text, text)) return s;
  }
}

static ref_slot *pair_slot(const names *t, const pth_pool *slots, uint32_t module, uint32_t name) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)pth_hash_number((uint64_t)module << 32 | name, t->arena->seed) & mask;; i = (i + 1) & mask) {
    ref_slot *s = &PTH_AT(ref_slot, *slots, i);
    if (s->ref == PTH_NONE || (s->module == module && s->name == name)) return s;
  }
}

/* Room for one more in a table that holds n: it doubles when it is half full. */
static int grow_names(names *t, pth_pool *slots, uint32_t n, bool by_place, pth_err *err) {
  if ((uint64_t)n * 2 < slots->len) return 0;
  pth_pool old = *slots;
  *slots = PTH_POOL(name_slot);
  int rc = empty_slots(t->arena, slots, old.len ? (uint64_t)old.len * 2 : 16, err);
  for (uint32_t i = 0; i < old.len && !rc; i++) {
    name_slot s = PTH_AT(name_slot, old, i);
    if (s.id != PTH_NONE) *(by_place ? place_slot(t, slots, s.text) : text_slot(t, slots, s.text)) = s;
  }
  pth_pool_free(t->arena, &old);
  return rc;
}

static int grow_pairs(names *t, pth_err *err) {
  if ((uint64_t)t->n_pairs * 2 < t->pairs.len) return 0;
  pth_pool old = t->pairs;
  t->pairs = PTH_POOL(ref_slot);
  int rc = empty_slots(t->arena, &t->pairs, old.len ? (uint64_t)old.len * 2 : 16, err);
  for (uint32_t i = 0; i < old.len && !rc; i++) {
    ref_slot s = PTH_AT(ref_slot, old, i);
    if (s.ref != PTH_NONE) *pair_slot(t, &t->pairs, s.module, s.name) = s;
  }
  pth_pool_free(t->arena, &old);
  return rc;
}

/* Texts longer than this are noted by their place as well: what a million globals share is read once. */
enum { SHORT = 64 };

/* A number for a text, the same for equal ones. */
static int name_id(names *t, pth_bytes text, uint32_t *id, pth_err *err) {
  int rc = text.len > SHORT ? grow_names(t, &t->by_place, t->n_places, true, err) : 0;
  if (rc == 0) rc = grow_names(t, &t->by_text, t->n_texts, false, err);
  if (rc) return rc;
  name_slot *near = text.len > SHORT ? place_slot(t, &t->by_place, text) : NULL;
  if (near != NULL && near->id != PTH_NONE) {
    *id = near->id;
    return 0;
  }
  name_slot *far = text_slot(t, &t->by_text, text);
  if (far->id == PTH_NONE) *far = (name_slot){text, t->n_texts++};
  if (near != NULL) {
    *near = (name_slot){text, far->id};
    t->n_places++;
  }
  *id = far->id;
  return 0;
}

static int count_global(pth_audit *a, const pth_graph *g, names *t, uint32_t row, pth_err *err) {
  uint32_t module = 0, name = 0;
  int rc = name_id(t, pth_global_module(g, global_at(g, row)), &module, err);
  if (rc == 0) rc = name_id(t, pth_global_name(g, global_at(g, row)), &name, err);
  if (rc == 0) rc = grow_pairs(t, err);
  if (rc == 0) rc = pth_pool_room(a->arena, &a->refs, err);
  if (rc) return rc;
  ref_slot *slot = pair_slot(t, &t->pairs, module, name);
  if (slot->ref == PTH_NONE) {
    *slot = (ref_slot){module, name, a->refs.len};
    PTH_AT(pth_ref, a->refs, a->refs.len++) = (pth_ref){.row = row, .call = PTH_NONE};
    t->n_pairs++;
  }
  PTH_AT(pth_ref, a->refs, slot->ref).uses++;
  PTH_AT(uint32_t, a->ref_of, a->ref_of.len++) = slot->ref;
  return 0;
}

static int read_refs(pth_audit *a, const pth_graph *g, pth_err *err) {
  names t = {.arena = a->arena};
  t.by_place = PTH_POOL(name_slot);
  t.by_text = PTH_POOL(name_slot);
  t.pairs = PTH_POOL(ref_slot);
  int rc = pth_pool_reserve(a->arena, &a->ref_of, g->globals.len, err);
  for (uint32_t row = 0; row < g->globals.len && !rc; row++) rc = count_global(a, g, &t, row, err);
  pth_pool_free(a->arena, &t.by_place);
  pth_pool_free(a->arena, &t.by_text);
  pth_pool_free(a->arena, &t.pairs);
  return rc;
}

/* ---- calls ---- */

static bool is_fraction(pth_bytes b) {
  for (uint64_t i = 0; i < b.len; i++) {
    if (b.data[i] != '/' && b.data[i] != '-' && (b.data[i] < '0' || b.data[i] > '9')) return false;
  }
  return b.len <= 10000;
}

static bool is_number(uint8_t kind) {
  return kind == PTH_NODE_INT || kind == PTH_NODE_BIGINT || kind == PTH_NODE_INTTEXT || kind == PTH_NODE_FALSE || kind == PTH_NODE_TRUE;
}

/* What is found out about every node once, since any number of calls may share it. */
enum { UNHASHABLE = 1, LISTS_PAIRS = 2, LISTS_MEMBERS = 4 };

typedef struct facts {
  const pth_graph *g;
  pth_pool of;     /* bits for each node */
  uint32_t before; /* the call that is looked at was made when kids had this length */
} facts;

static bool has(const facts *f, uint32_t id, uint8_t bit) { return (PTH_AT(uint8_t, f->of, id) & bit) != 0; }

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
static bool is_unhashable(const facts *f, uint32_t id) {
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
static bool lists_pairs(const facts *f, uint32_t id) {
  pth_items it = pth_items_of(f->g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    uint8_t k = pth_node_at(f->g, kid)->kind;
    if ((k != PTH_NODE_LIST && k != PTH_NODE_TUPLE) || pth_n_items(f->g, kid) != 2 || !is_settled(f->g, kid, it.at)) return false;
    if (has(f, pth_item(f->g, kid, 0), UNHASHABLE)) return false;
  }
  return true;
}

static bool lists_members(const facts *f, uint32_t id) {
  pth_items it = pth_items_of(f->g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    if (has(f, kid, UNHASHABLE)) return false;
  }
  return true;
}

static int learn(facts *f, pth_arena *a, pth_err *err) {
  uint32_t n = f->g->nodes.len;
  if (n < PTH_N_FIXED) return 0; /* the pickle was given up before its first opcode */
  int rc = pth_pool_reserve(a, &f->of, n, err);
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

/* Every second item is a key, from the first on; of a set each is. */
static bool keys_hash(const facts *f, pth_items it, bool pairs) {
  for (uint32_t key, value; pth_items_next(&it, &key);) {
    if (has(f, key, UNHASHABLE)) return false;
    if (pairs) pth_items_next(&it, &value);
  }
  return true;
}

static bool node_keys_hash(const facts *f, uint32_t id) {
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

enum { FEW_ATTRIBUTES = 64 };

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
static bool fits_tensor(const facts *f, uint32_t id, char letter) {
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
static bool fits(const facts *f, uint32_t id, char letter) {
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
    case 'r':
      return k == PTH_NODE_FLOAT || k == PTH_NODE_FLOATTEXT;
    case 'f':
      return is_number(k) || k == PTH_NODE_FLOAT || k == PTH_NODE_FLOATTEXT;
    case 's':
      return pth_is_text(n);
    case 'q':
      return pth_is_text(n) && is_fraction(pth_slice(g, n));
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
static bool shape_fits(const facts *f, uint32_t args, const char *shape) {
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
static bool args_fit(facts *f, uint32_t args, bool newobj, const char *shapes) {
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

static bool call_fits(facts *f, const pth_node *call, const char *shapes) {
  return (call->flags == PTH_HOW_REDUCE || call->flags == PTH_HOW_NEWOBJ) &&
         args_fit(f, pth_args_of(call), call->flags == PTH_HOW_NEWOBJ, shapes);
}

static bool has_letter(const char *letters, char letter) {
  while (*letters && *letters != letter) letters++;
  return *letters != 0;
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

static bool state_fits(facts *f, uint32_t state, const char *states) {
  const pth_graph *g = f->g;
  if (has_letter(states, 'a')) return true;
  if (*states == '=') return args_fit(f, state, false, states + 1);
  if (has_letter(states, 'm') && metadata_alone(g, state)) return true;
  return (has_letter(states, 'd') && pth_node_at(g, state)->kind == PTH_NODE_DICT) || (has_letter(states, 't') && fits(f, state, 't')) ||
         (has_letter(states, 'l') && fits(f, state, 'l'));
}

static bool additions_fit(facts *f, const pth_ext *ext, const pth_meaning_row *known) {
  if (ext->items.n && !has_letter(known->fills, 'i')) return false;
  if (ext->pairs.n && !has_letter(known->fills, 'p')) return false;
  if (ext->states.n > 1 && !has_letter(known->states, 'a')) return false;
  pth_items it = pth_items_of_list(f->g, ext->states);
  for (uint32_t state; pth_items_next(&it, &state);) {
    if (!state_fits(f, state, known->states)) return false;
  }
  return true;
}

static bool is_latin1(const pth_graph *g, uint32_t codec) { return pth_text_is(g, codec, "latin1") || pth_text_is(g, codec, "latin-1"); }

/* (function, type, its arguments, attributes) */
static bool from_type_fits(facts *f, uint32_t args) {
  const pth_graph *g = f->g;
  enum pth_meaning made = pth_meaning_of_node(g, pth_item(g, args, 0), NULL), type = pth_meaning_of_node(g, pth_item(g, args, 1), NULL);
  bool tensor = type == PTH_G_TENSOR_TYPE || type == PTH_G_PARAMETER_CLASS || type == PTH_G_UNKNOWN;
  if (made == PTH_G_NESTED_JAGGED ? type != PTH_G_NESTED_TYPE : !tensor) return false;
  return pth_is_tensor_meaning(made) && made != PTH_G_FROM_TYPE && made != PTH_G_TENSOR_CLASS && made != PTH_G_PARAMETER_CLASS &&
         args_fit(f, pth_item(g, args, 2), false, pth_meanings[made].calls);
}

/* What torch takes for a scale: a finite number above zero. A literal of protocol 0 begins with a digit then. */
static bool is_scale(const pth_graph *g, uint32_t id) {
  const pth_node *n = pth_node_at(g, id);
  double scale;
  if (n->kind == PTH_NODE_FLOATTEXT) return pth_slice(g, n).data[0] >= '0' && pth_slice(g, n).data[0] <= '9';
  memcpy(&scale, &n->b, sizeof scale);
  return scale > 0 && scale < 1e15;
}

static const pth_tensor *row_at(const pth_tensors *t, uint32_t node) {
  uint32_t row = pth_row_of_node(t, node);
  return row == PTH_NONE ? NULL : &PTH_AT(pth_tensor, t->tensors, row);
}

static int64_t size_at(const pth_tensors *t, const pth_tensor *r, uint32_t dim) { return PTH_AT(int64_t, t->dims, r->sizes + dim); }

/* A part of a tensor: dense, without gaps, of a dtype and of so many dimensions. Other ones torch copies before it makes something of
 * them, and in a legacy file it does so before it has read what is in them. */
static const pth_tensor *part_at(const pth_tensors *t, uint32_t node, enum pth_dtype_id dtype, uint32_t n_dims) {
  const pth_tensor *r = row_at(t, node);
  if (r == NULL || r->code || r->kind != PTH_T_DENSE || r->dtype != dtype || r->n_dims != n_dims || r->flags) return NULL;
  int64_t step = 1;
  for (uint32_t i = n_dims; i-- > 0;) {
    if (size_at(t, r, i) > 1 && PTH_AT(int64_t, t->dims, r->strides + i) != step) return NULL;
    step *= size_at(t, r, i) > 0 ? size_at(t, r, i) : 1;
  }
  return r;
}

/* Scales or zero points: numbers, one for each channel. */
static bool are_of_channels(const pth_tensors *t, uint32_t node, int64_t n, enum pth_dtype_id dtype) {
  const pth_tensor *r = part_at(t, node, dtype, 1);
  return r != NULL && size_at(t, r, 0) == n;
}

/* (scheme, scale, zero point) or (scheme, scales, zero points, axis), of an integer dtype that is quantized. */
static bool quantizer_fits(const pth_graph *g, const pth_tensors *t, uint32_t q, const pth_tensor *r) {
  uint32_t first = pth_item(g, q, 1), second = pth_item(g, q, 2), axis_at = pth_item(g, q, 3);
  int64_t zero, axis;
  if (axis_at == PTH_NONE) return is_scale(g, first) && pth_as_i64(g, second, &zero) && zero >= INT32_MIN && zero <= INT32_MAX;
  if (!pth_as_i64(g, axis_at, &axis) || axis < 0 || axis >= (int64_t)r->n_dims) return false;
  int64_t n = size_at(t, r, (uint32_t)axis);
  /* Zero points that are no integers go with scales in single precision. */
  return (are_of_channels(t, first, n, PTH_DT_FLOAT64) && are_of_channels(t, second, n, PTH_DT_INT64)) ||
         (are_of_channels(t, first, n, PTH_DT_FLOAT32) && are_of_channels(t, second, n, PTH_DT_FLOAT32));
}

/* (buffer, sizes, strides, offsets) */
static bool nested_fits(const pth_graph *g, const pth_tensors *t, uint32_t args) {
  const pth_tensor *buffer = row_at(t, pth_item(g, args, 0)), *sizes = part_at(t, pth_item(g, args, 1), PTH_DT_INT64, 2);
  const pth_tensor *strides = part_at(t, pth_item(g, args, 2), PTH_DT_INT64, 2),
                   *offsets = part_at(t, pth_item(g, args, 3), PTH_DT_INT64, 1);
  const pth_storage *s = buffer == NULL || buffer->storage == PTH_NONE ? NULL : &PTH_AT(pth_storage, t->storages, buffer->storage);
  if (s == NULL || s->nbytes != buffer->numel * pth_dtypes[buffer->dtype].itemsize) return false; /* torch looks no further than this */
  return sizes != NULL && strides != NULL && offsets != NULL && buffer->kind == PTH_T_DENSE && buffer->n_dims == 1 &&
         size_at(t, sizes, 0) == size_at(t, strides, 0) && size_at(t, sizes, 1) == size_at(t, strides, 1) &&
         size_at(t, sizes, 0) == size_at(t, offsets, 0);
}

/* The last dimensions of values, from `from` on, are those of the whole from `of` on. */
static bool ends_alike(const pth_tensors *t, const pth_tensor *values, uint32_t from, const pth_tensor *whole, uint32_t of) {
  if (values->n_dims - from != whole->n_dims - of) return false;
  for (uint32_t i = 0; i < whole->n_dims - of; i++) {
    if (size_at(t, values, from + i) != size_at(t, whole, of + i)) return false;
  }
  return true;
}

/* (indices[dims, n], values[n, ...]): what they point at is data, which no audit looks at. */
static bool coo_fits(const pth_tensors *t, const pth_tensor *r, const pth_tensor *indices, const pth_tensor *values) {
  return indices->dtype == PTH_DT_INT64 && indices->n_dims == 2 && values->n_dims >= 1 && size_at(t, indices, 1) == size_at(t, values, 0) &&
         size_at(t, indices, 0) <= (int64_t)r->n_dims && ends_alike(t, values, 1, r, (uint32_t)size_at(t, indices, 0));
}

/* (pointers[batch..., rows + 1], indices[batch..., n], values[batch..., n, block..., ...]) */
static bool compressed_fits(const pth_tensors *t, const pth_tensor *r, const pth_tensor *pointers, const pth_tensor *plain,
                            const pth_tensor *values) {
  bool blocked = r->layout == PTH_L_SPARSE_BSR || r->layout == PTH_L_SPARSE_BSC;
  bool by_row = r->layout == PTH_L_SPARSE_CSR || r->layout == PTH_L_SPARSE_BSR;
  uint32_t batch = pointers->n_dims - 1, block = blocked ? 2 : 0;
  if ((pointers->dtype != PTH_DT_INT64 && pointers->dtype != PTH_DT_INT32) || pointers->dtype != plain->dtype || pointers->n_dims == 0 ||
      plain->n_dims != batch + 1 || r->n_dims < batch + 2 || values->n_dims < batch + 1 + block)
    return false;
  for (uint32_t i = 0; i < batch; i++) {
    int64_t n = size_at(t, r, i);
    if (size_at(t, pointers, i) != n || size_at(t, plain, i) != n || size_at(t, values, i) != n) return false;
  }
  int64_t rows = size_at(t, r, batch + (by_row ? 0 : 1)), columns = size_at(t, r, batch + (by_row ? 1 : 0));
  if (blocked) {
    int64_t high = size_at(t, values, batch + 1 + (by_row ? 0 : 1)), wide = size_at(t, values, batch + 1 + (by_row ? 1 : 0));
    if (high <= 0 || wide <= 0 || rows % high || columns % wide) return false;
    rows /= high;
  }
  return size_at(t, pointers, batch) - 1 == rows && size_at(t, plain, batch) == size_at(t, values, batch) &&
         ends_alike(t, values, batch + 1 + block, r, batch + 2);
}

/* (layout, parts), as torch.save writes it. */
static bool sparse_fits(const pth_graph *g, const pth_tensors *t, const pth_tensor *r) {
  const pth_tensor *part[3];
  bool coo = r->layout == PTH_L_SPARSE_COO;
  uint32_t n = coo ? 2 : 3;
  for (uint32_t i = 0; i < n; i++) {
    part[i] = row_at(t, pth_item(g, r->part, i));
    if (part[i] == NULL || part[i]->code || part[i]->kind != PTH_T_DENSE || (i + 1 < n && part[i]->flags)) return false;
  }
  return coo ? coo_fits(t, r, part[0], part[1]) : compressed_fits(t, r, part[0], part[1], part[2]);
}

static bool begins_with(const char *s, const char *word) {
  while (*word && *s == *word) s++, word++;
  return *word == 0;
}

/* Gradients are asked for of real and complex numbers alone. */
static bool may_have_gradients(const pth_tensor *r) {
  const char *name = pth_dtypes[r->dtype].name;
  return r->kind == PTH_T_UNINITIALIZED || begins_with(name, "float") || begins_with(name, "bfloat") || begins_with(name, "complex");
}

/* What only the tensors that were read can tell. Of one that was not, its error tells. */
static bool row_fits(const pth_graph *g, const pth_tensors *t, uint32_t id, enum pth_meaning m) {
  const pth_tensor *r = row_at(t, id);
  if (r == NULL) return false;
  if (r->code) return true;
  uint32_t args = pth_args_of(pth_node_at(g, id));
  if (m == PTH_G_FROM_TYPE) args = pth_item(g, args, 2);
  if (m == PTH_G_FROM_TYPE) m = pth_meaning_of_node(g, pth_item(g, pth_args_of(pth_node_at(g, id)), 0), NULL);
  bool quantized = r->dtype >= PTH_DT_QINT8 && r->dtype <= PTH_DT_QUINT2X4;
  if (quantized ? r->kind == PTH_T_DENSE || r->kind == PTH_T_META : r->kind == PTH_T_QUANTIZED) return false;
  if (m == PTH_G_QTENSOR && !quantizer_fits(g, t, pth_item(g, args, 4), r)) return false;
  if (m == PTH_G_NESTED && !nested_fits(g, t, args)) return false;
  if (m == PTH_G_SPARSE && pth_n_items(g, args) == 2 && !sparse_fits(g, t, r)) return false;
  return !(r->flags & PTH_F_GRAD) || may_have_gradients(r);
}

static bool tensor_call_fits(facts *f, const pth_tensors *t, uint32_t id, enum pth_meaning m) {
  const pth_node *n = pth_node_at(f->g, id);
  const pth_ext *ext = pth_ext_of(f->g, n);
  uint32_t n_states = ext == NULL ? 0 : ext->states.n;
  if (!call_fits(f, n, pth_meanings[m].calls) || !pth_rebuilds_tensor(f->g, id)) return false;
  if (m == PTH_G_FROM_TYPE && !from_type_fits(f, pth_args_of(n))) return false;
  if (n_states && (n_states > 1 || pth_n_items(f->g, pth_args_of(n)) > 0)) return false; /* a class is given its tensor once */
  return t == NULL || row_fits(f->g, t, id, m);
}

static int note(pth_audit *a, uint32_t node, uint32_t ref, uint16_t finding, pth_err *err) {
  if (a->n_odds++ >= PTH_AUDIT_MOST_ODDS) return 0;
  int rc = pth_pool_room(a->arena, &a->odds, err);
  if (rc == 0) PTH_AT(pth_odd, a->odds, a->odds.len++) = (pth_odd){node, ref, finding};
  return rc;
}

/* getattr(owner, 'name'): what an enumeration's member or a method is pickled as. The owner is a class, an instance or a plain value, and
 * never what a function returned, which may be a module. Names that begin with two underscores lead into the interpreter. */
static bool names_a_member(facts *f, const pth_node *call) {
  const pth_graph *g = f->g;
  if (!call_fits(f, call, pth_meanings[PTH_G_GETATTR].calls)) return false;
  const pth_node *owner = pth_node_at(g, pth_item(g, pth_args_of(call), 0));
  pth_bytes name = pth_slice(g, pth_node_at(g, pth_item(g, pth_args_of(call), 1)));
  if (owner->kind == PTH_NODE_PERSID || (owner->kind == PTH_NODE_OBJECT && owner->flags != PTH_HOW_NEWOBJ)) return false;
  for (uint64_t i = 0; i < name.len; i++) {
    uint8_t c = name.data[i], low = c | 0x20;
    if (!(low >= 'a' && low <= 'z') && !(i && c >= '0' && c <= '9') && c != '_') return false;
  }
  return name.len > 0 && !(name.len > 1 && name.data[0] == '_' && name.data[1] == '_');
}

/* ---- what is changed after it was used ---- */

static bool grows_behind(const pth_graph *g, pth_list list, uint32_t place) {
  if (list.n == 0) return false;
  const pth_chunk *last = &PTH_AT(pth_chunk, g->chunks, list.tail);
  return last->at + last->n > place;
}

/* Was something put into it after a place in kids was filled? What a call or BUILD took from it by then is all that they see. */
static bool changes_behind(const pth_graph *g, uint32_t id, uint32_t place) {
  const pth_node *n = pth_node_at(g, id);
  if (n->kind == PTH_NODE_LIST || n->kind == PTH_NODE_DICT || n->kind == PTH_NODE_SET)
    return grows_behind(g, (pth_list){.tail = (uint32_t)n->b, .n = (uint32_t)(n->b >> 32)}, place);
  const pth_ext *ext = n->kind == PTH_NODE_OBJECT ? pth_ext_of(g, n) : NULL;
  return ext != NULL && (grows_behind(g, ext->items, place) || grows_behind(g, ext->pairs, place) || grows_behind(g, ext->states, place));
}

static bool spent(pth_audit *a) { return a->left == 0 || a->left-- == 0; }

/* Of a value, or of what lies in a tuple or list: pairs of an OrderedDict, the parts of a state. */
static bool any_changes(pth_audit *a, const pth_graph *g, uint32_t id, uint32_t place) {
  uint8_t kind = pth_node_at(g, id)->kind;
  if (changes_behind(g, id, place)) return true;
  if (kind != PTH_NODE_TUPLE && kind != PTH_NODE_LIST) return false;
  pth_items it = pth_items_of(g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    if (spent(a) || changes_behind(g, kid, place)) return true;
  }
  return false;
}

static bool changed_later(pth_audit *a, const pth_graph *g, const pth_node *call) {
  const pth_node *args = pth_node_at(g, pth_args_of(call));
  pth_items it = pth_items_of(g, pth_args_of(call));
  if (args->kind == PTH_NODE_TUPLE && args->a) {
    for (uint32_t arg; pth_items_next(&it, &arg);) {
      if (spent(a) || any_changes(a, g, arg, (uint32_t)args->b)) return true;
    }
  }
  const pth_ext *ext = pth_ext_of(g, call);
  if (ext == NULL) return false;
  it = pth_items_of_list(g, ext->states);
  for (uint32_t state; pth_items_next(&it, &state);) {
    if (any_changes(a, g, state, it.at - 1)) return true;
  }
  return false;
}

/* ---- dtypes of numpy ---- */

/* numpy believes the state of a dtype: one with other flags, or with fields beyond its size, reads pointers and memory out of the file's
 * hand (numpy/_core/src/multiarray/descriptor.c, arraydescr_setstate). */
enum { NUMPY_OBJECT_FLAGS = 63, NUMPY_UNICODE_FLAGS = 8, NUMPY_STRUCT_FLAGS = 0x98, NUMPY_HAS_OBJECT = 1 };

/* The kind and the size of a code such as '<f4'; false: it is not such a one. */
static bool dtype_code(const pth_graph *g, uint32_t dtype, char *kind, uint64_t *size) {
  if (!pth_is_meant(g, dtype, PTH_G_NUMPY_DTYPE)) return false;
  uint32_t text = pth_item(g, pth_args_of(pth_node_at(g, dtype)), 0);
  if (text == PTH_NONE || !pth_is_text(pth_node_at(g, text))) return false;
  pth_bytes b = pth_slice(g, pth_node_at(g, text));
  if (b.len && has_letter("<>=|", (char)b.data[0])) b.data++, b.len--;
  if (b.len < 2 || b.len > 10) return false;
  *kind = (char)b.data[0];
  *size = 0;
  for (uint64_t i = 1; i < b.len; i++) {
    if (b.data[i] < '0' || b.data[i] > '9') return false;
    *size = *size * 10 + (b.data[i] - (uint64_t)'0');
  }
  if (*kind == 'U') *size *= 4;
  return has_letter("biufcSUVMmO", *kind);
}

static bool is_none(const pth_graph *g, uint32_t id) { return id != PTH_NONE && pth_node_at(g, id)->kind == PTH_NODE_NONE; }

static uint16_t odd_fields(pth_audit *a, const pth_graph *g, uint32_t fields, int64_t size) {
  pth_pairs it;
  if (fields == PTH_NONE || !pth_pairs_of(g, fields, &it)) return PTH_F_NUMPY_MEMORY;
  for (uint32_t key, field; pth_pairs_next(&it, &key, &field);) {
    char kind = 0;
    uint64_t width, end;
    int64_t offset;
    uint32_t dtype = pth_item(g, field, 0);
    if (spent(a) || dtype == PTH_NONE || !dtype_code(g, dtype, &kind, &width) || kind == 'O') return PTH_F_NUMPY_DTYPE;
    if (!pth_as_i64(g, pth_item(g, field, 1), &offset) || offset < 0 || !pth_add((uint64_t)offset, width, &end) || end > (uint64_t)size)
      return PTH_F_NUMPY_MEMORY;
  }
  return PTH_F_NOTHING;
}

/* (dtype of the elements, shape): as many of them as the whole has room for. */
static uint16_t odd_subarray(const pth_graph *g, uint32_t subarray, uint64_t size) {
  char kind = 0;
  uint64_t width = 0;
  uint32_t base = pth_item(g, subarray, 0), shape = pth_item(g, subarray, 1);
  if (base == PTH_NONE || shape == PTH_NONE || !dtype_code(g, base, &kind, &width) || kind == 'O') return PTH_F_NUMPY_DTYPE;
  if (pth_node_at(g, shape)->kind != PTH_NODE_TUPLE || pth_n_items(g, shape) > FEW_ATTRIBUTES) return PTH_F_NUMPY_DTYPE;
  pth_items it = pth_items_of(g, shape);
  for (uint32_t item; pth_items_next(&it, &item);) {
    int64_t n;
    if (!pth_as_i64(g, item, &n) || n < 0 || !pth_mul(width, (uint64_t)n, &width)) return PTH_F_NUMPY_MEMORY;
  }
  return width == size ? PTH_F_NOTHING : PTH_F_NUMPY_MEMORY;
}

static uint16_t odd_dtype(pth_audit *a, const pth_graph *g, uint32_t id) {
  char kind = 0;
  uint64_t width = 0;
  int64_t size, flags;
  uint32_t state = pth_last_state(g, id);
  if (state == PTH_NONE) return PTH_F_NOTHING;
  bool coded = dtype_code(g, id, &kind, &width), own_size = kind == 'S' || kind == 'U' || kind == 'V';
  if (!coded || !pth_as_i64(g, pth_item(g, state, 5), &size) || !pth_as_i64(g, pth_item(g, state, 7), &flags)) return PTH_F_NUMPY_DTYPE;
  if (own_size && (uint64_t)size != width) return PTH_F_NUMPY_MEMORY;
  if (!is_none(g, pth_item(g, state, 2))) {
    bool alone = kind == 'V' && is_none(g, pth_item(g, state, 3)) && is_none(g, pth_item(g, state, 4));
    return alone && (flags & ~NUMPY_STRUCT_FLAGS) == 0 ? odd_subarray(g, pth_item(g, state, 2), (uint64_t)size) : PTH_F_NUMPY_DTYPE;
  }
  if (is_none(g, pth_item(g, state, 3)) && is_none(g, pth_item(g, state, 4)))
    return flags == (kind == 'O' ? NUMPY_OBJECT_FLAGS : kind == 'U' ? NUMPY_UNICODE_FLAGS : 0) ? PTH_F_NOTHING : PTH_F_NUMPY_MEMORY;
  if (kind != 'V') return PTH_F_NUMPY_MEMORY;
  uint16_t odd = odd_fields(a, g, pth_item(g, state, 4), size);
  return odd || (flags & ~NUMPY_STRUCT_FLAGS) == 0 ? odd : PTH_F_NUMPY_DTYPE;
}

/* getattr(ZoneInfo, '_unpickle'), which is called: how zones of times are pickled. */
static bool unpickles_a_zone(const pth_graph *g, uint32_t attribute) {
  uint32_t args = pth_args_of(pth_node_at(g, attribute));
  return pth_is_meant(g, attribute, PTH_G_GETATTR) && pth_meaning_of_node(g, pth_item(g, args, 0), NULL) == PTH_G_ZONE &&
         pth_text_is(g, pth_item(g, args, 1), "_unpickle");
}

static int check_call(pth_audit *a, facts *f, const pth_tensors *t, uint32_t id, pth_err *err) {
  const pth_graph *g = f->g;
  const pth_node *call = pth_node_at(g, id), *callee = pth_node_at(g, call->a);
  if (unpickles_a_zone(g, call->a)) return 0;
  if (callee->kind != PTH_NODE_GLOBAL)
    return note(a, id, PTH_NONE, pth_is_meant(g, call->a, PTH_G_GETATTR) ? PTH_F_ATTRIBUTE : PTH_F_CALL_COMPUTED, err);
  uint32_t ref = PTH_AT(uint32_t, a->ref_of, callee->a);
  pth_ref *r = &PTH_AT(pth_ref, a->refs, ref);
  if (r->calls++ == 0) r->call = id;
  enum pth_meaning m = (enum pth_meaning)global_at(g, callee->a)->meaning;
  const pth_meaning_row *known = &pth_meanings[m];
  const pth_ext *ext = pth_ext_of(g, call);
  if (m == PTH_G_GETATTR && !names_a_member(f, call)) return note(a, id, ref, PTH_F_ATTRIBUTE, err);
  if (!known->handled) return 0; /* whatever it does with them, it is not known */
  bool fine = pth_is_tensor_meaning(m) ? tensor_call_fits(f, t, id, m) : call_fits(f, call, known->calls);
  bool encodes = m == PTH_G_CODECS_ENCODE || (m == PTH_G_BYTEARRAY && pth_n_items(g, pth_args_of(call)) == 2);
  if (fine && encodes) fine = is_latin1(g, pth_item(g, pth_args_of(call), 1));
  if (ext != NULL && ext->kwargs != PTH_NONE) fine = false;
  int rc = fine ? 0 : note(a, id, ref, PTH_F_CALL_ARGUMENTS, err);
  if (rc == 0 && ext != NULL && !additions_fit(f, ext, known)) rc = note(a, id, ref, PTH_F_BUILD_TARGET, err);
  if (rc == 0 && changed_later(a, g, call)) rc = note(a, id, ref, PTH_F_CHANGED_LATER, err);
  uint16_t odd = m == PTH_G_NUMPY_DTYPE ? odd_dtype(a, g, id) : PTH_F_NOTHING;
  return rc == 0 && odd ? note(a, id, ref, odd, err) : rc;
}

/* ---- persistent ids and nested files ---- */

/* ('storage', class, key, location, numel), and in legacy files the view: (key, offset, numel) or None. */
static bool is_storage_id(facts *f, uint32_t pid, bool legacy) {
  const pth_graph *g = f->g;
  const char *shape = legacy ? "sgsszn|sgssz(szz)" : "sgssz";
  return args_fit(f, pid, false, shape) && pth_text_is(g, pth_item(g, pid, 0), "storage") &&
         pth_meaning_of_node(g, pth_item(g, pid, 1), NULL) == PTH_G_STORAGE &&
         pth_is_device(pth_slice(g, pth_node_at(g, pth_item(g, pid, 3)))) && pth_i64_of(pth_node_at(g, pth_item(g, pid, 4))->b) >= 0;
}

/* ('module', class, file, source): legacy files hold the source of module classes so. */
static bool is_module_id(const pth_graph *g, uint32_t pid) {
  uint32_t n = pth_node_at(g, pid)->kind == PTH_NODE_TUPLE ? pth_n_items(g, pid) : 0;
  return n == 4 && pth_text_is(g, pth_item(g, pid, 0), "module") && pth_node_at(g, pth_item(g, pid, 1))->kind == PTH_NODE_GLOBAL;
}

/* (class, file, source): the same in a tar. */
static bool is_tar_module_id(const pth_graph *g, uint32_t pid) {
  return pth_node_at(g, pid)->kind == PTH_NODE_TUPLE && pth_n_items(g, pid) == 3 &&
         pth_node_at(g, pth_item(g, pid, 0))->kind == PTH_NODE_GLOBAL;
}

static int check_persistent_id(pth_audit *a, facts *f, const pth_tensors *t, bool legacy, uint32_t id, pth_err *err) {
  const pth_graph *g = f->g;
  uint32_t pid = pth_node_at(g, id)->a;
  bool named = t != NULL && t->store != NULL && t->store->named != NULL; /* tar: tensors and storages by the text of their key */
  bool fine = named ? pth_is_text(pth_node_at(g, pid)) || is_tar_module_id(g, pid)
                    : is_storage_id(f, pid, legacy) || (legacy && is_module_id(g, pid));
  /* A storage that is not even a row has a size that no storage can have. */
  if (fine && t != NULL && !named && !is_module_id(g, pid)) fine = pth_storage_of_node(t, id) != PTH_NONE;
  return fine ? 0 : note(a, id, PTH_NONE, PTH_F_PERSISTENT_ID, err);
}

static int check_nested(pth_audit *a, const pth_graph *g, uint32_t call, const pth_limits *lim, uint8_t *seen, pth_err *err) {
  uint32_t arg = pth_item(g, pth_args_of(pth_node_at(g, call)), 0);
  const pth_node *n = arg == PTH_NONE ? NULL : pth_node_at(g, arg);
  if (n == NULL || (n->kind != PTH_NODE_BYTES && n->kind != PTH_NODE_STR8)) return note(a, call, PTH_NONE, PTH_F_NESTED_ELSEWHERE, err);
  if (seen[arg / 8] >> arg % 8 & 1) return 0;
  seen[arg / 8] |= (uint8_t)(1u << arg % 8);
  pth_nested nested;
  if (pth_legacy_nested(pth_slice(g, n), a->arena, lim, &nested) == 0 && nested.plain) return 0;
  return pth_push_u32(a->arena, &a->nested, arg, err);
}

/* Is the function that loads bytes given away, to be called by who knows whom? */
static int check_given_away(pth_audit *a, const pth_graph *g, pth_err *err) {
  int rc = 0;
  for (uint32_t i = 0; i < g->kids.len && !rc; i++) {
    uint32_t id = PTH_AT(uint32_t, g->kids, i);
    if (pth_node_at(g, id)->kind == PTH_NODE_GLOBAL && pth_meaning_of_node(g, id, NULL) == PTH_G_LOAD_FROM_BYTES)
      rc = note(a, id, PTH_AT(uint32_t, a->ref_of, pth_node_at(g, id)->a), PTH_F_NESTED_ELSEWHERE, err);
  }
  return rc;
}

static int check_nodes(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim, pth_err *err) {
  facts f = {.g = g, .of = PTH_POOL(uint8_t)};
  pth_pool seen = PTH_POOL(uint8_t);
  bool loads = false;
  int rc = learn(&f, a->arena, err);
  for (uint32_t i = 0; i < a->refs.len; i++)
    loads = loads || global_at(g, PTH_AT(pth_ref, a->refs, i).row)->meaning == PTH_G_LOAD_FROM_BYTES;
  if (rc == 0 && loads && (rc = pth_pool_reserve(a->arena, &seen, g->nodes.len / 8 + 1, err)) == 0)
    memset(seen.data, 0, g->nodes.len / 8 + 1);
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len && !rc; id++) {
    uint8_t kind = pth_node_at(g, id)->kind;
    if (kind == PTH_NODE_PERSID) rc = check_persistent_id(a, &f, t, legacy, id, err);
    if (rc == 0 && !node_keys_hash(&f, id)) rc = note(a, id, PTH_NONE, PTH_F_KEY, err);
    if (rc || kind != PTH_NODE_OBJECT) continue;
    rc = check_call(a, &f, t, id, err);
    if (rc == 0 && loads && pth_is_meant(g, id, PTH_G_LOAD_FROM_BYTES)) rc = check_nested(a, g, id, lim, seen.data, err);
  }
  pth_pool_free(a->arena, &seen);
  pth_pool_free(a->arena, &f.of);
  return rc || !loads ? rc : check_given_away(a, g, err);
}

int pth_audit_graph(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim, pth_err *err) {
  *a = (pth_audit){
      .arena = g->arena, .refs = PTH_POOL(pth_ref), .odds = PTH_POOL(pth_odd), .nested = PTH_POOL(uint32_t), .ref_of = PTH_POOL(uint32_t)};
  a->left = (uint64_t)g->kids.len * 4;
  int rc = read_refs(a, g, err);
  return rc ? rc : check_nodes(a, g, t, legacy, lim, err);
}

void pth_audit_free(pth_audit *a) {
  pth_pool_free(a->arena, &a->refs);
  pth_pool_free(a->arena, &a->odds);
  pth_pool_free(a->arena, &a->nested);
  pth_pool_free(a->arena, &a->ref_of);
}

/* Is it meant for a storage? Whether it is one as writers write it is another question. */
static uint32_t storage_key(const pth_graph *g, uint32_t pid) {
  if (pth_node_at(g, pid)->kind != PTH_NODE_TUPLE || !pth_text_is(g, pth_item(g, pid, 0), "storage")) return PTH_NONE;
  return pth_item(g, pid, 2);
}

void pth_audit_spans(const pth_graph *g, const pth_store *s, uint8_t *used) {
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    const pth_node *n = pth_node_at(g, id);
    uint32_t key = n->kind == PTH_NODE_PERSID ? storage_key(g, n->a) : PTH_NONE;
    if (key == PTH_NONE || !pth_is_text(pth_node_at(g, key))) continue;
    uint32_t span = pth_store_find(s, pth_slice(g, pth_node_at(g, key)));
    if (span != PTH_NONE) used[span] = 1;
  }
}
