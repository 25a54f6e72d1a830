#include "zip.h"

#include "graph.h"
#include "hash.h"

enum { SIG_LOCAL = PTH_ZIP_SIG_LOCAL, SIG_ENTRY = 0x02014b50, SIG_END = 0x06054b50, SIG_END64 = 0x06064b50, SIG_LOCATOR = 0x07064b50 };

enum { ENTRY_SIZE = 46, END64_SIZE = PTH_ZIP_END64, LOCATOR_SIZE = PTH_ZIP_LOCATOR };
enum { SIG_DESCRIPTOR = 0x08074b50, LONGEST_DESCRIPTOR = 24 };
enum { EXTRA_ZIP64 = 0x0001, EXTRA_PADDING = 0x4246, EXTRA_UNICODE_NAME = 0x7075 };
enum { DOS_DIRECTORY = 0x10 }; /* of the external attributes, whatever system wrote them: miniz, and so torch, hands out nothing of such */
enum { FLAG_ENCRYPTED = 0x1, FLAG_DESCRIPTOR = PTH_ZIP_DESCRIBED, FLAG_PATCH = 0x20, FLAG_STRONG = 0x40, FLAG_MASKED = 0x2000 };

/* ---- end records ---- */

static int read_end64(pth_bytes tail, uint64_t tail_off, pth_zip_end *out, pth_err *err) {
  if (out->eocd_off < tail_off + LOCATOR_SIZE) return 0;
  const uint8_t *p = tail.data + (out->eocd_off - tail_off - LOCATOR_SIZE);
  if (pth_u32(p) != SIG_LOCATOR) return 0;
  uint64_t at = pth_u64(p + 8), stop = out->eocd_off - LOCATOR_SIZE;
  if (at < tail_off || at > stop || stop - at < END64_SIZE || pth_u32(tail.data + (at - tail_off)) != SIG_END64)
    return pth_fail(err, PTH_E_ZIP_END64, out->eocd_off - LOCATOR_SIZE, at, stop);
  const uint8_t *e = tail.data + (at - tail_off);
  if (pth_u32(p + 4) != 0 || pth_u32(p + 16) != 1) return pth_fail(err, PTH_E_ZIP_SPAN, out->eocd_off - LOCATOR_SIZE, pth_u32(p + 16), 1);
  /* The record must reach to its locator: another archive may lie in between, and other readers take that one's. */
  uint64_t size = pth_u64(e + 4), end;
  if (!pth_add(at + 12, size, &end) || end != stop) return pth_fail(err, PTH_E_ZIP_END64, out->eocd_off - LOCATOR_SIZE, end, stop);
  if (pth_u32(e + 16) != 0 || pth_u32(e + 20) != 0 || pth_u64(e + 24) != pth_u64(e + 32))
    return pth_fail(err, PTH_E_ZIP_SPAN, at, pth_u32(e + 16), 0);
  out->end64_off = at;
  out->n_entries = pth_u64(e + 32);
  out->dir_len = pth_u64(e + 40);
  out->dir_off = pth_u64(e + 48);
  return 0;
}

