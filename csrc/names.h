/* names.h - finds the tensors of a graph from its root, in the order of the file, and gives each its names. The seam between tensor.c,
 * which makes rows, and names.c, which walks; nobody else needs it.
 *
 * A dict key is one component, joined by '/' between containers; below a module by '.', as state_dict() does.
 * Errors    The core's own (memory, limits). A tensor that is wrong has a row that says so, and a name. */
#ifndef PTH_NAMES_H
#define PTH_NAMES_H

#include "tensor.h"

typedef struct pth_rows {
  pth_tensors *t;
  const pth_graph *g;
  const pth_limits *lim;
  pth_err *err;
  pth_pool span_row; /* span -> storage row, or PTH_NONE */
} pth_rows;

/* What pth_tensors.by_node says of a container; a tensor has its row there, a storage its row | PTH_STORAGE_ROW. */
enum pth_seen { PTH_UNSEEN = PTH_NONE, PTH_ON_PATH = PTH_NONE - 1, PTH_DONE_EMPTY = PTH_NONE - 2, PTH_DONE_FULL = PTH_NONE - 3 };

/* tensor.c: the row of a tensor's node, made on the first meeting. */
int pth_row_for(pth_rows *w, uint32_t node, uint32_t *row);
/* tensor.c: is it a tensor that the container describes (tar)? */
bool pth_is_named_tensor(const pth_rows *w, uint32_t node);

/* names.c: fills paths and names. */
int pth_name_all(pth_rows *w);

#endif
