/* Design
 *
 *   walk      an explicit stack of frames. A frame goes through the phases of its node (a dict has one, an object up to five), and each
 *             phase gives children with the component that names them. A container that is finished with no tensor below it is never
 *             entered again, so that often-shared ones stay cheap.
 *
 * Linear    What a walk over shared containers multiplies is counted in `steps`; all names together are bounded by the pickle's length. */
#include "names.h"

typedef struct walk {
  pth_rows *rows;
  pth_tensors *t;
  const pth_graph *g;
  const pth_limits *lim;
  pth_err *err;
  pth_pool frames;
  pth_pool slots;   /* keys of the dict at hand */
  pth_pool dropped; /* bit set of the keys that have no name: overwritten by a later equal one, or never saved */
  uint64_t name_bytes, max_name_bytes;
  uint64_t steps, max_steps; /* children looked at: what sharing can multiply */
} walk;

static uint32_t decimal_len(uint64_t v) {
  uint32_t n = 1;
  while (v >= 10) v /= 10, n++;
  return n;
}

/* The bytes of one component; written if `out` is not NULL. Text in no encoding is taken for Latin-1. */
static uint64_t component(const pth_graph *g, const pth_path *p, uint8_t *out) {
  static const char strange[] = "<key ";
  int64_t v = p->key;
  bool negative = false;
  uint64_t n = 0;
  if (p->kind == PTH_P_ROOT) return 0;
  if (p->kind == PTH_P_KEY) {
    const pth_node *node = pth_node_at(g, p->key);
    if (pth_is_text(node)) {
      pth_bytes b = pth_slice(g, node);
      if (node->kind == PTH_NODE_STR || pth_utf8_valid(b.data, b.len) == b.len) {
        if (out && b.len) memcpy(out, b.data, (size_t)b.len);
        return b.len;
      }
      for (uint64_t i = 0; i < b.len; i++) {
        if (b.data[i] < 0x80) {
          if (out) out[n] = b.data[i];
          n++;
        } else {
          if (out) out[n] = (uint8_t)(0xc0 | b.data[i] >> 6), out[n + 1] = (uint8_t)(0x80 | (b.data[i] & 0x3f));
          n += 2;
        }
      }
      return n;
    }
    static const char *const words[] = {"None", "False", "True"};
    if (node->kind <= PTH_NODE_TRUE) {
      n = strlen(words[node->kind]);
      if (out) memcpy(out, words[node->kind], (size_t)n);
      return n;
    }
    v = pth_i64_of(node->b);
    negative = v < 0;
  }
  uint64_t magnitude = negative ? (uint64_t)0 - (uint64_t)v : (uint64_t)v;
  uint32_t digits = decimal_len(magnitude);
  uint64_t before = p->kind == PTH_P_STRANGE ? sizeof strange - 1 : negative ? 1 : 0;
  n = before + digits + (p->kind == PTH_P_STRANGE ? 1 : 0);
  if (out == NULL) return n;
  if (before) memcpy(out, p->kind == PTH_P_STRANGE ? strange : "-", (size_t)before);
  for (uint32_t i = digits; i-- > 0; magnitude /= 10) out[before + i] = (uint8_t)('0' + magnitude % 10);
  if (p->kind == PTH_P_STRANGE) out[n - 1] = '>';
  return n;
}

void pth_path_write(const pth_tensors *t, uint32_t path, uint8_t *out) {
  const pth_path *p = &PTH_AT(pth_path, t->paths, path);
  for (uint32_t end = p->len;; p = &PTH_AT(pth_path, t->paths, p->parent)) {
    uint32_t len = (uint32_t)component(t->graph, p, NULL);
    component(t->graph, p, out + end - len);
    end -= len;
    if (p->sep) out[--end] = p->sep;
    if (p->parent == PTH_NONE) return;
  }
}

