# cython: language_level=3, binding=True
"""The seam to the kernels: checks that pieces lie in the data, drops the GIL, calls C. Knows no format."""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memset

cdef extern from *:
    """
    #include "_seam.h"
    #include "pair.h"
    #include "stats.h"
    #include "tensor.h"

    /* All bytes of a part of a file, or how many there are; -1: it cannot be read here. */
    #ifdef _WIN32
    static long long seam_read(int fd, void *to, unsigned long long n, unsigned long long off) {
      (void)fd, (void)to, (void)n, (void)off;
      return -1;
    }
    #else
    #include <errno.h>
    #include <unistd.h>
    static long long seam_read(int fd, void *to, unsigned long long n, unsigned long long off) {
      unsigned long long done = 0;
      while (done < n) {
        ssize_t now = pread(fd, (char *)to + done, (size_t)(n - done), (off_t)(off + done));
        if (now < 0 && errno == EINTR) continue;
        if (now < 0) return -1;
        if (now == 0) break;
        done += (unsigned long long)now;
      }
      return (long long)done;
    }
    #endif
    """
    long long seam_read(int fd, void *to, unsigned long long n, unsigned long long off) nogil

cdef extern from "stats.h" nogil:
    ctypedef struct pth_kernel:
        pass
    ctypedef struct pth_stats:
        pass
    ctypedef struct pth_codes:
        pass
    ctypedef struct pth_piece:
        uint64_t off
        uint32_t n
        int32_t zero
        uint32_t type
        uint32_t last
    int PTH_N_ISAS, PTH_R_CODES, PTH_R_C32, PTH_R_C64, PTH_R_C128, PTH_R_NONE, PTH_N_DTYPES, PTH_STATS_WIDE
    enum: PTH_PIECE
    enum: PTH_MAGNITUDES
    int PTH_LEAST_POWER
    const char *const pth_isa_names[]
    int pth_cpu_best()
    const pth_kernel *pth_kernel_of(int isa)
    int pth_reading_of(uint32_t dtype)
    uint64_t pth_piece_bytes(const pth_piece *p)
    void pth_stats_piece(
        const pth_kernel *k, const pth_piece *p, const void *data, const pth_codes *codes, pth_stats *out, uint64_t *bins
    )
    void pth_codes_of(pth_codes *c, uint32_t dtype, int32_t zero)
    void pth_stats_start(pth_stats *s)
    void pth_stats_fold(pth_stats *a, const pth_stats *b, bint is_signed)

cdef extern from "pair.h" nogil:
    ctypedef struct pth_tolerance:
        double rtol
        double atol
        bint equal_nan
    ctypedef struct pth_pair:
        uint64_t n
        uint64_t equal
    ctypedef struct pth_side:
        const void *data
        uint32_t type
        const pth_codes *codes
    enum: PTH_PAIR_PIECE
    void pth_pair_start(pth_pair *p)
    void pth_pair_piece(
        const pth_kernel *k, const pth_tolerance *t, const pth_side *a, const pth_side *b, uint32_t n, pth_pair *out
    )
    void pth_pair_fold(pth_pair *a, const pth_pair *b)

cdef enum:
    AT_ONCE = 1 << 19  # bytes of each of two files that are read together: more pieces than one, if they are small
    GAP = 1 << 14  # bytes between two runs that are read along

PIECE = PTH_PIECE
PAIR_PIECE = PTH_PAIR_PIECE
WIDE = PTH_STATS_WIDE
# Layouts of struct: pth_piece and pth_stats; and of a read: offset in the file, bytes, how many of the pieces lie in them.
PIECE_LAYOUT = "=QIiII"
READ_LAYOUT = "=QQQ"
STATS_LAYOUT = "=8Q8d2Q"
# And a pair of runs: where each begins, how many elements, their types; what is known of it afterwards: pth_pair.
RUNS_LAYOUT = "=QQQII"
PAIR_LAYOUT = "=9Q8d"
assert sizeof(pth_piece) == 24 and sizeof(pth_stats) == 144 and sizeof(pth_pair) == 136

