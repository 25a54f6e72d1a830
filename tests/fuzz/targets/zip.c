/* csrc/zip.h: the end records, the directory, the local headers, the store. */
#include <stdlib.h>

#include "fuzz.h"

enum { END64_LOCATOR = 20, DESCRIPTOR = 8 };

static pth_limits limits;

static const pth_zip_entry *entry_at(const pth_zip *z, uint32_t i) { return &PTH_AT(pth_zip_entry, z->entries, i); }
static __int128 reach(const pth_zip_entry *e) { return (__int128)e->lho + PTH_ZIP_LOCAL + e->name_len + e->csize; }

static bool same_folded(pth_bytes a, pth_bytes b) {
  bool same = a.len == b.len;
  for (uint64_t i = 0; i < a.len && same; i++) {
    uint8_t x = a.data[i], y = b.data[i];
    same = (x >= 'A' && x <= 'Z' ? x + 32 : x) == (y >= 'A' && y <= 'Z' ? y + 32 : y);
  }
  return same;
}

static void check_end(const pth_zip_end *end, pth_bytes f) {
  CHECK(end->eocd_off + PTH_ZIP_EOCD + end->comment_len + end->trailing == f.len);
  CHECK(end->dir_off + end->dir_len == (end->end64_off ? end->end64_off : end->eocd_off));
  /* No byte before the records was looked at. */
  uint64_t from = end->end64_off ? end->end64_off : end->eocd_off < END64_LOCATOR ? 0 : end->eocd_off - END64_LOCATOR;
  pth_zip_end again;
  CHECK(pth_zip_find(fuzz_part(f, from, f.len - from), from, f.len, &again, NULL) == 0);
  CHECK(again.eocd_off == end->eocd_off && again.end64_off == end->end64_off && again.dir_off == end->dir_off &&
        again.dir_len == end->dir_len && again.n_entries == end->n_entries && again.trailing == end->trailing);
}

/* Two entries that can be read share no byte and no name; one that is accused of either has a partner. */
static void check_pairs(const pth_zip *z, uint64_t dir_off) {
  for (uint32_t i = 0; i < z->entries.len; i++) {
    const pth_zip_entry *a = entry_at(z, i);
    bool overlap = false, twice = false;
    for (uint32_t k = 0; k < z->entries.len; k++) {
      const pth_zip_entry *b = entry_at(z, k);
      if (i == k) continue;
      overlap = overlap || (reach(a) <= dir_off && reach(b) <= dir_off && a->lho < reach(b) && b->lho < reach(a));
      twice = twice || same_folded(pth_zip_name(z, i), pth_zip_name(z, k));
    }
    if (a->code == 0) CHECK(!overlap && !twice);
    if (a->code == PTH_E_ZIP_OVERLAP) CHECK(overlap);
    CHECK(twice == (a->code == PTH_E_ZIP_DUPLICATE));
  }
}

static void check_entry(const pth_zip *z, uint32_t i, const pth_zip_end *end) {
  const pth_zip_entry *e = entry_at(z, i);
  pth_bytes name = pth_zip_name(z, i);
  pth_err err = {0};
  CHECK(e->code < PTH_N_CODES && e->data_off == 0);
  CHECK((uint64_t)e->name_at + e->name_len <= z->dir.len);
  CHECK(pth_zip_check(z, i, &err) == e->code && err.code == e->code);
  CHECK(pth_bytes_equal(pth_zip_name(z, pth_zip_entry_named(z, name, false)), name));
  CHECK(same_folded(pth_zip_name(z, pth_zip_entry_named(z, name, true)), name));
  if (e->code) return;
  CHECK(reach(e) <= e->room_end && e->room_end <= end->dir_off && e->csize <= end->dir_off);
  CHECK(e->method == PTH_ZIP_STORED ? e->csize == e->usize : e->method == PTH_ZIP_DEFLATED);
  CHECK(pth_zip_entry_named(z, name, true) == i);
}

