/* pickle.h - the pickle machine: bytes -> graph.
 *
 * Runs every opcode of protocols 0 to 5 as CPython's unpickler does, on inert nodes: a call becomes a node that names its callable and
 * arguments, and nothing is ever called. Knows opcodes, not torch. Type-checked: SETITEM wants a dict or an object, APPEND a list or an
 * object, and so on; what CPython would refuse is refused here, a little more besides: a leading zero that C and Python read differently,
 * memo indices of other than decimal digits, containers filled as no pickler fills them, BUILD on what no call made, buffers out of band.
 *
 * Time and memory are linear in the bytes: the memo is an array while its indices are no larger than the pickle, a hash beyond.
 * After an error the graph still holds everything up to the refused opcode, its globals above all; err->off is that opcode's
 * argument or the opcode itself, err->op the opcode. */
#ifndef PTH_PICKLE_H
#define PTH_PICKLE_H

#include "graph.h"

#define PTH_PICKLE_PROTOCOL 5

/* Reads the pickle at the start of `in`; bytes behind its STOP are left alone (g->end). `g` is freshly initialised. */
int pth_pickle_run(pth_graph *g, pth_bytes in, const pth_limits *lim, pth_err *err);

/* One of several pickles in one run of bytes: where its name begins, and where it does itself, right behind the name. */
typedef struct pth_piece {
  uint64_t name, begin, end;
} pth_piece;

/* Reads several pickles, none of which knows the others, as one graph: its root is a dict of their names. Stops at the first error. */
int pth_pickle_join(pth_graph *g, pth_bytes in, const pth_piece *pieces, uint32_t n, const pth_limits *lim, pth_err *err);

typedef struct pth_opcode {
  const char *name;
  uint8_t code, proto;
} pth_opcode;

extern const pth_opcode pth_opcodes[];
extern const uint32_t pth_n_opcodes;

#endif