# Those that this processor can run, from poor to rich; the last is the best.
ISAS = tuple((<bytes>pth_isa_names[i]).decode() for i in range(pth_cpu_best() + 1) if pth_kernel_of(i) != NULL)


def parts(int dtype):
    """Records that a piece of a dtype gives: 0 (no numbers), 1, or 3 (complex: real, imaginary, modulus)."""
    cdef int r = pth_reading_of(dtype)
    return 0 if r == PTH_R_NONE else 3 if r in (PTH_R_C32, PTH_R_C64, PTH_R_C128) else 1


cdef const pth_piece *_checked(int isa, const uint8_t[::1] pieces) except? NULL:
    if not 0 <= isa < len(ISAS):
        raise ValueError(f"no instruction set {isa}")
    if pieces.shape[0] % <Py_ssize_t>sizeof(pth_piece):
        raise ValueError("a piece is cut")
    cdef const pth_piece *p = <const pth_piece *>&pieces[0] if pieces.shape[0] else NULL
    cdef Py_ssize_t i
    for i in range(pieces.shape[0] // <Py_ssize_t>sizeof(pth_piece)):
        if p[i].type >= <uint32_t>PTH_N_DTYPES or p[i].n > PTH_PIECE or pth_reading_of(p[i].type) == PTH_R_NONE:
            raise ValueError("no such piece")
    return p


cdef int _inside(const pth_piece *p, Py_ssize_t n, uint64_t size) except -1:
    cdef Py_ssize_t i
    cdef uint64_t need
    for i in range(n):
        need = pth_piece_bytes(&p[i])
        if p[i].off > size or need > size - p[i].off:
            raise ValueError("a piece lies outside of the data")
    return 0


cdef struct known_codes:
    pth_codes codes
    uint32_t type
    int32_t zero


cdef pth_stats *_measure(
    const pth_kernel *k, const pth_piece *p, const uint8_t *data, known_codes *known, pth_stats *out, uint64_t *bins
) noexcept nogil:
    """One piece; gives the place of the next record."""
    cdef int reading = pth_reading_of(p.type)
    if reading == PTH_R_CODES and (known.type != p.type or known.zero != p.zero):
        known.type, known.zero = p.type, p.zero
        pth_codes_of(&known.codes, p.type, p.zero)
    pth_stats_piece(k, p, data + p.off, &known.codes, out, bins)
    return out + (3 if reading in (PTH_R_C32, PTH_R_C64, PTH_R_C128) else 1)


cdef Py_ssize_t _n_records(const pth_piece *p, Py_ssize_t n):
    cdef Py_ssize_t i, total = 0
    for i in range(n):
        total += parts(p[i].type)
    return total


def measure(int isa, const uint8_t[::1] data, const uint8_t[::1] pieces, bint histogram=False):
    """The records of pieces of `data`, one behind the other; and of all of them together how many have which magnitude.

    isa: index into ISAS. pieces: PIECE_LAYOUT each. Magnitudes: (e, n) for n elements of 2**e <= abs(x) < 2**(e + 1).
    """
    cdef const pth_piece *p = _checked(isa, pieces)
    cdef Py_ssize_t n = pieces.shape[0] // <Py_ssize_t>sizeof(pth_piece), i
    _inside(p, n, <uint64_t>data.shape[0])
    cdef bytes records = PyBytes_FromStringAndSize(NULL, _n_records(p, n) * <Py_ssize_t>sizeof(pth_stats))
    cdef pth_stats *out = <pth_stats *>PyBytes_AsString(records)
    cdef const uint8_t *base = &data[0] if data.shape[0] else NULL
    cdef const pth_kernel *k = pth_kernel_of(isa)
    cdef uint64_t bins[PTH_MAGNITUDES]
    cdef known_codes known
    known.type = 0xffffffff
    with nogil:
        if histogram:
            memset(bins, 0, sizeof(bins))
        for i in range(n):
            out = _measure(k, &p[i], base, &known, out, bins if histogram else NULL)
    return records, _present(bins) if histogram else ()


def measure_file(
    int isa, int fd, uint64_t base, const uint8_t[::1] reads, const uint8_t[::1] pieces, bint histogram=False
):
    """The same of pieces that are read from a file, without the GIL from the first to the last.

    reads: READ_LAYOUT each, offsets counted from `base`; the offsets of their pieces count from theirs. Gives how many
    reads were whole, the records of their pieces, and, if asked, the magnitudes of all up to each `last` piece.
    """
    cdef const pth_piece *p = _checked(isa, pieces)
    cdef Py_ssize_t n = pieces.shape[0] // <Py_ssize_t>sizeof(pth_piece), i, r, done = 0, made = 0
    cdef Py_ssize_t n_reads = reads.shape[0] // 24
    if reads.shape[0] % 24:
        raise ValueError("a read is cut")
    cdef const uint64_t *row = <const uint64_t *>&reads[0] if n_reads else NULL
    cdef uint64_t longest = 0
    for r in range(n_reads):
        if row[3 * r + 2] > <uint64_t>(n - made) or row[3 * r + 1] > <uint64_t>1 << 40:
            raise ValueError("a read has no such pieces")
        _inside(p + made, <Py_ssize_t>row[3 * r + 2], row[3 * r + 1])
        made += <Py_ssize_t>row[3 * r + 2]
        longest = max(longest, row[3 * r + 1])
    cdef bytes records = PyBytes_FromStringAndSize(NULL, _n_records(p, made) * <Py_ssize_t>sizeof(pth_stats))
    cdef pth_stats *first = <pth_stats *>PyBytes_AsString(records)
    cdef pth_stats *out = first
    cdef const pth_kernel *k = pth_kernel_of(isa)
    cdef uint64_t bins[PTH_MAGNITUDES]
    cdef known_codes known
    cdef list magnitudes = []
    cdef uint8_t *buffer = <uint8_t *>malloc(longest + 128)
    cdef uint8_t *at
    if buffer == NULL:
        raise MemoryError
    known.type = 0xffffffff
    made = 0
    with nogil:
        if histogram:
            memset(bins, 0, sizeof(bins))
        for r in range(n_reads):
            # As far from a multiple of 64 as in the file: what is aligned there is aligned here.
            at = buffer + ((row[3 * r] - <uint64_t>buffer) & 63)
            if seam_read(fd, at, row[3 * r + 1], base + row[3 * r]) != <long long>row[3 * r + 1]:
                break
            for i in range(made, made + <Py_ssize_t>row[3 * r + 2]):
                out = _measure(k, &p[i], at, &known, out, bins if histogram else NULL)
                if histogram and p[i].last:
                    with gil:
                        magnitudes.append(_present(bins))
                    memset(bins, 0, sizeof(bins))
            made += <Py_ssize_t>row[3 * r + 2]
            done += 1
    free(buffer)
    return done, records[:(out - first) * <Py_ssize_t>sizeof(pth_stats)], magnitudes


cdef tuple _present(const uint64_t *bins):
    cdef list found = []
    cdef int i
    for i in range(PTH_MAGNITUDES):
        if bins[i]:
            found.append((i - PTH_LEAST_POWER, bins[i]))
    return tuple(found)


def fold(const uint8_t[::1] records, int width, bint is_signed):
    """Of `width` records for each piece, from the first piece to the last: `width` records for all."""
    cdef Py_ssize_t size = <Py_ssize_t>sizeof(pth_stats), n = records.shape[0] // size, i
    if width < 1 or records.shape[0] % (size * width):
        raise ValueError("a record is cut")
    cdef bytes made = PyBytes_FromStringAndSize(NULL, width * size)
    cdef pth_stats *out = <pth_stats *>PyBytes_AsString(made)
    for i in range(width):
        pth_stats_start(&out[i])
    if n:
        with nogil:
            fold_all(out, <const pth_stats *>&records[0], n, width, is_signed)
    return made


cdef void fold_all(pth_stats *out, const pth_stats *records, Py_ssize_t n, int width, bint is_signed) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        pth_stats_fold(&out[i % width], &records[i], is_signed)


def count_values(const double[::1] values, const double[::1] edges, int64_t[::1] counts):
    """Adds how many values lie in each bin: from its edge on and below the next one, or in the last one at most there.

    Edges rise, and are as far apart as numpy.linspace makes them. What lies outside, and NaN, is not counted.
    """
    cdef Py_ssize_t n = counts.shape[0], i, at
    if n < 1 or edges.shape[0] != n + 1 or not edges[0] < edges[n]:
        raise ValueError("an edge more than bins")
    cdef double low = edges[0], high = edges[n], width = high - low, x
    if width - width != 0:
        raise ValueError("bins that are too wide")
    with nogil:
        for i in range(values.shape[0]):
            x = values[i]
            if not (low <= x <= high):
                continue
            at = min(<Py_ssize_t>((x - low) / width * <double>n), n - 1)  # not far from where it belongs
            while at > 0 and x < edges[at]:
                at -= 1
            while at < n - 1 and x >= edges[at + 1]:
                at += 1
            counts[at] += 1


# ---- pairs ----

cdef struct two_runs:
    uint64_t off_a
    uint64_t off_b
    uint64_t n
    uint32_t type_a
    uint32_t type_b


cdef struct two_codes:
    known_codes a
    known_codes b


cdef uint64_t _bytes_of(uint32_t type, uint32_t n) noexcept nogil:
    cdef pth_piece piece
    piece.off, piece.n, piece.zero, piece.type, piece.last = 0, n, 0, type, 0
    return pth_piece_bytes(&piece)


cdef const pth_codes *_codes(known_codes *known, uint32_t type) noexcept nogil:
    if pth_reading_of(type) == PTH_R_CODES and known.type != type:
        known.type = type
        pth_codes_of(&known.codes, type, 0)
    return &known.codes


cdef int _typed(uint32_t a, uint32_t b) except -1:
    if a >= <uint32_t>PTH_N_DTYPES or b >= <uint32_t>PTH_N_DTYPES:
        raise ValueError("no such type")
    if pth_reading_of(a) == PTH_R_NONE or pth_reading_of(b) == PTH_R_NONE:
        raise ValueError("no numbers")
    return 0


cdef void _pairs(
    const pth_kernel *k, const pth_tolerance *t, two_codes *known, const uint8_t *a, const uint8_t *b, uint32_t type_a,
    uint32_t type_b, uint64_t n, pth_pair *out
) noexcept nogil:
    """Piece by piece, put behind those that `out` has."""
    cdef pth_pair piece
    cdef pth_side sides[2]
    cdef uint64_t at = 0
    sides[0].type, sides[0].codes = type_a, _codes(&known.a, type_a)
    sides[1].type, sides[1].codes = type_b, _codes(&known.b, type_b)
    while at < n:
        sides[0].data, sides[1].data = a + _span(type_a, at), b + _span(type_b, at)
        pth_pair_piece(k, t, &sides[0], &sides[1], <uint32_t>min(n - at, <uint64_t>PTH_PAIR_PIECE), &piece)
        pth_pair_fold(out, &piece)
        at += PTH_PAIR_PIECE


cdef const pth_kernel *_kernel(int isa) except NULL:
    if not 0 <= isa < len(ISAS):
        raise ValueError(f"no instruction set {isa}")
    return pth_kernel_of(isa)


def compare(int isa, const uint8_t[::1] a, const uint8_t[::1] b, int type_a, int type_b, uint64_t n, tolerance):
    """The record of `n` pairs: elements of `a` and of `b`. tolerance: (rtol, atol, is a NaN close to a NaN)."""
    cdef const pth_kernel *k = _kernel(isa)
    cdef pth_tolerance t
    t.rtol, t.atol, t.equal_nan = tolerance
    _typed(<uint32_t>type_a, <uint32_t>type_b)
    if n > <uint64_t>1 << 32 or a.shape[0] * 8 < <Py_ssize_t>n or b.shape[0] * 8 < <Py_ssize_t>n:
        raise ValueError("no such pairs")
    if (_span(<uint32_t>type_a, n) > <uint64_t>a.shape[0] or _span(<uint32_t>type_b, n) > <uint64_t>b.shape[0]):
        raise ValueError("a piece lies outside of the data")
    cdef bytes record = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>sizeof(pth_pair))
    cdef pth_pair *out = <pth_pair *>PyBytes_AsString(record)
    pth_pair_start(out)
    if n == 0:
        return record
    cdef const uint8_t *p = &a[0]
    cdef const uint8_t *q = &b[0]
    if <uint64_t>p & 15 or <uint64_t>q & 15:
        raise ValueError("the data must lie at a multiple of 16")
    cdef two_codes known
    known.a.type = known.b.type = 0xffffffff
    with nogil:
        _pairs(k, &t, &known, p, q, <uint32_t>type_a, <uint32_t>type_b, n, out)
    return record


