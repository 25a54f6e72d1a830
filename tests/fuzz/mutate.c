/* Pickles are changed opcode by opcode, with opcodes, globals and dtypes out of csrc/defs: bytes changed at random seldom get past the
 * first few opcodes. */
#include "fuzz.h"

enum { MAX_OPS = 1024, MAX_PIECE = 128, MAX_PICKLES = 64 };

typedef struct op {
  uint32_t at, len;
} op;

static const uint8_t OPCODES[] = {
#define X(NAME, code, proto) code,
#include "defs/opcodes.def"
#undef X
};

static const char *const GLOBALS[] = {
#define X(module, name, MEANING) "c" module "\n" name "\n",
#include "defs/globals.def"
#undef X
#define X(ID, name, storage, ...) "ctorch\n" storage "\n", "ctorch\n" name "\n",
#include "defs/dtypes.def"
#undef X
    "c__torch__.m\nM\n",
};

/* What torch's pickles are made of, beside globals: texts that are looked for, and how values are put together. */
static const char *const TEXTS[] = {"storage",
                                    "cpu",
                                    "meta",
                                    "0",
                                    "1",
                                    "2",
                                    "latin1",
                                    "conj",
                                    "neg",
                                    "_backend",
                                    "values",
                                    "requires_grad",
                                    "_is_param",
                                    "_modules",
                                    "_buffers",
                                    "_parameters",
                                    "a.weight",
                                    "torch.sparse_coo",
                                    "_non_persistent_buffers_set",
                                    "torch.sparse_csr",
                                    "torch.jagged"};
#define PID                                          \
  "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" \
  "0X\3\0\0\0cpuK\4tQ"
#define PIECE(s) \
  { s, sizeof s - 1 }
static const struct piece {
  const char *data;
  uint32_t len;
} PIECES[] = {PIECE("("),
              PIECE("t"),
              PIECE("R"),
              PIECE("tR"),
              PIECE(")R"),
              PIECE("}b"),
              PIECE("N"),
              PIECE("0"),
              PIECE("2"),
              PIECE("\x85"),
              PIECE("\x86"),
              PIECE("\x87"),
              PIECE("]"),
              PIECE("}"),
              PIECE("u"),
              PIECE("s"),
              PIECE("e"),
              PIECE("a"),
              PIECE("(K\2K\2t"),
              PIECE("(K\2K\1t"),
              PIECE("\x8f("),
              PIECE("\x90"),
              PIECE("(\x91"),
              PIECE("S'\\x41\\101\\n'\n"),
              PIECE("V\\u20ac\\U0001f600\n"),
              PIECE("U\1\xff"),
              PIECE("I-7\n"),
              PIECE("L12L\n"),
              PIECE("F1.5\n"),
              PIECE("p70000\n"),
              PIECE("g70000\n"),
              PIECE("q\1"),
              PIECE("h\1"),
              PIECE("q\2"),
              PIECE("h\2"),
              PIECE("\x94"),
              PIECE(PID),
              PIECE("ctorch._utils\n_rebuild_tensor_v2\n(" PID "K\0(K\4t(K\1t\x89)tR"),
              PIECE("ccollections\nOrderedDict\n)R")};

static const int64_t NUMBERS[] = {
    0,         1,         2,  3, 4, 8, 16, 64, 65, 127, 128, 255, 256, 4096, INT32_MAX, INT32_MIN, (int64_t)1 << 32, (int64_t)1 << 61,
    INT64_MAX, INT64_MIN, -1, -2};

#define ANY(rng, array) ((array)[fuzz_random(rng, sizeof(array) / sizeof *(array))])

/* ---- opcodes ---- */

static uint32_t fixed_argument(uint8_t code) {
  static const char sizes[][13] = {"KhqCU\x80\x82\x8a\x8c", "M\x83", "JrjTBX\x84\x8b", "G\x8d\x8e\x95\x96"};
  for (uint32_t i = 0; i < 4; i++)
    if (code && strchr(sizes[i], code)) return 1u << i;
  return 0;
}

