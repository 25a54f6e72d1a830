#include "parts.h"

/* What torch takes for a scale: a finite number above zero. A literal of protocol 0 begins with a digit then. */
static bool is_scale(const pth_graph *g, uint32_t id) {
  const pth_node *n = pth_node_at(g, id);
  double scale;
  if (n->kind == PTH_NODE_FLOATTEXT) return pth_slice(g, n).data[0] >= '0' && pth_slice(g, n).data[0] <= '9';
  memcpy(&scale, &n->b, sizeof scale);
  return scale > 0 && scale < 1e15;
}

static const pth_tensor *row_at(const pth_tensors *t, uint32_t node) {
  uint32_t row = pth_row_of_node(t, node);
  return row == PTH_NONE ? NULL : &PTH_AT(pth_tensor, t->tensors, row);
}

static int64_t size_at(const pth_tensors *t, const pth_tensor *r, uint32_t dim) { return PTH_AT(int64_t, t->dims, r->sizes + dim); }

/* A part of a tensor: dense, without gaps, of a dtype and of so many dimensions. Other ones torch copies before it makes something of
 * them, and in a legacy file it does so before it has read what is in them. */
static const pth_tensor *part_at(const pth_tensors *t, uint32_t node, enum pth_dtype_id dtype, uint32_t n_dims) {
  const pth_tensor *r = row_at(t, node);
  if (r == NULL || r->code || r->kind != PTH_T_DENSE || r->dtype != dtype || r->n_dims != n_dims || r->flags) return NULL;
  int64_t step = 1;
  for (uint32_t i = n_dims; i-- > 0;) {
    if (size_at(t, r, i) > 1 && PTH_AT(int64_t, t->dims, r->strides + i) != step) return NULL;
    step *= size_at(t, r, i) > 0 ? size_at(t, r, i) : 1;
  }
  return r;
}

/* Scales or zero points: numbers, one for each channel. */
static bool are_of_channels(const pth_tensors *t, uint32_t node, int64_t n, enum pth_dtype_id dtype) {
  const pth_tensor *r = part_at(t, node, dtype, 1);
  return r != NULL && size_at(t, r, 0) == n;
}

/* (scheme, scale, zero point) or (scheme, scales, zero points, axis), of an integer dtype that is quantized. */
static bool quantizer_fits(const pth_graph *g, const pth_tensors *t, uint32_t q, const pth_tensor *r) {
  uint32_t first = pth_item(g, q, 1), second = pth_item(g, q, 2), axis_at = pth_item(g, q, 3);
  int64_t zero, axis;
  if (axis_at == PTH_NONE) return is_scale(g, first) && pth_as_i64(g, second, &zero) && zero >= INT32_MIN && zero <= INT32_MAX;
  if (!pth_as_i64(g, axis_at, &axis) || axis < 0 || axis >= (int64_t)r->n_dims) return false;
  int64_t n = size_at(t, r, (uint32_t)axis);
  /* Zero points that are no integers go with scales in single precision. */
  return (are_of_channels(t, first, n, PTH_DT_FLOAT64) && are_of_channels(t, second, n, PTH_DT_INT64)) ||
         (are_of_channels(t, first, n, PTH_DT_FLOAT32) && are_of_channels(t, second, n, PTH_DT_FLOAT32));
}

/* (buffer, sizes, strides, offsets) */
static bool nested_fits(const pth_graph *g, const pth_tensors *t, uint32_t args) {
  const pth_tensor *buffer = row_at(t, pth_item(g, args, 0)), *sizes = part_at(t, pth_item(g, args, 1), PTH_DT_INT64, 2);
  const pth_tensor *strides = part_at(t, pth_item(g, args, 2), PTH_DT_INT64, 2),
                   *offsets = part_at(t, pth_item(g, args, 3), PTH_DT_INT64, 1);
  const pth_storage *s = buffer == NULL || buffer->storage == PTH_NONE ? NULL : &PTH_AT(pth_storage, t->storages, buffer->storage);
  if (s == NULL || s->nbytes != buffer->numel * pth_dtypes[buffer->dtype].itemsize) return false; /* torch looks no further than this */
  return sizes != NULL && strides != NULL && offsets != NULL && buffer->kind == PTH_T_DENSE && buffer->n_dims == 1 &&
         size_at(t, sizes, 0) == size_at(t, strides, 0) && size_at(t, sizes, 1) == size_at(t, strides, 1) &&
         size_at(t, sizes, 0) == size_at(t, offsets, 0);
}

/* The last dimensions of values, from `from` on, are those of the whole from `of` on. */
static bool ends_alike(const pth_tensors *t, const pth_tensor *values, uint32_t from, const pth_tensor *whole, uint32_t of) {
  if (values->n_dims - from != whole->n_dims - of) return false;
  for (uint32_t i = 0; i < whole->n_dims - of; i++) {
    if (size_at(t, values, from + i) != size_at(t, whole, of + i)) return false;
  }
  return true;
}