cdef Py_ssize_t _together(const two_runs *row, Py_ssize_t n, uint64_t *size_a, uint64_t *size_b) noexcept nogil:
    """How many runs, from the first on, lie near each other on both sides, and the bytes that they lie in."""
    cdef Py_ssize_t k = 0
    cdef uint64_t end_a, end_b, reach_a = 0, reach_b = 0
    while k < n and row[k].type_a == row[k].type_b and row[k].off_a >= row[0].off_a and row[k].off_b >= row[0].off_b:
        end_a = row[k].off_a - row[0].off_a + _span(row[k].type_a, row[k].n)
        end_b = row[k].off_b - row[0].off_b + _span(row[k].type_b, row[k].n)
        if end_a > AT_ONCE or end_b > AT_ONCE:
            break
        if row[k].off_a - row[0].off_a > reach_a + GAP or row[k].off_b - row[0].off_b > reach_b + GAP:
            break
        reach_a, reach_b = max(reach_a, end_a), max(reach_b, end_b)
        k += 1
    size_a[0], size_b[0] = reach_a, reach_b
    return k


def compare_files(
    int isa, int fd_a, uint64_t base_a, int fd_b, uint64_t base_b, const uint8_t[::1] runs, tolerance, bint forced
):
    """The same of runs that are read from two files, without the GIL. Gives how many were whole, and their records.

    runs: RUNS_LAYOUT each, places counted from `base_a` and `base_b`. Not forced: a run whose bytes are the same on
    both sides is not looked into; its record says n = 0.
    """
    cdef const pth_kernel *k = _kernel(isa)
    cdef pth_tolerance t
    t.rtol, t.atol, t.equal_nan = tolerance
    cdef Py_ssize_t size = <Py_ssize_t>sizeof(two_runs), n_runs = runs.shape[0] // size, r, done = 0
    if runs.shape[0] % size:
        raise ValueError("a run is cut")
    cdef const two_runs *row = <const two_runs *>&runs[0] if n_runs else NULL
    cdef uint64_t longest = AT_ONCE
    for r in range(n_runs):
        _typed(row[r].type_a, row[r].type_b)
        if row[r].off_a >= <uint64_t>1 << 62 or row[r].off_b >= <uint64_t>1 << 62 or row[r].n >= <uint64_t>1 << 40:
            raise ValueError("no such run")
        longest = max(longest, _bytes_of(row[r].type_a, PTH_PAIR_PIECE), _bytes_of(row[r].type_b, PTH_PAIR_PIECE))
    cdef bytes records = PyBytes_FromStringAndSize(NULL, n_runs * <Py_ssize_t>sizeof(pth_pair))
    cdef pth_pair *out = <pth_pair *>PyBytes_AsString(records)
    cdef uint8_t *buffer = <uint8_t *>malloc(2 * longest + 2 * AT_ONCE + 192)
    if buffer == NULL:
        raise MemoryError
    cdef uint8_t *a = buffer + (-<uint64_t>buffer & 63)
    cdef uint8_t *b = a + ((longest + 63) & ~<uint64_t>63)
    cdef uint8_t *many_a = b + longest
    cdef uint8_t *many_b = many_a + AT_ONCE
    cdef Py_ssize_t first = 0, beyond = 0
    cdef bint at_hand = False
    cdef two_codes known
    cdef bint plain, whole = True
    cdef uint64_t at, size_a, size_b, few, step
    known.a.type = known.b.type = 0xffffffff
    with nogil:
        for r in range(n_runs):
            pth_pair_start(&out[r])
            if r == beyond and not forced:  # small ones: their bytes together, for most are the same
                first, beyond = r, r + max(<Py_ssize_t>1, _together(&row[r], n_runs - r, &size_a, &size_b))
                at_hand = (
                    beyond > r + 1
                    and seam_read(fd_a, many_a, size_a, base_a + row[r].off_a) == <long long>size_a
                    and seam_read(fd_b, many_b, size_b, base_b + row[r].off_b) == <long long>size_b
                )
            if at_hand and memcmp(
                many_a + (row[r].off_a - row[first].off_a),
                many_b + (row[r].off_b - row[first].off_b),
                _span(row[r].type_a, row[r].n),
            ) == 0:
                done += 1
                continue
            plain = not forced and row[r].type_a == row[r].type_b
            size_a, size_b = _bytes_of(row[r].type_a, PTH_PAIR_PIECE), _bytes_of(row[r].type_b, PTH_PAIR_PIECE)
            step = max(<uint64_t>1, AT_ONCE // max(size_a, size_b)) * PTH_PAIR_PIECE
            at = 0
            while at < row[r].n:
                few = min(row[r].n - at, step)
                size_a, size_b = _span(row[r].type_a, few), _span(row[r].type_b, few)
                if (seam_read(fd_a, a, size_a, base_a + row[r].off_a + _span(row[r].type_a, at)) != <long long>size_a
                        or seam_read(fd_b, b, size_b, base_b + row[r].off_b + _span(row[r].type_b, at)) != <long long>size_b):
                    whole = False
                    break
                if plain and memcmp(a, b, size_a) == 0:
                    at += few
                    continue
                if plain and at:  # now all of them count
                    plain, at = False, 0
                    continue
                plain = False
                _pairs(k, &t, &known, a, b, row[r].type_a, row[r].type_b, few, &out[r])
                at += few
            if not whole:
                break
            done += 1
    free(buffer)
    return done, records[:done * <Py_ssize_t>sizeof(pth_pair)]


cdef uint64_t _span(uint32_t type, uint64_t n) noexcept nogil:
    """Bytes of whole pieces, and of one that may be cut."""
    return n // PTH_PAIR_PIECE * _bytes_of(type, PTH_PAIR_PIECE) + _bytes_of(type, <uint32_t>(n % PTH_PAIR_PIECE))


def fold_pairs(const uint8_t[::1] records):
    """Of runs, from the first to the last: the record of all."""
    cdef Py_ssize_t size = <Py_ssize_t>sizeof(pth_pair), n = records.shape[0] // size, i
    if records.shape[0] % size:
        raise ValueError("a record is cut")
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    cdef pth_pair *out = <pth_pair *>PyBytes_AsString(made)
    pth_pair_start(out)
    cdef const pth_pair *p = <const pth_pair *>&records[0] if n else NULL
    for i in range(n):
        pth_pair_fold(out, &p[i])
    return made
