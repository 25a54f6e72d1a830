/* refs.h - the classes and functions that a pickle names, each once: seeded hashes of their texts, so that no names make it slow.
 *
 * The pools are the caller's, of the graph's arena: empty at first, to be freed with pth_pool_free, also after an error. */
#ifndef PTH_REFS_H
#define PTH_REFS_H

#include "graph.h"

typedef struct pth_ref {
  uint32_t row;   /* of graph.globals: where it is named first */
  uint32_t uses;  /* opcodes that name it */
  uint32_t call;  /* node of its first call, or PTH_NONE */
  uint32_t calls; /* all of them */
  bool misused;   /* a function of gadget.h, in no way of honest writers */
} pth_ref;

/* refs: a pth_ref each, in the order of the file, not called yet. ref_of: for each row of graph.globals, a uint32_t, which of them. */
int pth_refs_read(const pth_graph *g, pth_pool *refs, pth_pool *ref_of, pth_err *err);

#endif
