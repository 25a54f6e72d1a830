#include "ledger.h"

#include "hash.h"

/* What lies in the file in another form than its bytes is told apart beyond any file: by table, by decoded or not, by place. */
#define ELSEWHERE (UINT64_C(1) << 63)
#define FIELD_PADDING 0x4246u /* "FB": caffe2/serialize aligns data by an extra field of this name */

void pth_ledger_init(pth_ledger *l, pth_arena *a, uint64_t size) {
  *l = (pth_ledger){.arena = a, .claims = PTH_POOL(pth_claim), .starts = PTH_POOL(uint64_t), .size = size};
}

void pth_ledger_free(pth_ledger *l) {
  pth_pool_free(l->arena, &l->claims);
  pth_pool_free(l->arena, &l->starts);
}

static int push(pth_ledger *l, pth_claim c, pth_err *err) {
  if (c.begin >= c.end) return 0;
  int rc = pth_pool_room(l->arena, &l->claims, err);
  if (rc == 0) PTH_AT(pth_claim, l->claims, l->claims.len++) = c;
  return rc;
}

void pth_ledger_inside(pth_ledger *l, uint64_t base) {
  l->base = base;
  l->next_entry = 0;
  l->starts.len = 0;
}

int pth_ledger_claim(pth_ledger *l, uint64_t begin, uint64_t end, enum pth_ledger_kind kind, bool counted, pth_err *err) {
  if (!pth_add(begin, l->base, &begin)) return 0;
  if (!pth_add(end, l->base, &end)) end = UINT64_MAX;
  uint64_t stop = end < l->size ? end : l->size;
  if (begin < stop && counted) l->n_claims[kind]++;
  return push(l, (pth_claim){.begin = begin, .end = stop, .row = PTH_NONE, .kind = (uint8_t)kind}, err);
}

int pth_ledger_spans(pth_ledger *l, const pth_store *s, uint64_t header, pth_err *err) {
  int rc = 0;
  for (uint32_t i = 0; i < s->spans.len && rc == 0; i++) {
    const pth_span *span = &PTH_AT(pth_span, s->spans, i);
    uint64_t end;
    if (span->code || span->off < header || !pth_add(span->off, span->len, &end)) continue;
    rc = pth_ledger_claim(l, span->off - header, span->off, PTH_L_HEADERS, true, err);
    if (rc == 0) rc = pth_ledger_claim(l, span->off, end, PTH_L_UNUSED, true, err);
  }
  return rc;
}

/* ---- zip ---- */

/* The extra fields of a local header: torch's padding, and others, which belong to the header. */
static int claim_extra(pth_ledger *l, pth_bytes extra, uint64_t off, pth_err *err) {
  int rc = 0;
  for (uint64_t at = 0; at < extra.len && rc == 0;) {
    bool field = extra.len - at >= 4;
    uint64_t len = field ? UINT64_C(4) + pth_u16(extra.data + at + 2) : extra.len - at;
    if (len > extra.len - at) len = extra.len - at;
    bool padding = field && pth_u16(extra.data + at) == FIELD_PADDING;
    rc = pth_ledger_claim(l, off + at, off + at + len, padding ? PTH_L_PADDING : PTH_L_HEADERS, padding, err);
    at += len;
  }
  return rc;
}

static int claim_entry(pth_ledger *l, pth_zip *z, uint32_t entry, enum pth_ledger_kind kind, pth_bytes header, pth_err *err) {
  pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  uint64_t extra_at = (uint64_t)PTH_ZIP_LOCAL + pth_u16(header.data + 26), begin = e->lho + header.len, end, known = e->data_off;
  uint16_t odd;
  pth_err why = {0};
  /* What is wrong or odd about it is told by whoever reads it first, and that is not here. */
  if (pth_zip_local(z, entry, header, &PTH_AT(uint64_t, l->starts, entry), &odd, &why)) PTH_AT(uint64_t, l->starts, entry) = 0;
  e->data_off = known;
  if (!pth_add(begin, e->csize, &end) || end > e->room_end) end = e->room_end;
  int rc = pth_ledger_claim(l, e->lho, e->lho + extra_at, PTH_L_HEADERS, true, err);
  if (rc == 0) rc = claim_extra(l, (pth_bytes){header.data + extra_at, header.len - extra_at}, e->lho + extra_at, err);
  if (rc == 0) rc = pth_ledger_claim(l, begin, end, kind, true, err);
  uint64_t behind = begin < end && end < e->room_end ? e->room_end - end : 0; /* a data descriptor has one of these lengths */
  bool descriptor = (e->flags & PTH_ZIP_DESCRIBED) != 0 && (behind == 12 || behind == 16 || behind == 20 || behind == 24);
  if (rc || !descriptor) return rc;
  return pth_ledger_claim(l, end, e->room_end, PTH_L_HEADERS, false, err);
}