int pth_zip_find(pth_bytes tail, uint64_t tail_off, uint64_t file_len, pth_zip_end *out, pth_err *err) {
  *out = (pth_zip_end){0};
  if (tail.len < PTH_ZIP_EOCD) return pth_fail(err, PTH_E_ZIP_END, tail_off, PTH_ZIP_EOCD, tail.len);
  uint64_t at = tail.len - PTH_ZIP_EOCD;
  while (pth_u32(tail.data + at) != SIG_END) {
    if (at-- == 0) return pth_fail(err, PTH_E_ZIP_END, tail_off, PTH_ZIP_EOCD, tail.len);
  }
  const uint8_t *p = tail.data + at;
  out->eocd_off = tail_off + at;
  out->n_entries = pth_u16(p + 10);
  out->dir_len = pth_u32(p + 12);
  out->dir_off = pth_u32(p + 16);
  uint64_t behind = file_len - out->eocd_off - PTH_ZIP_EOCD;
  out->comment_len = pth_u16(p + 20);
  if (out->comment_len > behind) out->comment_len = behind;
  out->trailing = behind - out->comment_len;
  uint64_t n16 = out->n_entries, len32 = out->dir_len, off32 = out->dir_off;
  int rc = read_end64(tail, tail_off, out, err);
  if (rc) return rc;
  if (out->end64_off) {
    /* Both records count only where they agree, or where the old one says that it cannot hold the number. */
    if ((n16 != 0xffff && n16 != out->n_entries) || (len32 != UINT32_MAX && len32 != out->dir_len) ||
        (off32 != UINT32_MAX && off32 != out->dir_off))
      return pth_fail(err, PTH_E_ZIP_END64, out->end64_off, out->n_entries, n16);
  }
  /* One disk holds it all: its number may be all ones where the zip64 record says so. */
  bool elsewhere = out->end64_off && pth_u16(p + 4) == 0xffff && pth_u16(p + 6) == 0xffff;
  if ((!elsewhere && (pth_u16(p + 4) != 0 || pth_u16(p + 6) != 0)) || pth_u16(p + 8) != n16)
    return pth_fail(err, PTH_E_ZIP_SPAN, out->eocd_off, pth_u16(p + 4), 0);
  uint64_t end, stop = out->end64_off ? out->end64_off : out->eocd_off;
  if (!pth_add(out->dir_off, out->dir_len, &end) || end > stop) return pth_fail(err, PTH_E_ZIP_DIRECTORY, out->eocd_off, end, stop);
  if (end != stop) return pth_fail(err, PTH_E_ZIP_PREFIX, out->eocd_off, stop - end, 0);
  return 0;
}

/* ---- directory ---- */

/* The zip64 extra field holds those numbers, in this order, that are all ones in the entry itself. */
static bool read_extra64(pth_bytes extra, pth_zip_entry *e) {
  pth_cursor c = pth_cursor_of(extra);
  bool need_usize = e->usize == UINT32_MAX, need_csize = e->csize == UINT32_MAX, need_lho = e->lho == UINT32_MAX;
  if (!need_usize && !need_csize && !need_lho) return true;
  for (const uint8_t *p; (p = pth_take(&c, 4)) != NULL;) {
    uint16_t id = pth_u16(p), len = pth_u16(p + 2);
    pth_cursor field = {.data = pth_take(&c, len), .len = len};
    if (field.data == NULL) return false;
    if (id != EXTRA_ZIP64) continue;
    uint64_t *numbers[3] = {need_usize ? &e->usize : NULL, need_csize ? &e->csize : NULL, need_lho ? &e->lho : NULL};
    for (int i = 0; i < 3; i++) {
      if (numbers[i] == NULL) continue;
      const uint8_t *q = pth_take(&field, 8);
      if (q == NULL) return false;
      *numbers[i] = pth_u64(q);
    }
    return true;
  }
  return false;
}

/* The records of an extra field: is it whole, does it give another name, is its padding as torch writes it (FB, then Zs)? */
static uint16_t odd_extra(pth_bytes extra) {
  pth_cursor c = pth_cursor_of(extra);
  while (pth_left(&c) != 0) {
    const uint8_t *p = pth_take(&c, 4);
    uint16_t len = p == NULL ? 0 : pth_u16(p + 2);
    const uint8_t *field = p == NULL ? NULL : pth_take(&c, len);
    if (p == NULL || (len && field == NULL) || pth_u16(p) == EXTRA_UNICODE_NAME) return PTH_F_ZIP_EXTRA;
    if (pth_u16(p) != EXTRA_PADDING) continue;
    for (uint16_t i = 0; i < len; i++) {
      if (field[i] != 'Z') return PTH_F_ZIP_PADDING;
    }
  }
  return PTH_F_NOTHING;
}

