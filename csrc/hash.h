/* hash.h - SipHash-1-3: hashes that nobody who does not know the seed can make collide.
 *
 * Names, keys and indices of a file go into hash tables by it: with a weaker one a few kilobytes would make a table quadratic.
 * Source    Aumasson and Bernstein, SipHash: a fast short-input PRF; one round a word, three at the end. */
#ifndef PTH_HASH_H
#define PTH_HASH_H

#include "cursor.h"

typedef struct pth_sip {
  uint64_t a, b, c, d;
} pth_sip;

static inline uint64_t pth_rotl(uint64_t x, int n) { return x << n | x >> (64 - n); }

static inline void pth_sip_round(pth_sip *s) {
  s->a += s->b, s->c += s->d;
  s->b = pth_rotl(s->b, 13) ^ s->a, s->d = pth_rotl(s->d, 16) ^ s->c;
  s->a = pth_rotl(s->a, 32);
  s->c += s->b, s->a += s->d;
  s->b = pth_rotl(s->b, 17) ^ s->c, s->d = pth_rotl(s->d, 21) ^ s->a;
  s->c = pth_rotl(s->c, 32);
}

static inline pth_sip pth_sip_of(uint64_t seed) {
  uint64_t other = pth_rotl(seed, 32) ^ UINT64_C(0x9E3779B97F4A7C15);
  return (pth_sip){seed ^ UINT64_C(0x736f6d6570736575), other ^ UINT64_C(0x646f72616e646f6d), seed ^ UINT64_C(0x6c7967656e657261),
                   other ^ UINT64_C(0x7465646279746573)};
}

static inline void pth_sip_word(pth_sip *s, uint64_t word) {
  s->d ^= word;
  pth_sip_round(s);
  s->a ^= word;
}

static inline uint64_t pth_sip_end(pth_sip *s) {
  s->c ^= 0xff;
  for (int i = 0; i < 3; i++) pth_sip_round(s);
  return s->a ^ s->b ^ s->c ^ s->d;
}

/* The eight bytes from `at` on, little endian; zeros stand behind the end. */
static inline uint64_t pth_word_at(pth_bytes b, uint64_t at) {
  if (at + 8 <= b.len) return pth_u64(b.data + at);
  uint64_t tail = 0;
  for (uint64_t i = b.len; i-- > at;) tail = tail << 8 | b.data[i];
  return tail;
}

static inline uint64_t pth_hash(pth_bytes b, uint64_t seed) {
  pth_sip s = pth_sip_of(seed);
  for (uint64_t at = 0; at < b.len; at += 8) pth_sip_word(&s, pth_word_at(b, at));
  pth_sip_word(&s, b.len);
  return pth_sip_end(&s);
}

static inline uint64_t pth_hash_number(uint64_t number, uint64_t seed) {
  pth_sip s = pth_sip_of(seed);
  pth_sip_word(&s, number);
  return pth_sip_end(&s);
}

#endif