int pth_ledger_zip(pth_ledger *l, pth_zip *z, const uint8_t *kinds, pth_bytes window, uint64_t window_off, uint64_t dir_off, uint64_t *want,
                   bool *more, pth_err *err) {
  bool last = window_off + window.len >= dir_off;
  *more = true;
  if (l->starts.len < z->entries.len) {
    int rc = pth_pool_reserve(l->arena, &l->starts, z->entries.len, err);
    if (rc) return rc;
    l->starts.len = z->entries.len;
    memset(l->starts.data, 0, (size_t)l->starts.len * sizeof(uint64_t));
  }
  for (; l->next_entry < z->order.len; l->next_entry++) {
    uint32_t entry = PTH_AT(uint32_t, z->order, l->next_entry);
    uint64_t lho = PTH_AT(pth_zip_entry, z->entries, entry).lho;
    uint64_t room = lho >= window_off && lho - window_off <= window.len ? window.len - (lho - window_off) : 0;
    const uint8_t *p = room >= PTH_ZIP_LOCAL ? window.data + (lho - window_off) : NULL;
    uint64_t len = p == NULL ? 0 : (uint64_t)PTH_ZIP_LOCAL + pth_u16(p + 26) + pth_u16(p + 28);
    *want = lho;
    if ((p == NULL || len > room) && !(last && window_off <= lho)) return 0;
    if (p == NULL || len > room || pth_u32(p) != PTH_ZIP_SIG_LOCAL) continue;
    int rc = claim_entry(l, z, entry, (enum pth_ledger_kind)kinds[entry], (pth_bytes){p, len}, err);
    if (rc) return rc;
  }
  *more = false;
  return 0;
}

int pth_ledger_zip_end(pth_ledger *l, const pth_zip_end *e, pth_err *err) {
  int rc = pth_ledger_claim(l, e->dir_off, e->dir_off + e->dir_len, PTH_L_DIRECTORY, true, err);
  if (rc == 0 && e->end64_off) {
    rc = pth_ledger_claim(l, e->end64_off, e->end64_off + PTH_ZIP_END64, PTH_L_DIRECTORY, true, err);
    if (rc == 0) rc = pth_ledger_claim(l, e->eocd_off - PTH_ZIP_LOCATOR, e->eocd_off, PTH_L_DIRECTORY, true, err);
  }
  if (rc) return rc;
  return pth_ledger_claim(l, e->eocd_off, e->eocd_off + PTH_ZIP_EOCD + e->comment_len, PTH_L_DIRECTORY, true, err);
}

/* ---- tensors ---- */

/* x * part / whole, rounded up or down; false if it cannot be said in 64 bits. */
static bool scale(uint64_t x, uint64_t part, uint64_t whole, bool up, uint64_t *out) {
  if (!pth_mul(x, part, out) || !pth_add(*out, up ? whole - 1 : 0, out)) return false;
  *out /= whole;
  return true;
}

/* A claim on bytes from..to of a span: where they lie in the file. */
static bool place_in_span(const pth_ledger *l, const pth_zip *z, const pth_span *span, pth_claim *c) {
  if (z == NULL || span->member == PTH_NONE) return pth_add(c->begin, span->off, &c->begin) && pth_add(c->end, span->off, &c->end);
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, span->member);
  uint64_t start = span->member < l->starts.len ? PTH_AT(uint64_t, l->starts, span->member) : 0;
  if (e->code || start == 0) return false;
  if (e->method != PTH_ZIP_STORED && e->usize &&
      (!scale(c->begin, e->csize, e->usize, false, &c->begin) || !scale(c->end, e->csize, e->usize, true, &c->end))) {
    c->begin = 0;
    c->end = e->csize;
  }
  return pth_add(c->begin, start, &c->begin) && pth_add(c->end, start, &c->end);
}

