#include "store.h"

#include "hash.h"

bool pth_decimal(pth_bytes text, uint32_t *value) {
  uint64_t v = 0;
  if (text.len == 0 || text.len > 10 || (text.len > 1 && text.data[0] == '0')) return false;
  for (uint64_t i = 0; i < text.len; i++) {
    if (text.data[i] < '0' || text.data[i] > '9') return false;
    v = v * 10 + (text.data[i] - (uint32_t)'0');
  }
  *value = (uint32_t)v;
  return v <= UINT32_MAX;
}

int pth_store_init(pth_store *s, pth_arena *a, uint32_t expected, pth_err *err) {
  *s = (pth_store){.arena = a,
                   .spans = PTH_POOL(pth_span),
                   .direct = PTH_POOL(uint32_t),
                   .slots = PTH_POOL(uint32_t),
                   .tensors = PTH_POOL(pth_named_tensor),
                   .dims = PTH_POOL(int64_t)};
  uint64_t n = (uint64_t)expected + 16;
  int rc = pth_pool_reserve(a, &s->spans, expected, err);
  if (rc == 0) rc = pth_pool_reserve(a, &s->direct, n, err);
  if (rc) return rc;
  s->direct.len = (uint32_t)n;
  memset(s->direct.data, 0xff, (size_t)n * sizeof(uint32_t));
  return 0;
}

void pth_store_free(pth_store *s) {
  pth_pool_free(s->arena, &s->spans);
  pth_pool_free(s->arena, &s->direct);
  pth_pool_free(s->arena, &s->slots);
  pth_pool_free(s->arena, &s->tensors);
  pth_pool_free(s->arena, &s->dims);
}

static uint32_t *hash_slot(const pth_store *s, pth_bytes key) {
  uint32_t mask = s->slots.len - 1;
  uint32_t i = (uint32_t)pth_hash(key, s->arena->seed) & mask;
  for (;; i = (i + 1) & mask) {
    uint32_t *slot = &PTH_AT(uint32_t, s->slots, i);
    if (*slot == PTH_NONE || pth_bytes_equal(PTH_AT(pth_span, s->spans, *slot).key, key)) return slot;
  }
}

static int grow(pth_store *s, uint64_t size, pth_err *err) {
  pth_pool old = s->slots;
  s->slots = PTH_POOL(uint32_t);
  int rc = pth_pool_reserve(s->arena, &s->slots, size, err);
  if (rc) {
    s->slots = old;
    return rc;
  }
  s->slots.len = (uint32_t)size;
  memset(s->slots.data, 0xff, (size_t)size * sizeof(uint32_t));
  for (uint32_t i = 0; i < old.len; i++) {
    uint32_t span = PTH_AT(uint32_t, old, i);
    if (span != PTH_NONE) *hash_slot(s, PTH_AT(pth_span, s->spans, span).key) = span;
  }
  pth_pool_free(s->arena, &old);
  return 0;
}

void pth_store_expect(pth_store *s, uint64_t n) {
  uint64_t size = 64, most = (s->arena->budget - s->arena->used) / 8 / sizeof(uint32_t);
  pth_pool_expect(s->arena, &s->spans, n);
  while (size < n * 2 && size <= most / 2) size *= 2;
  if (size > s->slots.len && size <= most && !s->arena->exact) (void)grow(s, size, NULL);
}

int pth_store_add(pth_store *s, const pth_span *span, pth_err *err) {
  uint32_t n, *slot, id = s->spans.len;
  int rc = pth_pool_room(s->arena, &s->spans, err);
  if (rc) return rc;
  PTH_AT(pth_span, s->spans, id) = *span;
  if (pth_decimal(span->key, &n) && n < s->direct.len) {
    slot = &PTH_AT(uint32_t, s->direct, n);
  } else {
    uint64_t slots = s->slots.len;
    if (s->n_hashed * UINT64_C(2) >= slots && (rc = grow(s, slots ? slots * 2 : 64, err)) != 0) return rc;
    slot = hash_slot(s, span->key);
    s->n_hashed += *slot == PTH_NONE;
  }
  s->spans.len++;
  if (*slot == PTH_NONE)
    *slot = id;
  else
    PTH_AT(pth_span, s->spans, *slot).code = PTH_AT(pth_span, s->spans, id).code = PTH_E_ZIP_DUPLICATE;
  return 0;
}

void pth_store_cut(pth_store *s, uint64_t file_len) {
  for (uint32_t i = 0; i < s->spans.len; i++) {
    pth_span *span = &PTH_AT(pth_span, s->spans, i);
    if (span->code == 0 && (span->off > file_len || span->len > file_len - span->off)) span->code = PTH_E_STORAGE_CUT;
  }
  for (uint32_t i = 0; i < s->tensors.len; i++) {
    pth_named_tensor *t = &PTH_AT(pth_named_tensor, s->tensors, i);
    if (t->code == PTH_E_STORAGE_MISSING) t->code = PTH_E_STORAGE_CUT;
  }
}

static uint32_t find(const pth_store *s, pth_bytes key) {
  uint32_t n;
  if (pth_decimal(key, &n) && n < s->direct.len) return PTH_AT(uint32_t, s->direct, n);
  return s->slots.len ? *hash_slot(s, key) : PTH_NONE;
}

uint32_t pth_store_find(const pth_store *s, pth_bytes key) {
  if (key.len > PTH_LONGEST_KEY) return PTH_NONE;
  uint32_t found = find(s, key);
  uint64_t n = s->suffix.len;
  if (found != PTH_NONE || n == 0 || key.len <= n || memcmp(key.data + key.len - n, s->suffix.data, (size_t)n) != 0) return found;
  return find(s, (pth_bytes){key.data, key.len - n});
}