static void check_local(pth_zip *z, uint32_t i, pth_bytes f) {
  pth_zip_entry e = *entry_at(z, i);
  pth_err err = {0};
  uint64_t off = 0, len = PTH_ZIP_LOCAL + (uint64_t)e.name_len;
  uint16_t odd = 0;
  if (e.lho > f.len) return;
  if (len > f.len - e.lho) len = f.len - e.lho;
  pth_bytes header = fuzz_block(f.data + e.lho, len);
  int rc = pth_zip_local(z, i, header, &off, &odd, &err);
  check_error(rc, &err, f.len);
  CHECK(e.code == 0 || rc == e.code);
  CHECK(entry_at(z, i)->data_off == (rc ? 0 : off));
  CHECK(odd < PTH_N_FINDINGS);
  if (rc == 0) CHECK(off >= e.lho + PTH_ZIP_LOCAL && off + e.csize <= e.room_end && pth_u32(header.data) == 0x04034b50);
  free((void *)(uintptr_t)header.data);
}

/* Below one of the folders that there are, each member is a key, and nothing else. */
static void check_folder(const pth_zip *z, pth_bytes prefix) {
  pth_store s;
  uint32_t n = 0;
  CHECK(pth_zip_store(z, prefix, (pth_bytes){0}, &s, NULL) == 0);
  check_store(&s);
  for (uint32_t i = 0; i < z->entries.len; i++) {
    const pth_zip_entry *e = entry_at(z, i);
    pth_bytes name = pth_zip_name(z, i), key = fuzz_part(name, prefix.len, name.len > prefix.len ? name.len - prefix.len : 0);
    if (key.len == 0 || !pth_bytes_equal(fuzz_part(name, 0, prefix.len), prefix)) continue;
    const pth_span *span = &PTH_AT(pth_span, s.spans, n++);
    CHECK(span->member == i && span->off == e->lho && span->len == e->usize && span->code == e->code && pth_bytes_equal(span->key, key));
    if (e->code == 0 && key.len <= PTH_LONGEST_KEY) CHECK(pth_store_find(&s, key) == n - 1);
  }
  CHECK(n == s.spans.len);
  pth_store_free(&s);
}

static void check_archive(pth_zip *z, pth_bytes f, const pth_zip_end *end) {
  CHECK(z->entries.len == end->n_entries);
  for (uint32_t i = 0; i < z->entries.len; i++) check_entry(z, i, end);
  check_pairs(z, end->dir_off);
  for (uint32_t i = 0; i < z->entries.len; i++) check_local(z, i, f);
  check_folder(z, (pth_bytes){0});
  CHECK(pth_zip_entry_named(z, fuzz_part(f, 0, f.len), false) == PTH_NONE); /* no name is as long */
  if (z->entries.len == 0) return;
  pth_bytes folder = pth_zip_name(z, (uint32_t)fuzz_pick(f.data, f.len, z->entries.len));
  while (folder.len && folder.data[folder.len - 1] != '/') folder.len--;
  check_folder(z, folder);
}

/* Many headers by one window say what each says by itself, or nothing. */
static void check_locals(pth_zip *z, const pth_zip *each, pth_bytes f, const pth_zip_end *end) {
  uint32_t next = 0;
  bool more = true;
  for (uint64_t at = 0, want = 0; more; at = want) {
    pth_bytes window = fuzz_block(f.data + at, end->dir_off - at < PTH_ZIP_WINDOW ? end->dir_off - at : PTH_ZIP_WINDOW);
    more = pth_zip_locals(z, &next, window, at, end->dir_off, &want);
    free((void *)(uintptr_t)window.data);
    CHECK(!more || (want > at && want <= end->dir_off));
  }
  CHECK(next == z->order.len);
  for (uint32_t i = 0; i < z->entries.len; i++)
    CHECK(entry_at(z, i)->data_off == 0 || entry_at(z, i)->data_off == entry_at(each, i)->data_off);
}

