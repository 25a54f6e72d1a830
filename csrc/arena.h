/* arena.h - growable pools of equal items, addressed by 32-bit index, under one budget of bytes.
 *
 * Owner     A pool owns its block; pth_pool_free() gives it back. Pointers into a pool die with the next push.
 * Budget    All pools of one arena share it: memory is bounded whatever the file says.
 * Testing   fail_at = k makes the k-th allocation fail; exact = true gives every push its own block size, so that
 *           the address sanitizer sees the first item past the end. */
#ifndef PTH_ARENA_H
#define PTH_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define PTH_NONE UINT32_MAX /* no index */

typedef struct pth_arena {
  uint64_t used;   /* bytes held by all pools */
  uint64_t budget; /* bytes they may hold */
  uint64_t n_allocs;
  uint64_t fail_at; /* 0: never */
  bool exact;
  uint64_t seed; /* of all hashes: random, and known to nobody who makes files */
} pth_arena;

typedef struct pth_pool {
  void *data;
  uint32_t len, cap; /* items */
  uint32_t item;     /* bytes of one item */
} pth_pool;

int pth_pool_grow(pth_arena *a, pth_pool *p, uint64_t n, pth_err *err);
/* Room for about n items, if the budget has it to spare: spares the copies of growth where the size can be guessed. */
void pth_pool_expect(pth_arena *a, pth_pool *p, uint64_t n);
void pth_pool_free(pth_arena *a, pth_pool *p);

#define PTH_POOL(type) ((pth_pool){.item = (uint32_t)sizeof(type)})
#define PTH_AT(type, pool, i) (((type *)(pool).data)[i])

/* Room for n more items, or for one; the tests are inline because this is the inner loop of everything. */
static inline int pth_pool_reserve(pth_arena *a, pth_pool *p, uint64_t n, pth_err *err) {
  return n <= p->cap - p->len ? 0 : pth_pool_grow(a, p, n, err);
}
static inline int pth_pool_room(pth_arena *a, pth_pool *p, pth_err *err) { return p->len < p->cap ? 0 : pth_pool_grow(a, p, 1, err); }

static inline int pth_push_u32(pth_arena *a, pth_pool *p, uint32_t v, pth_err *err) {
  int rc = pth_pool_room(a, p, err);
  if (rc) return rc;
  PTH_AT(uint32_t, *p, p->len++) = v;
  return 0;
}

#endif
