/* fuzz.h - what the fuzz targets share. They assert what the core's headers promise, not only that it survives.
 *
 *   targets/X.c   LLVMFuzzerTestOneInput for one room of the core, and how its inputs are best spoilt
 *   check.c       the promises, by other arithmetic than the core's
 *   mutate.c      changes of pickles opcode by opcode, wherever in a file they lie
 *   replay.c      a main() where there is no libFuzzer: files, and what the same mutator makes of them
 *
 * A broken promise aborts. Whatever a target answers, it must have given all memory back. */
#ifndef PTH_FUZZ_H
#define PTH_FUZZ_H

#include "pth.h"

#define CHECK(ok) ((ok) ? (void)0 : fuzz_broken(__FILE__, __LINE__, #ok))
_Noreturn void fuzz_broken(const char *file, int line, const char *promise);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max); /* libFuzzer's own, or that of replay.c */

/* ---- check.c ---- */

#define FUZZ_BUDGET (UINT64_C(64) << 20)
pth_limits fuzz_limits(void); /* in proportion to inputs of a few kilobytes */
static inline pth_arena fuzz_arena(uint64_t budget, uint64_t seed) { return (pth_arena){.budget = budget, .seed = seed}; }
/* Some number that the input alone decides. */
static inline uint64_t fuzz_pick(const uint8_t *data, size_t size, uint64_t below) {
  uint64_t h = UINT64_C(14695981039346656037) ^ size;
  for (size_t i = 0; i < size; i++) h = (h ^ data[i]) * UINT64_C(1099511628211);
  return (h ^ h >> 29) % below;
}

extern uint64_t fuzz_n_accepted, fuzz_n_refused;
static inline void fuzz_count(int rc) { *(rc ? &fuzz_n_refused : &fuzz_n_accepted) += 1; }

/* A block of exactly these bytes, so that the sanitizer sees the first one behind them; free() it. */
pth_bytes fuzz_block(const uint8_t *data, uint64_t len);
static inline pth_bytes fuzz_part(pth_bytes b, uint64_t off, uint64_t len) { return (pth_bytes){len ? b.data + off : NULL, len}; }

void check_error(int rc, const pth_err *err, uint64_t len);
/* whole: it was read to its STOP. Else it holds what came before the refused opcode. */
void check_graph(const pth_graph *g, bool whole);
void check_same_graph(const pth_graph *a, const pth_graph *b);
/* Texts and places of the first n globals. */
void check_same_globals(const pth_graph *a, const pth_graph *b, uint32_t n);
/* Every key is found, and found where it stands. */
void check_store(const pth_store *s);
void check_tensors(const pth_tensors *t, const pth_limits *lim);
/* The audit of a graph, read to its end or not; `t` may be NULL. A number as below. */
uint64_t check_audit(const pth_graph *g, const pth_tensors *t, bool legacy, const pth_limits *lim);
/* Settles a ledger, byte by byte as well, and frees it. A number as below; 0: memory is out. */
uint64_t check_ledger(pth_ledger *l);
/* All that was answered, as one number: no hash seed and no failing allocation may change it. */
uint64_t digest_tensors(const pth_tensors *t);

/* ---- mutate.c ---- */

static inline uint64_t fuzz_random(uint64_t *state, uint64_t below) { /* xorshift64* */
  *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
  return (*state * UINT64_C(2685821657736338717) >> 33) % below;
}
static inline uint64_t fuzz_rng(unsigned seed) { return (seed + UINT64_C(1)) * UINT64_C(0x9E3779B97F4A7C15); }
size_t mutate_pickle(uint8_t *data, size_t size, size_t max, uint64_t *rng);
/* One of the pickles in a file. fixed: its place is as long as it was, so bytes behind its STOP take up or give what is needed. */
size_t mutate_inside(uint8_t *data, size_t size, size_t max, bool fixed, uint64_t *rng);
/* Makes the checksums of tar headers right. */
void mend_tar(uint8_t *data, size_t size);

#endif
