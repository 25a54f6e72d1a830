/* gadget.h - functions that run or touch what they are given, and that honest files hold in one way alone.
 *
 * `int | str` is pickled as reduce(or_, (int, str)), an array that lay in a file as _reconstruct(memmap, ...), and a map as
 * map(function, iterator). Used in any other way they are what defs/dangers.def says of them. */
#ifndef PTH_GADGET_H
#define PTH_GADGET_H

#include "shape.h"

bool pth_is_gadget(enum pth_meaning m);

/* Is a call of one, whose arguments have the shape of meanings.def or not, the one that honest writers make? */
bool pth_gadget_call_fits(pth_facts *f, uint32_t call, enum pth_meaning m);

/* One bit for each of the graph's kids: may a gadget stand there, to be given to a call? The pool is the caller's, of the graph's arena. */
int pth_gadget_places(const pth_graph *g, pth_pool *places, pth_err *err);

#endif
