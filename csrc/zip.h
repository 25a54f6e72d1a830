/* zip.h - the directory of a zip file, as a table of entries. Reads names and numbers; never inflates, never follows a path.
 *
 * Units     lho, *_off: bytes from the start of the file.
 * Owner     Entries borrow their names from the directory's bytes, which the caller keeps.
 * Reading   as torch does: the last end record, the central directory's numbers, the data behind the local header.
 * Trust     An entry with code 0 lies wholly before the directory and shares no byte with another entry. Where its data begin is
 *           known only from its local header: pth_zip_local() before the first use.
 * Source    APPNOTE 6.3.10, 4.3 and 4.5.3; torch 2.13 caffe2/serialize. */
#ifndef PTH_ZIP_H
#define PTH_ZIP_H

#include "finding.h"
#include "limit.h"
#include "store.h"

#define PTH_ZIP_EOCD 22u
#define PTH_ZIP_END64 56u
#define PTH_ZIP_LOCATOR 20u
#define PTH_ZIP_TAIL (65535u + PTH_ZIP_EOCD + PTH_ZIP_LOCATOR + PTH_ZIP_END64) /* what can hold the end records */
#define PTH_ZIP_LOCAL 30u
#define PTH_ZIP_SIG_LOCAL 0x04034b50u
#define PTH_ZIP_DESCRIBED 0x8u /* a flag: sizes and checksum stand behind the data */
#define PTH_ZIP_STORED 0
#define PTH_ZIP_DEFLATED 8

typedef struct pth_zip_end {
  uint64_t eocd_off;
  uint64_t end64_off; /* 0: no zip64 end record */
  uint64_t dir_off, dir_len, n_entries;
  uint64_t trailing; /* bytes behind the end record's comment */
  uint64_t comment_len;
} pth_zip_end;

typedef struct pth_zip_entry {
  uint64_t lho;      /* local header */
  uint64_t room_end; /* where the next entry or the directory begins */
  uint64_t csize, usize;
  uint64_t data_off; /* 0 until pth_zip_local() */
  uint32_t name_at;  /* of the directory's bytes */
  uint32_t crc;
  uint16_t name_len, method, flags, code; /* code: enum pth_code, why it cannot be read */
  uint8_t traits;                         /* enum pth_zip_trait */
} pth_zip_entry;

enum pth_zip_trait {
  PTH_ZIP_LINK = 1,      /* a symbolic link */
  PTH_ZIP_AS_FOLDER = 4, /* bytes, and the mark of a folder */
  PTH_ZIP_OTHER_NAME = 2 /* an extra field that gives it another name, or is broken */
};

typedef struct pth_zip_odd {
  uint32_t entry;   /* PTH_NONE: behind the last one */
  uint16_t finding; /* enum pth_finding */
  uint64_t off, len;
} pth_zip_odd;

typedef struct pth_zip {
  pth_arena *arena;
  pth_bytes dir;
  pth_pool entries;
  pth_pool order;   /* uint32_t: those that lie before the directory, by place */
  pth_pool odds;    /* pth_zip_odd, of pth_zip_sweep */
  bool short_count; /* the end record counts fewer entries than the directory holds */
} pth_zip;

/* Finds the end records in the file's last bytes. `tail` begins at tail_off. */
int pth_zip_find(pth_bytes tail, uint64_t tail_off, uint64_t file_len, pth_zip_end *out, pth_err *err);

/* Reads the directory. err->off counts from the start of the file. */
int pth_zip_read(pth_zip *z, pth_arena *a, pth_bytes dir, const pth_zip_end *end, const pth_limits *lim, pth_err *err);
void pth_zip_free(pth_zip *z);
pth_bytes pth_zip_name(const pth_zip *z, uint32_t entry);
/* The entry of this name (bytes compared, or ASCII case folded as torch does), or PTH_NONE. Linear. */
uint32_t pth_zip_entry_named(const pth_zip *z, pth_bytes name, bool fold);

/* Fails with what keeps an entry from being read, if anything does. */
int pth_zip_check(const pth_zip *z, uint32_t entry, pth_err *err);

/* Checks a local header (its 30 bytes and name) against its entry; returns where the data begin, and keeps it in the entry.
 * *odd: the finding of what the header says otherwise than the directory, or 0. */
int pth_zip_local(pth_zip *z, uint32_t entry, pth_bytes header, uint64_t *data_off, uint16_t *odd, pth_err *err);

/* Reads the local headers of those whose data's place is not known yet, and keeps it where nothing about a header is odd: what is, is told
 * by pth_zip_local(). A walk in the order of the file over windows of it: *next (0 at first) counts entries done; returns false when all
 * are, else the window must begin at *want and have PTH_ZIP_WINDOW bytes, or reach to the directory. */
bool pth_zip_locals(pth_zip *z, uint32_t *next, pth_bytes window, uint64_t window_off, uint64_t dir_off, uint64_t *want);

/* Accounts for every byte before the directory: each entry's header, name, extra field and data descriptor, and what lies between.
 * A walk in the order of the file over windows of it: *next (0 at first) counts entries done; returns false when all is done, else the
 * window must begin at *want and have PTH_ZIP_WINDOW bytes, or reach to the directory. Findings go to z->odds. */
#define PTH_ZIP_WINDOW (24u + 30u + 65535u * 2)
#define PTH_ZIP_MOST_ODDS 10000u
typedef struct pth_zip_sweep {
  uint32_t next;
  uint64_t want;   /* where the next window begins */
  uint64_t reach;  /* end of what is accounted for */
  uint64_t n_odds; /* all of them; z->odds keeps the first PTH_ZIP_MOST_ODDS */
} pth_zip_sweep;
int pth_zip_sweep_window(pth_zip *z, pth_zip_sweep *s, pth_bytes window, uint64_t window_off, uint64_t dir_off, bool *more, pth_err *err);

/* Fills a store with the members below `prefix` that end with `suffix`; what stands between is the key. */
int pth_zip_store(const pth_zip *z, pth_bytes prefix, pth_bytes suffix, pth_store *out, pth_err *err);

#endif
