#include "pickle.h"

#include "hash.h"

const pth_opcode pth_opcodes[] = {
#define X(NAME, code, proto) {#NAME, code, proto},
#include "defs/opcodes.def"
#undef X
};
const uint32_t pth_n_opcodes = sizeof pth_opcodes / sizeof pth_opcodes[0];

enum opcode {
#define X(NAME, code, proto) OP_##NAME = code,
#include "defs/opcodes.def"
#undef X
};

typedef struct memo_slot {
  uint32_t index, node; /* node PTH_NONE: empty */
} memo_slot;

typedef struct vm {
  pth_graph *g;
  pth_arena *arena;
  pth_cursor in;
  pth_err *err;
  pth_pool stack; /* node ids */
  pth_pool marks; /* heights of the stack */
  uint32_t fence; /* height of the last mark: nothing is popped below it */
  pth_pool memo;  /* node ids by index, PTH_NONE where nothing was put */
  pth_pool far;   /* memo_slot hash of the indices beyond the pickle's length */
  uint32_t n_far;
  uint32_t n_memo; /* entries of both: the index of the next MEMOIZE */
  uint64_t op_at;
  uint64_t frame_end;
  uint64_t encoded; /* bytes that calls of _codecs.encode made */
  uint64_t length;  /* bytes of the pickle: memo indices below that lie in an array */
} vm;

static int fail(vm *v, int code, uint64_t want, uint64_t have) { return pth_fail(v->err, code, v->op_at, want, have); }

static int truncated(vm *v, uint64_t want) { return fail(v, PTH_E_PICKLE_TRUNCATED, want, pth_left(&v->in)); }

/* ---- nodes, stack, marks ---- */

static int new_node(vm *v, pth_node n, uint32_t *id) {
  int rc = pth_pool_room(v->arena, &v->g->nodes, v->err);
  if (rc) return rc;
  *id = v->g->nodes.len++;
  PTH_AT(pth_node, v->g->nodes, *id) = n;
  return 0;
}

static int push(vm *v, uint32_t id) { return pth_push_u32(v->arena, &v->stack, id, v->err); }

static int push_node(vm *v, pth_node n) {
  uint32_t id;
  int rc = new_node(v, n, &id);
  return rc ? rc : push(v, id);
}

static uint32_t height(const vm *v) { return v->stack.len - v->fence; }
static int underflow(vm *v, uint32_t want) { return fail(v, PTH_E_PICKLE_UNDERFLOW, want, height(v)); }
static uint32_t top(const vm *v) { return PTH_AT(uint32_t, v->stack, v->stack.len - 1); }
static uint32_t pop(vm *v) { return PTH_AT(uint32_t, v->stack, --v->stack.len); }
static pth_node *node(vm *v, uint32_t id) { return &PTH_AT(pth_node, v->g->nodes, id); }

static int mark(vm *v) {
  int rc = pth_push_u32(v->arena, &v->marks, v->stack.len, v->err);
  if (rc == 0) v->fence = v->stack.len;
  return rc;
}

/* Takes the last mark away; *at is the height where its items begin. */
static int unmark(vm *v, uint32_t *at) {
  *at = 0;
  if (v->marks.len == 0) return fail(v, PTH_E_PICKLE_MARK, 1, 0);
  *at = PTH_AT(uint32_t, v->marks, --v->marks.len);
  v->fence = v->marks.len ? PTH_AT(uint32_t, v->marks, v->marks.len - 1) : 0;
  return 0;
}

/* ---- numbers and text ---- */

static pth_node int_node(int64_t value) { return (pth_node){.kind = PTH_NODE_INT, .b = (uint64_t)value}; }

static int push_int(vm *v, int64_t value) {
  if (value >= 0 && value < 256) return push(v, PTH_NODE_SMALL_INT + (uint32_t)value);
  return push_node(v, int_node(value));
}

static pth_node slice_node(uint8_t kind, uint8_t flags, uint64_t off, uint64_t len) {
  return (pth_node){.kind = kind, .flags = flags, .hi = (uint16_t)(len >> 32), .a = (uint32_t)len, .b = off};
}

static int push_slice(vm *v, uint8_t kind, uint64_t len) {
  uint64_t off = v->in.pos;
  const uint8_t *p = pth_take(&v->in, len);
  if (p == NULL || len >> 48) return truncated(v, len);
  if (kind == PTH_NODE_STR) {
    uint64_t good = pth_utf8_valid(p, len);
    if (good < len) return fail(v, PTH_E_PICKLE_UTF8, good, len);
  }
  return push_node(v, slice_node(kind, 0, off, len));
}

/* The argument up to the next line feed, which is taken too. */
static int line(vm *v, pth_bytes *out) {
  *out = (pth_bytes){0};
  const uint8_t *start = v->in.data + v->in.pos;
  uint64_t left = pth_left(&v->in);
  const uint8_t *end = left ? memchr(start, '\n', (size_t)left) : NULL;
  if (end == NULL) return fail(v, PTH_E_PICKLE_LINE, left + 1, left);
  *out = (pth_bytes){start, (uint64_t)(end - start)};
  (void)pth_take(&v->in, out->len + 1);
  return 0;
}

static uint64_t off_in(const vm *v, pth_bytes b) { return (uint64_t)(b.data - v->in.data); }

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static uint32_t digit_of(uint8_t c) {
  if (is_digit(c)) return c - (uint32_t)'0';
  c |= 0x20;
  return c >= 'a' && c <= 'z' ? c - (uint32_t)'a' + 10 : 99;
}

/* Spaces that int() of Python allows round a literal. */
static pth_bytes strip(pth_bytes b) {
  while (b.len && (b.data[0] == ' ' || (b.data[0] >= '\t' && b.data[0] <= '\r'))) b.data++, b.len--;
  while (b.len && (b.data[b.len - 1] == ' ' || (b.data[b.len - 1] >= '\t' && b.data[b.len - 1] <= '\r'))) b.len--;
  return b;
}