/* Its place comes first: one that lies outside may not say where the room of another ends. */
static uint16_t judge(const pth_zip_entry *e, uint64_t dir_off) {
  uint64_t end;
  if (!pth_add(e->lho, (uint64_t)PTH_ZIP_LOCAL + e->name_len, &end) || !pth_add(end, e->csize, &end) || end > dir_off)
    return PTH_E_ZIP_EXTENT;
  if (e->flags & (FLAG_ENCRYPTED | FLAG_PATCH | FLAG_STRONG | FLAG_MASKED)) return PTH_E_ZIP_ENCRYPTED;
  if (e->method != PTH_ZIP_STORED && e->method != PTH_ZIP_DEFLATED) return PTH_E_ZIP_METHOD;
  if (e->method == PTH_ZIP_STORED && e->csize != e->usize) return PTH_E_ZIP_SIZES;
  return 0;
}

static int read_entries(pth_zip *z, const pth_zip_end *end, pth_err *err) {
  pth_cursor c = pth_cursor_of(z->dir);
  for (uint64_t i = 0; i < end->n_entries; i++) {
    uint64_t at = c.pos;
    const uint8_t *p = pth_take(&c, ENTRY_SIZE);
    if (p == NULL || pth_u32(p) != SIG_ENTRY) return pth_fail(err, PTH_E_ZIP_HEADER, end->dir_off + at, i, end->n_entries);
    if (pth_u16(p + 34) != 0) return pth_fail(err, PTH_E_ZIP_SPAN, end->dir_off + at, pth_u16(p + 34), 0);
    pth_zip_entry e = {.flags = pth_u16(p + 8),
                       .method = pth_u16(p + 10),
                       .crc = pth_u32(p + 16),
                       .csize = pth_u32(p + 20),
                       .usize = pth_u32(p + 24),
                       .name_len = pth_u16(p + 28),
                       .lho = pth_u32(p + 42),
                       .name_at = (uint32_t)c.pos};
    uint64_t extra_len = pth_u16(p + 30), comment_len = pth_u16(p + 32);
    const uint8_t *name = pth_take(&c, e.name_len), *extra = pth_take(&c, extra_len);
    if (name == NULL || extra == NULL || pth_take(&c, comment_len) == NULL || !read_extra64((pth_bytes){extra, extra_len}, &e))
      return pth_fail(err, PTH_E_ZIP_HEADER, end->dir_off + at, i, end->n_entries);
    e.code = judge(&e, end->dir_off);
    if ((pth_u32(p + 38) >> 28) == 0xa) e.traits |= PTH_ZIP_LINK; /* S_IFLNK */
    if (pth_u32(p + 38) & DOS_DIRECTORY && e.usize) e.traits |= PTH_ZIP_AS_FOLDER;
    if (extra_len && odd_extra((pth_bytes){extra, extra_len}) != PTH_F_NOTHING) e.traits |= PTH_ZIP_OTHER_NAME;
    PTH_AT(pth_zip_entry, z->entries, z->entries.len++) = e;
  }
  z->short_count = pth_left(&c) != 0;
  return 0;
}

/* Indices sorted by lho: heap sort, since the order comes from the file and nothing here may recurse or be quadratic. */
static void sift(const pth_zip_entry *e, uint32_t *order, uint32_t root, uint32_t n) {
  for (;;) {
    uint32_t child = root * 2 + 1;
    if (child >= n) return;
    if (child + 1 < n && e[order[child + 1]].lho > e[order[child]].lho) child++;
    if (e[order[root]].lho >= e[order[child]].lho) return;
    uint32_t swap = order[root];
    order[root] = order[child];
    order[child] = swap;
    root = child;
  }
}