/* If nothing is odd, the members lie side by side, with nothing between them but data descriptors. */
static void check_sweep(pth_zip *z, pth_bytes f, const pth_zip_end *end) {
  pth_zip_sweep s = {0};
  bool more = true, sound = true;
  uint64_t at = 0;
  CHECK(pth_zip_sweep_window(z, &s, fuzz_part(f, 0, end->dir_off), 0, end->dir_off, &more, NULL) == 0);
  CHECK(!more && s.next == z->order.len && s.n_odds >= z->odds.len);
  for (uint32_t i = 0; i < z->odds.len; i++) {
    const pth_zip_odd *o = &PTH_AT(pth_zip_odd, z->odds, i);
    CHECK((o->entry == PTH_NONE || o->entry < z->entries.len) && o->finding > 0 && o->finding < PTH_N_FINDINGS);
    CHECK(o->off <= end->dir_off && o->len <= end->dir_off - o->off);
    sound = sound && o->finding != PTH_F_ZIP_GAP && o->finding != PTH_F_ZIP_DESCRIPTOR;
  }
  for (uint32_t i = 0; i < z->order.len; i++) {
    const pth_zip_entry *e = entry_at(z, PTH_AT(uint32_t, z->order, i));
    if (i) CHECK(e->lho >= entry_at(z, PTH_AT(uint32_t, z->order, i - 1))->lho);
    sound = sound && e->code == 0;
  }
  for (uint32_t i = 0; sound && i <= z->order.len; i++) {
    const pth_zip_entry *e = i ? entry_at(z, PTH_AT(uint32_t, z->order, i - 1)) : NULL;
    uint64_t gap = (i < z->order.len ? entry_at(z, PTH_AT(uint32_t, z->order, i))->lho : end->dir_off) - at;
    CHECK(e != NULL && e->flags & DESCRIPTOR ? gap >= 12 && gap <= 24 && gap % 4 == 0 : gap == 0);
    if (i < z->order.len) {
      e = entry_at(z, PTH_AT(uint32_t, z->order, i));
      at = e->data_off + e->csize;
    }
  }
}

static int read_directory(pth_zip *z, pth_arena *a, pth_bytes dir, const pth_zip_end *end, size_t size) {
  pth_err err = {0};
  int rc = pth_zip_read(z, a, dir, end, &limits, &err);
  check_error(rc, &err, size);
  CHECK(rc != PTH_E_BUDGET && rc != PTH_E_MEMORY);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_bytes f = {data, size};
  pth_zip_end end;
  pth_err err = {0};
  uint64_t from = size > PTH_ZIP_TAIL ? size - PTH_ZIP_TAIL : 0;
  int rc = pth_zip_find(fuzz_part(f, from, size - from), from, size, &end, &err);
  check_error(rc, &err, size);
  if (rc == 0) {
    check_end(&end, f);
    pth_bytes dir = fuzz_block(data + end.dir_off, end.dir_len);
    pth_arena a = fuzz_arena(8 * (uint64_t)size + 4096, 1), b = fuzz_arena(8 * (uint64_t)size + 4096, 2);
    pth_zip z, again;
    b.exact = true;
    rc = read_directory(&z, &a, dir, &end, size);
    CHECK(read_directory(&again, &b, dir, &end, size) == rc);
    if (rc == 0) {
      CHECK(z.short_count == again.short_count);
      CHECK(z.entries.len == 0 || memcmp(z.entries.data, again.entries.data, z.entries.len * sizeof(pth_zip_entry)) == 0);
      check_archive(&z, f, &end);
      if (fuzz_pick(data, size, 2)) check_locals(&again, &z, f, &end);
      check_sweep(&again, f, &end);
    }
    pth_zip_free(&z);
    pth_zip_free(&again);
    CHECK(a.used == 0 && b.used == 0);
    free((void *)(uintptr_t)dir.data);
  }
  fuzz_count(rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  size_t at = size;
  /* Mostly the directory and the end records: from there on nothing but names and numbers. */
  if (fuzz_random(&rng, 3) == 0) return LLVMFuzzerMutate(data, size, max);
  while (at > 0 && (size - at < 4 || memcmp(data + at, "PK\1\2", 4) != 0 || fuzz_random(&rng, 4) != 0)) at--;
  return at + LLVMFuzzerMutate(data + at, size - at, max - at);
}
