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

/* Is the value one of the letter's? (defs/meanings.def) */
static bool fits(const pth_graph *g, uint32_t id, char letter) {
  const pth_node *n = pth_node_at(g, id);
  uint8_t k = n->kind;
  pth_pairs pairs;
  switch (letter) {
    case 'n':
      return k == PTH_NODE_NONE;
    case 'i':
      return is_number(k);
    case 'f':
      return is_number(k) || k == PTH_NODE_FLOAT || k == PTH_NODE_FLOATTEXT;
    case 's':
      return pth_is_text(n);
    case 'q':
      return pth_is_text(n) && is_fraction(pth_slice(g, n));
    case 'y':
      return k == PTH_NODE_BYTES || k == PTH_NODE_BYTEARRAY || k == PTH_NODE_STR8 || pth_is_meant(g, id, PTH_G_BYTEARRAY) ||
             pth_is_meant(g, id, PTH_G_BYTES);
    case 't':
      return k == PTH_NODE_TUPLE;
    case 'l':
      return k == PTH_NODE_LIST;
    case 'd':
      return k == PTH_NODE_DICT || (k == PTH_NODE_OBJECT && pth_pairs_of(g, id, &pairs));
    case 'g':
      return k == PTH_NODE_GLOBAL;
    case 'o':
      return k == PTH_NODE_OBJECT;
    case '-':
      return false;
    case 'x':
      return k != PTH_NODE_GLOBAL && k != PTH_NODE_OBJECT;
    case 'v':
      return k != PTH_NODE_GLOBAL;
    default:
      return true;
  }
}

/* Do the arguments have the shape of one alternative? */
static bool shape_fits(const pth_graph *g, uint32_t args, const char *shape) {
  pth_items it = pth_items_of(g, args);
  uint32_t id = 0;
  char letter = 0;
  bool more = pth_items_next(&it, &id);
  while (*shape && *shape != '|') {
    if (*shape != '+') letter = *shape;
    if (*shape == '+') {
      for (; more && fits(g, id, letter); more = pth_items_next(&it, &id)) {
      }
    } else if (more && fits(g, id, letter)) {
      more = pth_items_next(&it, &id);
    } else {
      return false;
    }
    shape++;
  }
  return !more;
}