static void sort_by_place(const pth_zip_entry *e, uint32_t *order, uint32_t n) {
  bool sorted = true;
  for (uint32_t i = 1; i < n && sorted; i++) sorted = e[order[i - 1]].lho <= e[order[i]].lho;
  if (sorted) return;
  for (uint32_t i = n / 2; i-- > 0;) sift(e, order, i, n);
  for (uint32_t i = n; i-- > 1;) {
    uint32_t swap = order[0];
    order[0] = order[i];
    order[i] = swap;
    sift(e, order, 0, i);
  }
}

/* Each entry's room ends where the next begins; entries that reach into others are marked, both of them. */
static void find_overlaps(pth_zip *z, uint32_t *order, uint32_t n, uint64_t dir_off) {
  pth_zip_entry *e = z->entries.data;
  uint64_t reach = 0; /* furthest end so far, and whose it is */
  uint32_t owner = PTH_NONE;
  for (uint32_t i = 0; i < n; i++) {
    pth_zip_entry *x = &e[order[i]];
    uint64_t end = x->lho + PTH_ZIP_LOCAL + x->name_len + x->csize;
    x->room_end = i + 1 < n ? e[order[i + 1]].lho : dir_off;
    if (x->lho < reach) {
      if (x->code == 0) x->code = PTH_E_ZIP_OVERLAP;
      if (e[owner].code == 0) e[owner].code = PTH_E_ZIP_OVERLAP;
    }
    if (end > reach) {
      reach = end;
      owner = order[i];
    }
  }
}

static int check_places(pth_zip *z, uint64_t dir_off, pth_err *err) {
  pth_pool *order = &z->order;
  int rc = pth_pool_reserve(z->arena, order, z->entries.len, err);
  if (rc) return rc;
  for (uint32_t i = 0; i < z->entries.len; i++) {
    if (PTH_AT(pth_zip_entry, z->entries, i).code != PTH_E_ZIP_EXTENT) PTH_AT(uint32_t, *order, order->len++) = i;
  }
  if (order->len) {
    sort_by_place(z->entries.data, order->data, order->len);
    find_overlaps(z, order->data, order->len, dir_off);
  }
  return 0;
}

/* Eight bytes at once: the capital letters of ASCII become small ones, by bit 5. */
static uint64_t fold8(uint64_t x) {
  const uint64_t ones = UINT64_C(0x0101010101010101), low = x & ones * 0x7f;
  uint64_t from_a = low + ones * (0x80 - 'A'), past_z = low + ones * (0x7f - 'Z');
  uint64_t capital = (from_a ^ past_z) & ~x & ones * 0x80;
  return x | capital >> 2;
}

static bool same_folded(pth_bytes a, pth_bytes b) {
  if (a.len != b.len) return false;
  for (uint64_t at = 0; at < a.len; at += 8) {
    if (fold8(pth_word_at(a, at)) != fold8(pth_word_at(b, at))) return false;
  }
  return true;
}

static uint64_t hash_folded(pth_bytes b, uint64_t seed) {
  pth_sip s = pth_sip_of(seed);
  for (uint64_t at = 0; at < b.len; at += 8) pth_sip_word(&s, fold8(pth_word_at(b, at)));
  pth_sip_word(&s, b.len);
  return pth_sip_end(&s);
}

/* torch looks names up without regard to case, and takes the first or any of two equal ones. */
static int find_duplicates(pth_zip *z, pth_err *err) {
  uint64_t size = 16;
  while (size < (uint64_t)z->entries.len * 2) size *= 2;
  pth_pool slots = PTH_POOL(uint32_t);
  int rc = pth_pool_reserve(z->arena, &slots, size, err);
  if (rc) return rc;
  uint32_t *slot = slots.data, mask = (uint32_t)(size - 1);
  memset(slot, 0xff, (size_t)size * sizeof *slot);
  for (uint32_t i = 0; i < z->entries.len; i++) {
    pth_bytes name = pth_zip_name(z, i);
    uint32_t at = (uint32_t)hash_folded(name, z->arena->seed) & mask;
    while (slot[at] != PTH_NONE && !same_folded(pth_zip_name(z, slot[at]), name)) at = (at + 1) & mask;
    if (slot[at] == PTH_NONE)
      slot[at] = i;
    else
      PTH_AT(pth_zip_entry, z->entries, i).code = PTH_AT(pth_zip_entry, z->entries, slot[at]).code = PTH_E_ZIP_DUPLICATE;
  }
  pth_pool_free(z->arena, &slots);
  return 0;
}

