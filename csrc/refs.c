#include "refs.h"

#include "hash.h"

typedef struct name_slot {
  pth_bytes text;
  uint32_t id; /* PTH_NONE: an empty slot */
} name_slot;

typedef struct ref_slot {
  uint32_t module, name, ref; /* ref PTH_NONE: empty */
} ref_slot;

typedef struct names {
  pth_arena *arena;
  pth_pool by_place, by_text; /* name_slot: by where a text stands, without a look at it; by what it says */
  pth_pool pairs;             /* ref_slot */
  uint32_t n_places, n_texts, n_pairs;
} names;

static int empty_slots(pth_arena *a, pth_pool *p, uint64_t size, pth_err *err) {
  int rc = pth_pool_reserve(a, p, size, err);
  if (rc) return rc;
  p->len = (uint32_t)size;
  memset(p->data, 0xff, (size_t)size * p->item); /* ids of PTH_NONE */
  return 0;
}

static uint64_t hash_place(const names *t, pth_bytes text) {
  return pth_hash_number((uint64_t)(uintptr_t)text.data, t->arena->seed) ^ pth_hash_number(text.len, ~t->arena->seed);
}

static name_slot *place_slot(const names *t, const pth_pool *slots, pth_bytes text) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)hash_place(t, text) & mask;; i = (i + 1) & mask) {
    name_slot *s = &PTH_AT(name_slot, *slots, i);
    if (s->id == PTH_NONE || (s->text.data == text.data && s->text.len == text.len)) return s;
  }
}

static name_slot *text_slot(const names *t, const pth_pool *slots, pth_bytes text) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)pth_hash(text, t->arena->seed) & mask;; i = (i + 1) & mask) {
    name_slot *s = &PTH_AT(name_slot, *slots, i);
    if (s->id == PTH_NONE || pth_bytes_equal(s->text, text)) return s;
  }
}

static ref_slot *pair_slot(const names *t, const pth_pool *slots, uint32_t module, uint32_t name) {
  uint32_t mask = slots->len - 1;
  for (uint32_t i = (uint32_t)pth_hash_number((uint64_t)module << 32 | name, t->arena->seed) & mask;; i = (i + 1) & mask) {
    ref_slot *s = &PTH_AT(ref_slot, *slots, i);
    if (s->ref == PTH_NONE || (s->module == module && s->name == name)) return s;
  }
}

/* Room for one more in a table that holds n: it doubles when it is half full. */
static int grow_names(names *t, pth_pool *slots, uint32_t n, bool by_place, pth_err *err) {
  if ((uint64_t)n * 2 < slots->len) return 0;
  pth_pool old = *slots;
  *slots = PTH_POOL(name_slot);
  int rc = empty_slots(t->arena, slots, old.len ? (uint64_t)old.len * 2 : 16, err);
  for (uint32_t i = 0; i < old.len && !rc; i++) {
    name_slot s = PTH_AT(name_slot, old, i);
    if (s.id != PTH_NONE) *(by_place ? place_slot(t, slots, s.text) : text_slot(t, slots, s.text)) = s;
  }
  pth_pool_free(t->arena, &old);
  return rc;
}

static int grow_pairs(names *t, pth_err *err) {
  if ((uint64_t)t->n_pairs * 2 < t->pairs.len) return 0;
  pth_pool old = t->pairs;
  t->pairs = PTH_POOL(ref_slot);
  int rc = empty_slots(t->arena, &t->pairs, old.len ? (uint64_t)old.len * 2 : 16, err);
  for (uint32_t i = 0; i < old.len && !rc; i++) {
    ref_slot s = PTH_AT(ref_slot, old, i);
    if (s.ref != PTH_NONE) *pair_slot(t, &t->pairs, s.module, s.name) = s;
  }
  pth_pool_free(t->arena, &old);
  return rc;
}

/* Texts longer than this are noted by their place as well: what a million globals share is read once. */
enum { SHORT = 64 };

/* A number for a text, the same for equal ones. */
static int name_id(names *t, pth_bytes text, uint32_t *id, pth_err *err) {
  int rc = text.len > SHORT ? grow_names(t, &t->by_place, t->n_places, true, err) : 0;
  if (rc == 0) rc = grow_names(t, &t->by_text, t->n_texts, false, err);
  if (rc) return rc;
  name_slot *near = text.len > SHORT ? place_slot(t, &t->by_place, text) : NULL;
  if (near != NULL && near->id != PTH_NONE) {
    *id = near->id;
    return 0;
  }
  name_slot *far = text_slot(t, &t->by_text, text);
  if (far->id == PTH_NONE) *far = (name_slot){text, t->n_texts++};
  if (near != NULL) {
    *near = (name_slot){text, far->id};
    t->n_places++;
  }
  *id = far->id;
  return 0;
}

static int count_global(const pth_graph *g, names *t, uint32_t row, pth_pool *refs, pth_pool *ref_of, pth_err *err) {
  const pth_global *named = &PTH_AT(pth_global, g->globals, row);
  uint32_t module = 0, name = 0;
  int rc = name_id(t, pth_global_module(g, named), &module, err);
  if (rc == 0) rc = name_id(t, pth_global_name(g, named), &name, err);
  if (rc == 0) rc = grow_pairs(t, err);
  if (rc == 0) rc = pth_pool_room(t->arena, refs, err);
  if (rc) return rc;
  ref_slot *slot = pair_slot(t, &t->pairs, module, name);
  if (slot->ref == PTH_NONE) {
    *slot = (ref_slot){module, name, refs->len};
    PTH_AT(pth_ref, *refs, refs->len++) = (pth_ref){.row = row, .call = PTH_NONE};
    t->n_pairs++;
  }
  PTH_AT(pth_ref, *refs, slot->ref).uses++;
  PTH_AT(uint32_t, *ref_of, ref_of->len++) = slot->ref;
  return 0;
}

int pth_refs_read(const pth_graph *g, pth_pool *refs, pth_pool *ref_of, pth_err *err) {
  names t = {.arena = g->arena};
  t.by_place = PTH_POOL(name_slot);
  t.by_text = PTH_POOL(name_slot);
  t.pairs = PTH_POOL(ref_slot);
  int rc = pth_pool_reserve(g->arena, ref_of, g->globals.len, err);
  for (uint32_t row = 0; row < g->globals.len && !rc; row++) rc = count_global(g, &t, row, refs, ref_of, err);
  pth_pool_free(g->arena, &t.by_place);
  pth_pool_free(g->arena, &t.by_text);
  pth_pool_free(g->arena, &t.pairs);
  return rc;
}