static int new_path(walk *w, pth_path p, uint32_t *id) {
  pth_tensors *t = w->t;
  int rc = pth_pool_room(t->arena, &t->paths, w->err);
  if (rc) return rc;
  uint64_t len = component(w->g, &p, NULL) + (p.sep != 0) + (p.parent == PTH_NONE ? 0 : PTH_AT(pth_path, t->paths, p.parent).len);
  p.len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
  if (len >= UINT32_MAX) return pth_fail(w->err, PTH_E_LIMIT_NAME_BYTES, 0, len, w->lim->max_name_bytes);
  *id = t->paths.len++;
  PTH_AT(pth_path, t->paths, *id) = p;
  return 0;
}

static int new_name(walk *w, uint32_t path, uint32_t row) {
  pth_tensors *t = w->t;
  if (t->names.len >= w->lim->max_names) return pth_fail(w->err, PTH_E_LIMIT_NAMES, 0, t->names.len, w->lim->max_names);
  const pth_path *p = &PTH_AT(pth_path, t->paths, path);
  if (p->kind != PTH_P_KEY || p->parent != 0 || pth_node_at(w->g, p->key)->kind != PTH_NODE_STR || p->owner != w->g->root ||
      p->len > PTH_LONGEST_TEXT)
    t->flat = false;
  w->name_bytes += p->len;
  if (w->name_bytes > w->max_name_bytes) return pth_fail(w->err, PTH_E_LIMIT_NAME_BYTES, 0, w->name_bytes, w->max_name_bytes);
  int rc = pth_pool_room(t->arena, &t->names, w->err);
  if (rc == 0) PTH_AT(pth_name, t->names, t->names.len++) = (pth_name){path, row};
  return rc;
}

/* ---- the walk ---- */

/* What a module is walked by, in the order of state_dict(). OBJECTS: packed weights of quantized modules, among its attributes. */
enum part { PARAMETERS, BUFFERS, OBJECTS, MODULES, N_PARTS };
enum frame_kind { WALK_PLAIN, WALK_MODULE, WALK_SCRIPT, WALK_STATE };
enum source_kind { FROM_NOTHING, FROM_ITEMS, FROM_PAIRS, FROM_PAIR_LIST, FROM_STATES };

typedef struct frame {
  uint32_t node, path;
  uint32_t next_chunk, at, left; /* pth_items */
  uint32_t index;                /* of the child to come */
  uint32_t mapping;              /* whose pairs this phase begins, or PTH_NONE */
  uint8_t kind, phase, source;
  bool full;      /* a tensor lies below */
  bool outermost; /* of a module: its own names join what stands above by '/', not by '.' */
} frame;

static bool is_part(const frame *f, enum part part) { return f->kind == WALK_MODULE && (f->phase - 1) / 2 == (int)part; }

static frame *top_frame(walk *w) { return &PTH_AT(frame, w->frames, w->frames.len - 1); }

/* Values in the states of an object: what one look-up of an attribute costs. */
static uint64_t state_size(const pth_graph *g, uint32_t id) {
  const pth_node *object = pth_node_at(g, id);
  if (object->kind != PTH_NODE_OBJECT) return 0;
  const pth_ext *ext = pth_ext_of(g, object);
  uint64_t n = pth_is_meant(g, id, PTH_G_GRAPH_MODULE) ? pth_n_pairs(g, pth_item(g, pth_args_of(object), 0)) : 0;
  if (ext == NULL) return n;
  pth_items it = pth_items_of_list(g, ext->states);
  for (uint32_t state; pth_items_next(&it, &state);) n += 1 + pth_n_items(g, state);
  return n;
}

static bool is_module(const pth_graph *g, uint32_t id) {
  return pth_attribute(g, id, "_parameters") != PTH_NONE && pth_attribute(g, id, "_modules") != PTH_NONE;
}

static bool is_script(const pth_graph *g, uint32_t id) { return pth_is_meant(g, id, PTH_G_SCRIPT); }

static void set_items(frame *f, pth_items it, uint8_t source) {
  f->next_chunk = it.next_chunk;
  f->at = it.at;
  f->left = it.left;
  f->source = source;
  f->index = 0;
}

static void set_mapping(walk *w, frame *f, uint32_t mapping, uint32_t stage) {
  pth_pairs p;
  if (mapping == PTH_NONE || !pth_pairs_of(w->g, mapping, &p)) return;
  if (stage == 0) {
    set_items(f, p.it, p.from_list ? FROM_PAIR_LIST : FROM_PAIRS);
    f->mapping = mapping;
  } else {
    set_items(f, p.later, FROM_PAIRS);
  }
}