int pth_zip_read(pth_zip *z, pth_arena *a, pth_bytes dir, const pth_zip_end *end, const pth_limits *lim, pth_err *err) {
  *z = (pth_zip){.arena = a, .dir = dir, .entries = PTH_POOL(pth_zip_entry), .order = PTH_POOL(uint32_t), .odds = PTH_POOL(pth_zip_odd)};
  if (end->n_entries > lim->max_members) return pth_fail(err, PTH_E_LIMIT_MEMBERS, end->eocd_off, end->n_entries, lim->max_members);
  if (end->n_entries > dir.len / ENTRY_SIZE || dir.len > UINT32_MAX)
    return pth_fail(err, PTH_E_ZIP_HEADER, end->dir_off, dir.len / ENTRY_SIZE, end->n_entries);
  int rc = pth_pool_reserve(a, &z->entries, end->n_entries, err);
  if (rc == 0) rc = read_entries(z, end, err);
  if (rc == 0) rc = check_places(z, end->dir_off, err);
  return rc ? rc : find_duplicates(z, err);
}

void pth_zip_free(pth_zip *z) {
  pth_pool_free(z->arena, &z->entries);
  pth_pool_free(z->arena, &z->order);
  pth_pool_free(z->arena, &z->odds);
}

pth_bytes pth_zip_name(const pth_zip *z, uint32_t entry) {
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  return (pth_bytes){e->name_len ? z->dir.data + e->name_at : NULL, e->name_len};
}

uint32_t pth_zip_entry_named(const pth_zip *z, pth_bytes name, bool folded) {
  for (uint32_t i = 0; i < z->entries.len; i++) {
    pth_bytes n = pth_zip_name(z, i);
    if (folded ? same_folded(n, name) : pth_bytes_equal(n, name)) return i;
  }
  return PTH_NONE;
}

int pth_zip_check(const pth_zip *z, uint32_t entry, pth_err *err) {
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  switch (e->code) {
    case 0:
      return 0;
    case PTH_E_ZIP_METHOD:
      return pth_fail(err, e->code, e->lho, e->method, 0);
    case PTH_E_ZIP_SIZES:
      return pth_fail(err, e->code, e->lho, e->csize, e->usize);
    default:
      return pth_fail(err, e->code, e->lho, e->lho + PTH_ZIP_LOCAL + e->name_len + e->csize, e->room_end);
  }
}

/* What a local header says otherwise than the directory. Sizes and checksum may stand behind the data instead, or in a zip64 field. */
static uint16_t odd_local(const pth_zip *z, uint32_t entry, const uint8_t *p) {
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  uint64_t name_len = pth_u16(p + 26);
  uint32_t crc = pth_u32(p + 14), csize = pth_u32(p + 18), usize = pth_u32(p + 22);
  bool later = (e->flags & FLAG_DESCRIPTOR) != 0, large = csize == UINT32_MAX || usize == UINT32_MAX;
  if (name_len != e->name_len || !pth_bytes_equal((pth_bytes){p + PTH_ZIP_LOCAL, name_len}, pth_zip_name(z, entry)))
    return PTH_F_ZIP_LOCAL_NAME;
  if (pth_u16(p + 6) != e->flags) return PTH_F_ZIP_LOCAL_FLAGS;
  if (pth_u16(p + 8) != e->method) return PTH_F_ZIP_LOCAL_METHOD;
  if (!large && (csize != e->csize || usize != e->usize) && !(later && csize == 0 && usize == 0)) return PTH_F_ZIP_LOCAL_SIZES;
  if (crc != e->crc && !(later && crc == 0)) return PTH_F_ZIP_LOCAL_CRC;
  return PTH_F_NOTHING;
}

