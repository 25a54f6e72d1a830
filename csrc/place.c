#include "place.h"

/* The bytes of a storage's span: the first one in the file, and how many; false if they cannot be read as they lie. */
static bool lies(const pth_tensors *t, const pth_zip *z, uint32_t index, uint64_t *off, uint64_t *len) {
  if (t->store == NULL || index >= t->store->spans.len) return false;
  const pth_span *span = &PTH_AT(pth_span, t->store->spans, index);
  if (span->code) return false;
  *off = span->off;
  *len = span->len;
  if (z == NULL) return span->member == PTH_NONE;
  if (span->member >= z->entries.len) return false;
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, span->member);
  if (e->code || e->method != PTH_ZIP_STORED || e->data_off == 0) return false;
  *off = e->data_off;
  return true;
}

uint64_t pth_place(const pth_tensors *t, const pth_tensor *r, const pth_zip *z, bool big) {
  const pth_dtype *d = &pth_dtypes[r->dtype];
  if (r->code || r->kind != PTH_T_DENSE || r->storage >= t->storages.len || r->numel == 0 || r->offset < 0) return PTH_NOWHERE;
  if (r->dtype == PTH_DT_UNTYPED || (r->cast != PTH_DT_UNTYPED && r->cast != r->dtype)) return PTH_NOWHERE;
  if ((r->flags & (PTH_F_CONJ | PTH_F_NEG)) != 0 || (big && d->swap > 1) || !pth_tensor_in_line(t, r)) return PTH_NOWHERE;
  const pth_storage *s = &PTH_AT(pth_storage, t->storages, r->storage);
  uint64_t off, len, begin, size, end;
  if (s->code || s->flags & (PTH_S_IN_PICKLE | PTH_S_META) || !lies(t, z, s->span, &off, &len)) return PTH_NOWHERE;
  if (!pth_add(s->base, s->nbytes, &end) || end > len) return PTH_NOWHERE;
  if (!pth_mul((uint64_t)r->offset, d->itemsize, &begin) || !pth_add(begin, s->base, &begin)) return PTH_NOWHERE;
  if (!pth_mul(r->numel, d->itemsize, &size) || !pth_add(begin, size, &end) || end > len) return PTH_NOWHERE;
  return pth_add(off, begin, &begin) && pth_add(off, len, &end) ? begin : PTH_NOWHERE;
}