/* An integer literal as int(text, 0) reads it. What does not fit 64 bits stays text. "010" is refused: C reads 8 there, Python nothing. */
static int push_literal(vm *v, pth_bytes text) {
  pth_bytes b = strip(text), whole = b;
  bool negative = false, fits = true, zero_first;
  uint32_t base = 10;
  if (b.len && (b.data[0] == '-' || b.data[0] == '+')) negative = b.data[0] == '-', b.data++, b.len--;
  if (b.len > 2 && b.data[0] == '0' && !is_digit(b.data[1]) && b.data[1] != '_') {
    uint8_t p = b.data[1] | 0x20;
    base = p == 'x' ? 16 : p == 'o' ? 8 : p == 'b' ? 2 : 0;
    if (base == 0) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
    b.data += 2, b.len -= 2;
    if (b.data[0] == '_') b.data++, b.len--;
  }
  zero_first = base == 10 && b.len > 1 && b.data[0] == '0';
  uint64_t value = 0;
  bool digit_before = false;
  for (uint64_t i = 0; i < b.len; i++) {
    if (b.data[i] == '_' && digit_before) {
      digit_before = false;
      continue;
    }
    uint32_t d = digit_of(b.data[i]);
    if (d >= base || (zero_first && d != 0)) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
    if (value > (UINT64_MAX - d) / base) fits = false;
    value = value * base + d;
    digit_before = true;
  }
  if (!digit_before) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
  if (fits && value <= (uint64_t)INT64_MAX) return push_int(v, negative ? -(int64_t)value : (int64_t)value);
  return push_node(v, slice_node(PTH_NODE_INTTEXT, 0, off_in(v, whole), whole.len));
}

static int load_int(vm *v) {
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  if (b.len == 2 && b.data[0] == '0' && (b.data[1] == '0' || b.data[1] == '1'))
    return push(v, b.data[1] == '1' ? PTH_NODE_TRUE : PTH_NODE_FALSE);
  return push_literal(v, b);
}

static int load_long(vm *v) {
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  if (b.len && b.data[b.len - 1] == 'L') b.len--;
  return push_literal(v, b);
}

static bool word_is(pth_bytes b, const char *lower) {
  if (b.len != strlen(lower)) return false;
  for (uint64_t i = 0; i < b.len; i++) {
    if ((b.data[i] | 0x20) != lower[i]) return false;
  }
  return true;
}

static bool float_literal(pth_bytes b) {
  uint64_t i = 0, digits = 0;
  if (b.len && (b.data[0] == '-' || b.data[0] == '+')) b.data++, b.len--;
  if (word_is(b, "inf") || word_is(b, "infinity") || word_is(b, "nan")) return true;
  for (; i < b.len && is_digit(b.data[i]); i++) digits++;
  if (i < b.len && b.data[i] == '.') {
    for (i++; i < b.len && is_digit(b.data[i]); i++) digits++;
  }
  if (digits == 0) return false;
  if (i < b.len && (b.data[i] | 0x20) == 'e') {
    i++;
    if (i < b.len && (b.data[i] == '-' || b.data[i] == '+')) i++;
    if (i == b.len) return false;
    while (i < b.len && is_digit(b.data[i])) i++;
  }
  return i == b.len;
}

static int load_float(vm *v) {
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  if (!float_literal(b)) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
  return push_node(v, slice_node(PTH_NODE_FLOATTEXT, 0, off_in(v, b), b.len));
}

/* Two's complement, little endian, any length: LONG1 and LONG4. */
static int load_twos(vm *v, uint64_t len) {
  const uint8_t *p = pth_take(&v->in, len);
  if (p == NULL) return truncated(v, len);
  uint64_t off = v->in.pos - len;
  if (len > 8) return push_node(v, slice_node(PTH_NODE_BIGINT, 0, off, len));
  uint64_t value = len && p[len - 1] & 0x80 ? UINT64_MAX : 0;
  for (uint64_t i = len; i-- > 0;) value = value << 8 | p[i];
  return push_int(v, pth_i64_of(value));
}

static int put_text(vm *v, uint8_t byte) {
  int rc = pth_pool_room(v->arena, &v->g->text, v->err);
  if (rc == 0) PTH_AT(uint8_t, v->g->text, v->g->text.len++) = byte;
  return rc;
}

