# cython: language_level=3, binding=True
"""The seam to the kernels: checks that pieces lie in the data, drops the GIL, calls C. Knows no format."""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include "_seam.h"
    #include "stats.h"
    #include "tensor.h"
    """

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
        uint32_t wide
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

PIECE = PTH_PIECE
WIDE = PTH_STATS_WIDE
# Layouts of struct: pth_piece and pth_stats.
PIECE_LAYOUT = "=QIiII"
STATS_LAYOUT = "=8Q8d2Q"
assert sizeof(pth_piece) == 24 and sizeof(pth_stats) == 144

# Those that this processor can run, from poor to rich; the last is the best.
ISAS = tuple((<bytes>pth_isa_names[i]).decode() for i in range(pth_cpu_best() + 1) if pth_kernel_of(i) != NULL)


def parts(int dtype):
    """Records that a piece of a dtype gives: 0 (no numbers), 1, or 3 (complex: real, imaginary, modulus)."""
    cdef int r = pth_reading_of(dtype)
    return 0 if r == PTH_R_NONE else 3 if r in (PTH_R_C32, PTH_R_C64, PTH_R_C128) else 1


def measure(int isa, const uint8_t[::1] data, const uint8_t[::1] pieces, bint histogram=False):
    """The records of pieces of `data`, one behind the other; and of all of them together how many have which magnitude.

    isa: index into ISAS. pieces: PIECE_LAYOUT each. Magnitudes: (e, n) for n elements of 2**e <= abs(x) < 2**(e + 1).
    """
    if not 0 <= isa < len(ISAS):
        raise ValueError(f"no instruction set {isa}")
    if pieces.shape[0] % sizeof(pth_piece):
        raise ValueError("a piece is cut")
    cdef Py_ssize_t n = pieces.shape[0] // <Py_ssize_t>sizeof(pth_piece), i, n_records = 0
    if n == 0:
        return b"", ()
    cdef const pth_piece *p = <const pth_piece *>&pieces[0]
    cdef uint64_t size = <uint64_t>data.shape[0], need
    for i in range(n):
        if p[i].type >= <uint32_t>PTH_N_DTYPES or p[i].n > PTH_PIECE or pth_reading_of(p[i].type) == PTH_R_NONE:
            raise ValueError("no such piece")
        need = pth_piece_bytes(&p[i])
        if p[i].off > size or need > size - p[i].off:
            raise ValueError("a piece lies outside of the data")
        n_records += parts(p[i].type)
    cdef bytes records = PyBytes_FromStringAndSize(NULL, n_records * <Py_ssize_t>sizeof(pth_stats))
    cdef pth_stats *out = <pth_stats *>PyBytes_AsString(records)
    cdef uint64_t bins[PTH_MAGNITUDES]
    cdef uint64_t *counts = bins if histogram else NULL
    cdef const uint8_t *base = &data[0] if size else NULL
    cdef const pth_kernel *k = pth_kernel_of(isa)
    cdef pth_codes codes
    cdef uint32_t known = 0xffffffff
    cdef int32_t zero = 0
    cdef int reading
    with nogil:
        if counts != NULL:
            memset(counts, 0, PTH_MAGNITUDES * 8)
        for i in range(n):
            reading = pth_reading_of(p[i].type)
            if reading == PTH_R_CODES and (known != p[i].type or zero != p[i].zero):
                known, zero = p[i].type, p[i].zero
                pth_codes_of(&codes, known, zero)
            pth_stats_piece(k, &p[i], base + p[i].off, &codes, out, counts)
            out += 3 if reading in (PTH_R_C32, PTH_R_C64, PTH_R_C128) else 1
    if not histogram:
        return records, ()
    return records, _present(bins)


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
