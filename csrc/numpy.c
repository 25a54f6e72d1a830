#include "numpy.h"

#include "shape.h"

/* numpy believes the state of a dtype: one with other flags, or with fields beyond its size, reads pointers and memory out of the file's
 * hand (numpy/_core/src/multiarray/descriptor.c, arraydescr_setstate). */
enum { NUMPY_OBJECT_FLAGS = 63, NUMPY_UNICODE_FLAGS = 8, NUMPY_STRUCT_FLAGS = 0x98, NUMPY_MOST_DIMS = 64 };

/* The kind and the size of a code such as '<f4'; false: it is not such a one. */
static bool dtype_code(const pth_graph *g, uint32_t dtype, char *kind, uint64_t *size) {
  if (!pth_is_meant(g, dtype, PTH_G_NUMPY_DTYPE)) return false;
  uint32_t text = pth_item(g, pth_args_of(pth_node_at(g, dtype)), 0);
  if (text == PTH_NONE || !pth_is_text(pth_node_at(g, text))) return false;
  pth_bytes b = pth_slice(g, pth_node_at(g, text));
  if (b.len && pth_has_letter("<>=|", (char)b.data[0])) b.data++, b.len--;
  if (b.len < 2 || b.len > 10) return false;
  *kind = (char)b.data[0];
  *size = 0;
  for (uint64_t i = 1; i < b.len; i++) {
    if (b.data[i] < '0' || b.data[i] > '9') return false;
    *size = *size * 10 + (b.data[i] - (uint64_t)'0');
  }
  if (*kind == 'U') *size *= 4;
  return pth_has_letter("biufcSUVMmO", *kind);
}

static bool is_none(const pth_graph *g, uint32_t id) { return id != PTH_NONE && pth_node_at(g, id)->kind == PTH_NODE_NONE; }

static uint16_t odd_fields(const pth_graph *g, uint32_t fields, int64_t size, uint64_t *left) {
  pth_pairs it;
  if (fields == PTH_NONE || !pth_pairs_of(g, fields, &it)) return PTH_F_NUMPY_MEMORY;
  for (uint32_t key, field; pth_pairs_next(&it, &key, &field);) {
    char kind = 0;
    uint64_t width, end;
    int64_t offset;
    uint32_t dtype = pth_item(g, field, 0);
    if (pth_spent(left) || dtype == PTH_NONE || !dtype_code(g, dtype, &kind, &width) || kind == 'O') return PTH_F_NUMPY_DTYPE;
    if (!pth_as_i64(g, pth_item(g, field, 1), &offset) || offset < 0 || !pth_add((uint64_t)offset, width, &end) || end > (uint64_t)size)
      return PTH_F_NUMPY_MEMORY;
  }
  return PTH_F_NOTHING;
}

/* (dtype of the elements, shape): as many of them as the whole has room for. */
static uint16_t odd_subarray(const pth_graph *g, uint32_t subarray, uint64_t size) {
  char kind = 0;
  uint64_t width = 0;
  uint32_t base = pth_item(g, subarray, 0), shape = pth_item(g, subarray, 1);
  if (base == PTH_NONE || shape == PTH_NONE || !dtype_code(g, base, &kind, &width) || kind == 'O') return PTH_F_NUMPY_DTYPE;
  if (pth_node_at(g, shape)->kind != PTH_NODE_TUPLE || pth_n_items(g, shape) > NUMPY_MOST_DIMS) return PTH_F_NUMPY_DTYPE;
  pth_items it = pth_items_of(g, shape);
  for (uint32_t item; pth_items_next(&it, &item);) {
    int64_t n;
    if (!pth_as_i64(g, item, &n) || n < 0 || !pth_mul(width, (uint64_t)n, &width)) return PTH_F_NUMPY_MEMORY;
  }
  return width == size ? PTH_F_NOTHING : PTH_F_NUMPY_MEMORY;
}