/* Sizes of 64 bits in a local header: a reader of streams goes by them. */
static uint16_t odd_local64(const pth_zip_entry *e, const uint8_t *p, pth_bytes extra) {
  pth_zip_entry local = {.csize = pth_u32(p + 18), .usize = pth_u32(p + 22)};
  if (local.csize != UINT32_MAX && local.usize != UINT32_MAX) return PTH_F_NOTHING;
  return read_extra64(extra, &local) && local.csize == e->csize && local.usize == e->usize ? PTH_F_NOTHING : PTH_F_ZIP_LOCAL_SIZES;
}

int pth_zip_local(pth_zip *z, uint32_t entry, pth_bytes header, uint64_t *data_off, uint16_t *odd, pth_err *err) {
  pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  int rc = pth_zip_check(z, entry, err);
  if (rc) return rc;
  if (header.len < (uint64_t)PTH_ZIP_LOCAL + e->name_len || pth_u32(header.data) != SIG_LOCAL)
    return pth_fail(err, PTH_E_ZIP_LOCAL, e->lho, 0, 0);
  const uint8_t *p = header.data;
  uint64_t begin = e->lho + PTH_ZIP_LOCAL + pth_u16(p + 26) + pth_u16(p + 28), end;
  if (!pth_add(begin, e->csize, &end) || end > e->room_end) return pth_fail(err, PTH_E_ZIP_EXTENT, e->lho, end, e->room_end);
  *odd = odd_local(z, entry, p);
  e->data_off = *data_off = begin;
  return 0;
}

/* ---- every byte before the directory ---- */

static int note(pth_zip *z, pth_zip_sweep *s, uint32_t entry, uint16_t finding, uint64_t off, uint64_t len, pth_err *err) {
  if (finding == PTH_F_NOTHING || s->n_odds++ >= PTH_ZIP_MOST_ODDS) return 0;
  int rc = pth_pool_room(z->arena, &z->odds, err);
  if (rc == 0) PTH_AT(pth_zip_odd, z->odds, z->odds.len++) = (pth_zip_odd){entry, finding, off, len};
  return rc;
}

/* Is it a name that torch, or anyone who packs a folder, gives a member? */
static bool odd_name(pth_bytes name) {
  bool start = true; /* of a component */
  if (name.len == 0 || name.data[0] == '/' || pth_utf8_valid(name.data, name.len) < name.len) return true;
  for (uint64_t i = 0; i < name.len; i++) {
    uint8_t c = name.data[i];
    uint64_t left = name.len - i;
    if (c < 0x20 || c == 0x7f || c == '\\' || (c == ':' && i == 1)) return true;
    if (start && c == '.' && (left == 1 || name.data[i + 1] == '/')) return true;
    if (start && c == '.' && name.data[i + 1] == '.' && (left == 2 || name.data[i + 2] == '/')) return true;
    /* U+200B..200F, U+202A..202E, U+2066..2069: no width, or another direction */
    if (c == 0xe2 && name.data[i + 1] == 0x80 &&
        ((name.data[i + 2] >= 0x8b && name.data[i + 2] <= 0x8f) || (name.data[i + 2] >= 0xaa && name.data[i + 2] <= 0xae)))
      return true;
    if (c == 0xe2 && name.data[i + 1] == 0x81 && name.data[i + 2] >= 0xa6 && name.data[i + 2] <= 0xa9) return true;
    start = c == '/';
  }
  return false;
}

