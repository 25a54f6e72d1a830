#include "arena.h"

#include <stdlib.h>
#include <string.h>

/* Bytes that a guess may reserve at most; beyond, growth by halves costs little in comparison. */
enum { EXPECT_MOST = 1 << 26 };

static int resize(pth_arena *a, pth_pool *p, uint64_t cap, pth_err *err) {
  uint64_t old = (uint64_t)p->cap * p->item, size = cap * p->item;
  uint64_t used = a->used - old + size;
  if (cap >= PTH_NONE || size > SIZE_MAX || used > a->budget) return pth_fail(err, PTH_E_BUDGET, 0, used, a->budget);
  a->n_allocs++;
  void *data = a->n_allocs == a->fail_at ? NULL : realloc(p->data, (size_t)size);
  if (data == NULL) return pth_fail(err, PTH_E_MEMORY, 0, size, a->used);
  p->data = data;
  p->cap = (uint32_t)cap;
  a->used = used;
  return 0;
}

int pth_pool_grow(pth_arena *a, pth_pool *p, uint64_t n, pth_err *err) {
  if (n >= PTH_NONE) return pth_fail(err, PTH_E_BUDGET, 0, n, a->budget);
  uint64_t need = p->len + n;
  uint64_t cap = need;
  if (!a->exact) {
    uint64_t grown = (uint64_t)p->cap + p->cap / 2 + 16;
    if (cap < grown) cap = grown;
  }
  if (cap > need && a->used + (cap - p->cap) * p->item > a->budget) cap = need;
  return resize(a, p, cap, err);
}

void pth_pool_expect(pth_arena *a, pth_pool *p, uint64_t n) {
  uint64_t most = (a->budget - a->used) / 8 / p->item;
  if (n > most) n = most;
  if (n > EXPECT_MOST / p->item) n = EXPECT_MOST / p->item;
  if (n > p->cap && !a->exact) (void)resize(a, p, n, NULL);
}

void pth_pool_free(pth_arena *a, pth_pool *p) {
  free(p->data);
  a->used -= (uint64_t)p->cap * p->item;
  p->data = NULL;
  p->len = p->cap = 0;
}
