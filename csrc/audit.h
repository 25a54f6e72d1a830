/* audit.h - what a pickle names and calls, beside what writers name and call. Reads a graph; whether it ended in an error or not.
 *
 *   refs    one row for each class or function, however often it is named, in the order of the file
 *   odds    calls, states and persistent ids that no writer makes: the first PTH_AUDIT_MOST_ODDS of each kind; n_odds counts all
 *   nested  nodes of bytes that a loader would load as a file of their own, and that are not a storage alone
 *   traced  calls that bring source code, which a loader runs
 *
 * Shapes of calls are those of shape.h; calls that rebuild tensors are checked by tensor.h and parts.h. All is linear in the graph. */
#ifndef PTH_AUDIT_H
#define PTH_AUDIT_H

#include "finding.h"
#include "refs.h"
#include "tensor.h"

#define PTH_AUDIT_MOST_ODDS 1000u

typedef struct pth_odd {
  uint32_t node;    /* of the graph */
  uint32_t ref;     /* whose call it is, or PTH_NONE */
  uint16_t finding; /* enum pth_finding */
} pth_odd;

typedef struct pth_audit {
  pth_arena *arena;
  pth_pool refs, odds, nested, traced;
  uint64_t n_odds;
  uint32_t n_of[PTH_N_FINDINGS]; /* odds of each kind, up to PTH_AUDIT_MOST_ODDS */
  uint64_t left;   /* looks at what many calls can share: as many as the pickle has items, and what is shared more is odd itself */
  pth_pool ref_of; /* row of globals -> ref */
} pth_audit;

/* `t`: the tensors of the graph, or NULL where they were not read. `legacy`: persistent ids may be those of a legacy file. */
int pth_audit_graph(pth_audit *a, const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim, pth_err *err);
void pth_audit_free(pth_audit *a);

/* Marks the spans of a store that persistent ids refer to: one byte each. */
void pth_audit_spans(const pth_graph *g, const pth_store *s, uint8_t *used);

#endif
