/* stats.h - the figures of a run of elements, in one pass; how two of them become one.
 *
 * A tensor is cut into pieces of PTH_PIECE elements, and a piece into runs, always at the same places; the figures of the pieces are
 * folded from the first to the last. So who cuts the work, and how, changes no bit. Nothing here allocates or fails.
 *
 *   n         elements; those that are NaN, infinite, zero, subnormal in their own type
 *   first     index of the first that is not finite, or PTH_NOWHERE
 *   all else  of the finite ones only. Sums are doubles and what these lost (low): what many pieces add up to keeps its bits.
 *   spread    the sum of the squared distances from the mean; l2 is the root of spread + n * mean^2
 *   least, most   min and max of 64-bit integers, exactly; as the bits of an int64_t or uint64_t */
#ifndef PTH_STATS_H
#define PTH_STATS_H

#include "kernel.h"

#define PTH_PIECE (1u << 18)
#define PTH_NOWHERE UINT64_MAX
#define PTH_LEAST_POWER 1074
#define PTH_MAGNITUDES 2098u /* bin b: finite ones other than zero of 2^e <= |x| < 2^(e + 1), where e = b - PTH_LEAST_POWER */

/* How elements are to be read; `enum pth_number` has the names of those that are added up as they are. */
enum pth_reading { PTH_R_CODES = PTH_N_NUMBERS, PTH_R_C32, PTH_R_C64, PTH_R_C128, PTH_R_NONE };

enum pth_stats_flag { PTH_STATS_WIDE = 1 /* a float32 that is no bfloat16 */ };

typedef struct pth_stats {
  uint64_t n, nan, posinf, neginf, zeros, subnormal, first, flags;
  double min, max, sum, sum_low, l1, l1_low, spread, spread_low;
  uint64_t least, most;
} pth_stats;

/* What each code of a type of one byte, or of a part of one, is worth. */
typedef struct pth_codes {
  uint32_t bits; /* of an element: 8, 4 or 2; the low ones first */
  double value[256];
  uint8_t kind[256]; /* enum pth_code_kind */
} pth_codes;
enum pth_code_kind { PTH_C_NORMAL, PTH_C_ZERO, PTH_C_SUBNORMAL, PTH_C_NAN, PTH_C_POSINF, PTH_C_NEGINF };

typedef struct pth_piece {
  uint64_t off;  /* bytes from the start of the data */
  uint32_t n;    /* elements, PTH_PIECE at most */
  int32_t zero;  /* what is taken from each integer: the zero point of a quantized tensor */
  uint32_t type; /* enum pth_dtype_id */
  uint32_t last; /* 1: the last one of its tensor. For the caller: here it means nothing */
} pth_piece;

enum pth_reading pth_reading_of(uint32_t dtype);
uint64_t pth_piece_bytes(const pth_piece *p);

/* The figures of a piece whose bytes are at `data`, at any address. Complex: out[0] real parts, out[1] imaginary parts, out[2] the moduli; else
 * out[0] alone. `codes`: of types of one byte, else unused. `bins`: PTH_MAGNITUDES counts that are added to, or NULL. */
void pth_stats_piece(const pth_kernel *k, const pth_piece *p, const void *data, const pth_codes *codes, pth_stats *out, uint64_t *bins);

void pth_codes_of(pth_codes *c, uint32_t dtype, int32_t zero);

void pth_stats_start(pth_stats *s);
/* `b` stands behind `a`. */
void pth_stats_fold(pth_stats *a, const pth_stats *b, bool is_signed);

#endif
