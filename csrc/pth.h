/* pth.h - read me first: the native core of pthparse.
 *
 * What it does   Turns bytes of a checkpoint into tables: zip, legacy and tar directories into spans of the file, a pickle into a graph of
 *                inert nodes, the graph into checked tensors with names. It reads and counts; it can do nothing else.
 * What it never  calls back, does I/O, recurses, keeps state between calls, or follows a name out of a file.
 * Units          *_off: bytes from the start of the bytes at hand. *_len, n_bytes: bytes. n_*, numel: items. *_id: index of a pool.
 * Ownership      The caller owns every input and keeps it alive as long as what was made of it: texts stay slices of the input.
 *                Each pth_X_init has its pth_X_free. All memory comes from the pth_arena that was handed in.
 * Errors         0, or a code (err.h). Of a failed call only what its header says can be used.
 * Trust          Bytes are read by cursor.h only. Every number out of a file is checked before it is an index, a length or a size.
 * Rooms          err, arena, cursor, hash: the ground. pickle: bytes -> graph. graph: walks over it.
 *                zip, legacy, tar, safetensors: containers -> pth_store. tensor, names: graph + store -> checked tensors and what they are called.
 *                audit: what a graph names and calls, by refs (its names), shape (its calls), parts (of tensors) and numpy (its dtypes).
 *                place: where the elements of most tensors are. ledger: whose each byte of a file is.
 *                finding: what can be odd about a file.
 *                defs/: each table once. */
#ifndef PTH_H
#define PTH_H

#include "arena.h"
#include "audit.h"
#include "cursor.h"
#include "err.h"
#include "finding.h"
#include "gadget.h"
#include "graph.h"
#include "ledger.h"
#include "legacy.h"
#include "names.h"
#include "numpy.h"
#include "parts.h"
#include "pickle.h"
#include "place.h"
#include "refs.h"
#include "safetensors.h"
#include "shape.h"
#include "store.h"
#include "tar.h"
#include "tensor.h"
#include "zip.h"

#endif
