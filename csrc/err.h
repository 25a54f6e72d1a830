/* err.h - how the core says no.
 *
 * Every function that can fail returns 0 or a code of defs/errors.def, and fills the caller's pth_err (NULL is allowed) only then.
 * The text is made elsewhere: here are the code, the place and the two numbers that were compared.
 * pth_fail() is the one place where every failure passes: set a breakpoint there. */
#ifndef PTH_ERR_H
#define PTH_ERR_H

#include <stdint.h>

enum pth_code {
  PTH_OK = 0,
#define X(NAME, cls, code, text) PTH_E_##NAME,
#include "defs/errors.def"
#undef X
  PTH_N_CODES
};

typedef struct pth_err {
  int code;     /* enum pth_code */
  int op;       /* pickle opcode at work, or -1 */
  uint64_t off; /* byte that was refused, counted from the start of the bytes at hand */
  uint64_t want;
  uint64_t have;
} pth_err;

int pth_fail(pth_err *err, int code, uint64_t off, uint64_t want, uint64_t have);

#endif
