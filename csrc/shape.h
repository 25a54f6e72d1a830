/* shape.h - do the arguments, the states and the additions of a call look as writers make them?
 *
 * The shapes are those of defs/meanings.def: a letter for each value, which says what it may be. Facts are what is found out about every
 * node once, since any number of calls may share it: so that time stays linear in the graph. */
#ifndef PTH_SHAPE_H
#define PTH_SHAPE_H

#include "graph.h"

typedef struct pth_meaning_row {
  bool handled;
  const char *calls, *states, *fills;
} pth_meaning_row;
extern const pth_meaning_row pth_meanings[PTH_N_MEANINGS];

typedef struct pth_facts {
  const pth_graph *g;
  pth_pool of;     /* bits for each node; of the graph's arena */
  uint32_t before; /* the call that is looked at was made when kids had this length */
} pth_facts;

int pth_facts_learn(pth_facts *f, const pth_graph *g, pth_err *err);
void pth_facts_free(pth_facts *f);

/* Can the keys of a dict, and the members of a set, be hashed? True of all other nodes. */
bool pth_keys_hash(const pth_facts *f, uint32_t node);

/* Is a node a tuple of one of the shapes: of those for NEWOBJ, or of the others? */
bool pth_args_fit(pth_facts *f, uint32_t node, bool newobj, const char *shapes);
bool pth_call_fits(pth_facts *f, const pth_node *call, const char *shapes);

/* Its states, and the items and pairs that were put into what it made. */
bool pth_additions_fit(pth_facts *f, const pth_ext *ext, const pth_meaning_row *known);

static inline bool pth_has_letter(const char *letters, char letter) {
  while (*letters && *letters != letter) letters++;
  return *letters != 0;
}

#endif
