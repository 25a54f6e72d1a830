/* legacy.h - the stream that torch.save wrote from 0.1.10 to 1.5: five pickles, then the storages.
 *
 *   magic number | protocol version | sys_info | the object | list of storage keys | for each key: i64 elements, little-endian bytes
 *
 * Units     Offsets count from the start of the stream. Payload is little endian whatever the writer was.
 * Owner     The graphs borrow `in`; the store borrows its keys from the graph of the key list.
 * Source    torch/serialization.py, _legacy_load and _legacy_save. */
#ifndef PTH_LEGACY_H
#define PTH_LEGACY_H

#include "graph.h"
#include "store.h"

enum { PTH_LEGACY_MAGIC, PTH_LEGACY_VERSION, PTH_LEGACY_INFO, PTH_LEGACY_OBJECT, PTH_LEGACY_KEYS, PTH_N_LEGACY };

typedef struct pth_legacy {
  pth_graph pickles[PTH_N_LEGACY];
  uint64_t at[PTH_N_LEGACY]; /* where each begins */
  uint64_t end;              /* behind the last: the first storage's header */
  int n_read;                /* pickles that were read, a failed one included */
} pth_legacy;

/* Reads the five pickles. A PICKLE_TRUNCATED or PICKLE_LINE may only mean that `in` is the beginning of a longer stream. */
int pth_legacy_read(pth_legacy *l, pth_arena *a, pth_bytes in, const pth_limits *lim, pth_err *err);
void pth_legacy_free(pth_legacy *l);

/* Where each storage lies, as the persistent ids of the object say; total_len: bytes of the whole stream. */
int pth_legacy_store(const pth_legacy *l, uint64_t total_len, pth_store *out, uint64_t *end, pth_err *err);

/* Compares the headers that lie in `window` (which begins at window_off) with the store, from span *next on; stops at the first
 * that does not. Spans that cannot be read (pth_store_cut) are passed by. */
int pth_legacy_check(const pth_store *s, pth_bytes window, uint64_t window_off, uint32_t *next, pth_err *err);

/* Does a text name a device, as storages are tagged with it: cpu, cuda:0? */
bool pth_is_device(pth_bytes text);

/* A whole stream whose object is one storage: what pickling a tensor without torch.save leaves inside of a pickle. */
typedef struct pth_nested {
  uint64_t off, nbytes;
  uint8_t dtype;
  bool plain; /* it names a storage class and nothing else, and ends with the storage */
} pth_nested;
int pth_legacy_nested(pth_bytes in, pth_arena *a, const pth_limits *lim, pth_nested *out);

#endif
