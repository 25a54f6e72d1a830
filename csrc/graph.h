/* graph.h - what a pickle made: a graph of inert nodes in flat pools, and read-only walks over it.
 *
 * A node is 16 bytes and names others by index, so a DAG stays a DAG and a cycle is harmless. Immutable nodes (tuple, frozenset, call) name
 * only nodes with smaller ids; lists, dicts, sets and the later state of objects may name any. Texts are slices of the pickle, or of
 * `text` where an escape had to be decoded.
 *
 *   nodes    | NONE | FALSE | TRUE | () | 0 | 1 | ... 255 | the file's own, in the order in which opcodes made them
 *   kids     node ids: the items of each tuple; runs of items of lists, dicts (key, value, key, value) and sets
 *   chunks   the runs of one list, dict or set, chained in order (APPENDS comes in batches of 1,000)
 *   exts     what was done to an object after it was made: items appended, pairs set, states built
 *   globals  one row for each GLOBAL, STACK_GLOBAL, INST and EXT, in the order of the file: append only, so that an error hides nothing */
#ifndef PTH_GRAPH_H
#define PTH_GRAPH_H

#include "arena.h"
#include "cursor.h"
#include "limit.h"

enum pth_kind {
  PTH_NODE_NONE,
  PTH_NODE_FALSE,
  PTH_NODE_TRUE,
  PTH_NODE_INT,       /* b: the value */
  PTH_NODE_BIGINT,    /* slice: two's complement, little endian */
  PTH_NODE_INTTEXT,   /* slice: a literal beyond 64 bits, sign and prefix included */
  PTH_NODE_FLOAT,     /* b: the bits */
  PTH_NODE_FLOATTEXT, /* slice: a literal */
  PTH_NODE_STR,       /* slice: UTF-8, lone surrogates allowed */
  PTH_NODE_STR8,      /* slice: str of Python 2: bytes in no known encoding */
  PTH_NODE_BYTES,     /* slice */
  PTH_NODE_BYTEARRAY, /* slice */
  PTH_NODE_TUPLE,     /* a: items, b: their start in kids */
  PTH_NODE_FROZENSET, /* the same */
  PTH_NODE_LIST,      /* a: first chunk, b: last chunk | items << 32 */
  PTH_NODE_SET,       /* the same */
  PTH_NODE_DICT,      /* the same; items counts keys and values */
  PTH_NODE_GLOBAL,    /* a: row of globals */
  PTH_NODE_OBJECT,    /* a: callable, b: arguments (a tuple, or an object) | ext << 32; flags: enum pth_how */
  PTH_NODE_PERSID     /* a: the persistent id */
};

enum pth_how { PTH_HOW_REDUCE, PTH_HOW_NEWOBJ, PTH_HOW_NEWOBJ_EX, PTH_HOW_OBJ, PTH_HOW_INST };

#define PTH_NODE_EMPTY_TUPLE 3
#define PTH_NODE_SMALL_INT 4 /* + 0..255 */
#define PTH_N_FIXED (PTH_NODE_SMALL_INT + 256)
#define PTH_IN_TEXT 1u    /* flag of a slice: it lies in pth_graph.text */
#define PTH_UNHASHABLE 1u /* flag of a tuple: it holds, however deep, what Python cannot hash */
#define PTH_COMPUTED 4u   /* flag of a global's module or name: what a call made stood there */
#define PTH_COMPUTED_TEXT "<computed>"

typedef struct pth_node {
  uint8_t kind;
  uint8_t flags;
  uint16_t hi; /* slices: bits 32..47 of the length */
  uint32_t a;  /* slices: low bits of the length */
  uint64_t b;  /* slices: offset */
} pth_node;

typedef struct pth_chunk {
  uint32_t next; /* 0: the last one */
  uint32_t n;
  uint32_t at;
} pth_chunk;

typedef struct pth_list { /* a chain of chunks; all zero = empty */
  uint32_t head, tail, n;
} pth_list;

typedef struct pth_ext {
  uint32_t kwargs; /* node, or PTH_NONE */
  pth_list items, pairs, states;
} pth_ext;

enum pth_meaning {
#define X(MEANING, ...) PTH_G_##MEANING,
#include "defs/meanings.def"
#undef X
  PTH_N_MEANINGS
};

enum pth_dtype_id {
#define X(ID, ...) PTH_DT_##ID,
#include "defs/dtypes.def"
#undef X
  PTH_N_DTYPES
};

typedef struct pth_dtype {
  const char *name, *storage, *numpy;
  uint8_t itemsize, packing, swap, ml;
} pth_dtype;

extern const pth_dtype pth_dtypes[PTH_N_DTYPES];