/* Opens the next phase of a frame; false: there is none. */
static bool next_phase(walk *w, frame *f) {
  const pth_graph *g = w->g;
  const pth_node *n = pth_node_at(g, f->node);
  uint8_t phase = f->phase++;
  f->source = FROM_NOTHING;
  f->mapping = PTH_NONE;
  if (f->kind == WALK_MODULE) {
    static const char *const names[] = {"_parameters", "_buffers", NULL, "_modules"};
    if (phase >= 2 * N_PARTS) return false;
    if (names[phase / 2])
      set_mapping(w, f, pth_attribute(g, f->node, names[phase / 2]), phase % 2);
    else
      set_mapping(w, f, pth_last_state(g, f->node), phase % 2);
    return true;
  }
  if (n->kind != PTH_NODE_OBJECT) {
    if (phase) return false;
    bool pairs = n->kind == PTH_NODE_DICT;
    set_items(f, pth_items_of(g, f->node), pairs ? FROM_PAIRS : f->kind == WALK_STATE ? FROM_STATES : FROM_ITEMS);
    if (pairs) f->mapping = f->node;
    return true;
  }
  pth_pairs p;
  const pth_ext *ext = pth_ext_of(g, n);
  bool mapping = pth_pairs_of(g, f->node, &p);
  switch (phase) {
    case 0:
      if (mapping)
        set_mapping(w, f, f->node, 0);
      else
        set_items(f, pth_items_of(g, pth_args_of(n)), FROM_ITEMS);
      if (!mapping || f->next_chunk || f->left) w->t->flat = false; /* two runs of names: equal ones are possible */
      return true;
    case 1:
      if (mapping)
        set_mapping(w, f, f->node, 1);
      else if (ext)
        set_items(f, pth_items_of_list(g, ext->pairs), FROM_PAIRS);
      return true;
    case 2:
      if (ext) set_items(f, pth_items_of_list(g, ext->items), FROM_ITEMS);
      return true;
    case 3:
      if (ext && ext->kwargs != PTH_NONE) set_mapping(w, f, ext->kwargs, 0);
      return true;
    case 4:
      if (ext && !mapping) set_items(f, pth_items_of_list(g, ext->states), FROM_STATES);
      return true;
    default:
      return false;
  }
}

/* ---- pairs that have no name ---- */

/* Where in kids the next item of a walk stands. */
static uint32_t next_at(const pth_items *it) {
  return it->left ? it->at : it->next_chunk ? PTH_AT(pth_chunk, it->g->chunks, it->next_chunk).at : 0;
}

/* Empties `slots`, with room for n keys: places in kids + 1. */
static int clear_slots(walk *w, uint32_t n) {
  uint64_t size = 4;
  while (size < (uint64_t)n * 2) size *= 2;
  w->slots.len = 0;
  int rc = pth_pool_reserve(w->t->arena, &w->slots, size, w->err);
  if (rc) return rc;
  w->slots.len = (uint32_t)size;
  memset(w->slots.data, 0, (size_t)size * sizeof(uint32_t));
  return 0;
}

/* The slot of a key, or the empty one where it belongs. */
static uint32_t *slot_of(walk *w, uint32_t key) {
  uint32_t mask = w->slots.len - 1;
  for (uint32_t i = (uint32_t)pth_key_hash(w->g, key) & mask;; i = (i + 1) & mask) {
    uint32_t *slot = &PTH_AT(uint32_t, w->slots, i);
    if (*slot == 0 || pth_same_key(w->g, PTH_AT(uint32_t, w->g->kids, *slot - 1), key)) return slot;
  }
}

/* `key_at`: where the pair's key stands in kids. */
static int drop(walk *w, uint32_t key_at) {
  if (w->dropped.len == 0) {
    uint32_t n = w->g->kids.len / 8 + 1;
    int rc = pth_pool_reserve(w->t->arena, &w->dropped, n, w->err);
    if (rc) return rc;
    w->dropped.len = n;
    memset(w->dropped.data, 0, n);
  }
  PTH_AT(uint8_t, w->dropped, key_at / 8) |= (uint8_t)(1u << key_at % 8);
  return 0;
}

