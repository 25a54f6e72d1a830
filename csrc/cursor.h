/* cursor.h - the only file that dereferences bytes of a checkpoint.
 *
 * A pth_cursor walks over borrowed bytes; pth_take() is the one bounds check, and hands out NULL past the end.
 * Multi-byte loads are little endian unless named otherwise, and work at any address.
 * pth_add / pth_mul: sums and products of numbers out of a file; false = does not fit. */
#ifndef PTH_CURSOR_H
#define PTH_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct pth_bytes { /* borrowed; data may be NULL when len is 0 */
  const uint8_t *data;
  uint64_t len;
} pth_bytes;

typedef struct pth_cursor {
  const uint8_t *data;
  uint64_t len;
  uint64_t pos; /* <= len, always */
} pth_cursor;

static inline pth_cursor pth_cursor_of(pth_bytes b) { return (pth_cursor){.data = b.data, .len = b.len, .pos = 0}; }

static inline uint64_t pth_left(const pth_cursor *c) { return c->len - c->pos; }

static inline const uint8_t *pth_take(pth_cursor *c, uint64_t n) {
  if (n > c->len - c->pos) return NULL;
  const uint8_t *p = c->data + c->pos;
  c->pos += n;
  return p;
}

static inline uint16_t pth_u16(const uint8_t *p) { return (uint16_t)(p[0] | (uint16_t)(p[1] << 8)); }

static inline uint32_t pth_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t pth_u64(const uint8_t *p) { return (uint64_t)pth_u32(p) | (uint64_t)pth_u32(p + 4) << 32; }

static inline uint64_t pth_u64_be(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | p[i];
  return v;
}

static inline int64_t pth_i64_of(uint64_t v) { return v <= (uint64_t)INT64_MAX ? (int64_t)v : -(int64_t)(UINT64_MAX - v) - 1; }

static inline bool pth_add(uint64_t a, uint64_t b, uint64_t *sum) {
  *sum = a + b;
  return *sum >= a;
}

static inline bool pth_mul(uint64_t a, uint64_t b, uint64_t *product) {
  *product = a * b;
  return a == 0 || *product / a == b;
}

static inline bool pth_bytes_equal(pth_bytes a, pth_bytes b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, (size_t)a.len) == 0);
}

static inline pth_bytes pth_text(const char *s) { return (pth_bytes){(const uint8_t *)s, strlen(s)}; }

#endif