/* What may stand behind an entry's data: nothing, or its data descriptor, of four or eight bytes a size, with a signature or without. */
static uint16_t odd_behind(const pth_zip_entry *e, pth_bytes gap) {
  bool later = (e->flags & FLAG_DESCRIPTOR) != 0;
  if (gap.len == 0) return later ? PTH_F_ZIP_DESCRIPTOR : PTH_F_NOTHING;
  if (!later) return PTH_F_ZIP_GAP;
  const uint8_t *p = gap.data;
  bool large = gap.len == 24 || gap.len == 20, signed_ = gap.len == 16 || gap.len == 24;
  if ((!signed_ && !large && gap.len != 12) || (signed_ && pth_u32(p) != SIG_DESCRIPTOR)) return PTH_F_ZIP_GAP;
  p += signed_ ? 4 : 0;
  uint64_t csize = large ? pth_u64(p + 4) : pth_u32(p + 4), usize = large ? pth_u64(p + 12) : pth_u32(p + 8);
  if (csize != e->csize || usize != e->usize) return PTH_F_ZIP_LOCAL_SIZES;
  return pth_u32(p) == e->crc ? PTH_F_NOTHING : PTH_F_ZIP_LOCAL_CRC;
}

/* The bytes of the file from `off` on, if the window has `len` of them. */
static const uint8_t *in_window(pth_bytes window, uint64_t window_off, uint64_t off, uint64_t len) {
  if (off < window_off || off - window_off > window.len || len > window.len - (off - window_off)) return NULL;
  return window.data + (off - window_off);
}

bool pth_zip_locals(pth_zip *z, uint32_t *next, pth_bytes window, uint64_t window_off, uint64_t dir_off, uint64_t *want) {
  bool last = window_off + window.len >= dir_off; /* nothing more is to come */
  for (; *next < z->order.len; ++*next) {
    uint32_t entry = PTH_AT(uint32_t, z->order, *next);
    pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
    if (e->code || e->data_off) continue;
    uint64_t len = (uint64_t)PTH_ZIP_LOCAL + e->name_len, data_off;
    const uint8_t *p = in_window(window, window_off, e->lho, len);
    uint16_t odd;
    pth_err why = {0};
    *want = e->lho;
    if (p == NULL && !last && e->lho >= window_off) return true;
    if (p != NULL && pth_zip_local(z, entry, (pth_bytes){p, len}, &data_off, &odd, &why) == 0 && odd != PTH_F_NOTHING) e->data_off = 0;
  }
  return false;
}

/* What lies between the last entry that was accounted for and `to`. */
static int account(pth_zip *z, pth_zip_sweep *s, uint64_t to, pth_bytes window, uint64_t window_off, pth_err *err) {
  uint32_t before = s->next ? PTH_AT(uint32_t, z->order, s->next - 1) : PTH_NONE;
  uint64_t from = s->reach, len = to > from ? to - from : 0;
  if (before == PTH_NONE) return note(z, s, PTH_NONE, len ? PTH_F_ZIP_GAP : PTH_F_NOTHING, from, len, err);
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, before);
  if (e->code) return 0; /* an error already: where it ends is not known */
  const uint8_t *p = len <= LONGEST_DESCRIPTOR ? in_window(window, window_off, from, len) : NULL;
  return note(z, s, before, p == NULL && len ? PTH_F_ZIP_GAP : odd_behind(e, (pth_bytes){p, len}), from, len, err);
}