static bool is_dropped(const walk *w, uint32_t key_at) {
  return w->dropped.len && (PTH_AT(uint8_t, w->dropped, key_at / 8) >> key_at % 8 & 1) != 0;
}

/* The next key of a mapping, and where it stands in kids. */
static bool next_key(pth_pairs *it, uint32_t *key, uint32_t *key_at) {
  uint32_t value;
  while (it->from_list) {
    uint32_t pair;
    if (!pth_items_next(&it->it, &pair)) {
      it->from_list = false;
      it->it = it->later;
      it->later = (pth_items){.g = it->it.g};
      break;
    }
    pth_items parts = pth_items_of(it->it.g, pair);
    *key_at = next_at(&parts);
    if (pth_n_items(it->it.g, pair) == 2 && pth_items_next(&parts, key)) return true;
  }
  for (int run = 0; run < 2; run++) {
    *key_at = next_at(&it->it);
    if (pth_items_next(&it->it, key)) return pth_items_next(&it->it, &value);
    it->it = it->later;
    it->later = (pth_items){.g = it->it.g};
  }
  return false;
}

/* Drops the pairs of a mapping that a later equal key overwrites: those are in no dict that Python would build. */
static int drop_overwritten(walk *w, uint32_t mapping) {
  pth_pairs it;
  uint32_t key, key_at;
  if (!pth_pairs_of(w->g, mapping, &it) || it.n < 2) return 0;
  int rc = clear_slots(w, it.n);
  while (!rc && next_key(&it, &key, &key_at)) {
    uint32_t *slot = slot_of(w, key);
    if (*slot != 0 && *slot != key_at + 1) rc = drop(w, *slot - 1);
    *slot = key_at + 1;
  }
  return rc;
}

/* Drops the buffers of a module that it lists as not to be saved: in a set, or in set([...]) of old protocols. */
static int drop_listed(walk *w, uint32_t module, uint32_t buffers) {
  const pth_graph *g = w->g;
  uint32_t set = pth_attribute(g, module, "_non_persistent_buffers_set"), key = PTH_NONE, key_at;
  if (set != PTH_NONE && pth_node_at(g, set)->kind == PTH_NODE_OBJECT) set = pth_item(g, pth_args_of(pth_node_at(g, set)), 0);
  pth_pairs it;
  if (set == PTH_NONE || pth_n_items(g, set) == 0 || !pth_pairs_of(g, buffers, &it)) return 0;
  int rc = clear_slots(w, pth_n_items(g, set));
  if (rc) return rc;
  w->steps += pth_n_items(g, set);
  pth_items members = pth_items_of(g, set);
  for (uint32_t at = next_at(&members); pth_items_next(&members, &key); at = next_at(&members)) *slot_of(w, key) = at + 1;
  while (!rc && next_key(&it, &key, &key_at)) {
    if (*slot_of(w, key) != 0) rc = drop(w, key_at);
  }
  return rc;
}

