#include "audit.h"

#include "gadget.h"
#include "legacy.h"
#include "numpy.h"
#include "parts.h"
#include "shape.h"

static const pth_global *global_at(const pth_graph *g, uint32_t row) { return &PTH_AT(pth_global, g->globals, row); }

/* ---- calls ---- */

/* (function, type, its arguments, attributes) */
static bool from_type_fits(pth_facts *f, uint32_t args) {
  const pth_graph *g = f->g;
  enum pth_meaning made = pth_meaning_of_node(g, pth_item(g, args, 0), NULL), type = pth_meaning_of_node(g, pth_item(g, args, 1), NULL);
  bool tensor = type == PTH_G_TENSOR_TYPE || type == PTH_G_PARAMETER_CLASS || type == PTH_G_UNKNOWN;
  if (made == PTH_G_NESTED_JAGGED ? type != PTH_G_NESTED_TYPE : !tensor) return false;
  return pth_is_tensor_meaning(made) && made != PTH_G_FROM_TYPE && made != PTH_G_TENSOR_CLASS && made != PTH_G_PARAMETER_CLASS &&
         pth_args_fit(f, pth_item(g, args, 2), false, pth_meanings[made].calls);
}

/* (class, object, None) of classes that hold plain values, (class, str, text) of a text's; any other class is not known anyway. Only a
 * class that is not known has slots to set, or methods to fill it by. */
static bool reconstructor_fits(const pth_graph *g, uint32_t id) {
  const pth_node *call = pth_node_at(g, id);
  uint32_t args = pth_args_of(call), third = pth_item(g, args, 2);
  enum pth_meaning cls = pth_meaning_of_node(g, pth_item(g, args, 0), NULL), base = pth_meaning_of_node(g, pth_item(g, args, 1), NULL);
  const pth_ext *ext = pth_ext_of(g, call);
  if (cls == PTH_G_UNKNOWN || cls == PTH_G_SCRIPT) return true;
  if (ext != NULL && (ext->items.n || ext->pairs.n)) return false;
  if (ext != NULL && ext->states.n && pth_node_at(g, pth_last_state(g, id))->kind != PTH_NODE_DICT) return false;
  if (cls == PTH_G_TEXT_CLASS) return base == PTH_G_NAMED && pth_is_text(pth_node_at(g, third));
  return cls == PTH_G_HARMLESS && base == PTH_G_HARMLESS && third == PTH_NODE_NONE;
}

static bool tensor_call_fits(pth_facts *f, const pth_tensors *t, uint32_t id, enum pth_meaning m) {
  const pth_node *n = pth_node_at(f->g, id);
  const pth_ext *ext = pth_ext_of(f->g, n);
  uint32_t n_states = ext == NULL ? 0 : ext->states.n;
  if (!pth_call_fits(f, n, pth_meanings[m].calls) || !pth_rebuilds_tensor(f->g, id)) return false;
  if (m == PTH_G_FROM_TYPE && !from_type_fits(f, pth_args_of(n))) return false;
  if (n_states && (n_states > 1 || pth_n_items(f->g, pth_args_of(n)) > 0)) return false; /* a class is given its tensor once */
  return t == NULL || pth_parts_fit(f->g, t, id, m);
}

static int note(pth_audit *a, uint32_t node, uint32_t ref, uint16_t finding, pth_err *err) {
  a->n_odds++;
  if (a->n_of[finding] >= PTH_AUDIT_MOST_ODDS) return 0;
  a->n_of[finding]++;
  int rc = pth_pool_room(a->arena, &a->odds, err);
  if (rc == 0) PTH_AT(pth_odd, a->odds, a->odds.len++) = (pth_odd){node, ref, finding};
  return rc;
}

/* getattr(owner, 'name'): what an enumeration's member or a method is pickled as. The owner is a class, an instance or a plain value, and
 * never what a function returned, which may be a module. Names that begin with two underscores lead into the interpreter. */
