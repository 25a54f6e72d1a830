/* tar.h - the tar that torch.save wrote up to 0.1.9: members sys_info, pickle, storages, tensors.
 *
 *   storages   pickle n | n x (pickle (key, location, class) | i64 elements | bytes) | pickle [(view key, root key, offset, elements), ...]
 *   tensors    pickle n | n x (pickle (key, storage key or None, class) | i32 dims | 4 bytes | i64 sizes | i64 strides | i64 offset)
 *   pickle     the object; its persistent ids are the decimal keys of tensors and storages
 *
 * Units     Offsets of storages count from the start of the file. Everything is little endian.
 * Use       header() for each 512-byte block, then open_storages() and storage() n times, views(), tensors(), finish(). */
#ifndef PTH_TAR_H
#define PTH_TAR_H

#include "limit.h"
#include "store.h"

#define PTH_TAR_BLOCK 512u

typedef struct pth_tar_entry {
  uint64_t size;
  uint8_t name_len, type; /* of the 100 bytes at the start of the block; '0' or 0: a file */
} pth_tar_entry;

/* False in *used: a block of zeros, the end of the archive. */
int pth_tar_header(pth_bytes block, pth_tar_entry *out, bool *used, pth_err *err);

typedef struct pth_tar {
  pth_arena *arena;
  pth_pool rows;    /* storages and views */
  pth_pool tensors; /* their rows, by order */
  pth_pool text;    /* the keys, written out */
  pth_store store, named;
  bool has_store, has_named;
} pth_tar;

void pth_tar_init(pth_tar *t, pth_arena *a);
void pth_tar_free(pth_tar *t);
/* A pickled count at the start of `in`; *used: its bytes. */
int pth_tar_count(pth_tar *t, pth_bytes in, const pth_limits *lim, uint64_t *n, uint64_t *used, pth_err *err);
/* The storage record at the start of `window` (at window_off of the file); *next: where the next one begins. */
int pth_tar_storage(pth_tar *t, pth_bytes window, uint64_t window_off, uint64_t member_end, const pth_limits *lim, uint64_t *next,
                    pth_err *err);
int pth_tar_views(pth_tar *t, pth_bytes in, const pth_limits *lim, pth_err *err);
int pth_tar_tensors(pth_tar *t, pth_bytes member, const pth_limits *lim, pth_err *err);
/* Makes t->store, which knows all tensors by name. Call once, after everything else. */
int pth_tar_finish(pth_tar *t, pth_err *err);

#endif
