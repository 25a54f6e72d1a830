/* safetensors.h - the header of a safetensors file: JSON of one shape, to a store and to rows of tensors.
 *
 * u64 length of the JSON, then {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...} with spaces behind it, then
 * the data, from which data_offsets count. "__metadata__" maps texts to texts.
 *
 * Only this shape is read: whatever else JSON could hold is refused where it begins, so that nothing nests and nothing is kept of it.
 * A tensor that is wrong keeps its row, with a code; holes and overlaps are the caller's to find (in_order). */
#ifndef PTH_SAFETENSORS_H
#define PTH_SAFETENSORS_H

#include "store.h"
#include "tensor.h"

typedef struct pth_safetensor {
  uint32_t n_dims, dims; /* sizes, then strides, from there on in `dims`; of more dimensions than the limit none are kept */
  uint16_t code;         /* enum pth_code, with its numbers */
  uint8_t dtype;
  uint64_t want, have;
} pth_safetensor;

typedef struct pth_safetensors {
  pth_arena *arena;
  pth_store store; /* a span for each tensor in the order of the header; its key is the name */
  pth_pool rows;   /* pth_safetensor, of the same order */
  pth_pool dims;   /* int64_t */
  pth_pool pairs;  /* pth_bytes: key, value, key, ... of __metadata__ */
  pth_pool text;   /* decoded texts that had escapes */
  uint64_t json;   /* where the JSON ends; spaces follow */
  uint64_t data;   /* where the data begin */
  uint64_t end;    /* where the last of them ends, in the file */
  bool in_order;   /* each tensor begins where the one before it ends */
  bool doubled;    /* two have one name: neither can be read */
} pth_safetensors;

enum { PTH_ST_LENGTH = 8 }; /* bytes of the length before the JSON */

/* `in`: the file up to the data. What was made keeps slices of it. */
int pth_safetensors_read(pth_safetensors *s, pth_arena *a, pth_bytes in, const pth_limits *lim, pth_err *err);
void pth_safetensors_free(pth_safetensors *s);

/* Adds a row for each to a table that was made for this store. */
int pth_safetensors_tensors(const pth_safetensors *s, pth_tensors *t, const pth_limits *lim, pth_err *err);

/* Names of dtypes, as these files spell them. */
typedef struct pth_st_dtype {
  const char *name;
  uint8_t dtype, bits;
} pth_st_dtype;
extern const pth_st_dtype pth_st_dtypes[];
extern const uint32_t pth_n_st_dtypes;

#endif