static bool call_fits(const pth_graph *g, const pth_node *call, const char *shapes) {
  uint32_t args = pth_args_of(call);
  if (pth_node_at(g, args)->kind != PTH_NODE_TUPLE || (call->flags != PTH_HOW_REDUCE && call->flags != PTH_HOW_NEWOBJ)) return false;
  bool newobj = call->flags == PTH_HOW_NEWOBJ;
  for (const char *at = shapes;; at++) {
    bool of_newobj = *at == '!';
    if (of_newobj) at++;
    if (of_newobj == newobj && shape_fits(g, args, at)) return true;
    while (*at && *at != '|') at++;
    if (*at == 0) return false;
  }
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

static bool state_fits(const pth_graph *g, uint32_t state, const char *states) {
  uint32_t n = fits(g, state, 't') ? pth_n_items(g, state) : 0;
  if (has_letter(states, 'a') || (has_letter(states, '4') && n == 4) || (has_letter(states, '5') && (n == 3 || n == 5))) return true;
  if (has_letter(states, 'm') && metadata_alone(g, state)) return true;
  return (has_letter(states, 'd') && pth_node_at(g, state)->kind == PTH_NODE_DICT) || (has_letter(states, 't') && fits(g, state, 't'));
}

static bool additions_fit(const pth_graph *g, const pth_ext *ext, const pth_meaning_row *known) {
  if (ext->items.n && !has_letter(known->fills, 'i')) return false;
  if (ext->pairs.n && !has_letter(known->fills, 'p')) return false;
  if (ext->states.n > 1 && !has_letter(known->states, 'a')) return false;
  pth_items it = pth_items_of_list(g, ext->states);
  for (uint32_t state; pth_items_next(&it, &state);) {
    if (!state_fits(g, state, known->states)) return false;
  }
  return true;
}

static bool is_latin1(const pth_graph *g, uint32_t codec) { return pth_text_is(g, codec, "latin1") || pth_text_is(g, codec, "latin-1"); }

static bool tensor_call_fits(const pth_graph *g, const pth_tensors *t, uint32_t id, enum pth_meaning m) {
  const pth_node *n = pth_node_at(g, id);
  if (n->flags != PTH_HOW_REDUCE && n->flags != PTH_HOW_NEWOBJ) return false;
  if (n->flags == PTH_HOW_NEWOBJ && m != PTH_G_TENSOR_CLASS && m != PTH_G_PARAMETER_CLASS && m != PTH_G_UNINITIALIZED &&
      m != PTH_G_UNINITIALIZED_PARAMETER)
    return false;
  if (pth_rebuilds_tensor(g, id)) return t == NULL || pth_row_of_node(t, id) != PTH_NONE;
  return (m == PTH_G_TENSOR_CLASS || m == PTH_G_PARAMETER_CLASS) && pth_n_items(g, pth_args_of(n)) == 0;
}

static int note(pth_audit *a, uint32_t node, uint32_t ref, uint16_t finding, pth_err *err) {
  if (a->n_odds++ >= PTH_AUDIT_MOST_ODDS) return 0;
  int rc = pth_pool_room(a->arena, &a->odds, err);
  if (rc == 0) PTH_AT(pth_odd, a->odds, a->odds.len++) = (pth_odd){node, ref, finding};
  return rc;
}

/* getattr(class, 'NAME'): what an enumeration's member or a method is pickled as. */
static bool names_a_member(const pth_graph *g, const pth_node *call) {
  if (!call_fits(g, call, pth_meanings[PTH_G_GETATTR].calls)) return false;
  pth_bytes name = pth_slice(g, pth_node_at(g, pth_item(g, pth_args_of(call), 1)));
  for (uint64_t i = 0; i < name.len; i++) {
    uint8_t c = name.data[i], low = c | 0x20;
    if (!(low >= 'a' && low <= 'z') && !(i && c >= '0' && c <= '9') && !(i && c == '_')) return false;
  }
  return name.len > 0;
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

/* ---- what the state of a tensor replaces ---- */

/* Setting these changes the tensor itself (torch/csrc/autograd/python_variable.cpp); no writer finds them among its attributes. */
static bool is_own_attribute(pth_bytes name) {
  static const char *const own[] = {
      "data", "grad", "_grad", "requires_grad", "names", "real", "imag", "_backward_hooks", "_post_accumulate_grad_hooks", "volatile"};
  if (name.len >= 2 && name.data[0] == '_' && name.data[1] == '_') return true;
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
    if (pth_bytes_equal(name, pth_text(own[i]))) return true;
  return false;
}

static bool replaces(pth_audit *a, const pth_graph *g, uint32_t attributes) {
  pth_pairs it;
  if (attributes == PTH_NONE || !pth_pairs_of(g, attributes, &it)) return false;
  for (uint32_t key, value; pth_pairs_next(&it, &key, &value);) {
    if (spent(a) || !pth_is_text(pth_node_at(g, key)) || is_own_attribute(pth_slice(g, pth_node_at(g, key)))) return true;
  }
  return false;
}

static bool state_replaces(pth_audit *a, const pth_graph *g, uint32_t state) {
  if (state == PTH_NONE || pth_node_at(g, state)->kind != PTH_NODE_TUPLE) return replaces(a, g, state);
  return replaces(a, g, pth_item(g, state, 0)) || replaces(a, g, pth_item(g, state, 1));
}

/* _rebuild_parameter_with_state and _rebuild_from_type_v2 have the state as their fourth argument; the one may be called by the other. */
static bool tensor_is_replaced(pth_audit *a, const pth_graph *g, const pth_node *call, enum pth_meaning m) {
  uint32_t args = pth_args_of(call);
  if (m != PTH_G_FROM_TYPE && m != PTH_G_PARAMETER_CALL) return false;
  if (state_replaces(a, g, pth_item(g, args, 3))) return true;
  return m == PTH_G_FROM_TYPE && pth_meaning_of_node(g, pth_item(g, args, 0), NULL) == PTH_G_PARAMETER_CALL &&
         pth_item(g, args, 2) != PTH_NONE && state_replaces(a, g, pth_item(g, pth_item(g, args, 2), 3));
}

/* ---- dtypes of numpy ---- */

/* numpy believes the state of a dtype: one with other flags, or with fields beyond its size, reads pointers and memory out of the file's
 * hand (numpy/_core/src/multiarray/descriptor.c, arraydescr_setstate). */
enum { NUMPY_OBJECT_FLAGS = 63, NUMPY_UNICODE_FLAGS = 8, NUMPY_STRUCT_FLAGS = 0x90, NUMPY_HAS_OBJECT = 1 };

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
    uint32_t dtype = pth_item(g, field, 0), state = dtype == PTH_NONE ? PTH_NONE : pth_last_state(g, dtype);
    if (spent(a) || dtype == PTH_NONE || !dtype_code(g, dtype, &kind, &width) || kind == 'O') return PTH_F_NUMPY_DTYPE;
    if (state != PTH_NONE && !(is_none(g, pth_item(g, state, 2)) && is_none(g, pth_item(g, state, 4)))) return PTH_F_NUMPY_DTYPE;
    if (!pth_as_i64(g, pth_item(g, field, 1), &offset) || offset < 0 || !pth_add((uint64_t)offset, width, &end) || end > (uint64_t)size)
      return PTH_F_NUMPY_MEMORY;
  }
  return PTH_F_NOTHING;
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
  if (!is_none(g, pth_item(g, state, 2))) return PTH_F_NUMPY_DTYPE;
  if (is_none(g, pth_item(g, state, 3)) && is_none(g, pth_item(g, state, 4)))
    return flags == (kind == 'O' ? NUMPY_OBJECT_FLAGS : kind == 'U' ? NUMPY_UNICODE_FLAGS : 0) ? PTH_F_NOTHING : PTH_F_NUMPY_MEMORY;
  if (kind != 'V') return PTH_F_NUMPY_MEMORY;
  uint16_t odd = odd_fields(a, g, pth_item(g, state, 4), size);
  return odd || (flags & ~NUMPY_STRUCT_FLAGS) == 0 ? odd : PTH_F_NUMPY_DTYPE;
}