static int claim_tensor(pth_ledger *l, const pth_tensors *t, const pth_zip *z, uint64_t pickle_off, uint8_t table, uint32_t row, bool again,
                        pth_err *err) {
  const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, row);
  if (r->storage == PTH_NONE || r->code || (r->kind != PTH_T_DENSE && r->kind != PTH_T_QUANTIZED) || r->numel == 0) return 0;
  const pth_storage *s = &PTH_AT(pth_storage, t->storages, r->storage);
  if (s->code || s->flags & PTH_S_META) return 0;
  const pth_dtype *d = &pth_dtypes[r->dtype];
  uint64_t last = (uint64_t)r->offset;
  for (uint32_t k = 0; k < r->n_dims; k++) {
    last += (uint64_t)(PTH_AT(int64_t, t->dims, r->sizes + k) - 1) * (uint64_t)PTH_AT(int64_t, t->dims, r->strides + k);
  }
  pth_claim c = {.begin = (uint64_t)r->offset / d->packing * d->itemsize,
                 .end = (last / d->packing + 1) * d->itemsize,
                 .nbytes = again ? 0 : (r->numel / d->packing + (r->numel % d->packing != 0)) * d->itemsize,
                 .row = row,
                 .kind = PTH_L_TENSOR,
                 .table = table};
  uint64_t from = s->base;
  if (s->flags & PTH_S_IN_PICKLE) {
    bool text = (s->flags & PTH_S_IN_TEXT) != 0;
    from += text || pickle_off == PTH_INFLATED ? ELSEWHERE | (uint64_t)table << 48 | (uint64_t)text << 47 : pickle_off;
  } else if (s->span == PTH_NONE) {
    return 0;
  }
  c.begin += from;
  c.end += from;
  if (s->span != PTH_NONE && !(s->flags & PTH_S_IN_PICKLE) && !place_in_span(l, z, &PTH_AT(pth_span, t->store->spans, s->span), &c))
    return 0;
  if (c.begin < ELSEWHERE && c.end > l->size) c.end = l->size;
  if (c.begin < c.end && c.nbytes > c.end - c.begin) c.nbytes = c.end - c.begin;
  if (c.begin < c.end && !again) l->n_claims[PTH_L_TENSOR]++;
  return push(l, c, err);
}

int pth_ledger_tensors(pth_ledger *l, const pth_tensors *t, const pth_zip *z, const uint32_t *order, const uint32_t *first,
                       uint64_t pickle_off, uint8_t table, pth_err *err) {
  int rc = 0;
  for (uint32_t i = 0; i < t->storages.len && rc == 0; i++) {
    const pth_storage *s = &PTH_AT(pth_storage, t->storages, i);
    if (s->code || (s->flags & PTH_S_IN_PICKLE) == 0) continue;
    if (s->flags & PTH_S_IN_TEXT || pickle_off == PTH_INFLATED) {
      l->decoded += s->nbytes;
    } else {
      rc = pth_ledger_claim(l, pickle_off + s->base, pickle_off + s->base + s->nbytes, PTH_L_UNUSED, true, err);
    }
  }
  for (uint32_t i = 0; i < t->tensors.len && rc == 0; i++) {
    uint32_t row = order[i];
    if (row < t->tensors.len) rc = claim_tensor(l, t, z, pickle_off, table, row, first[row] != row, err);
  }
  return rc;
}

/* ---- the sums ---- */

/* Indices of the claims by where they begin, equal ones as they are: a merge sort of the runs that there are. Most files have a few. */
static int sort_claims(const pth_ledger *l, pth_pool *order, pth_err *err) {
  uint32_t n = l->claims.len;
  const pth_claim *c = l->claims.data;
  pth_pool spare = PTH_POOL(uint32_t);
  int rc = pth_pool_reserve(l->arena, order, n, err);
  if (rc == 0) rc = pth_pool_reserve(l->arena, &spare, n, err);
  if (rc) {
    pth_pool_free(l->arena, &spare);
    return rc;
  }
  order->len = spare.len = n;
  for (uint32_t i = 0; i < n; i++) PTH_AT(uint32_t, *order, i) = i;
  for (bool sorted = false; !sorted;) {
    uint32_t *from = order->data, *to = spare.data;
    sorted = true;
    for (uint32_t start = 0; start < n;) {
      uint32_t a = start, middle = start + 1, end, k = start;
      while (middle < n && c[from[middle - 1]].begin <= c[from[middle]].begin) middle++;
      end = middle < n ? middle + 1 : middle;
      while (end < n && c[from[end - 1]].begin <= c[from[end]].begin) end++;
      sorted = sorted && start == 0 && end == n;
      for (uint32_t b = middle; a < middle || b < end;) {
        to[k++] = b >= end || (a < middle && c[from[a]].begin <= c[from[b]].begin) ? from[a++] : from[b++];
      }
      start = end;
    }
    pth_pool swap = *order;
    *order = spare;
    spare = swap;
  }
  pth_pool_free(l->arena, &spare);
  return 0;
}

/* Bytes of the file that kinds up to this one claim. */
static uint64_t covered(const pth_ledger *l, const pth_pool *order, uint8_t kind) {
  uint64_t reach = 0, sum = 0;
  for (uint32_t i = 0; i < order->len; i++) {
    const pth_claim *c = &PTH_AT(pth_claim, l->claims, PTH_AT(uint32_t, *order, i));
    if (c->kind > kind || c->begin >= l->size || c->end <= reach) continue;
    sum += c->end - (c->begin > reach ? c->begin : reach);
    reach = c->end;
  }
  return sum;
}

