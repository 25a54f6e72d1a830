/* parts.h - do the parts of a tensor go together: scales with channels, indices with values, a buffer with its offsets?
 *
 * Torch makes the tensor without a look at some of these. What they hold is data, which no audit looks at. */
#ifndef PTH_PARTS_H
#define PTH_PARTS_H

#include "tensor.h"

/* `node`: the call that makes a tensor, `m` its meaning. Of a tensor that cannot be read its own error tells: true. */
bool pth_parts_fit(const pth_graph *g, const pth_tensors *t, uint32_t node, enum pth_meaning m);

#endif
