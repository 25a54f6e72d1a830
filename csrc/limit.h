/* limit.h - what a file may ask for; the rows, defaults and reasons are in defs/limits.def. */
#ifndef PTH_LIMIT_H
#define PTH_LIMIT_H

#include <stdint.h>

typedef struct pth_limits {
#define X(name, value, unit, why) uint64_t name;
#include "defs/limits.def"
#undef X
} pth_limits;

#endif
