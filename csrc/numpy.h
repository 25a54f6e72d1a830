/* numpy.h - would numpy believe a dtype of a pickle, and read memory that is not the array's? */
#ifndef PTH_NUMPY_H
#define PTH_NUMPY_H

#include "finding.h"
#include "graph.h"

/* What is odd about the dtype that a node makes, or PTH_F_NOTHING. `left`: looks that may still be taken at what calls share. */
uint16_t pth_numpy_dtype_odd(const pth_graph *g, uint32_t node, uint64_t *left);

/* Does a call of one of numpy's functions make an array or a scalar that its bytes fill? Its arguments have the shape of meanings.def. */
bool pth_numpy_call_fits(const pth_graph *g, uint32_t node, enum pth_meaning m);

#endif