static int put_utf8(vm *v, uint32_t c) {
  int rc = 0;
  if (c < 0x80) return put_text(v, (uint8_t)c);
  if (c < 0x800) {
    rc = put_text(v, (uint8_t)(0xc0 | c >> 6));
  } else {
    if (c < 0x10000) {
      rc = put_text(v, (uint8_t)(0xe0 | c >> 12));
    } else {
      rc = put_text(v, (uint8_t)(0xf0 | c >> 18));
      if (!rc) rc = put_text(v, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
    }
    if (!rc) rc = put_text(v, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
  }
  return rc ? rc : put_text(v, (uint8_t)(0x80 | (c & 0x3f)));
}

/* n hexadecimal digits at p, or UINT32_MAX. */
static uint32_t hex(const uint8_t *p, uint64_t left, uint32_t n) {
  uint32_t value = 0;
  if (left < n) return UINT32_MAX;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t d = digit_of(p[i]);
    if (d >= 16) return UINT32_MAX;
    value = value << 4 | d;
  }
  return value;
}

/* UNICODE: raw-unicode-escape. Latin-1 with \uXXXX and \UXXXXXXXX; a backslash that an odd run of them ends begins an escape. */
static int load_unicode(vm *v) {
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  uint64_t plain = 0;
  while (plain < b.len && b.data[plain] < 0x80 && b.data[plain] != '\\') plain++;
  if (plain == b.len) return push_node(v, slice_node(PTH_NODE_STR, 0, off_in(v, b), b.len));
  uint64_t start = v->g->text.len;
  for (uint64_t i = 0; i < b.len && !rc;) {
    if (b.data[i] != '\\' || i + 1 == b.len) {
      rc = put_utf8(v, b.data[i++]);
      continue;
    }
    uint8_t kind = b.data[i + 1];
    if (kind != 'u' && kind != 'U') {
      rc = put_text(v, '\\');
      if (!rc) rc = put_utf8(v, kind);
      i += 2;
      continue;
    }
    uint32_t n = kind == 'u' ? 4 : 8;
    uint32_t c = hex(b.data + i + 2, b.len - i - 2, n);
    if (c > 0x10ffff) return fail(v, PTH_E_PICKLE_UTF8, i, b.len);
    rc = put_utf8(v, c);
    i += 2 + n;
  }
  return rc ? rc : push_node(v, slice_node(PTH_NODE_STR, PTH_IN_TEXT, start, v->g->text.len - start));
}

/* STRING: the repr of a Python 2 str, with its quotes. */
static int load_string(vm *v) {
  static const char escapes[] = "\\\\''\"\"b\bf\fn\nr\rt\tv\va\a";
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  if (b.len < 2 || b.data[0] != b.data[b.len - 1] || (b.data[0] != '\'' && b.data[0] != '"')) return fail(v, PTH_E_PICKLE_STRING, 0, 0);
  b.data++, b.len -= 2;
  v->g->has_str8 = true;
  if (b.len == 0 || memchr(b.data, '\\', (size_t)b.len) == NULL) return push_node(v, slice_node(PTH_NODE_STR8, 0, off_in(v, b), b.len));
  uint64_t start = v->g->text.len;
  for (uint64_t i = 0; i < b.len && !rc;) {
    if (b.data[i] != '\\') {
      rc = put_text(v, b.data[i++]);
      continue;
    }
    if (++i == b.len) return fail(v, PTH_E_PICKLE_STRING, 0, 0);
    uint8_t c = b.data[i];
    if (c == 'x') {
      uint32_t value = hex(b.data + i + 1, b.len - i - 1, 2);
      if (value > 0xff) return fail(v, PTH_E_PICKLE_STRING, 0, 0);
      rc = put_text(v, (uint8_t)value);
      i += 3;
    } else if (c >= '0' && c <= '7') {
      uint32_t value = 0, n = 0;
      for (; n < 3 && i < b.len && b.data[i] >= '0' && b.data[i] <= '7'; n++, i++) value = value * 8 + (b.data[i] - (uint32_t)'0');
      rc = put_text(v, (uint8_t)value);
    } else {
      const char *e = escapes;
      while (*e && (uint8_t)*e != c) e += 2;
      if (*e) {
        rc = put_text(v, (uint8_t)e[1]);
      } else {
        rc = put_text(v, '\\');
        if (!rc) rc = put_text(v, c);
      }
      i++;
    }
  }
  return rc ? rc : push_node(v, slice_node(PTH_NODE_STR8, PTH_IN_TEXT, start, v->g->text.len - start));
}

/* ---- memo ---- */

static memo_slot *far_slot(vm *v, uint32_t index) {
  uint32_t mask = v->far.len - 1;
  uint32_t i = (uint32_t)pth_hash_number(index, v->arena->seed) & mask;
  for (;; i = (i + 1) & mask) {
    memo_slot *s = &PTH_AT(memo_slot, v->far, i);
    if (s->node == PTH_NONE || s->index == index) return s;
  }
}

static int far_grow(vm *v) {
  pth_pool old = v->far;
  uint32_t size = old.len ? old.len * 2 : 64;
  v->far = PTH_POOL(memo_slot);
  int rc = size ? pth_pool_reserve(v->arena, &v->far, size, v->err) : PTH_E_BUDGET;
  if (rc) {
    v->far = old;
    return rc;
  }
  v->far.len = size;
  for (uint32_t i = 0; i < size; i++) PTH_AT(memo_slot, v->far, i).node = PTH_NONE;
  for (uint32_t i = 0; i < old.len; i++) {
    memo_slot s = PTH_AT(memo_slot, old, i);
    if (s.node != PTH_NONE) *far_slot(v, s.index) = s;
  }
  pth_pool_free(v->arena, &old);
  return 0;
}

static int memo_put(vm *v, uint32_t index) {
  if (height(v) == 0) return underflow(v, 1);
  uint32_t id = top(v);
  if (index > v->g->n_ops) v->g->far_memo = true;
  if (index == v->memo.len && index < v->length) { /* what a pickler does: one after the other */
    v->n_memo++;
    return pth_push_u32(v->arena, &v->memo, id, v->err);
  }
  if (index > v->memo.len && index < v->length) {
    /* No larger than the pickle: an array. Its growth is by halves, so it stays linear. */
    int rc = pth_pool_reserve(v->arena, &v->memo, (uint64_t)index + 1 - v->memo.len, v->err);
    if (rc) return rc;
    while (v->memo.len <= index) PTH_AT(uint32_t, v->memo, v->memo.len++) = PTH_NONE;
  }
  if (index < v->memo.len) {
    uint32_t *slot = &PTH_AT(uint32_t, v->memo, index);
    v->n_memo += *slot == PTH_NONE;
    *slot = id;
    return 0;
  }
  if (v->n_far * 2 >= v->far.len) {
    int rc = far_grow(v);
    if (rc) return rc;
  }
  memo_slot *slot = far_slot(v, index);
  if (slot->node == PTH_NONE) v->n_memo++, v->n_far++;
  *slot = (memo_slot){index, id};
  return 0;
}

static int memo_get(vm *v, uint32_t index) {
  uint32_t id = PTH_NONE;
  if (index < v->memo.len)
    id = PTH_AT(uint32_t, v->memo, index);
  else if (v->far.len)
    id = far_slot(v, index)->node;
  return id == PTH_NONE ? fail(v, PTH_E_PICKLE_MEMO, index, 0) : push(v, id);
}

/* The line of GET and PUT: decimal digits, as every pickler writes them. int() would also take blanks, a sign and underscores. */
static int memo_line(vm *v, uint32_t *index) {
  pth_bytes b;
  int rc = line(v, &b);
  if (rc) return rc;
  uint64_t value = 0;
  for (uint64_t i = 0; i < b.len; i++) {
    if (!is_digit(b.data[i]) || value > UINT32_MAX) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
    value = value * 10 + (b.data[i] - (uint32_t)'0');
  }
  if (b.len == 0 || value > UINT32_MAX) return fail(v, PTH_E_PICKLE_NUMBER, 0, 0);
  *index = (uint32_t)value;
  return 0;
}

/* ---- containers ---- */

/* Moves the stack's items from height `at` on into kids. */
static int take_kids(vm *v, uint32_t at, uint32_t *start) {
  pth_graph *g = v->g;
  uint32_t n = v->stack.len - at;
  int rc = pth_pool_reserve(v->arena, &g->kids, n, v->err);
  if (rc) return rc;
  *start = g->kids.len;
  for (uint32_t i = 0; i < n; i++) PTH_AT(uint32_t, g->kids, *start + i) = PTH_AT(uint32_t, v->stack, at + i); /* mostly a few */
  g->kids.len += n;
  v->stack.len = at;
  return 0;
}

/* What CPython can hash: no list, dict, set or bytearray, and no tuple that holds one, however deep. Calls and persistent objects
 * hash by identity there or not at all, and here always. */
static bool hashable(vm *v, uint32_t id) {
  const pth_node *n = node(v, id);
  switch (n->kind) {
    case PTH_NODE_LIST:
    case PTH_NODE_DICT:
    case PTH_NODE_SET:
    case PTH_NODE_BYTEARRAY:
      return false;
    case PTH_NODE_TUPLE:
      return !(n->flags & PTH_UNHASHABLE);
    default:
      return true;
  }
}

static bool all_hashable(vm *v, uint32_t at, uint32_t step) {
  for (uint32_t i = at; i < v->stack.len; i += step) {
    if (!hashable(v, PTH_AT(uint32_t, v->stack, i))) return false;
  }
  return true;
}

static int check_hashable(vm *v, uint32_t at, uint32_t step) { return all_hashable(v, at, step) ? 0 : fail(v, PTH_E_PICKLE_KEY, 0, 0); }

static int make_tuple(vm *v, uint8_t kind, uint32_t at) {
  uint32_t start, n = v->stack.len - at;
  if (n == 0 && kind == PTH_NODE_TUPLE) return push(v, PTH_NODE_EMPTY_TUPLE);
  uint8_t flags = (uint8_t)(all_hashable(v, at, 1) ? 0 : PTH_UNHASHABLE);
  int rc = take_kids(v, at, &start);
  return rc ? rc : push_node(v, (pth_node){.kind = kind, .flags = flags, .a = n, .b = start});
}

static int tuple_of(vm *v, uint32_t n) { return height(v) < n ? underflow(v, n) : make_tuple(v, PTH_NODE_TUPLE, v->stack.len - n); }

/* Appends the stack's items from height `at` on to a chain: to its last run if that lies at the end of kids, else to a new one. */
static int extend(vm *v, pth_list *list, uint32_t at) {
  pth_graph *g = v->g;
  uint32_t start, n = v->stack.len - at;
  int rc = take_kids(v, at, &start);
  if (rc || n == 0) return rc;
  if (list->n) {
    pth_chunk *last = &PTH_AT(pth_chunk, g->chunks, list->tail);
    if (last->at + last->n == start) {
      last->n += n;
      list->n += n;
      return 0;
    }
  }
  if ((rc = pth_pool_room(v->arena, &g->chunks, v->err)) != 0) return rc;
  uint32_t id = g->chunks.len++;
  PTH_AT(pth_chunk, g->chunks, id) = (pth_chunk){.n = n, .at = start};
  if (list->n)
    PTH_AT(pth_chunk, g->chunks, list->tail).next = id;
  else
    list->head = id;
  list->tail = id;
  list->n += n;
  return 0;
}

static int extend_node(vm *v, uint32_t id, uint32_t at) {
  pth_node *n = node(v, id);
  pth_list list = {.head = n->a, .tail = (uint32_t)n->b, .n = (uint32_t)(n->b >> 32)};
  int rc = extend(v, &list, at);
  if (rc) return rc;
  n = node(v, id);
  n->a = list.head;
  n->b = (uint64_t)list.n << 32 | list.tail;
  return 0;
}

static int ext_of(vm *v, uint32_t object, pth_ext **out) {
  uint32_t id = (uint32_t)(node(v, object)->b >> 32);
  if (id == PTH_NONE) {
    int rc = pth_pool_room(v->arena, &v->g->exts, v->err);
    if (rc) return rc;
    id = v->g->exts.len++;
    PTH_AT(pth_ext, v->g->exts, id) = (pth_ext){.kwargs = PTH_NONE};
    pth_node *n = node(v, object);
    n->b = (uint64_t)id << 32 | (uint32_t)n->b;
  }
  *out = &PTH_AT(pth_ext, v->g->exts, id);
  return 0;
}

enum fill { FILL_ITEMS, FILL_PAIRS, FILL_MEMBERS };

/* APPEND(S), SETITEM(S), ADDITEMS: the items from height `at` on go to the container below them. */
static int fill(vm *v, enum fill how, uint32_t at) {
  if (at <= v->fence) return underflow(v, 1);
  uint32_t n = v->stack.len - at;
  uint32_t id = PTH_AT(uint32_t, v->stack, at - 1);
  uint8_t kind = node(v, id)->kind;
  static const uint8_t wanted[] = {PTH_NODE_LIST, PTH_NODE_DICT, PTH_NODE_SET};
  if (n == 0) return 0;
  if (how == FILL_PAIRS && n % 2) return fail(v, PTH_E_PICKLE_ODD, n, 0);
  if (kind != wanted[how] && kind != PTH_NODE_OBJECT) return fail(v, PTH_E_PICKLE_TARGET, 0, 0);
  if (how != FILL_ITEMS && kind != PTH_NODE_OBJECT) {
    int rc = check_hashable(v, at, how == FILL_PAIRS ? 2 : 1);
    if (rc) return rc;
  }
  if (kind != PTH_NODE_OBJECT) return extend_node(v, id, at);
  pth_ext *ext;
  int rc = ext_of(v, id, &ext);
  if (rc) return rc;
  pth_list *list = how == FILL_PAIRS ? &ext->pairs : &ext->items;
  return extend(v, list, at);
}

static int fill_marked(vm *v, enum fill how) {
  uint32_t at;
  int rc = unmark(v, &at);
  return rc ? rc : fill(v, how, at);
}

static int fill_top(vm *v, enum fill how, uint32_t n) { return height(v) < n + 1 ? underflow(v, n + 1) : fill(v, how, v->stack.len - n); }

static int make_dict(vm *v) {
  uint32_t at, id;
  int rc = unmark(v, &at);
  if (rc) return rc;
  if ((v->stack.len - at) % 2) return fail(v, PTH_E_PICKLE_ODD, v->stack.len - at, 0);
  if ((rc = check_hashable(v, at, 2)) != 0) return rc;
  if ((rc = new_node(v, (pth_node){.kind = PTH_NODE_DICT}, &id)) != 0) return rc;
  if ((rc = extend_node(v, id, at)) != 0) return rc;
  return push(v, id);
}

static int make_list(vm *v) {
  uint32_t at, id;
  int rc = unmark(v, &at);
  if (rc) return rc;
  if ((rc = new_node(v, (pth_node){.kind = PTH_NODE_LIST}, &id)) != 0) return rc;
  if ((rc = extend_node(v, id, at)) != 0) return rc;
  return push(v, id);
}

/* ---- globals and calls ---- */

typedef struct where {
  uint64_t off;
  uint32_t len;
  uint8_t flags; /* PTH_IN_TEXT, PTH_COMPUTED */
} where;

/* The log comes first: whatever is wrong with a global, it was named. */
static int push_global(vm *v, uint8_t op, where module, where name) {
  pth_graph *g = v->g;
  int rc = pth_pool_room(v->arena, &g->globals, v->err);
  if (rc) return rc;
  pth_global row = {.module_off = module.off,
                    .name_off = name.off,
                    .module_len = module.len,
                    .name_len = name.len,
                    .at = v->op_at,
                    .flags = (uint8_t)(module.flags | name.flags << 1),
                    .op = op};
  row.meaning = (uint8_t)pth_meaning_of(pth_global_module(g, &row), pth_global_name(g, &row), &row.dtype);
  uint32_t id = g->globals.len++;
  PTH_AT(pth_global, g->globals, id) = row;
  return push_node(v, (pth_node){.kind = PTH_NODE_GLOBAL, .a = id});
}

/* The index of the first byte that is no ASCII, or the length. */
static uint64_t ascii_valid(pth_bytes b) {
  uint64_t i = 0;
  while (i < b.len && b.data[i] < 0x80) i++;
  return i;
}

/* Neither may be empty; INST wants ASCII. */
static int global_lines(vm *v, uint8_t op) {
  pth_bytes b[2];
  where w[2];
  for (int i = 0; i < 2; i++) {
    int rc = line(v, &b[i]);
    if (rc) return rc;
    if (b[i].len == 0) return fail(v, PTH_E_PICKLE_GLOBAL, 0, 0);
    uint64_t good = op == OP_INST ? ascii_valid(b[i]) : pth_utf8_strict(b[i]);
    if (b[i].len > UINT32_MAX || good < b[i].len) return fail(v, PTH_E_PICKLE_UTF8, good, b[i].len);
    w[i] = (where){off_in(v, b[i]), (uint32_t)b[i].len, 0};
  }
  return push_global(v, op, w[0], w[1]);
}

/* Operands that a call makes are known to who makes it, and to nobody who reads: a global without that name, never an error. */
static int stack_global(vm *v) {
  where w[2];
  bool texts = true;
  if (height(v) < 2) return underflow(v, 2);
  for (int i = 1; i >= 0; i--) {
    const pth_node *n = node(v, pop(v));
    bool text = pth_is_text(n) && n->hi == 0;
    w[i] = text ? (where){n->b, n->a, n->flags & PTH_IN_TEXT} : (where){.flags = PTH_COMPUTED};
    texts = texts && (text || n->kind == PTH_NODE_OBJECT || n->kind == PTH_NODE_PERSID);
  }
  int rc = push_global(v, OP_STACK_GLOBAL, w[0], w[1]);
  return rc || texts ? rc : fail(v, PTH_E_PICKLE_GLOBAL, 0, 0);
}

static int put_word(vm *v, const char *word, where *out) {
  pth_bytes b = pth_text(word);
  *out = (where){v->g->text.len, (uint32_t)b.len, PTH_IN_TEXT};
  int rc = 0;
  for (uint64_t i = 0; i < b.len && !rc; i++) rc = put_text(v, b.data[i]);
  return rc;
}

/* EXT1, EXT2, EXT4: what the code means stands in a registry of the process that reads. Logged, and refused. */
static int extension(vm *v, uint32_t code) {
  where w[2];
  static const char prefix[] = "extension ";
  enum { PREFIX = sizeof prefix - 1, DIGITS = 10 };
  char name[PREFIX + DIGITS + 1] = {0}, *at = name + sizeof name - 1;
  do *--at = (char)('0' + code % 10);
  while ((code /= 10) != 0);
  at = memcpy(at - PREFIX, prefix, PREFIX);
  int rc = put_word(v, "copyreg", &w[0]);
  if (rc == 0) rc = put_word(v, at, &w[1]);
  if (rc == 0) rc = push_global(v, v->in.data[v->op_at], w[0], w[1]);
  return rc ? rc : fail(v, PTH_E_PICKLE_EXT, 0, 0);
}

static bool callable(vm *v, uint32_t id) {
  uint8_t k = node(v, id)->kind;
  return k == PTH_NODE_GLOBAL || k == PTH_NODE_OBJECT || k == PTH_NODE_PERSID;
}

static int push_call(vm *v, uint8_t how, uint32_t callee, uint32_t args) {
  uint8_t k = node(v, args)->kind;
  if (!callable(v, callee) || (k != PTH_NODE_TUPLE && k != PTH_NODE_OBJECT)) return fail(v, PTH_E_PICKLE_CALL, 0, 0);
  return push_node(v, (pth_node){.kind = PTH_NODE_OBJECT, .flags = how, .a = callee, .b = (uint64_t)PTH_NONE << 32 | args});
}

/* The code point at p, of valid UTF-8 that is at most two bytes long; its length, or 0 if it is longer. */
static uint32_t latin1_at(const uint8_t *p, uint8_t *c) {
  if (p[0] < 0x80) return *c = p[0], 1;
  if (p[0] > 0xc3) return 0;
  *c = (uint8_t)(p[0] << 6 | (p[1] & 0x3f));
  return 2;
}

static bool is_latin1(pth_bytes b) {
  static const char *const names[] = {"latin1", "latin-1"};
  for (int i = 0; i < 2; i++)
    if (b.len == strlen(names[i]) && memcmp(b.data, names[i], (size_t)b.len) == 0) return true;
  return false;
}

/* _codecs.encode(text, 'latin1'): how bytes are written below protocol 3. They are decoded as often as a writer would write them;
 * a text that is shared more often stays a call. *done: the bytes were pushed. */
static int encode(vm *v, uint32_t callee, uint32_t args, bool *done) {
  *done = false;
  if (node(v, args)->kind != PTH_NODE_TUPLE || pth_meaning_of_node(v->g, callee, NULL) != PTH_G_CODECS_ENCODE) return 0;
  uint32_t text = pth_item(v->g, args, 0), codec = pth_item(v->g, args, 1);
  if (node(v, args)->kind != PTH_NODE_TUPLE || codec == PTH_NONE || pth_item(v->g, args, 2) != PTH_NONE ||
      node(v, text)->kind != PTH_NODE_STR || !pth_is_text(node(v, codec)) || !is_latin1(pth_slice(v->g, node(v, codec))))
    return 0;
  pth_bytes b = pth_slice(v->g, node(v, text));
  uint64_t n = 0;
  uint8_t c = 0;
  for (uint64_t i = 0; i < b.len; n++) {
    uint32_t step = latin1_at(b.data + i, &c);
    if (step == 0) return 0;
    i += step;
  }
  if (n > v->length - v->encoded) return 0;
  v->encoded += n;
  uint64_t start = v->g->text.len;
  int rc = pth_pool_reserve(v->arena, &v->g->text, n, v->err);
  if (rc) return rc;
  b = pth_slice(v->g, node(v, text));                           /* it may lie in the pool that has just grown */
  uint8_t *out = n ? (uint8_t *)v->g->text.data + start : NULL; /* of no bytes there may be no pool */
  for (uint64_t i = 0; i < b.len;) i += latin1_at(b.data + i, out++);
  v->g->text.len += (uint32_t)n;
  *done = true;
  return push_node(v, slice_node(PTH_NODE_BYTES, PTH_IN_TEXT, start, n));
}

static int call2(vm *v, uint8_t how) {
  if (height(v) < 2) return underflow(v, 2);
  uint32_t args = pop(v), callee = pop(v);
  if (how == PTH_HOW_REDUCE) {
    bool done;
    int rc = encode(v, callee, args, &done);
    if (rc || done) return rc;
  }
  return push_call(v, how, callee, args);
}

static int newobj_ex(vm *v) {
  if (height(v) < 3) return underflow(v, 3);
  uint32_t kwargs = pop(v), args = pop(v), cls = pop(v);
  uint8_t kind = node(v, kwargs)->kind;
  if (kind != PTH_NODE_DICT && kind != PTH_NODE_OBJECT) return fail(v, PTH_E_PICKLE_CALL, 0, 0);
  int rc = push_call(v, PTH_HOW_NEWOBJ_EX, cls, args);
  if (rc) return rc;
  pth_ext *ext;
  if ((rc = ext_of(v, top(v), &ext)) == 0) ext->kwargs = kwargs;
  return rc;
}

/* INST: the class stands in the opcode; OBJ: below the arguments. */
static int instance(vm *v, uint8_t op) {
  uint32_t at, cls;
  int rc = op == OP_INST ? global_lines(v, op) : 0;
  if (rc) return rc;
  if (op == OP_INST) {
    cls = pop(v);
    if ((rc = unmark(v, &at)) != 0) return rc;
  } else {
    if ((rc = unmark(v, &at)) != 0) return rc;
    if (at == v->stack.len) return fail(v, PTH_E_PICKLE_UNDERFLOW, 1, 0);
    cls = PTH_AT(uint32_t, v->stack, at++);
  }
  if ((rc = make_tuple(v, PTH_NODE_TUPLE, at)) != 0) return rc;
  uint32_t args = pop(v);
  if (op == OP_OBJ) v->stack.len--;
  return push_call(v, op == OP_INST ? PTH_HOW_INST : PTH_HOW_OBJ, cls, args);
}

static int build(vm *v) {
  if (height(v) < 2) return underflow(v, 2);
  uint32_t object = PTH_AT(uint32_t, v->stack, v->stack.len - 2);
  if (node(v, object)->kind != PTH_NODE_OBJECT) return fail(v, PTH_E_PICKLE_TARGET, 0, 0);
  pth_ext *ext;
  int rc = ext_of(v, object, &ext);
  return rc ? rc : extend(v, &ext->states, v->stack.len - 1);
}

static int persid_line(vm *v) {
  pth_bytes b;
  uint32_t id;
  int rc = line(v, &b);
  if (rc) return rc;
  uint64_t good = ascii_valid(b);
  if (good < b.len) return fail(v, PTH_E_PICKLE_UTF8, good, b.len);
  if ((rc = new_node(v, slice_node(PTH_NODE_STR, 0, off_in(v, b), b.len), &id)) != 0) return rc;
  return push_node(v, (pth_node){.kind = PTH_NODE_PERSID, .a = id});
}

static int persid(vm *v) {
  if (height(v) < 1) return underflow(v, 1);
  uint32_t id = pop(v);
  return push_node(v, (pth_node){.kind = PTH_NODE_PERSID, .a = id});
}

static int pop_one(vm *v) {
  uint32_t at;
  if (v->marks.len && v->fence == v->stack.len) return unmark(v, &at);
  if (height(v) == 0) return underflow(v, 1);
  v->stack.len--;
  return 0;
}

static int pop_mark(vm *v) {
  uint32_t at;
  int rc = unmark(v, &at);
  if (rc == 0) v->stack.len = at;
  return rc;
}

static int frame(vm *v, const uint8_t *p) {
  uint64_t len = pth_u64(p);
  if (len > pth_left(&v->in)) return truncated(v, len);
  if (v->frame_end > v->op_at) v->g->frame_straddled = true; /* a frame that begins inside a frame, and may end that one too */
  v->frame_end = v->in.pos + len;
  return 0;
}

/* ---- the loop ---- */

/* Bytes of the fixed argument that stands behind each opcode; lengths included, what they count not. */
static uint8_t argument_size(uint8_t op) {
  switch (op) {
    case OP_BININT1:
    case OP_BINGET:
    case OP_BINPUT:
    case OP_PROTO:
    case OP_LONG1:
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINBYTES:
    case OP_SHORT_BINUNICODE:
    case OP_EXT1:
      return 1;
    case OP_BININT2:
    case OP_EXT2:
      return 2;
    case OP_BININT:
    case OP_LONG_BINGET:
    case OP_LONG_BINPUT:
    case OP_LONG4:
    case OP_BINSTRING:
    case OP_BINUNICODE:
    case OP_BINBYTES:
    case OP_EXT4:
      return 4;
    case OP_BINFLOAT:
    case OP_BINUNICODE8:
    case OP_BINBYTES8:
    case OP_BYTEARRAY8:
    case OP_FRAME:
      return 8;
    default:
      return 0;
  }
}

static int signed_length(vm *v, const uint8_t *p, uint64_t *len) {
  *len = pth_u32(p);
  return *len > INT32_MAX ? fail(v, PTH_E_PICKLE_LENGTH, *len, INT32_MAX) : 0;
}

static int step(vm *v, uint8_t op, const uint8_t *p) {
  uint64_t len;
  uint32_t index;
  int rc;
  switch (op) {
    case OP_MARK:
      return mark(v);
    case OP_POP:
      return pop_one(v);
    case OP_POP_MARK:
      return pop_mark(v);
    case OP_DUP:
      return height(v) ? push(v, top(v)) : underflow(v, 1);
    case OP_NONE:
      return push(v, PTH_NODE_NONE);
    case OP_NEWTRUE:
      return push(v, PTH_NODE_TRUE);
    case OP_NEWFALSE:
      return push(v, PTH_NODE_FALSE);
    case OP_INT:
      return load_int(v);
    case OP_LONG:
      return load_long(v);
    case OP_FLOAT:
      return load_float(v);
    case OP_BININT:
      return push_int(v, (int64_t)pth_u32(p) - (p[3] & 0x80 ? INT64_C(0x100000000) : 0));
    case OP_BININT1:
      return push(v, PTH_NODE_SMALL_INT + p[0]);
    case OP_BININT2:
      return push_int(v, pth_u16(p));
    case OP_LONG1:
      return load_twos(v, p[0]);
    case OP_LONG4:
      return (rc = signed_length(v, p, &len)) ? rc : load_twos(v, len);
    case OP_BINFLOAT:
      return push_node(v, (pth_node){.kind = PTH_NODE_FLOAT, .b = pth_u64_be(p)});
    case OP_STRING:
      return load_string(v);
    case OP_BINSTRING:
      v->g->has_str8 = true;
      return (rc = signed_length(v, p, &len)) ? rc : push_slice(v, PTH_NODE_STR8, len);
    case OP_SHORT_BINSTRING:
      v->g->has_str8 = true;
      return push_slice(v, PTH_NODE_STR8, p[0]);
    case OP_UNICODE:
      return load_unicode(v);
    case OP_BINUNICODE:
      return push_slice(v, PTH_NODE_STR, pth_u32(p));
    case OP_SHORT_BINUNICODE:
      return push_slice(v, PTH_NODE_STR, p[0]);
    case OP_BINUNICODE8:
      return push_slice(v, PTH_NODE_STR, pth_u64(p));
    case OP_BINBYTES:
      return push_slice(v, PTH_NODE_BYTES, pth_u32(p));
    case OP_SHORT_BINBYTES:
      return push_slice(v, PTH_NODE_BYTES, p[0]);
    case OP_BINBYTES8:
      return push_slice(v, PTH_NODE_BYTES, pth_u64(p));
    case OP_BYTEARRAY8:
      return push_slice(v, PTH_NODE_BYTEARRAY, pth_u64(p));
    case OP_EMPTY_TUPLE:
      return push(v, PTH_NODE_EMPTY_TUPLE);
    case OP_TUPLE1:
      return tuple_of(v, 1);
    case OP_TUPLE2:
      return tuple_of(v, 2);
    case OP_TUPLE3:
      return tuple_of(v, 3);
    case OP_TUPLE:
      return (rc = unmark(v, &index)) ? rc : make_tuple(v, PTH_NODE_TUPLE, index);
    case OP_FROZENSET:
      if ((rc = unmark(v, &index)) != 0) return rc;
      return (rc = check_hashable(v, index, 1)) ? rc : make_tuple(v, PTH_NODE_FROZENSET, index);
    case OP_EMPTY_LIST:
      return push_node(v, (pth_node){.kind = PTH_NODE_LIST});
    case OP_EMPTY_DICT:
      return push_node(v, (pth_node){.kind = PTH_NODE_DICT});
    case OP_EMPTY_SET:
      return push_node(v, (pth_node){.kind = PTH_NODE_SET});
    case OP_LIST:
      return make_list(v);
    case OP_DICT:
      return make_dict(v);
    case OP_APPEND:
      return fill_top(v, FILL_ITEMS, 1);
    case OP_APPENDS:
      return fill_marked(v, FILL_ITEMS);
    case OP_SETITEM:
      return fill_top(v, FILL_PAIRS, 2);
    case OP_SETITEMS:
      return fill_marked(v, FILL_PAIRS);
    case OP_ADDITEMS:
      return fill_marked(v, FILL_MEMBERS);
    case OP_GLOBAL:
      return global_lines(v, op);
    case OP_STACK_GLOBAL:
      return stack_global(v);
    case OP_REDUCE:
      return call2(v, PTH_HOW_REDUCE);
    case OP_NEWOBJ:
      return call2(v, PTH_HOW_NEWOBJ);
    case OP_NEWOBJ_EX:
      return newobj_ex(v);
    case OP_INST:
    case OP_OBJ:
      return instance(v, op);
    case OP_BUILD:
      return build(v);
    case OP_PERSID:
      return persid_line(v);
    case OP_BINPERSID:
      return persid(v);
    case OP_GET:
      return (rc = memo_line(v, &index)) ? rc : memo_get(v, index);
    case OP_BINGET:
      return memo_get(v, p[0]);
    case OP_LONG_BINGET:
      return memo_get(v, pth_u32(p));
    case OP_PUT:
      return (rc = memo_line(v, &index)) ? rc : memo_put(v, index);
    case OP_BINPUT:
      return memo_put(v, p[0]);
    case OP_LONG_BINPUT:
      return memo_put(v, pth_u32(p));
    case OP_MEMOIZE:
      return memo_put(v, v->n_memo);
    case OP_PROTO:
      if (p[0] > PTH_PICKLE_PROTOCOL) return fail(v, PTH_E_PICKLE_PROTOCOL, p[0], PTH_PICKLE_PROTOCOL);
      if (p[0] > v->g->proto) v->g->proto = p[0];
      if (v->op_at != 0) v->g->late_proto = true;
      return 0;
    case OP_FRAME:
      return frame(v, p);
    case OP_STOP: /* with something to give, it ended the loop */
      return underflow(v, 1);
    case OP_EXT1:
      return extension(v, p[0]);
    case OP_EXT2:
      return extension(v, pth_u16(p));
    case OP_EXT4:
      return extension(v, pth_u32(p));
    case OP_NEXT_BUFFER:
    case OP_READONLY_BUFFER:
      return fail(v, PTH_E_PICKLE_BUFFER, 0, 0);
    default:
      return fail(v, PTH_E_PICKLE_OPCODE, op, 0);
  }
}

static int run(vm *v) {
  for (;;) {
    v->op_at = v->in.pos;
    const uint8_t *at = pth_take(&v->in, 1);
    if (at == NULL) return truncated(v, 1);
    uint8_t op = *at, size = argument_size(op);
    v->g->n_ops++;
    if (op == OP_STOP && height(v) != 0) {
      v->g->root = pop(v);
      v->g->end = v->in.pos;
      if (v->frame_end > v->in.pos) v->g->frame_straddled = true;
      return 0;
    }
    int rc = 0;
    const uint8_t *argument = pth_take(&v->in, size);
    if (argument == NULL) rc = truncated(v, size);
    if (rc == 0) rc = step(v, op, argument);
    if (v->frame_end && v->in.pos > v->frame_end) {
      if (v->op_at < v->frame_end) v->g->frame_straddled = true;
      v->frame_end = 0;
    }
    if (rc) {
      if (v->err != NULL) v->err->op = op;
      return rc;
    }
  }
}

/* The nodes that every graph begins with. */
static int fixed_nodes(vm *v) {
  pth_graph *g = v->g;
  int rc = pth_pool_reserve(v->arena, &g->nodes, PTH_N_FIXED, v->err);
  if (rc == 0) rc = pth_pool_room(v->arena, &g->chunks, v->err);
  if (rc) return rc;
  PTH_AT(pth_chunk, g->chunks, g->chunks.len++) = (pth_chunk){0};
  pth_node *n = g->nodes.data;
  n[0] = (pth_node){.kind = PTH_NODE_NONE};
  n[1] = (pth_node){.kind = PTH_NODE_FALSE};
  n[2] = (pth_node){.kind = PTH_NODE_TRUE};
  n[PTH_NODE_EMPTY_TUPLE] = (pth_node){.kind = PTH_NODE_TUPLE};
  for (int i = 0; i < 256; i++) n[PTH_NODE_SMALL_INT + i] = int_node(i);
  g->nodes.len = PTH_N_FIXED;
  return 0;
}

static void free_pools(vm *v) {
  pth_pool_free(v->arena, &v->stack);
  pth_pool_free(v->arena, &v->marks);
  pth_pool_free(v->arena, &v->memo);
  pth_pool_free(v->arena, &v->far);
}

int pth_pickle_run(pth_graph *g, pth_bytes in, const pth_limits *lim, pth_err *err) {
  vm v = {.g = g,
          .arena = g->arena,
          .in = pth_cursor_of(in),
          .length = in.len,
          .err = err,
          .stack = PTH_POOL(uint32_t),
          .marks = PTH_POOL(uint32_t),
          .memo = PTH_POOL(uint32_t),
          .far = PTH_POOL(memo_slot)};
  g->in = in;
  /* What torch writes has a node in 13 bytes, an item of a container in 7, a memo entry in 14. */
  pth_pool_expect(v.arena, &g->nodes, PTH_N_FIXED + in.len / 12);
  pth_pool_expect(v.arena, &g->kids, in.len / 6);
  pth_pool_expect(v.arena, &v.memo, in.len / 13);
  int rc = fixed_nodes(&v);
  if (rc == 0) rc = run(&v);
  if (rc == 0 && g->end > lim->max_pickle_bytes) rc = pth_fail(err, PTH_E_LIMIT_PICKLE, 0, g->end, lim->max_pickle_bytes);
  free_pools(&v);
  return rc;
}

/* One of several pickles: what the one before it left behind is of no use to it. */
static int run_piece(vm *v, const pth_piece *piece, pth_bytes in) {
  v->in = pth_cursor_of((pth_bytes){in.data, piece->end});
  v->in.pos = piece->begin;
  v->length = piece->end - piece->begin;
  v->stack.len = v->marks.len = v->memo.len = v->far.len = 0;
  v->fence = v->n_far = v->n_memo = 0;
  v->frame_end = v->encoded = 0;
  return run(v);
}

int pth_pickle_join(pth_graph *g, pth_bytes in, const pth_piece *pieces, uint32_t n, const pth_limits *lim, pth_err *err) {
  vm v = {.g = g,
          .arena = g->arena,
          .err = err,
          .stack = PTH_POOL(uint32_t),
          .marks = PTH_POOL(uint32_t),
          .memo = PTH_POOL(uint32_t),
          .far = PTH_POOL(memo_slot)};
  pth_pool items = PTH_POOL(uint32_t);
  g->in = in;
  pth_pool_expect(v.arena, &g->nodes, PTH_N_FIXED + in.len / 12);
  pth_pool_expect(v.arena, &g->kids, in.len / 6);
  int rc = fixed_nodes(&v);
  for (uint32_t i = 0; i < n && rc == 0; i++) {
    const pth_piece *p = &pieces[i];
    uint32_t name;
    if (p->name > p->begin || p->begin > p->end || p->end > in.len) rc = fail(&v, PTH_E_PICKLE_TRUNCATED, p->end, in.len);
    if (rc == 0) rc = new_node(&v, slice_node(PTH_NODE_STR, 0, p->name, p->begin - p->name), &name);
    if (rc == 0) rc = pth_push_u32(v.arena, &items, name, err);
    if (rc == 0) rc = run_piece(&v, p, in);
    if (rc == 0) rc = pth_push_u32(v.arena, &items, g->root, err);
  }
  v.stack.len = v.marks.len = v.fence = 0;
  for (uint32_t i = 0; i < items.len && rc == 0; i++) rc = push(&v, PTH_AT(uint32_t, items, i));
  uint32_t root = 0;
  if (rc == 0) rc = new_node(&v, (pth_node){.kind = PTH_NODE_DICT}, &root);
  if (rc == 0) rc = extend_node(&v, root, 0);
  g->root = root;
  g->end = in.len;
  if (rc == 0 && g->end > lim->max_pickle_bytes) rc = pth_fail(err, PTH_E_LIMIT_PICKLE, 0, g->end, lim->max_pickle_bytes);
  pth_pool_free(v.arena, &items);
  free_pools(&v);
  return rc;
}