static int check_call(pth_audit *a, const pth_graph *g, const pth_tensors *t, uint32_t id, pth_err *err) {
  const pth_node *call = pth_node_at(g, id), *callee = pth_node_at(g, call->a);
  if (callee->kind != PTH_NODE_GLOBAL)
    return note(a, id, PTH_NONE, pth_is_meant(g, call->a, PTH_G_GETATTR) ? PTH_F_ATTRIBUTE : PTH_F_CALL_COMPUTED, err);
  uint32_t ref = PTH_AT(uint32_t, a->ref_of, callee->a);
  pth_ref *r = &PTH_AT(pth_ref, a->refs, ref);
  if (r->calls++ == 0) r->call = id;
  enum pth_meaning m = (enum pth_meaning)global_at(g, callee->a)->meaning;
  const pth_meaning_row *known = &pth_meanings[m];
  const pth_ext *ext = pth_ext_of(g, call);
  if (m == PTH_G_GETATTR && !names_a_member(g, call)) return note(a, id, ref, PTH_F_ATTRIBUTE, err);
  if (!known->handled) return 0; /* whatever it does with them, it is not known */
  bool fine = pth_is_tensor_meaning(m) ? tensor_call_fits(g, t, id, m) : call_fits(g, call, known->calls);
  if (fine && m == PTH_G_BYTEARRAY && pth_n_items(g, pth_args_of(call)) == 2) fine = is_latin1(g, pth_item(g, pth_args_of(call), 1));
  if (m == PTH_G_CODECS_ENCODE && fine) fine = is_latin1(g, pth_item(g, pth_args_of(call), 1));
  if (ext != NULL && ext->kwargs != PTH_NONE) fine = false;
  int rc = fine ? 0 : note(a, id, ref, PTH_F_CALL_ARGUMENTS, err);
  if (rc == 0 && ext != NULL && !additions_fit(g, ext, known)) rc = note(a, id, ref, PTH_F_BUILD_TARGET, err);
  if (rc == 0 && changed_later(a, g, call)) rc = note(a, id, ref, PTH_F_CHANGED_LATER, err);
  if (rc == 0 && tensor_is_replaced(a, g, call, m)) rc = note(a, id, ref, PTH_F_TENSOR_STATE, err);
  uint16_t odd = m == PTH_G_NUMPY_DTYPE ? odd_dtype(a, g, id) : PTH_F_NOTHING;
  return rc == 0 && odd ? note(a, id, ref, odd, err) : rc;
}

