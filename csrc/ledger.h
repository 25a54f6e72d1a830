/* ledger.h - whose each byte of a file is: claims of extents become a sum for each kind, and every byte is in one of them.
 *
 * Claims may overlap, repeat and reach beyond the file: pth_ledger_settle() gives a byte to the first kind (defs/ledger.def) that claims
 * it, and what nobody claims to TRAILING. So the sums add up to the file's size whatever it holds. Linear, but for sorting.
 *
 * Tensors   claim the bytes between their first and last element. Where such extents overlap, the first tensor is credited with its elements'
 *           bytes, the next with what is left, and so on; what is left at last lies between elements, and is unused.
 * Units     Offsets: bytes of the file. Deflated bytes are counted as they are stored.
 * Owner     Nothing is borrowed. */
#ifndef PTH_LEDGER_H
#define PTH_LEDGER_H

#include "tensor.h"
#include "zip.h"

enum pth_ledger_kind {
#define X(NAME, kind, text) PTH_L_##NAME,
#include "defs/ledger.def"
#undef X
  PTH_N_LEDGER
};

typedef struct pth_claim {
  uint64_t begin, end;
  uint64_t nbytes; /* tensors: of the elements; once settled, what it is credited with */
  uint64_t left;   /* tensors, while settling: of the run that it leads */
  uint32_t row;    /* tensors: of the table, or PTH_NONE */
  uint32_t run;    /* tensors, while settling: the claim that leads its run */
  uint8_t kind, table;
} pth_claim;

typedef struct pth_ledger {
  pth_arena *arena;
  pth_pool claims;
  pth_pool starts;     /* uint64_t: where a zip's entries begin; 0: cannot be read */
  uint64_t size;       /* of the file */
  uint64_t base;       /* where what claims come from begins in it */
  uint64_t decoded;    /* bytes of storages that lie in the pickles in another form */
  uint32_t next_entry; /* of pth_ledger_zip */
  uint64_t nbytes[PTH_N_LEDGER], n_claims[PTH_N_LEDGER];
} pth_ledger;

void pth_ledger_init(pth_ledger *l, pth_arena *a, uint64_t size);
void pth_ledger_free(pth_ledger *l);

/* counted: one more part of its kind; else it belongs to a part that was counted. */
int pth_ledger_claim(pth_ledger *l, uint64_t begin, uint64_t end, enum pth_ledger_kind kind, bool counted, pth_err *err);

/* Claims from now on come from a file that begins at byte `base` of this one, and count from there. Not those of tensors. */
void pth_ledger_inside(pth_ledger *l, uint64_t base);

/* The spans of a container that is no zip, each with `header` bytes before it. */
int pth_ledger_spans(pth_ledger *l, const pth_store *s, uint64_t header, pth_err *err);

/* The members of a zip, by windows over the file: headers, padding, data (of the kind that `kinds` says for each entry), descriptors.
 * Returns false in *more when all are done, else the window must begin at *want and have PTH_ZIP_WINDOW bytes, or reach to dir_off. */
int pth_ledger_zip(pth_ledger *l, pth_zip *z, const uint8_t *kinds, pth_bytes window, uint64_t window_off, uint64_t dir_off, uint64_t *want,
                   bool *more, pth_err *err);
int pth_ledger_zip_end(pth_ledger *l, const pth_zip_end *end, pth_err *err);

/* The elements of a table's tensors. z: whose members its store means, after pth_ledger_zip(); NULL: the spans lie in the file as they are.
 * order: all rows, in the order in which they are credited; first: of pth_same_elements(). pickle_off: where the table's pickle begins in the file; PTH_INFLATED: it was deflated. `table`: its number, below 256. */
#define PTH_INFLATED UINT64_MAX
int pth_ledger_tensors(pth_ledger *l, const pth_tensors *t, const pth_zip *z, const uint32_t *order, const uint32_t *first,
                       uint64_t pickle_off, uint8_t table, pth_err *err);

/* Fills nbytes and n_claims, and the credits of tensors. Once, at last. */
int pth_ledger_settle(pth_ledger *l, pth_err *err);

/* For each row of a table the first one, in this order of all rows, that is the same elements of the same storage: itself, often. */
int pth_same_elements(const pth_tensors *t, const uint32_t *order, uint32_t *first, pth_err *err);

#endif
