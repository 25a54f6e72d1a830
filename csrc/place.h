/* place.h - where in the file the elements of a tensor are, of most tensors: asked for by whoever reads very many.
 *
 * Trust     What has a place is a dense tensor with code 0 whose elements are whole bytes, one behind the other in the order of their
 *           indices, as the processor reads them; they lie inside of their storage's bytes, which are stored as they are. Nothing need be
 *           done to them. Everything else has none, and so has what is wrong: whoever looks closer says why. */
#ifndef PTH_PLACE_H
#define PTH_PLACE_H

#include "tensor.h"
#include "zip.h"

#define PTH_NOWHERE UINT64_MAX

/* The first byte in the file of the elements of a row, or PTH_NOWHERE. z: whose members the store means, of which those have a place whose
 * local headers were read; NULL: spans lie in the file as they are. big: the file is big endian. */
uint64_t pth_place(const pth_tensors *t, const pth_tensor *r, const pth_zip *z, bool big);

#endif