/* ---- persistent ids and nested files ---- */

/* ('storage', class, key, location, numel[, view]): legacy files have the view */
static bool is_storage_id(const pth_graph *g, uint32_t pid) {
  uint32_t n = pth_node_at(g, pid)->kind == PTH_NODE_TUPLE ? pth_n_items(g, pid) : 0;
  int64_t numel;
  return (n == 5 || n == 6) && pth_text_is(g, pth_item(g, pid, 0), "storage") &&
         pth_meaning_of_node(g, pth_item(g, pid, 1), NULL) == PTH_G_STORAGE && pth_as_i64(g, pth_item(g, pid, 4), &numel) && numel >= 0;
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

static int check_persistent_id(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, uint32_t id, pth_err *err) {
  uint32_t pid = pth_node_at(g, id)->a;
  bool named = t != NULL && t->store != NULL && t->store->named != NULL; /* tar: tensors and storages by the text of their key */
  bool fine = named    ? pth_is_text(pth_node_at(g, pid)) || is_tar_module_id(g, pid)
              : legacy ? is_storage_id(g, pid) || is_module_id(g, pid)
                       : is_storage_id(g, pid) && pth_n_items(g, pid) == 5;
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
  pth_pool seen = PTH_POOL(uint8_t);
  bool loads = false;
  int rc = 0;
  for (uint32_t i = 0; i < a->refs.len; i++)
    loads = loads || global_at(g, PTH_AT(pth_ref, a->refs, i).row)->meaning == PTH_G_LOAD_FROM_BYTES;
  if (loads && (rc = pth_pool_reserve(a->arena, &seen, g->nodes.len / 8 + 1, err)) == 0) memset(seen.data, 0, g->nodes.len / 8 + 1);
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len && !rc; id++) {
    uint8_t kind = pth_node_at(g, id)->kind;
    if (kind == PTH_NODE_PERSID) rc = check_persistent_id(a, g, t, legacy, id, err);
    if (kind != PTH_NODE_OBJECT) continue;
    rc = check_call(a, g, t, id, err);
    if (rc == 0 && loads && pth_is_meant(g, id, PTH_G_LOAD_FROM_BYTES)) rc = check_nested(a, g, id, lim, seen.data, err);
  }
  pth_pool_free(a->arena, &seen);
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

void pth_audit_spans(const pth_graph *g, const pth_store *s, uint8_t *used) {
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    const pth_node *n = pth_node_at(g, id);
    if (n->kind != PTH_NODE_PERSID || !is_storage_id(g, n->a)) continue;
    const pth_node *key = pth_node_at(g, pth_item(g, n->a, 2));
    uint32_t span = pth_is_text(key) ? pth_store_find(s, pth_slice(g, key)) : PTH_NONE;
    if (span != PTH_NONE) used[span] = 1;
  }
}