/* Bytes of the opcode at p with its argument, or 0. */
static size_t op_len(const uint8_t *p, size_t left) {
  size_t n = 1 + fixed_argument(p[0]), lines = p[0] == 'c' || p[0] == 'i' ? 2 : p[0] && strchr("FILSVPgp", p[0]) ? 1 : 0;
  uint64_t counted = 0;
  if (n > left) return 0;
  if (p[0] && strchr("CUTBX\x8a\x8b\x8c\x8d\x8e\x96", p[0])) counted = n == 2 ? p[1] : n == 5 ? pth_u32(p + 1) : pth_u64(p + 1);
  if (counted > left - n) return 0;
  n += (size_t)counted;
  for (; lines; lines--) {
    while (n < left && p[n] != '\n') n++;
    if (n++ == left) return 0;
  }
  return n;
}

static uint32_t split(const uint8_t *data, size_t size, op *ops) {
  uint32_t n = 0;
  for (size_t at = 0, len; n < MAX_OPS && at < size && (len = op_len(data + at, size - at)) != 0; at += len) {
    ops[n++] = (op){(uint32_t)at, (uint32_t)len};
    if (data[at] == '.') break;
  }
  return n;
}

/* Puts `n` bytes in the place of `old` ones; what grows beyond max is left as it is. */
static size_t splice(uint8_t *data, size_t size, size_t max, size_t at, size_t old, const uint8_t *with, size_t n) {
  if (size - old + n > max) return size;
  memmove(data + at + n, data + at + old, size - at - old);
  if (n) memcpy(data + at, with, n);
  return size - old + n;
}

static uint32_t put_number(uint8_t *out, int64_t v) {
  if (v >= 0 && v < 256) return out[0] = 'K', out[1] = (uint8_t)v, 2;
  out[0] = 0x8a, out[1] = 8;
  for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)((uint64_t)v >> 8 * i);
  return 10;
}

static uint32_t put_text(uint8_t *out, const char *text) {
  uint32_t n = (uint32_t)strlen(text);
  out[0] = 'X', out[1] = (uint8_t)n, out[2] = out[3] = out[4] = 0;
  memcpy(out + 5, text, n);
  return n + 5;
}

static uint32_t put_piece(uint8_t *out, uint64_t *rng) {
  switch (fuzz_random(rng, 5)) {
    case 0: {
      uint8_t code = out[0] = ANY(rng, OPCODES);
      uint32_t n = fixed_argument(code);
      memset(out + 1, 0, 8);
      if (n) out[1] = (uint8_t)fuzz_random(rng, 6);
      return 1 + n;
    }
    case 1: {
      const char *g = ANY(rng, GLOBALS);
      memcpy(out, g, strlen(g));
      return (uint32_t)strlen(g);
    }
    case 2:
      return put_number(out, ANY(rng, NUMBERS));
    case 3:
      return put_text(out, ANY(rng, TEXTS));
    default: {
      struct piece p = ANY(rng, PIECES);
      memcpy(out, p.data, p.len);
      return p.len;
    }
  }
}

static bool is_number(uint8_t code) { return code == 'K' || code == 'M' || code == 'J' || code == 0x8a; }
static bool is_text(uint8_t code) { return code == 'X' || code == 0x8c || code == 'U' || code == 'T'; }

/* Another one of the same kind. */
static uint32_t put_other(uint8_t *out, const uint8_t *old, uint32_t len, uint64_t *rng) {
  if (old[0] == 'c') {
    const char *g = ANY(rng, GLOBALS);
    memcpy(out, g, strlen(g));
    return (uint32_t)strlen(g);
  }
  if (is_text(old[0])) return put_text(out, ANY(rng, TEXTS));
  if (is_number(old[0]))
    return put_number(out, old[0] == 'K' && fuzz_random(rng, 2) ? (old[1] + (int64_t)fuzz_random(rng, 3) - 1) : ANY(rng, NUMBERS));
  if (len == 2 && (old[0] == 'h' || old[0] == 'q')) return out[0] = old[0], out[1] = (uint8_t)fuzz_random(rng, 8), 2;
  return put_piece(out, rng);
}