/* Tensors whose extents overlap make a run; each knows the claim that leads it, and that one the bytes of them all. */
static void find_runs(pth_ledger *l, const pth_pool *order) {
  pth_claim *claims = l->claims.data, *lead = NULL;
  uint64_t reach = 0;
  for (uint32_t i = 0; i < order->len; i++) {
    pth_claim *c = &claims[PTH_AT(uint32_t, *order, i)];
    if (c->kind != PTH_L_TENSOR) continue;
    if (lead == NULL || c->begin >= reach) {
      lead = c;
      reach = c->begin;
      lead->left = 0;
    }
    if (c->end > reach) {
      lead->left += c->end - reach;
      reach = c->end;
    }
    c->run = (uint32_t)(lead - claims);
  }
}

static void move(pth_ledger *l, enum pth_ledger_kind from, enum pth_ledger_kind to, uint64_t n) {
  l->nbytes[from] -= n;
  l->nbytes[to] += n;
}

/* Credits tensors, in their order, with bytes of their runs. What was decoded is a part of the pickles' bytes, whatever it takes there. */
static void credit(pth_ledger *l) {
  pth_claim *claims = l->claims.data;
  uint64_t decoded = l->decoded < l->nbytes[PTH_L_PICKLE] ? l->decoded : l->nbytes[PTH_L_PICKLE];
  for (uint32_t i = 0; i < l->claims.len; i++) {
    pth_claim *c = &claims[i];
    if (c->kind != PTH_L_TENSOR) continue;
    uint64_t *left = &claims[c->run].left;
    if (c->nbytes > *left) c->nbytes = *left;
    *left -= c->nbytes;
    if (c->begin < ELSEWHERE) continue;
    if (c->nbytes > decoded) c->nbytes = decoded;
    decoded -= c->nbytes;
    move(l, PTH_L_PICKLE, PTH_L_TENSOR, c->nbytes);
  }
  move(l, PTH_L_PICKLE, PTH_L_UNUSED, decoded);
  for (uint32_t i = 0; i < l->claims.len; i++) {
    const pth_claim *c = &claims[i];
    if (c->kind == PTH_L_TENSOR && c->run == i && c->begin < ELSEWHERE) move(l, PTH_L_TENSOR, PTH_L_UNUSED, c->left);
  }
}

int pth_ledger_settle(pth_ledger *l, pth_err *err) {
  pth_pool order = PTH_POOL(uint32_t);
  int rc = sort_claims(l, &order, err);
  if (rc == 0) {
    uint64_t before = 0;
    for (uint8_t kind = 0; kind < PTH_N_LEDGER; kind++) {
      uint64_t all = kind == PTH_L_TRAILING ? l->size : covered(l, &order, kind);
      l->nbytes[kind] = all - before;
      before = all;
    }
    find_runs(l, &order);
    credit(l);
  }
  pth_pool_free(l->arena, &order);
  return rc;
}

/* ---- tensors that are the same ---- */

static bool same(const pth_tensor *a, const pth_tensor *b) {
  return a->storage == b->storage && a->offset == b->offset && a->n_dims == b->n_dims &&
         (a->n_dims == 0 || (a->sizes == b->sizes && a->strides == b->strides)) && a->dtype == b->dtype &&
         ((a->flags ^ b->flags) & (PTH_F_CONJ | PTH_F_NEG)) == 0;
}

int pth_same_elements(const pth_tensors *t, const uint32_t *order, uint32_t *first, pth_err *err) {
  pth_pool slots = PTH_POOL(uint32_t);
  uint64_t size = 64;
  while (size < (uint64_t)t->tensors.len * 2) size *= 2;
  int rc = pth_pool_reserve(t->arena, &slots, size, err);
  if (rc) return rc;
  memset(slots.data, 0xff, (size_t)size * sizeof(uint32_t));
  for (uint32_t i = 0; i < t->tensors.len; i++) first[i] = i;
  for (uint32_t i = 0; i < t->tensors.len; i++) {
    uint32_t row = order[i];
    if (row >= t->tensors.len) continue;
    const pth_tensor *r = &PTH_AT(pth_tensor, t->tensors, row);
    if (r->storage == PTH_NONE || r->numel == 0) continue;
    pth_sip s = pth_sip_of(t->arena->seed);
    pth_sip_word(&s, (uint64_t)r->storage << 32 | r->n_dims);
    pth_sip_word(&s, (uint64_t)r->offset);
    if (r->n_dims) pth_sip_word(&s, (uint64_t)r->sizes << 32 | r->strides); /* equal lists of dims stand once */
    uint64_t at = pth_sip_end(&s) & (size - 1);
    for (;; at = (at + 1) & (size - 1)) {
      uint32_t *slot = &PTH_AT(uint32_t, slots, at);
      if (*slot == PTH_NONE) *slot = row;
      if (same(&PTH_AT(pth_tensor, t->tensors, *slot), r)) {
        first[row] = *slot;
        break;
      }
    }
  }
  pth_pool_free(t->arena, &slots);
  return 0;
}