/* One entry: false if the window is too small for it. */
static int sweep_entry(pth_zip *z, pth_zip_sweep *s, uint32_t entry, pth_bytes header, pth_err *err) {
  const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
  uint64_t data_off, extra_at = (uint64_t)PTH_ZIP_LOCAL + pth_u16(header.data + 26), extra_len = pth_u16(header.data + 28);
  uint16_t odd;
  pth_err why = {0};
  int rc = note(z, s, entry, odd_name(pth_zip_name(z, entry)) ? PTH_F_ZIP_NAME : PTH_F_NOTHING, e->lho, 0, err);
  if (rc == 0 && e->traits & PTH_ZIP_LINK) rc = note(z, s, entry, PTH_F_ZIP_LINK, e->lho, 0, err);
  if (rc == 0 && e->traits & PTH_ZIP_AS_FOLDER) rc = note(z, s, entry, PTH_F_ZIP_AS_FOLDER, e->lho, 0, err);
  if (rc == 0 && e->traits & PTH_ZIP_OTHER_NAME) rc = note(z, s, entry, PTH_F_ZIP_EXTRA, e->lho, 0, err);
  if (rc || e->code) return rc;
  if (pth_zip_local(z, entry, header, &data_off, &odd, &why)) {
    PTH_AT(pth_zip_entry, z->entries, entry).code = (uint16_t)why.code;
    return 0;
  }
  s->reach = data_off + e->csize;
  rc = note(z, s, entry, odd, e->lho, 0, err);
  pth_bytes extra = {header.data + extra_at, extra_len};
  if (rc == 0) rc = note(z, s, entry, odd_local64(e, header.data, extra), e->lho, 0, err);
  return rc ? rc : note(z, s, entry, odd_extra(extra), e->lho, 0, err);
}

int pth_zip_sweep_window(pth_zip *z, pth_zip_sweep *s, pth_bytes window, uint64_t window_off, uint64_t dir_off, bool *more, pth_err *err) {
  bool last = window_off + window.len >= dir_off; /* nothing more is to come */
  *more = true;
  for (; s->next < z->order.len; s->next++) {
    uint32_t entry = PTH_AT(uint32_t, z->order, s->next);
    const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, entry);
    s->want = e->lho > LONGEST_DESCRIPTOR ? e->lho - LONGEST_DESCRIPTOR : 0;
    const uint8_t *p = in_window(window, window_off, e->lho, PTH_ZIP_LOCAL);
    uint64_t len = p == NULL ? 0 : (uint64_t)PTH_ZIP_LOCAL + pth_u16(p + 26) + pth_u16(p + 28);
    bool whole = p != NULL && in_window(window, window_off, e->lho, len) != NULL && in_window(window, window_off, s->want, 1) != NULL;
    if (!whole && !(last && window_off <= s->want)) return 0;
    int rc = account(z, s, e->lho, window, window_off, err);
    if (rc) return rc;
    s->reach = e->room_end;
    if (!whole) {
      if (PTH_AT(pth_zip_entry, z->entries, entry).code == 0) PTH_AT(pth_zip_entry, z->entries, entry).code = PTH_E_ZIP_LOCAL;
      continue;
    }
    if ((rc = sweep_entry(z, s, entry, (pth_bytes){p, len}, err)) != 0) return rc;
  }
  s->want = dir_off > LONGEST_DESCRIPTOR ? dir_off - LONGEST_DESCRIPTOR : 0;
  if (!last || window_off > s->want) return 0;
  *more = false;
  return account(z, s, dir_off, window, window_off, err);
}

static bool ends_with(pth_bytes b, pth_bytes end) {
  return b.len > end.len && (end.len == 0 || memcmp(b.data + b.len - end.len, end.data, (size_t)end.len) == 0);
}

int pth_zip_store(const pth_zip *z, pth_bytes prefix, pth_bytes suffix, pth_store *out, pth_err *err) {
  int rc = pth_store_init(out, z->arena, z->entries.len, err);
  out->suffix = suffix;
  for (uint32_t i = 0; i < z->entries.len && !rc; i++) {
    const pth_zip_entry *e = &PTH_AT(pth_zip_entry, z->entries, i);
    pth_bytes name = pth_zip_name(z, i);
    if (name.len <= prefix.len || (prefix.len && memcmp(name.data, prefix.data, (size_t)prefix.len) != 0)) continue;
    pth_bytes key = {name.data + prefix.len, name.len - prefix.len};
    if (!ends_with(key, suffix)) continue;
    pth_span span = {
        .key = {key.data, key.len - suffix.len}, .off = e->lho, .len = e->usize, .member = i, .code = e->code, .dtype = UINT8_MAX};
    rc = pth_store_add(out, &span, err);
  }
  return rc;
}