/* The next child of a frame's phase: its node, and the path that names it (not made yet). False: the phase is over. */
static bool next_child(walk *w, frame *f, uint32_t *child, pth_path *name) {
  const pth_graph *g = w->g;
  pth_items it = {.g = g, .next_chunk = f->next_chunk, .at = f->at, .left = f->left};
  uint32_t key = PTH_NONE;
  bool more = false, pair = f->source == FROM_PAIRS || f->source == FROM_PAIR_LIST;
  while (!more) {
    uint32_t first, at = next_at(&it);
    if (f->source == FROM_NOTHING || !pth_items_next(&it, &first)) break;
    *child = first;
    if (f->source == FROM_PAIRS) {
      key = first;
      if (!pth_items_next(&it, child)) break;
      f->index++;
      more = !is_dropped(w, at);
    } else if (f->source == FROM_PAIR_LIST) {
      pth_items parts = pth_items_of(g, first);
      at = next_at(&parts);
      f->index++;
      more = pth_n_items(g, first) == 2 && pth_items_next(&parts, &key) && pth_items_next(&parts, child) && !is_dropped(w, at);
    } else {
      f->index++;
      more = true;
    }
  }
  f->next_chunk = it.next_chunk;
  f->at = it.at;
  f->left = it.left;
  if (!more) return false;
  uint8_t kind = PTH_P_INDEX;
  if (pair) {
    uint8_t k = pth_node_at(g, key)->kind;
    bool plain = pth_is_text(pth_node_at(g, key)) || k == PTH_NODE_INT || k <= PTH_NODE_TRUE;
    kind = plain ? PTH_P_KEY : PTH_P_STRANGE;
  }
  bool dotted = f->kind == WALK_MODULE || f->kind == WALK_SCRIPT;
  uint8_t above = PTH_AT(pth_path, w->t->paths, f->path).kind;
  *name = (pth_path){.parent = f->path,
                     .key = kind == PTH_P_KEY ? key : f->index - 1,
                     .owner = f->node,
                     .kind = kind,
                     .sep = above == PTH_P_ROOT       ? 0
                            : dotted && !f->outermost ? '.'
                                                      : '/'};
  return true;
}

static bool is_container(const pth_graph *g, uint32_t id) {
  uint8_t k = pth_node_at(g, id)->kind;
  return k == PTH_NODE_OBJECT || (k >= PTH_NODE_TUPLE && k <= PTH_NODE_DICT);
}

static int enter(walk *w, uint32_t node, uint32_t path, uint8_t kind, bool outermost) {
  int rc = pth_pool_room(w->t->arena, &w->frames, w->err);
  if (rc) return rc;
  PTH_AT(uint32_t, w->t->by_node, node) = PTH_ON_PATH;
  frame f = {.node = node, .path = path, .kind = kind, .outermost = outermost};
  PTH_AT(frame, w->frames, w->frames.len++) = f;
  return 0;
}

/* A child was found under a name: a tensor, a container to enter, or a plain value. */
static int visit(walk *w, frame *f, uint32_t child, const pth_path *name) {
  const pth_graph *g = w->g;
  bool parent_dotted = f->kind == WALK_MODULE || f->kind == WALK_SCRIPT;
  uint8_t parent_kind = f->kind;
  uint32_t path = f->path, row;
  bool same_path = f->source == FROM_STATES;
  int rc;
  child = pth_unwrap(g, child);
  if (child == PTH_NONE) return 0;
  if (is_part(f, OBJECTS) && !pth_is_meant(g, child, PTH_G_SCRIPT_OBJECT)) return 0;
  if (is_part(f, MODULES)) {
    w->steps += state_size(g, child);
    if (!is_module(g, child) && !is_script(g, child)) return 0;
  }
  bool tensor = pth_rebuilds_tensor(g, child) || pth_is_named_tensor(w->rows, child);
  if (!tensor) {
    if (!is_container(g, child)) return 0;
    uint32_t seen = PTH_AT(uint32_t, w->t->by_node, child);
    if (seen == PTH_ON_PATH || seen == PTH_DONE_EMPTY) return 0;
    w->steps += state_size(g, child);
  }
  if (!same_path && (rc = new_path(w, *name, &path)) != 0) return rc;
  if (tensor) {
    top_frame(w)->full = true;
    if ((rc = pth_row_for(w->rows, child, &row)) != 0) return rc;
    return new_name(w, path, row);
  }
  uint8_t kind = WALK_PLAIN;
  if (pth_node_at(g, child)->kind == PTH_NODE_OBJECT)
    kind = is_module(g, child) ? WALK_MODULE : is_script(g, child) ? WALK_SCRIPT : WALK_PLAIN;
  if (same_path && pth_node_at(g, child)->kind == PTH_NODE_TUPLE && pth_n_items(g, child) == 2 && parent_kind != WALK_STATE)
    kind = WALK_STATE;
  if (same_path && pth_node_at(g, child)->kind == PTH_NODE_DICT) kind = parent_kind == WALK_SCRIPT ? WALK_SCRIPT : kind;
  bool dotted = kind == WALK_MODULE || kind == WALK_SCRIPT;
  bool first = dotted && (same_path ? f->outermost : !parent_dotted);
  return enter(w, child, path, kind, first);
}

