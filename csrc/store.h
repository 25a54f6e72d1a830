/* store.h - which bytes of the file a storage key means: the one thing that containers tell to tensors.
 *
 * A container fills it (pth_store_add), tensors look keys up. Keys are borrowed texts. Keys that are small decimal numbers, as torch
 * writes them, go by a plain array; all others by a seeded hash. */
#ifndef PTH_STORE_H
#define PTH_STORE_H

#include "arena.h"
#include "cursor.h"

typedef struct pth_span {
  pth_bytes key;
  uint64_t off;    /* first byte in the file; of a zip member: its local header, behind which the bytes begin */
  uint64_t len;    /* bytes, inflated if it was deflated */
  uint32_t member; /* entry of the zip; PTH_NONE in other containers */
  uint16_t code;   /* enum pth_code: why it cannot be read; 0: it can */
  uint8_t dtype;   /* enum pth_dtype_id, where the container itself says (tar); else PTH_N_DTYPES */
} pth_span;

/* A tensor that the container itself describes, with a key that persistent ids use (tar). */
typedef struct pth_named_tensor {
  uint32_t span;   /* PTH_NONE: an empty tensor without storage */
  uint32_t n_dims; /* of each of size and stride */
  uint32_t dims;   /* first size in store.dims; the strides follow */
  int64_t offset;  /* elements */
  uint16_t code;   /* enum pth_code: its storage is unknown */
} pth_named_tensor;

typedef struct pth_store {
  pth_arena *arena;
  pth_pool spans;  /* pth_span */
  pth_pool direct; /* decimal key -> span, or PTH_NONE */
  pth_pool slots;  /* hash -> span, or PTH_NONE */
  uint32_t n_hashed;
  bool fixed_little;             /* payload is little endian whatever the writer was (legacy, tar) */
  bool big;                      /* payload is big endian */
  pth_bytes suffix;              /* what every member's name ends with behind its key (torch.package); borrowed. Keys may have it, too */
  pth_pool tensors;              /* pth_named_tensor */
  pth_pool dims;                 /* int64_t */
  const struct pth_store *named; /* key of a tensor -> its index in `tensors`, as span.off; NULL: none are named (all but tar) */
} pth_store;

/* `expected` keys: decimal ones below about that number are found without a hash. */
int pth_store_init(pth_store *s, pth_arena *a, uint32_t expected, pth_err *err);
void pth_store_free(pth_store *s);
/* Room for about n keys that are no such numbers, if the budget has it to spare. */
void pth_store_expect(pth_store *s, uint64_t n);
/* Adds a span; a key that is there already marks both with PTH_E_ZIP_DUPLICATE. */
int pth_store_add(pth_store *s, const pth_span *span, pth_err *err);
/* Of a file that was cut short: marks the spans that lie beyond its end, or reach beyond it, and named tensors without a span. */
void pth_store_cut(pth_store *s, uint64_t file_len);
/* Index of spans, or PTH_NONE. Each tensor asks once, perhaps all with one long key: torch's are numbers, and longer ones than this
 * are not found. */
#define PTH_LONGEST_KEY 4096u
uint32_t pth_store_find(const pth_store *s, pth_bytes key);

/* A canonical decimal number below 2^32: no sign, no leading zero. */
bool pth_decimal(pth_bytes text, uint32_t *value);

#endif