uint16_t pth_numpy_dtype_odd(const pth_graph *g, uint32_t id, uint64_t *left) {
  char kind = 0;
  uint64_t width = 0;
  int64_t size, flags;
  uint32_t state = pth_last_state(g, id);
  bool coded = dtype_code(g, id, &kind, &width), own_size = kind == 'S' || kind == 'U' || kind == 'V';
  if (state == PTH_NONE) return coded ? PTH_F_NOTHING : PTH_F_NUMPY_DTYPE;
  if (!coded || !pth_as_i64(g, pth_item(g, state, 5), &size) || !pth_as_i64(g, pth_item(g, state, 7), &flags)) return PTH_F_NUMPY_DTYPE;
  if (own_size && (uint64_t)size != width) return PTH_F_NUMPY_MEMORY;
  if (!is_none(g, pth_item(g, state, 2))) {
    bool alone = kind == 'V' && is_none(g, pth_item(g, state, 3)) && is_none(g, pth_item(g, state, 4));
    return alone && (flags & ~NUMPY_STRUCT_FLAGS) == 0 ? odd_subarray(g, pth_item(g, state, 2), (uint64_t)size) : PTH_F_NUMPY_DTYPE;
  }
  if (is_none(g, pth_item(g, state, 3)) && is_none(g, pth_item(g, state, 4)))
    return flags == (kind == 'O' ? NUMPY_OBJECT_FLAGS : kind == 'U' ? NUMPY_UNICODE_FLAGS : 0) ? PTH_F_NOTHING : PTH_F_NUMPY_MEMORY;
  if (kind != 'V') return PTH_F_NUMPY_MEMORY;
  uint16_t odd = odd_fields(g, pth_item(g, state, 4), size, left);
  return odd || (flags & ~NUMPY_STRUCT_FLAGS) == 0 ? odd : PTH_F_NUMPY_DTYPE;
}

/* Elements of a shape, of that many bytes each. */
static bool extent(const pth_graph *g, uint32_t shape, uint64_t width, uint64_t *out) {
  if (shape == PTH_NONE || pth_node_at(g, shape)->kind != PTH_NODE_TUPLE || pth_n_items(g, shape) > NUMPY_MOST_DIMS) return false;
  pth_items it = pth_items_of(g, shape);
  *out = width;
  for (uint32_t item; pth_items_next(&it, &item);) {
    int64_t n;
    if (!pth_as_i64(g, item, &n) || n < 0 || !pth_mul(*out, (uint64_t)n, out)) return false;
  }
  return true;
}

/* Bytes, or the list of what an array of objects holds, that fill a shape. What is neither cannot be counted here. */
static bool fills(const pth_graph *g, uint32_t data, uint32_t dtype, uint32_t shape) {
  char kind = 0;
  uint64_t width = 0, n = 0;
  uint8_t k = data == PTH_NONE ? PTH_NODE_NONE : pth_node_at(g, data)->kind;
  if (dtype == PTH_NONE) return false;
  if (!dtype_code(g, dtype, &kind, &width)) return pth_is_meant(g, dtype, PTH_G_NUMPY_DTYPE) || pth_is_meant(g, dtype, PTH_G_UNKNOWN);
  if (kind == 'O') return k == PTH_NODE_LIST && extent(g, shape, 1, &n) && n == pth_n_items(g, data);
  bool counted = k == PTH_NODE_BYTES || k == PTH_NODE_BYTEARRAY || k == PTH_NODE_STR8;
  if (!counted) return k == PTH_NODE_OBJECT && extent(g, shape, width, &n);
  return extent(g, shape, width, &n) && n == pth_slice(g, pth_node_at(g, data)).len;
}

/* (class, (0,), b'b'): the array is filled by its state, and holds what the memory held before if there is none. */
static bool reconstructs(const pth_graph *g, uint32_t id, uint32_t args) {
  int64_t zero = 1;
  enum pth_meaning cls = pth_meaning_of_node(g, pth_item(g, args, 0), NULL);
  uint32_t shape = pth_item(g, args, 1), code = pth_item(g, args, 2), state = pth_last_state(g, id);
  if (cls != PTH_G_NUMPY_ARRAY && cls != PTH_G_MEMMAP && cls != PTH_G_UNKNOWN) return false;
  if (pth_n_items(g, shape) != 1 || !pth_as_i64(g, pth_item(g, shape, 0), &zero) || zero != 0) return false;
  uint8_t k = pth_node_at(g, code)->kind;
  if ((k != PTH_NODE_BYTES && k != PTH_NODE_STR && k != PTH_NODE_STR8) ||
      !pth_bytes_equal(pth_slice(g, pth_node_at(g, code)), pth_text("b")))
    return false;
  if (state == PTH_NONE) return true;
  return pth_n_items(g, state) == 5 && fills(g, pth_item(g, state, 4), pth_item(g, state, 2), pth_item(g, state, 1));
}

bool pth_numpy_call_fits(const pth_graph *g, uint32_t id, enum pth_meaning m) {
  uint32_t args = pth_args_of(pth_node_at(g, id));
  if (m == PTH_G_NUMPY_RECONSTRUCT) return reconstructs(g, id, args);
  if (m == PTH_G_NUMPY_FROMBUFFER) {
    char kind = 0;
    uint64_t width;
    uint32_t dtype = pth_item(g, args, 1);
    return !(dtype_code(g, dtype, &kind, &width) && kind == 'O') && fills(g, pth_item(g, args, 0), dtype, pth_item(g, args, 2));
  }
  return m != PTH_G_NUMPY_SCALAR || fills(g, pth_item(g, args, 1), pth_item(g, args, 0), PTH_NODE_EMPTY_TUPLE);
}