/* (indices[dims, n], values[n, ...]): what they point at is data, which no audit looks at. */
static bool coo_fits(const pth_tensors *t, const pth_tensor *r, const pth_tensor *indices, const pth_tensor *values) {
  return indices->dtype == PTH_DT_INT64 && indices->n_dims == 2 && values->n_dims >= 1 && size_at(t, indices, 1) == size_at(t, values, 0) &&
         size_at(t, indices, 0) <= (int64_t)r->n_dims && ends_alike(t, values, 1, r, (uint32_t)size_at(t, indices, 0));
}

/* (pointers[batch..., rows + 1], indices[batch..., n], values[batch..., n, block..., ...]) */
static bool compressed_fits(const pth_tensors *t, const pth_tensor *r, const pth_tensor *pointers, const pth_tensor *plain,
                            const pth_tensor *values) {
  bool blocked = r->layout == PTH_L_SPARSE_BSR || r->layout == PTH_L_SPARSE_BSC;
  bool by_row = r->layout == PTH_L_SPARSE_CSR || r->layout == PTH_L_SPARSE_BSR;
  uint32_t batch = pointers->n_dims - 1, block = blocked ? 2 : 0;
  if ((pointers->dtype != PTH_DT_INT64 && pointers->dtype != PTH_DT_INT32) || pointers->dtype != plain->dtype || pointers->n_dims == 0 ||
      plain->n_dims != batch + 1 || r->n_dims < batch + 2 || values->n_dims < batch + 1 + block)
    return false;
  for (uint32_t i = 0; i < batch; i++) {
    int64_t n = size_at(t, r, i);
    if (size_at(t, pointers, i) != n || size_at(t, plain, i) != n || size_at(t, values, i) != n) return false;
  }
  int64_t rows = size_at(t, r, batch + (by_row ? 0 : 1)), columns = size_at(t, r, batch + (by_row ? 1 : 0));
  if (blocked) {
    int64_t high = size_at(t, values, batch + 1 + (by_row ? 0 : 1)), wide = size_at(t, values, batch + 1 + (by_row ? 1 : 0));
    if (high <= 0 || wide <= 0 || rows % high || columns % wide) return false;
    rows /= high;
  }
  return size_at(t, pointers, batch) - 1 == rows && size_at(t, plain, batch) == size_at(t, values, batch) &&
         ends_alike(t, values, batch + 1 + block, r, batch + 2);
}

/* (layout, parts), as torch.save writes it. */
static bool sparse_fits(const pth_graph *g, const pth_tensors *t, const pth_tensor *r) {
  const pth_tensor *part[3];
  bool coo = r->layout == PTH_L_SPARSE_COO;
  uint32_t n = coo ? 2 : 3;
  for (uint32_t i = 0; i < n; i++) {
    part[i] = row_at(t, pth_item(g, r->part, i));
    if (part[i] == NULL || part[i]->code || part[i]->kind != PTH_T_DENSE || (i + 1 < n && part[i]->flags)) return false;
  }
  return coo ? coo_fits(t, r, part[0], part[1]) : compressed_fits(t, r, part[0], part[1], part[2]);
}

static bool begins_with(const char *s, const char *word) {
  while (*word && *s == *word) s++, word++;
  return *word == 0;
}

/* Gradients are asked for of real and complex numbers alone. */
static bool may_have_gradients(const pth_tensor *r) {
  const char *name = pth_dtypes[r->dtype].name;
  return r->kind == PTH_T_UNINITIALIZED || begins_with(name, "float") || begins_with(name, "bfloat") || begins_with(name, "complex");
}

bool pth_parts_fit(const pth_graph *g, const pth_tensors *t, uint32_t id, enum pth_meaning m) {
  const pth_tensor *r = row_at(t, id);
  if (r == NULL) return false;
  if (r->code) return true;
  uint32_t args = pth_args_of(pth_node_at(g, id));
  if (m == PTH_G_FROM_TYPE) args = pth_item(g, args, 2);
  if (m == PTH_G_FROM_TYPE) m = pth_meaning_of_node(g, pth_item(g, pth_args_of(pth_node_at(g, id)), 0), NULL);
  bool quantized = r->dtype >= PTH_DT_QINT8 && r->dtype <= PTH_DT_QUINT2X4;
  if (quantized ? r->kind == PTH_T_DENSE || r->kind == PTH_T_META : r->kind == PTH_T_QUANTIZED) return false;
  if (m == PTH_G_QTENSOR && !quantizer_fits(g, t, pth_item(g, args, 4), r)) return false;
  if (m == PTH_G_NESTED && !nested_fits(g, t, args)) return false;
  if (m == PTH_G_SPARSE && pth_n_items(g, args) == 2 && !sparse_fits(g, t, r)) return false;
  return !(r->flags & PTH_F_GRAD) || may_have_gradients(r);
}