static size_t change(uint8_t *data, size_t size, size_t max, uint64_t *rng) {
  op ops[MAX_OPS];
  uint8_t piece[MAX_PIECE];
  uint32_t n = split(data, size, ops);
  if (n == 0) return splice(data, size, max, 0, 0, piece, put_piece(piece, rng));
  uint32_t i = (uint32_t)fuzz_random(rng, n), j = i + (uint32_t)fuzz_random(rng, fuzz_random(rng, 2) ? 2 : 12);
  if (j >= n) j = n - 1;
  size_t at = ops[i].at, run = ops[j].at + ops[j].len - at;
  switch (fuzz_random(rng, 8)) {
    case 0: /* away */
      return splice(data, size, max, at, run, NULL, 0);
    case 1:
    case 2: /* one more */
      return splice(data, size, max, at, 0, piece, put_piece(piece, rng));
    case 3:
    case 4: /* another one */
      return splice(data, size, max, at, ops[i].len, piece, put_other(piece, data + at, ops[i].len, rng));
    case 5: /* some again, elsewhere */
      if (run > sizeof piece) return splice(data, size, max, at, ops[i].len, NULL, 0);
      memcpy(piece, data + at, run);
      return splice(data, size, max, ops[fuzz_random(rng, n)].at, 0, piece, run);
    case 6: /* two change places */
      if (i + 1 == n || ops[i].len > sizeof piece) return size;
      memcpy(piece, data + at, ops[i].len);
      memmove(data + at, data + ops[i + 1].at, ops[i + 1].len);
      memcpy(data + at + ops[i + 1].len, piece, ops[i].len);
      return size;
    default: /* bytes of an argument */
      if (ops[i].len > 1) data[at + 1 + fuzz_random(rng, ops[i].len - 1)] ^= (uint8_t)(1u << fuzz_random(rng, 8));
      return size;
  }
}

size_t mutate_pickle(uint8_t *data, size_t size, size_t max, uint64_t *rng) {
  if (fuzz_random(rng, 6) == 0) return LLVMFuzzerMutate(data, size, max);
  for (uint64_t n = fuzz_random(rng, 4) + 1; n > 0; n--) size = change(data, size, max, rng);
  return size;
}

/* ---- files ---- */

size_t mutate_inside(uint8_t *data, size_t size, size_t max, bool fixed, uint64_t *rng) {
  op ops[MAX_OPS];
  size_t found[MAX_PICKLES], n = 0;
  for (size_t i = 0; i + 2 < size && n < MAX_PICKLES; i++)
    if (data[i] == 0x80 && data[i + 1] <= PTH_PICKLE_PROTOCOL) found[n++] = i;
  if (n == 0) return LLVMFuzzerMutate(data, size, max);
  size_t at = found[fuzz_random(rng, n)];
  uint32_t n_ops = split(data + at, size - at, ops);
  if (n_ops == 0) return LLVMFuzzerMutate(data, size, max);
  size_t len = ops[n_ops - 1].at + ops[n_ops - 1].len, behind = at + len;
  if (!fixed) return mutate_pickle(data + at, size - at, max - at, rng) + at;
  /* The place reaches over the zeros behind. */
  size_t room = len;
  while (behind < size && data[behind] == 0) behind++, room++;
  size_t now = mutate_pickle(data + at, len, room, rng);
  memset(data + at + now, 0, room - now);
  return size;
}

void mend_tar(uint8_t *data, size_t size) {
  for (size_t at = 0; at + PTH_TAR_BLOCK <= size; at += PTH_TAR_BLOCK) {
    uint32_t sum = 0;
    if (memcmp(data + at + 257, "ustar", 5) != 0) continue;
    memset(data + at + 148, ' ', 8);
    for (uint32_t i = 0; i < PTH_TAR_BLOCK; i++) sum += data[at + i];
    for (uint32_t i = 6; i-- > 0; sum >>= 3) data[at + 148 + i] = (uint8_t)('0' + (sum & 7));
    data[at + 154] = 0;
  }
}
