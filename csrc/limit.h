/* limit.h - what a file may ask for; the rows, defaults and reasons are in defs/limits.def. */
#ifndef PTH_LIMIT_H
#define PTH_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pth_limits {
#define X(name, value, unit, why) uint64_t name;
#include "defs/limits.def"
#undef X
} pth_limits;

/* A budget that what can be shared is walked on: takes one look from it; true when there is none left. */
static inline bool pth_spent(uint64_t *left) { return *left == 0 || (*left)-- == 0; }

#endif