typedef struct pth_global {
  uint64_t module_off, name_off; /* slices, as in a node */
  uint32_t module_len, name_len;
  uint64_t at;     /* the opcode's byte */
  uint8_t flags;   /* PTH_IN_TEXT, PTH_COMPUTED of the module; shifted left by one: of the name */
  uint8_t op;      /* opcode */
  uint8_t meaning; /* enum pth_meaning */
  uint8_t dtype;   /* of STORAGE, DTYPE, TENSOR_CLASS */
} pth_global;

typedef struct pth_graph {
  pth_arena *arena;
  pth_bytes in; /* borrowed: the pickle, perhaps with more behind it */
  pth_pool nodes, kids, chunks, exts, globals, text;
  uint32_t root;
  uint64_t end; /* byte after STOP */
  uint64_t n_ops;
  uint8_t proto;        /* highest PROTO met; 0 without one */
  bool has_str8;        /* strings of Python 2 */
  bool frame_straddled; /* an opcode crossed the end of its frame, a frame began in another or ended behind STOP */
  bool late_proto;      /* a PROTO that is not the first opcode */
  bool far_memo;        /* a memo index larger than the opcodes before it: writers count */
} pth_graph;

void pth_graph_init(pth_graph *g, pth_arena *a);
void pth_graph_free(pth_graph *g);

static inline const pth_node *pth_node_at(const pth_graph *g, uint32_t id) { return &PTH_AT(pth_node, g->nodes, id); }

/* The bytes of a slice node; dead after the next push into text. */
static inline pth_bytes pth_slice(const pth_graph *g, const pth_node *n) {
  const uint8_t *base = n->flags & PTH_IN_TEXT ? (const uint8_t *)g->text.data : g->in.data;
  uint64_t len = (uint64_t)n->hi << 32 | n->a;
  return (pth_bytes){len ? base + n->b : NULL, len};
}
/* Is it text (STR or STR8)? */
static inline bool pth_is_text(const pth_node *n) { return n->kind == PTH_NODE_STR || n->kind == PTH_NODE_STR8; }
/* UTF-8 as Python's "surrogatepass" reads it: the index of the first wrong byte, or len. */
uint64_t pth_utf8_valid(const uint8_t *p, uint64_t len);
/* The same without lone surrogates: UTF-8 as everybody else reads it. */
uint64_t pth_utf8_strict(pth_bytes b);
static inline bool pth_text_is(const pth_graph *g, uint32_t id, const char *s) {
  if (id == PTH_NONE) return false;
  const pth_node *n = pth_node_at(g, id);
  return pth_is_text(n) && pth_bytes_equal(pth_slice(g, n), pth_text(s));
}
pth_bytes pth_global_module(const pth_graph *g, const pth_global *row);
pth_bytes pth_global_name(const pth_graph *g, const pth_global *row);
static inline const pth_ext *pth_ext_of(const pth_graph *g, const pth_node *object) {
  uint32_t ext = (uint32_t)(object->b >> 32);
  return ext == PTH_NONE ? NULL : &PTH_AT(pth_ext, g->exts, ext);
} /* NULL: nothing was done to it */
static inline uint32_t pth_args_of(const pth_node *object) { return (uint32_t)object->b; }

/* What the module and name of a global mean; *dtype for the three families of dtypes.def. */
enum pth_meaning pth_meaning_of(pth_bytes module, pth_bytes name, uint8_t *dtype);
/* Of a node: the meaning of the global itself, or UNKNOWN. */
static inline enum pth_meaning pth_meaning_of_node(const pth_graph *g, uint32_t id, uint8_t *dtype) {
  if (id == PTH_NONE || pth_node_at(g, id)->kind != PTH_NODE_GLOBAL) return PTH_G_UNKNOWN;
  const pth_global *row = &PTH_AT(pth_global, g->globals, pth_node_at(g, id)->a);
  if (dtype != NULL) *dtype = row->dtype;
  return (enum pth_meaning)row->meaning;
}

/* An object whose class or function has this meaning? */
static inline bool pth_is_meant(const pth_graph *g, uint32_t id, enum pth_meaning meaning) {
  const pth_node *n = pth_node_at(g, id);
  return n->kind == PTH_NODE_OBJECT && pth_meaning_of_node(g, n->a, NULL) == meaning;
}
/* What an object was given last by BUILD, or PTH_NONE. */
uint32_t pth_last_state(const pth_graph *g, uint32_t object);
/* Type tags and list builders of TorchScript wrap a value: the value, their first argument. */
uint32_t pth_unwrap(const pth_graph *g, uint32_t id);

