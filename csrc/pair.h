/* pair.h - how far two runs of elements are apart, in one pass; how the figures of two runs become one.
 *
 * As in stats.h: pieces are cut at the same places always, and folded from the first to the last, so that who cuts the work changes no bit.
 * Nothing here allocates or fails.
 *
 *   n          pairs
 *   equal      of equal value: zeros of either sign, infinities of the same; no NaN
 *   nan_both, nan_one    pairs with a NaN on both sides, or on one
 *   infinite   pairs without a NaN, not equal, of which one is infinite
 *   finite     pairs of finite numbers: all figures are of these alone
 *   far        pairs that are not close: torch.isclose's meaning
 *   steps      the most numbers of their type that lie between the two of a pair, and one: ULP. Of equal types of floats alone, else 0
 *   at         index of the first pair with the largest difference; PTH_NOWHERE: none differs
 *   sum, most  of |x - y|; relative, most_relative: of its share of the larger of |x| and |y|; dot, aa, bb, dd: of x*y, x*x, y*y and the
 *              square of |x - y|, which aa + bb - 2 dot would not tell of numbers that are near each other
 * Of complex numbers: of moduli; dot is the real part of x times y's conjugate. */
#ifndef PTH_PAIR_H
#define PTH_PAIR_H

#include "stats.h"

#define PTH_PAIR_PIECE (1u << 16)

typedef struct pth_pair {
  uint64_t n, equal, nan_both, nan_one, infinite, finite, far, steps, at;
  double sum, most, relative, most_relative, dot, aa, bb, dd;
} pth_pair;

/* A side of a piece: elements of a type at an address that is a multiple of 16, and what its codes are worth, if it has codes. */
typedef struct pth_side {
  const void *data;
  uint32_t type;
  const pth_codes *codes;
} pth_side;

void pth_pair_start(pth_pair *p);
/* The figures of `n` pairs, PTH_PAIR_PIECE at most. */
void pth_pair_piece(const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, uint32_t n, pth_pair *out);
/* `b` stands behind `a`. */
void pth_pair_fold(pth_pair *a, const pth_pair *b);

#endif