/* Tuples of plain values need no visit. They name only nodes before them, so one pass in order finds them, however deep they lie. */
static void pass_by_plain_tuples(walk *w) {
  const pth_graph *g = w->g;
  uint32_t *by_node = w->t->by_node.data;
  by_node[PTH_NODE_EMPTY_TUPLE] = PTH_DONE_EMPTY;
  for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
    uint8_t kind = pth_node_at(g, id)->kind;
    if (kind != PTH_NODE_TUPLE && kind != PTH_NODE_FROZENSET) continue;
    bool plain = true;
    pth_items it = pth_items_of(g, id);
    for (uint32_t kid; plain && pth_items_next(&it, &kid);)
      plain = pth_node_at(g, kid)->kind < PTH_NODE_TUPLE || pth_node_at(g, kid)->kind == PTH_NODE_GLOBAL || by_node[kid] == PTH_DONE_EMPTY;
    if (plain) by_node[id] = PTH_DONE_EMPTY;
  }
}

static int walk_all(walk *w) {
  pass_by_plain_tuples(w);
  w->max_steps = UINT64_C(64) * w->g->kids.len + 100000;
  while (w->frames.len) {
    frame *f = top_frame(w);
    uint32_t child;
    pth_path name;
    if (++w->steps > w->max_steps) return pth_fail(w->err, PTH_E_LIMIT_NAMES, 0, w->t->names.len, w->lim->max_names);
    if (next_child(w, f, &child, &name)) {
      int rc = visit(w, f, child, &name);
      if (rc) return rc;
      continue;
    }
    if (next_phase(w, f)) {
      int rc = f->mapping == PTH_NONE ? 0 : drop_overwritten(w, f->mapping);
      if (rc == 0 && f->mapping != PTH_NONE && is_part(f, BUFFERS)) rc = drop_listed(w, f->node, f->mapping);
      if (rc) return rc;
      continue;
    }
    bool full = f->full;
    PTH_AT(uint32_t, w->t->by_node, f->node) = full ? PTH_DONE_FULL : PTH_DONE_EMPTY;
    w->frames.len--;
    if (full && w->frames.len) top_frame(w)->full = true;
  }
  return 0;
}

static int name_root(walk *w) {
  const pth_graph *g = w->g;
  uint32_t path, row, root = pth_unwrap(g, g->root);
  w->t->flat = true;
  /* The limit, and what a pickle of this length can need: a prefix is shared by all names below it, but not without end. */
  w->max_name_bytes = UINT64_C(16) * g->end + (1 << 16);
  if (w->max_name_bytes > w->lim->max_name_bytes) w->max_name_bytes = w->lim->max_name_bytes;
  int rc = new_path(w, (pth_path){.parent = PTH_NONE, .kind = PTH_P_ROOT, .owner = g->root}, &path);
  if (rc || root == PTH_NONE) return rc;
  if (pth_rebuilds_tensor(g, root) || pth_is_named_tensor(w->rows, root)) {
    rc = pth_row_for(w->rows, root, &row);
    return rc ? rc : new_name(w, path, row);
  }
  if (!is_container(g, root)) return 0;
  bool module = is_module(g, root);
  w->t->whole_module = module || is_script(g, root);
  if (w->t->whole_module) w->t->flat = false; /* a parameter and a buffer can have one name */
  rc = enter(w, root, path, module ? WALK_MODULE : is_script(g, root) ? WALK_SCRIPT : WALK_PLAIN, true);
  return rc ? rc : walk_all(w);
}

int pth_name_all(pth_rows *rows) {
  walk w = {.rows = rows,
            .t = rows->t,
            .g = rows->g,
            .lim = rows->lim,
            .err = rows->err,
            .frames = PTH_POOL(frame),
            .slots = PTH_POOL(uint32_t),
            .dropped = PTH_POOL(uint8_t)};
  int rc = name_root(&w);
  pth_pool_free(w.t->arena, &w.frames);
  pth_pool_free(w.t->arena, &w.slots);
  pth_pool_free(w.t->arena, &w.dropped);
  return rc;
}