static bool names_a_member(pth_facts *f, const pth_node *call) {
  const pth_graph *g = f->g;
  if (!pth_call_fits(f, call, pth_meanings[PTH_G_GETATTR].calls)) return false;
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

/* Of a value, or of what lies in a tuple or list: pairs of an OrderedDict, the parts of a state. */
static bool any_changes(pth_audit *a, const pth_graph *g, uint32_t id, uint32_t place) {
  uint8_t kind = pth_node_at(g, id)->kind;
  if (changes_behind(g, id, place)) return true;
  if (kind != PTH_NODE_TUPLE && kind != PTH_NODE_LIST) return false;
  pth_items it = pth_items_of(g, id);
  for (uint32_t kid; pth_items_next(&it, &kid);) {
    if (pth_spent(&a->left) || changes_behind(g, kid, place)) return true;
  }
  return false;
}

static bool changed_later(pth_audit *a, const pth_graph *g, const pth_node *call) {
  const pth_node *args = pth_node_at(g, pth_args_of(call));
  pth_items it = pth_items_of(g, pth_args_of(call));
  if (args->kind == PTH_NODE_TUPLE && args->a) {
    for (uint32_t arg; pth_items_next(&it, &arg);) {
      if (pth_spent(&a->left) || any_changes(a, g, arg, (uint32_t)args->b)) return true;
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

/* ---- all calls ---- */

static bool is_latin1(const pth_graph *g, uint32_t codec) { return pth_text_is(g, codec, "latin1") || pth_text_is(g, codec, "latin-1"); }

/* getattr(ZoneInfo, '_unpickle'), which is called: how zones of times are pickled. */
static bool unpickles_a_zone(const pth_graph *g, uint32_t attribute) {
  uint32_t args = pth_args_of(pth_node_at(g, attribute));
  return pth_is_meant(g, attribute, PTH_G_GETATTR) && pth_meaning_of_node(g, pth_item(g, args, 0), NULL) == PTH_G_ZONE &&
         pth_text_is(g, pth_item(g, args, 1), "_unpickle");
}

static int check_call(pth_audit *a, pth_facts *f, const pth_tensors *t, uint32_t id, pth_err *err) {
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
  if (m == PTH_G_GRAPH_MODULE) return pth_push_u32(a->arena, &a->traced, id, err);
  if (pth_is_gadget(m)) {
    r->misused = r->misused || !pth_gadget_call_fits(f, id, m);
    return 0;
  }
  if (!known->handled) return 0; /* whatever it does with them, it is not known */
  bool fine = pth_is_tensor_meaning(m) ? tensor_call_fits(f, t, id, m) : pth_call_fits(f, call, known->calls);
  bool encodes = m == PTH_G_CODECS_ENCODE || (m == PTH_G_BYTEARRAY && pth_n_items(g, pth_args_of(call)) == 2);
  if (fine && encodes) fine = is_latin1(g, pth_item(g, pth_args_of(call), 1));
  if (ext != NULL && ext->kwargs != PTH_NONE) fine = false;
  if (fine && m == PTH_G_RECONSTRUCTOR) fine = reconstructor_fits(g, id);
  if (fine) fine = pth_numpy_call_fits(g, id, m);
  int rc = fine ? 0 : note(a, id, ref, PTH_F_CALL_ARGUMENTS, err);
  if (rc == 0 && ext != NULL && !pth_additions_fit(f, ext, known)) rc = note(a, id, ref, PTH_F_BUILD_TARGET, err);
  if (rc == 0 && changed_later(a, g, call)) rc = note(a, id, ref, PTH_F_CHANGED_LATER, err);
  uint16_t odd = m == PTH_G_NUMPY_DTYPE ? pth_numpy_dtype_odd(g, id, &a->left) : PTH_F_NOTHING;
  return rc == 0 && odd ? note(a, id, ref, odd, err) : rc;
}

/* ---- persistent ids and nested files ---- */

/* ('storage', class, key, location, numel), and in legacy files the view: (key, offset, numel) or None. */
static bool is_storage_id(pth_facts *f, uint32_t pid, bool legacy) {
  const pth_graph *g = f->g;
  const char *shape = legacy ? "sgsszn|sgssz(szz)" : "sgssz";
  return pth_args_fit(f, pid, false, shape) && pth_text_is(g, pth_item(g, pid, 0), "storage") &&
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

/* ('storage', class, key, location, numel) of torch.package, whose keys are numbers; TorchScript in it has texts. */
static bool is_package_id(pth_facts *f, uint32_t pid) {
  const pth_graph *g = f->g;
  return pth_args_fit(f, pid, false, "sgzsz|sgssz") && pth_text_is(g, pth_item(g, pid, 0), "storage") &&
         pth_meaning_of_node(g, pth_item(g, pid, 1), NULL) == PTH_G_STORAGE &&
         pth_is_device(pth_slice(g, pth_node_at(g, pth_item(g, pid, 3)))) && pth_i64_of(pth_node_at(g, pth_item(g, pid, 4))->b) >= 0;
}

/* ('reduce_package', number, function, arguments): what its loader calls the function with. Once without the number. */
static bool is_reducer(const pth_graph *g, uint32_t pid) {
  uint32_t n = pth_node_at(g, pid)->kind == PTH_NODE_TUPLE ? pth_n_items(g, pid) : 0;
  return (n == 3 || n == 4) && pth_text_is(g, pth_item(g, pid, 0), "reduce_package") &&
         pth_node_at(g, pth_item(g, pid, n - 2))->kind == PTH_NODE_GLOBAL &&
         pth_node_at(g, pth_item(g, pid, n - 1))->kind == PTH_NODE_TUPLE;
}

static int check_persistent_id(pth_audit *a, pth_facts *f, const pth_tensors *t, bool legacy, uint32_t id, pth_err *err) {
  const pth_graph *g = f->g;
  uint32_t pid = pth_node_at(g, id)->a;
  bool named = t != NULL && t->store != NULL && t->store->named != NULL; /* tar: tensors and storages by the text of their key */
  bool package = t != NULL && t->store != NULL && t->store->suffix.len != 0;
  if (package && is_reducer(g, pid)) return note(a, id, PTH_NONE, PTH_F_REDUCER, err);
  bool fine = named     ? pth_is_text(pth_node_at(g, pid)) || is_tar_module_id(g, pid)
              : package ? is_package_id(f, pid)
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

/* Is the function that loads bytes given away, to be called by who knows whom, or one of gadget.h? */
static int check_given_away(pth_audit *a, const pth_graph *g, pth_err *err) {
  pth_pool places = PTH_POOL(uint8_t);
  int rc = pth_gadget_places(g, &places, err);
  for (uint32_t i = 0; i < g->kids.len && !rc; i++) {
    uint32_t id = PTH_AT(uint32_t, g->kids, i);
    if (pth_node_at(g, id)->kind != PTH_NODE_GLOBAL) continue;
    enum pth_meaning m = pth_meaning_of_node(g, id, NULL);
    uint32_t ref = PTH_AT(uint32_t, a->ref_of, pth_node_at(g, id)->a);
    if (m == PTH_G_LOAD_FROM_BYTES) rc = note(a, id, ref, PTH_F_NESTED_ELSEWHERE, err);
    if (pth_is_gadget(m) && !(PTH_AT(uint8_t, places, i / 8) >> i % 8 & 1)) PTH_AT(pth_ref, a->refs, ref).misused = true;
  }
  pth_pool_free(a->arena, &places);
  return rc;
}

static int check_nodes(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim, pth_err *err) {
  pth_facts f;
  pth_pool seen = PTH_POOL(uint8_t);
  bool loads = false, gadgets = false;
  int rc = pth_facts_learn(&f, g, err);
  for (uint32_t i = 0; i < a->refs.len; i++) {
    enum pth_meaning m = (enum pth_meaning)global_at(g, PTH_AT(pth_ref, a->refs, i).row)->meaning;
    loads = loads || m == PTH_G_LOAD_FROM_BYTES;
    gadgets = gadgets || pth_is_gadget(m);
  }
  if (rc == 0 && loads && (rc = pth_pool_reserve(a->arena, &seen, g->nodes.len / 8 + 1, err)) == 0)
    memset(seen.data, 0, g->nodes.len / 8 + 1);
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len && !rc; id++) {
    uint8_t kind = pth_node_at(g, id)->kind;
    if (kind == PTH_NODE_PERSID) rc = check_persistent_id(a, &f, t, legacy, id, err);
    if (rc == 0 && !pth_keys_hash(&f, id)) rc = note(a, id, PTH_NONE, PTH_F_KEY, err);
    if (rc || kind != PTH_NODE_OBJECT) continue;
    rc = check_call(a, &f, t, id, err);
    if (rc == 0 && loads && pth_is_meant(g, id, PTH_G_LOAD_FROM_BYTES)) rc = check_nested(a, g, id, lim, seen.data, err);
  }
  pth_pool_free(a->arena, &seen);
  pth_facts_free(&f);
  return rc || !(loads || gadgets) ? rc : check_given_away(a, g, err);
}

int pth_audit_graph(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim, pth_err *err) {
  *a = (pth_audit){.arena = g->arena,
                   .refs = PTH_POOL(pth_ref),
                   .odds = PTH_POOL(pth_odd),
                   .nested = PTH_POOL(uint32_t),
                   .traced = PTH_POOL(uint32_t),
                   .ref_of = PTH_POOL(uint32_t)};
  a->left = (uint64_t)g->kids.len * 4;
  int rc = pth_refs_read(g, &a->refs, &a->ref_of, err);
  return rc ? rc : check_nodes(a, g, t, legacy, lim, err);
}

void pth_audit_free(pth_audit *a) {
  pth_pool_free(a->arena, &a->refs);
  pth_pool_free(a->arena, &a->odds);
  pth_pool_free(a->arena, &a->nested);
  pth_pool_free(a->arena, &a->traced);
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
    uint8_t digits[PTH_DIGITS];
    pth_bytes text;
    if (!pth_key_text(g, key, digits, &text)) continue;
    uint32_t span = pth_store_find(s, text);
    if (span != PTH_NONE) used[span] = 1;
  }
}