/* Walk over the items of a tuple, set, list or dict (key, value, key, ...), or of a chain.
 *   pth_items it = pth_items_of(g, id); for (uint32_t kid; pth_items_next(&it, &kid);) ... */
typedef struct pth_items {
  const pth_graph *g;
  uint32_t next_chunk, at, left;
} pth_items;

static inline pth_items pth_items_of(const pth_graph *g, uint32_t id) {
  const pth_node *n = pth_node_at(g, id);
  switch (n->kind) {
    case PTH_NODE_TUPLE:
    case PTH_NODE_FROZENSET:
      return (pth_items){.g = g, .at = (uint32_t)n->b, .left = n->a};
    case PTH_NODE_LIST:
    case PTH_NODE_SET:
    case PTH_NODE_DICT:
      return (pth_items){.g = g, .next_chunk = n->a};
    default:
      return (pth_items){.g = g};
  }
}
pth_items pth_items_of_list(const pth_graph *g, pth_list list);
static inline bool pth_items_next(pth_items *it, uint32_t *kid) {
  while (it->left == 0) {
    if (it->next_chunk == 0) return false;
    const pth_chunk *c = &PTH_AT(pth_chunk, it->g->chunks, it->next_chunk);
    it->at = c->at;
    it->left = c->n;
    it->next_chunk = c->next;
  }
  it->left--;
  *kid = PTH_AT(uint32_t, it->g->kids, it->at++);
  return true;
}
static inline uint32_t pth_n_items(const pth_graph *g, uint32_t id) {
  const pth_node *n = pth_node_at(g, id);
  switch (n->kind) {
    case PTH_NODE_TUPLE:
    case PTH_NODE_FROZENSET:
      return n->a;
    case PTH_NODE_LIST:
    case PTH_NODE_SET:
    case PTH_NODE_DICT:
      return (uint32_t)(n->b >> 32);
    default:
      return 0;
  }
}
/* The item of a tuple or list at `index`, or PTH_NONE. Lists are walked: index is small wherever this is used. */
uint32_t pth_item_of_chain(const pth_graph *g, uint32_t id, uint32_t index);
static inline uint32_t pth_item(const pth_graph *g, uint32_t id, uint32_t index) {
  if (id == PTH_NONE) return PTH_NONE;
  const pth_node *n = pth_node_at(g, id);
  if (n->kind == PTH_NODE_TUPLE) return index < n->a ? PTH_AT(uint32_t, g->kids, (uint32_t)n->b + index) : PTH_NONE;
  return pth_item_of_chain(g, id, index);
}

/* Walk over the pairs of anything that is a mapping: a dict, an OrderedDict, defaultdict or Counter however it was made.
 * An OrderedDict made from a list of pairs gives those first, then what was set later. False: not a mapping. */
typedef struct pth_pairs {
  pth_items it, later;
  uint32_t n; /* pairs at most */
  bool from_list;
} pth_pairs;

bool pth_pairs_of(const pth_graph *g, uint32_t id, pth_pairs *out);
bool pth_pairs_next(pth_pairs *it, uint32_t *key, uint32_t *value);
/* Pairs of a mapping at most; 0: not a mapping. */
uint32_t pth_n_pairs(const pth_graph *g, uint32_t id);
/* The value of a text key in a mapping: the last one set, as in Python; PTH_NONE: not there. */
uint32_t pth_lookup(const pth_graph *g, uint32_t mapping, const char *key);
/* The same in the state that BUILD gave an object: a dict, or (dict, slots). */
uint32_t pth_attribute(const pth_graph *g, uint32_t object, const char *key);
/* Small integers and bools; false: something else. */
static inline bool pth_as_i64(const pth_graph *g, uint32_t id, int64_t *value) {
  if (id == PTH_NONE) return false;
  const pth_node *n = pth_node_at(g, id);
  if (n->kind == PTH_NODE_FALSE || n->kind == PTH_NODE_TRUE) {
    *value = n->kind == PTH_NODE_TRUE;
    return true;
  }
  if (n->kind != PTH_NODE_INT) return false;
  *value = pth_i64_of(n->b);
  return true;
}
static inline bool pth_as_bool(const pth_graph *g, uint32_t id, bool *value) {
  int64_t v;
  if (!pth_as_i64(g, id, &v) || (v != 0 && v != 1)) return false;
  *value = v == 1;
  return true;
}

/* Same key to a Python dict? Texts (but those longer than this) and bytes by their bytes, numbers by value, the rest by identity. */
#define PTH_LONGEST_TEXT 4096u
bool pth_same_key(const pth_graph *g, uint32_t a, uint32_t b);
uint64_t pth_key_hash(const pth_graph *g, uint32_t id);

#endif
