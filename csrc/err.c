#include "err.h"

#include <stddef.h>

int pth_fail(pth_err *err, int code, uint64_t off, uint64_t want, uint64_t have) {
  if (err != NULL) {
    *err = (pth_err){.code = code, .op = -1, .off = off, .want = want, .have = have};
  }
  return code;
}
