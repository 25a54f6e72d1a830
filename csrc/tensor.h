/* tensor.h - the tensors of a pickle: recognised, checked, named.
 *
 * Walks the graph from its root in the order of the file. A call that rebuilds a tensor becomes a row of `tensors`; its storage, a row of
 * `storages`; each path from the root on which it is found, a row of `names`. A whole module gives the names of its state_dict().
 * A tensor that is wrong keeps its row, with a code: the others stay readable.
 *
 * Trust     Of a row with code 0: n_dims sizes and strides, none negative; numel and numel * itemsize fit 63 bits; every element lies
 *           inside of the storage, and the storage inside of what the container said it has.
 * Budget    A container without tensors is walked once however often it is shared; one with tensors once for each of its names, and
 *           the names are limited. Nothing is proportional to tensor data. */
#ifndef PTH_TENSOR_H
#define PTH_TENSOR_H

#include "graph.h"
#include "store.h"

enum pth_tensor_kind {
  PTH_T_DENSE,
  PTH_T_QUANTIZED,
  PTH_T_SPARSE,
  PTH_T_NESTED,
  PTH_T_META,
  PTH_T_SUBCLASS,
  PTH_T_UNINITIALIZED,
  PTH_T_ARRAY /* a numpy array inside of the pickle */
};

enum pth_layout {
  PTH_L_STRIDED,
  PTH_L_SPARSE_COO,
  PTH_L_SPARSE_CSR,
  PTH_L_SPARSE_CSC,
  PTH_L_SPARSE_BSR,
  PTH_L_SPARSE_BSC,
  PTH_L_JAGGED,
  PTH_N_LAYOUTS
};

extern const char *const pth_layouts[PTH_N_LAYOUTS]; /* torch's names */

enum pth_tensor_flag { PTH_F_GRAD = 1, PTH_F_PARAMETER = 2, PTH_F_CONJ = 4, PTH_F_NEG = 8 };

typedef struct pth_tensor {
  uint32_t node; /* of the graph; PTH_NONE if the container described it */
  uint8_t kind, dtype, layout, flags;
  uint32_t storage; /* row, or PTH_NONE */
  uint32_t n_dims;
  uint32_t sizes, strides; /* n_dims numbers each, from there on in `dims` */
  uint32_t part;           /* node: quantizer, sparse parts, nested parts, state of a subclass, numpy array */
  uint32_t cls;            /* node of the subclass, or PTH_NONE */
  uint32_t device;         /* node of its text where no storage tells it, or PTH_NONE */
  uint16_t code;           /* enum pth_code */
  uint8_t cast;            /* the dtype that torch turns the stored elements into; PTH_DT_UNTYPED: none other */
  int64_t offset;          /* elements */
  uint64_t numel;
  uint64_t want, have; /* of the code */
} pth_tensor;

enum pth_storage_flag {
  PTH_S_IN_PICKLE = 1, /* base counts from the start of the pickle's bytes */
  PTH_S_IN_TEXT = 16,  /* ... of the text that the graph decoded */
  PTH_S_MIXED = 2,     /* referred to with two dtypes or sizes */
  PTH_S_LARGER = 4,    /* the file holds more bytes than the pickle says */
  PTH_S_META = 8       /* no data were saved */
};

typedef struct pth_storage {
  uint32_t span;     /* of the store, or PTH_NONE */
  uint32_t key;      /* node of its key, or PTH_NONE */
  uint32_t location; /* node of the device's text, or PTH_NONE */
  uint16_t code;
  uint8_t dtype, flags;
  uint64_t base;   /* its first byte: of the span (a storage that is a view of another: legacy), or of the pickle (IN_PICKLE) */
  uint64_t nbytes; /* that tensors may use */
} pth_storage;

enum pth_path_kind { PTH_P_ROOT, PTH_P_KEY, PTH_P_INDEX, PTH_P_STRANGE };

typedef struct pth_path {
  uint32_t parent; /* path, or PTH_NONE */
  uint32_t key;    /* node of KEY, number of INDEX and STRANGE (a key that is no text or number: the n-th of its dict) */
  uint32_t owner;  /* node of the container */
  uint32_t len;    /* bytes of the whole name; saturates */
  uint8_t kind;
  uint8_t sep; /* '/', '.' or 0 before this component */
} pth_path;

typedef struct pth_name {
  uint32_t path, tensor;
} pth_name;

typedef struct pth_tensors {
  pth_arena *arena;
  const pth_graph *graph;
  const pth_store *store;
  pth_pool tensors, storages, paths, names;
  pth_pool dims;  /* lists of sizes and of strides: int64_t */
  pth_pool lists; /* hash -> where in dims: equal lists stand there once */
  uint32_t n_lists;
  pth_pool by_node;  /* node -> tensor or storage (pth_row_of_node, pth_storage_of_node) */
  bool whole_module; /* the root is a module: its names are those of state_dict() */
  bool flat;         /* every name is a text key of one dict, the root: no two are equal */
} pth_tensors;

/* The storage that a node stands for, or PTH_NONE. */
#define PTH_STORAGE_ROW 0x80000000u
static inline uint32_t pth_storage_of_node(const pth_tensors *t, uint32_t node) {
  uint32_t row = node < t->by_node.len ? PTH_AT(uint32_t, t->by_node, node) ^ PTH_STORAGE_ROW : PTH_NONE;
  return row < t->storages.len ? row : PTH_NONE;
}

/* The tensor that a node rebuilds, or PTH_NONE. */
static inline uint32_t pth_row_of_node(const pth_tensors *t, uint32_t node) {
  if (node >= t->by_node.len) return PTH_NONE;
  uint32_t row = PTH_AT(uint32_t, t->by_node, node);
  return row < t->tensors.len ? row : PTH_NONE;
}

/* Do its elements, whole bytes and one at least, lie one behind the other in the order of their indices? */
bool pth_tensor_in_line(const pth_tensors *t, const pth_tensor *r);

/* Finds everything. `g` has a root. */
int pth_tensors_read(pth_tensors *t, const pth_graph *g, const pth_store *s, const pth_limits *lim, pth_err *err);
void pth_tensors_free(pth_tensors *t);

/* One more dense tensor, described by the container itself; the same checks. A wrong one gets a row with a code. */
typedef struct pth_dense {
  uint32_t span, dtype, n_dims;
  const int64_t *sizes, *strides;
  int64_t offset;
  bool requires_grad;
} pth_dense;
int pth_tensors_init(pth_tensors *t, pth_arena *a, const pth_graph *g, const pth_store *s, pth_err *err);
int pth_tensors_add(pth_tensors *t, const pth_dense *d, const pth_limits *lim, uint32_t *row, pth_err *err);

/* The bytes of a name: pth_path.len of them, written to `out`. */
void pth_path_write(const pth_tensors *t, uint32_t path, uint8_t *out);

/* The key of a persistent id as text; a whole number, not below 0, is written out into `buf`. */
#define PTH_DIGITS 21
bool pth_key_text(const pth_graph *g, uint32_t id, uint8_t buf[PTH_DIGITS], pth_bytes *key);

/* Does a call rebuild a tensor? (a parameter, a subclass, ... included) */
bool pth_rebuilds_tensor(const pth_graph *g, uint32_t node);
/* Is that what a class or function of this meaning is for? */
bool pth_is_tensor_meaning(enum pth_meaning m);

#endif
