# cython: language_level=3, binding=True
"""The seam to the native core: holds buffers, drops the GIL, calls C, raises once. Knows no format."""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    int PyObject_GenericSetAttr(object, object, object) except -1

cimport cython

from ._csrc cimport *

import os

from . import errors as _errors

cdef extern from *:
    """
    #include "_seam.h"
    #include "pth.h"
    /* Tables of csrc/defs as C arrays, for Python to read. */
    typedef struct { const char *name, *cls, *code, *text; } seam_error;
    static const seam_error SEAM_ERRORS[] = {
    #define X(NAME, cls, code, text) {#NAME, #cls, code, text},
    #include "defs/errors.def"
    #undef X
    };
    typedef struct { const char *name, *unit, *why; unsigned long long value; } seam_limit;
    static const seam_limit SEAM_LIMITS[] = {
    #define X(name, value, unit, why) {#name, unit, why, value},
    #include "defs/limits.def"
    #undef X
    };
    #define SEAM_N_LIMITS ((int)(sizeof SEAM_LIMITS / sizeof SEAM_LIMITS[0]))
    typedef struct { const char *code, *severity, *text; } seam_finding;
    static const seam_finding SEAM_FINDINGS[] = {
    #define X(NAME, code, severity, text) {code, #severity, text},
    #include "defs/findings.def"
    #undef X
    };
    typedef struct { const char *module, *name, *severity, *reason; } seam_danger;
    static const seam_danger SEAM_DANGERS[] = {
    #define X(module, name, severity, reason) {module, name, #severity, reason},
    #include "defs/dangers.def"
    #undef X
    };
    typedef struct { const char *kind, *text; } seam_kind;
    static const seam_kind SEAM_LEDGER[] = {
    #define X(NAME, kind, text) {kind, text},
    #include "defs/ledger.def"
    #undef X
    };
    #define SEAM_N_DANGERS ((int)(sizeof SEAM_DANGERS / sizeof SEAM_DANGERS[0]))
    static const char *const SEAM_MEANINGS[] = {
    #define X(NAME, ...) #NAME,
    #include "defs/meanings.def"
    #undef X
    };
    typedef struct { const char *module, *name, *meaning; } seam_global;
    static const seam_global SEAM_GLOBALS[] = {
    #define X(module, name, MEANING) {module, name, #MEANING},
    #include "defs/globals.def"
    #undef X
    };
    #define SEAM_N_GLOBALS ((int)(sizeof SEAM_GLOBALS / sizeof SEAM_GLOBALS[0]))
    /* An instance without the cost of a call from Python; `cls` is a subclass of TensorRow. Classes made in Python are all
       followed by the cyclic collector: an instance is taken out of its sight. */
    static PyObject *seam_new(PyTypeObject *cls) {
      newfunc make = (newfunc)PyType_GetSlot(cls, Py_tp_new);
      PyObject *none = PyTuple_New(0);
      PyObject *made = none == NULL ? NULL : make(cls, none, NULL);
      Py_XDECREF(none);
      if (made != NULL && PyType_GetFlags(cls) & Py_TPFLAGS_HAVE_GC) PyObject_GC_UnTrack(made);
      return made;
    }
    #if defined(__clang__)
    #define SEAM_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define SEAM_COMPILER "gcc " __VERSION__
    #else
    #define SEAM_COMPILER "unknown"
    #endif
    #if defined(__SANITIZE_ADDRESS__)
    #define SEAM_SANITIZED 1
    #else
    #define SEAM_SANITIZED 0
    #endif
    """
    ctypedef struct seam_error:
        const char *name
        const char *cls
        const char *code
        const char *text
    const seam_error SEAM_ERRORS[]
    ctypedef struct seam_limit:
        const char *name
        const char *unit
        const char *why
        unsigned long long value
    const seam_limit SEAM_LIMITS[]
    int SEAM_N_LIMITS
    ctypedef struct seam_finding:
        const char *code
        const char *severity
        const char *text
    const seam_finding SEAM_FINDINGS[]
    ctypedef struct seam_danger:
        const char *module
        const char *name
        const char *severity
        const char *reason
    const seam_danger SEAM_DANGERS[]
    int SEAM_N_DANGERS
    const char *SEAM_MEANINGS[]
    ctypedef struct seam_kind:
        const char *kind
        const char *text
    const seam_kind SEAM_LEDGER[]
    ctypedef struct seam_global:
        const char *module
        const char *name
        const char *meaning
    const seam_global SEAM_GLOBALS[]
    int SEAM_N_GLOBALS
    const char *SEAM_COMPILER
    int SEAM_SANITIZED
    object seam_new(type cls)


cdef str _s(const char *text):
    return text.decode("ascii")


# ---- the tables of csrc/defs ----

ERRORS = tuple(
    (_s(SEAM_ERRORS[i].name), _s(SEAM_ERRORS[i].cls), _s(SEAM_ERRORS[i].code), _s(SEAM_ERRORS[i].text))
    for i in range(PTH_N_CODES - 1)
)
LIMITS = tuple(
    (_s(SEAM_LIMITS[i].name), SEAM_LIMITS[i].value, _s(SEAM_LIMITS[i].unit), _s(SEAM_LIMITS[i].why))
    for i in range(SEAM_N_LIMITS)
)
MEANINGS = tuple(_s(SEAM_MEANINGS[i]) for i in range(PTH_N_MEANINGS))
# Meanings of which everything is understood: what has another one brings code or state of its own.
HANDLED = frozenset(MEANINGS[i] for i in range(PTH_N_MEANINGS) if pth_meanings[i].handled)
# code -> (severity, sentence)
FINDINGS = {
    _s(SEAM_FINDINGS[i].code): (_s(SEAM_FINDINGS[i].severity).lower(), _s(SEAM_FINDINGS[i].text))
    for i in range(PTH_N_FINDINGS - 1)
}

# What a byte of a file is for, in the order of their claims: kind -> sentence
LEDGER = {_s(SEAM_LEDGER[i].kind): _s(SEAM_LEDGER[i].text) for i in range(PTH_N_LEDGER)}
cdef dict _KIND_OF = {kind: i for i, kind in enumerate(LEDGER)}


def dangers():
    """{(module, name): (severity, reason)}"""
    return {
        (_s(SEAM_DANGERS[i].module), _s(SEAM_DANGERS[i].name)):
        (_s(SEAM_DANGERS[i].severity).lower(), _s(SEAM_DANGERS[i].reason)) for i in range(SEAM_N_DANGERS)
    }


GLOBALS = tuple(
    (_s(SEAM_GLOBALS[i].module), _s(SEAM_GLOBALS[i].name), _s(SEAM_GLOBALS[i].meaning)) for i in range(SEAM_N_GLOBALS)
)
OPCODES = tuple((_s(pth_opcodes[i].name), pth_opcodes[i].code, pth_opcodes[i].proto) for i in range(pth_n_opcodes))
# (name, storage class, itemsize, packing, swap unit, numpy name, in ml_dtypes?)
DTYPES = tuple(
    (
        _s(pth_dtypes[i].name), _s(pth_dtypes[i].storage), pth_dtypes[i].itemsize, pth_dtypes[i].packing,
        pth_dtypes[i].swap, _s(pth_dtypes[i].numpy), bool(pth_dtypes[i].ml),
    )
    for i in range(PTH_N_DTYPES)
)
# Names of dtypes in safetensors files: name -> (index of DTYPES, bits of an element)
SAFETENSORS = {
    _s(pth_st_dtypes[i].name): (pth_st_dtypes[i].dtype, pth_st_dtypes[i].bits) for i in range(pth_n_st_dtypes)
}
LAYOUTS = tuple(_s(pth_layouts[i]) for i in range(PTH_N_LAYOUTS))
TENSOR_KINDS = ("dense", "quantized", "sparse", "nested", "meta", "subclass", "uninitialized", "array")
# Kinds of nodes, by name.
NODES = {
    "INTTEXT": PTH_NODE_INTTEXT, "BYTEARRAY": PTH_NODE_BYTEARRAY, "TUPLE": PTH_NODE_TUPLE, "FROZENSET": PTH_NODE_FROZENSET,
    "LIST": PTH_NODE_LIST, "SET": PTH_NODE_SET, "DICT": PTH_NODE_DICT, "GLOBAL": PTH_NODE_GLOBAL, "OBJECT": PTH_NODE_OBJECT,
    "PERSID": PTH_NODE_PERSID,
}
STORAGE_FLAGS = {
    "IN_PICKLE": PTH_S_IN_PICKLE, "IN_TEXT": PTH_S_IN_TEXT, "MIXED": PTH_S_MIXED, "LARGER": PTH_S_LARGER, "META": PTH_S_META,
}
COMPUTED = _s(PTH_COMPUTED_TEXT)
ZIP_TAIL = PTH_ZIP_TAIL
ZIP_LOCAL = PTH_ZIP_LOCAL
ZIP_WINDOW = PTH_ZIP_WINDOW
COMPILER = _s(SEAM_COMPILER)
SANITIZED = bool(SEAM_SANITIZED)

cdef tuple _DTYPE_NAMES = tuple(row[0] for row in DTYPES)
cdef dict _OPCODE_NAMES = {row[1]: row[0] for row in OPCODES}


cdef list _FINDING_CODES = [None, *FINDINGS]


cdef object finding_code(int finding):
    return _FINDING_CODES[finding]


# ---- errors, buffers, limits ----

def error_of(int code, want=0, have=0, offset=None, opcode=None):
    """The exception for a code of the core."""
    _, cls, text_code, sentence = ERRORS[code - 1]
    return getattr(_errors, cls)(text_code, sentence.format(want=want, have=have), offset=offset, opcode=opcode)


cdef object error_from(const pth_err *err):
    return error_of(err.code, err.want, err.have, err.off, _OPCODE_NAMES.get(err.op))


cdef int raise_err(const pth_err *err) except -1:
    raise error_from(err)


cdef class Buffer:
    """Keeps bytes alive and still for the core."""
    cdef readonly object source
    cdef const uint8_t[::1] view
    cdef pth_bytes bytes

    def __cinit__(self, source):
        self.source = source
        self.view = source
        self.bytes.len = self.view.shape[0]
        self.bytes.data = &self.view[0] if self.view.shape[0] else NULL


cdef class Limits:
    """`pthparse.Limits` as the core wants them."""
    cdef pth_limits c

    def __cinit__(self, values):
        cdef uint64_t *at = <uint64_t *>&self.c
        cdef int i = 0
        for name, _, _, _ in LIMITS:
            at[i] = getattr(values, name)
            i += 1


cdef class Arena:
    """One budget of memory, for everything read from one file."""
    cdef pth_arena c

    def __cinit__(self, Limits limits):
        self.c.used = 0
        self.c.budget = limits.c.max_arena_bytes
        self.c.seed = int.from_bytes(os.urandom(8), "little")

    @property
    def used(self):
        return self.c.used


class LongInteger(int):
    """An int whose decimal digits Python refuses to write out."""

    def __repr__(self):
        return f"<int of {self.bit_length()} bits>"

    __str__ = __repr__


def integer(value):
    """The same number, of a kind that can be printed."""
    return LongInteger(value) if value.bit_length() > 14000 else value


cdef str _text(pth_bytes b):
    """UTF-8; what is no UTF-8 is taken for Latin-1 (strings of Python 2)."""
    if b.len == 0:
        return ""
    try:
        return PyUnicode_DecodeUTF8(<const char *>b.data, <Py_ssize_t>b.len, "surrogatepass")
    except UnicodeDecodeError:
        return PyUnicode_DecodeLatin1(<const char *>b.data, <Py_ssize_t>b.len, NULL)


cdef bytes _bytes(pth_bytes b):
    return PyBytes_FromStringAndSize(<const char *>b.data, <Py_ssize_t>b.len)


# What frees memory of an arena in __dealloc__ must still have it then: no_gc_clear keeps the collector from taking it first.

# ---- pickles ----

cdef class Ref:
    """A node that is no plain value: a container, a call, a global, a persistent id."""
    cdef readonly uint32_t id

    def __cinit__(self, uint32_t id):
        self.id = id

    def __eq__(self, other):
        return isinstance(other, Ref) and (<Ref>other).id == self.id

    def __hash__(self):
        return self.id


@cython.no_gc_clear
cdef class Graph:
    """What a pickle made. Nodes are named by id; plain values come out as Python's."""
    cdef pth_graph own
    cdef pth_graph *c
    cdef readonly Arena arena
    cdef object owner  # what else must live as long
    cdef dict kept  # long values by node, long names by place: one that is shared is made once
    cdef Buffer buffer  # the bytes that were parsed

    def __cinit__(self, Arena arena):
        self.arena = arena
        self.c = &self.own
        self.kept = {}
        pth_graph_init(&self.own, &arena.c)

    def __dealloc__(self):
        if self.c == &self.own and self.own.arena != NULL:
            pth_graph_free(&self.own)

    @property
    def root(self):
        return self.c.root

    @property
    def source(self):
        """The bytes that were parsed."""
        return self.buffer.source

    def text(self, uint64_t offset, uint64_t length):
        """Bytes of what was decoded."""
        if offset > self.c.text.len or length > self.c.text.len - offset:
            raise IndexError(offset)
        return PyBytes_FromStringAndSize(<const char *>self.c.text.data + offset, <Py_ssize_t>length)

    @property
    def end(self):
        return self.c.end

    @property
    def proto(self):
        return self.c.proto

    @property
    def n_nodes(self):
        return self.c.nodes.len

    @property
    def n_ops(self):
        return self.c.n_ops

    @property
    def has_str8(self):
        return bool(self.c.has_str8)

    @property
    def frame_straddled(self):
        return bool(self.c.frame_straddled)

    @property
    def late_proto(self):
        return bool(self.c.late_proto)

    @property
    def far_memo(self):
        return bool(self.c.far_memo)

    cdef object leaf(self, uint32_t id):
        cdef const pth_node *n = pth_node_at(self.c, id)
        cdef double d
        if n.kind == PTH_NODE_NONE:
            return None
        if n.kind == PTH_NODE_TRUE:
            return True
        if n.kind == PTH_NODE_FALSE:
            return False
        if n.kind == PTH_NODE_INT:
            return <int64_t>n.b
        if n.kind == PTH_NODE_FLOAT:
            memcpy(&d, &n.b, 8)
            return d
        if n.kind >= PTH_NODE_BYTEARRAY or n.kind == PTH_NODE_INTTEXT:
            return Ref(id)
        cdef pth_bytes b = pth_slice(self.c, n)
        if b.len < 64:
            return self.scalar(n.kind, b)
        made = self.kept.get(id)
        if made is None:
            made = self.kept[id] = self.scalar(n.kind, b)
        return made

    cdef object scalar(self, int kind, pth_bytes b):
        if kind == PTH_NODE_STR or kind == PTH_NODE_STR8:
            return _text(b)
        if kind == PTH_NODE_BYTES:
            return _bytes(b)
        if kind == PTH_NODE_BIGINT:
            return integer(int.from_bytes(_bytes(b), "little", signed=True))
        return float(_bytes(b))

    cdef int check(self, uint32_t id) except -1:
        if id >= self.c.nodes.len:
            raise IndexError(id)
        return 0

    def value(self, uint32_t id):
        """A plain value, or a Ref."""
        self.check(id)
        return self.leaf(id)

    def kind(self, uint32_t id):
        self.check(id)
        return pth_node_at(self.c, id).kind

    def slice(self, uint32_t id):
        """The bytes of a text, bytes or number node."""
        self.check(id)
        cdef const pth_node *n = pth_node_at(self.c, id)
        if n.kind < PTH_NODE_BIGINT or n.kind > PTH_NODE_BYTEARRAY or n.kind == PTH_NODE_FLOAT:
            raise TypeError("not a slice")
        return _bytes(pth_slice(self.c, n))

    cdef list drain(self, pth_items it):
        cdef uint32_t kid
        cdef list out = []
        while pth_items_next(&it, &kid):
            out.append(self.leaf(kid))
        return out

    def items(self, uint32_t id):
        """Items of a tuple, list or set; key, value, key, ... of a dict."""
        self.check(id)
        return self.drain(pth_items_of(self.c, id))

    def pairs(self, uint32_t id):
        """[(key, value)] of anything that is a mapping: a dict, an OrderedDict however it was made."""
        cdef pth_pairs it
        cdef uint32_t key = 0, value = 0
        cdef list out = []
        self.check(id)
        if pth_pairs_of(self.c, id, &it):
            while pth_pairs_next(&it, &key, &value):
                out.append((self.leaf(key), self.leaf(value)))
        return out

    def persistent_ids(self):
        """The nodes of all persistent ids that are no plain value."""
        cdef uint32_t i
        cdef const pth_node *n
        cdef list out = []
        for i in range(self.c.nodes.len):
            n = pth_node_at(self.c, i)
            if n.kind == PTH_NODE_PERSID and pth_node_at(self.c, n.a).kind == PTH_NODE_TUPLE:
                out.append(n.a)
        return out

    def first_items(self, uint32_t id, uint32_t n):
        """The first items of a tuple, list or set; of a dict keys and values."""
        cdef uint32_t kid
        cdef list out = []
        self.check(id)
        cdef pth_items it = pth_items_of(self.c, id)
        while <uint32_t>len(out) < n and pth_items_next(&it, &kid):
            out.append(self.leaf(kid))
        return out

    @property
    def n_globals(self):
        """Opcodes that name a global."""
        return self.c.globals.len

    def n_items(self, uint32_t id):
        self.check(id)
        return pth_n_items(self.c, id)

    def ids(self, uint32_t id):
        """The same as ids of nodes."""
        cdef uint32_t kid
        cdef list out = []
        self.check(id)
        cdef pth_items it = pth_items_of(self.c, id)
        while pth_items_next(&it, &kid):
            out.append(kid)
        return out

    def call(self, uint32_t id):
        """(how, callable, args, kwargs or None, items, pairs, states) of an object; containers and calls as Refs."""
        self.check(id)
        cdef const pth_node *n = pth_node_at(self.c, id)
        if n.kind != PTH_NODE_OBJECT:
            raise TypeError("not a call")
        cdef const pth_ext *ext = pth_ext_of(self.c, n)
        if ext == NULL:
            return n.flags, self.leaf(n.a), self.leaf(pth_args_of(n)), None, [], [], []
        kwargs = None if ext.kwargs == PTH_NONE else self.leaf(ext.kwargs)
        return (
            n.flags, self.leaf(n.a), self.leaf(pth_args_of(n)), kwargs,
            self.drain(pth_items_of_list(self.c, ext.items)),
            self.drain(pth_items_of_list(self.c, ext.pairs)),
            self.drain(pth_items_of_list(self.c, ext.states)),
        )

    def persistent_id(self, uint32_t id):
        self.check(id)
        cdef const pth_node *n = pth_node_at(self.c, id)
        if n.kind != PTH_NODE_PERSID:
            raise TypeError("not a persistent id")
        return self.leaf(n.a)

    def global_of(self, uint32_t id):
        """(module, name, meaning, dtype index) of a global's node."""
        self.check(id)
        cdef const pth_node *n = pth_node_at(self.c, id)
        if n.kind != PTH_NODE_GLOBAL:
            raise TypeError("not a global")
        cdef const pth_global *row = &(<const pth_global *>self.c.globals.data)[n.a]
        return self.shared(pth_global_module(self.c, row)), self.shared(pth_global_name(self.c, row)), MEANINGS[row.meaning], row.dtype

    cdef str shared(self, pth_bytes b):
        """A text; a long one that many globals share is made once."""
        if b.len < 64:
            return _text(b)
        cdef object key = (<uint64_t>b.data, b.len)
        made = self.kept.get(key)
        if made is None:
            made = self.kept[key] = _text(b)
        return <str>made

    def objects(self, str meaning):
        """[(module, name, ids of the states)] of the objects whose class has this meaning."""
        cdef uint32_t i, kid
        cdef const pth_node *n
        cdef const pth_node *callee
        cdef const pth_global *row
        cdef const pth_ext *ext
        cdef pth_items it
        cdef int wanted = MEANINGS.index(meaning)
        cdef list out = []
        for i in range(self.c.nodes.len):
            n = pth_node_at(self.c, i)
            if n.kind != PTH_NODE_OBJECT or n.a == PTH_NONE:
                continue
            callee = pth_node_at(self.c, n.a)
            ext = pth_ext_of(self.c, n)
            if callee.kind != PTH_NODE_GLOBAL or ext == NULL:
                continue
            row = &(<const pth_global *>self.c.globals.data)[callee.a]
            if row.meaning != wanted:
                continue
            states = []
            it = pth_items_of_list(self.c, ext.states)
            while pth_items_next(&it, &kid):
                states.append(kid)
            out.append((self.shared(pth_global_module(self.c, row)), self.shared(pth_global_name(self.c, row)), states))
        return out

    def globals(self):
        """[(module, name, byte of the opcode, opcode)] in the order of the file."""
        cdef const pth_global *row
        cdef uint32_t i
        cdef list out = []
        for i in range(self.c.globals.len):
            row = &(<const pth_global *>self.c.globals.data)[i]
            names = self.shared(pth_global_module(self.c, row)), self.shared(pth_global_name(self.c, row))
            out.append((*names, row.at, _OPCODE_NAMES[row.op]))
        return out


def read_pickle(data, Arena arena, Limits limits):
    """(graph of the pickle at the start of `data`, None); after an error what there is of it, and the error."""
    cdef Graph g = Graph(arena)
    cdef Buffer buffer = Buffer(data)
    cdef pth_err err
    cdef int rc
    g.buffer = buffer
    with nogil:
        rc = pth_pickle_run(g.c, buffer.bytes, &limits.c, &err)
    return g, error_from(&err) if rc else None


def join_pickles(pieces, Arena arena, Limits limits):
    """(graph of several pickles, None), or an error beside it: the root is a dict. pieces: [(name, its bytes, STOP the last one)]."""
    cdef Graph g = Graph(arena)
    cdef Buffer buffer = Buffer(b"".join(part for piece in pieces for part in piece))
    cdef pth_err err
    cdef int rc
    cdef uint32_t n = len(pieces), i
    cdef uint64_t at = 0
    cdef pth_piece *where = <pth_piece *>calloc(n + 1, sizeof(pth_piece))
    if where == NULL:
        raise MemoryError
    try:
        for i in range(n):
            where[i].name = at
            where[i].begin = at + <uint64_t>len(pieces[i][0])
            at = where[i].end = where[i].begin + <uint64_t>len(pieces[i][1])
        g.buffer = buffer
        with nogil:
            rc = pth_pickle_join(g.c, buffer.bytes, where, n, &limits.c, &err)
    finally:
        free(where)
    return g, error_from(&err) if rc else None


# ---- containers ----

@cython.no_gc_clear
cdef class Store:
    """Which bytes of the file a storage key means."""
    cdef pth_store own
    cdef pth_store *c
    cdef Arena arena
    cdef object owner
    cdef bytes suffix  # as in pth_store

    def __cinit__(self, Arena arena, owner):
        self.arena = arena
        self.owner = owner
        self.c = &self.own
        self.own.spans.data = NULL

    def __dealloc__(self):
        if self.c == &self.own and self.own.spans.data != NULL:
            pth_store_free(&self.own)

    def __len__(self):
        return self.c.spans.len

    @property
    def fixed_little(self):
        """The payload is little endian whoever wrote it."""
        return bool(self.c.fixed_little)

    def span(self, uint32_t i):
        """(key, offset, bytes, member or None, code)"""
        if i >= self.c.spans.len:
            raise IndexError(i)
        cdef const pth_span *s = &(<const pth_span *>self.c.spans.data)[i]
        return _text(s.key), s.off, s.len, None if s.member == PTH_NONE else s.member, s.code

    def cut(self, uint64_t file_len):
        """Of a file that was cut short: marks the storages that it ends before."""
        pth_store_cut(self.c, file_len)

    def find(self, bytes key):
        cdef pth_bytes b
        b.data = <const uint8_t *>PyBytes_AsString(key)
        b.len = len(key)
        cdef uint32_t i = pth_store_find(self.c, b)
        return None if i == PTH_NONE else i


def listed_store(rows, Arena arena, bint big=False):
    """A store of [(key, first byte of the file, bytes)]: storages that lie there as they are."""
    rows = [(bytes(key), off, length) for key, off, length in rows]
    cdef Store s = Store(arena, rows)
    cdef pth_err err
    cdef pth_span span
    if pth_store_init(&s.own, &arena.c, <uint32_t>len(rows), &err):
        raise_err(&err)
    for key, off, length in rows:
        span.key.data, span.key.len = <const uint8_t *>PyBytes_AsString(key), len(key)
        span.off, span.len = off, length
        span.member, span.code, span.dtype = PTH_NONE, 0, 255
        if pth_store_add(&s.own, &span, &err):
            raise_err(&err)
    s.c.big = big
    return s


class ZipEnd:
    """What the end records of a zip say."""
    __slots__ = ("comment_len", "dir_len", "dir_off", "eocd_off", "n_entries", "trailing", "zip64")

    def __init__(self, eocd_off, zip64, dir_off, dir_len, n_entries, trailing, comment_len):
        self.eocd_off = eocd_off
        self.zip64 = zip64
        self.dir_off = dir_off
        self.dir_len = dir_len
        self.n_entries = n_entries
        self.trailing = trailing
        self.comment_len = comment_len


@cython.no_gc_clear
cdef class Zip:
    """A zip's directory."""
    cdef pth_zip c
    cdef pth_zip_end ending
    cdef pth_zip_sweep swept
    cdef readonly uint32_t located  # entries that locals() has done, by place
    cdef readonly Arena arena
    cdef Buffer directory

    def __cinit__(self, Arena arena):
        self.arena = arena
        self.c.arena = &arena.c

    def __dealloc__(self):
        if self.arena is not None:
            pth_zip_free(&self.c)

    def find(self, tail, uint64_t tail_off, uint64_t file_len):
        """Reads the end records out of the file's last bytes."""
        cdef Buffer buffer = Buffer(tail)
        cdef pth_err err
        if pth_zip_find(buffer.bytes, tail_off, file_len, &self.ending, &err):
            raise_err(&err)
        cdef pth_zip_end *e = &self.ending
        return ZipEnd(e.eocd_off, e.end64_off != 0, e.dir_off, e.dir_len, e.n_entries, e.trailing, e.comment_len)

    def read(self, directory, Limits limits):
        cdef pth_err err
        cdef int rc
        cdef pth_bytes b
        self.directory = Buffer(directory)
        b = self.directory.bytes
        with nogil:
            rc = pth_zip_read(&self.c, self.c.arena, b, &self.ending, &limits.c, &err)
        if rc:
            raise_err(&err)

    def __len__(self):
        return self.c.entries.len

    @property
    def short_count(self):
        return bool(self.c.short_count)

    cdef pth_zip_entry *at(self, uint32_t i) except NULL:
        if i >= self.c.entries.len:
            raise IndexError(i)
        return &(<pth_zip_entry *>self.c.entries.data)[i]

    def name(self, uint32_t i):
        self.at(i)
        return _text(pth_zip_name(&self.c, i))

    def names(self):
        cdef uint32_t i
        return [_text(pth_zip_name(&self.c, i)) for i in range(self.c.entries.len)]

    def name_bytes(self, uint32_t i):
        self.at(i)
        return _bytes(pth_zip_name(&self.c, i))

    def entry(self, uint32_t i):
        """(local header offset, stored bytes, bytes, method, crc, code)"""
        cdef pth_zip_entry *e = self.at(i)
        return e.lho, e.csize, e.usize, e.method, e.crc, e.code

    def stored(self):
        """[(entry, where its data begin, bytes)] of those that are stored, and whose local headers were read."""
        cdef uint32_t i
        cdef const pth_zip_entry *e = <const pth_zip_entry *>self.c.entries.data
        return [
            (i, e[i].data_off, e[i].csize)
            for i in range(self.c.entries.len) if e[i].code == 0 and e[i].method == PTH_ZIP_STORED and e[i].data_off
        ]

    def named(self):
        """{name: entry} of all whose name does not end in a digit: everything but storages."""
        cdef uint32_t i
        cdef pth_bytes b
        cdef dict out = {}
        for i in range(self.c.entries.len):
            b = pth_zip_name(&self.c, i)
            if b.len == 0 or not 48 <= b.data[b.len - 1] <= 57:
                out.setdefault(_text(b), i)
        return out

    def data_off(self, uint32_t i):
        """Where the data begin, or 0 if the local header has not been read."""
        return self.at(i).data_off

    def local(self, uint32_t i, header):
        """Checks a local header: (where the data begin, the finding if it differs from the directory, or None)"""
        cdef Buffer buffer = Buffer(header)
        cdef pth_err err
        cdef uint64_t off = 0
        cdef uint16_t odd = 0
        self.at(i)
        if pth_zip_local(&self.c, i, buffer.bytes, &off, &odd, &err):
            raise_err(&err)
        return off, finding_code(odd)

    def locals(self, window, uint64_t window_off):
        """Reads local headers, and keeps where data begin where nothing is odd; where the next window must begin, or None."""
        cdef Buffer buffer = Buffer(window)
        cdef uint64_t want = 0
        return want if pth_zip_locals(&self.c, &self.located, buffer.bytes, window_off, self.ending.dir_off, &want) else None

    def sweep(self, window, uint64_t window_off):
        """Accounts for the bytes before the directory; where the next window must begin, or None when all is done."""
        cdef Buffer buffer = Buffer(window)
        cdef pth_err err
        cdef c_bool more = False
        cdef int rc
        with nogil:
            rc = pth_zip_sweep_window(&self.c, &self.swept, buffer.bytes, window_off, self.ending.dir_off, &more, &err)
        if rc:
            raise_err(&err)
        return self.swept.want if more else None

    def odds(self):
        """([(finding, entry or None, offset, length)] of the sweep, how many there are in all)"""
        cdef const pth_zip_odd *odd
        cdef uint32_t i
        cdef list out = []
        for i in range(self.c.odds.len):
            odd = &(<const pth_zip_odd *>self.c.odds.data)[i]
            out.append((finding_code(odd.finding), None if odd.entry == PTH_NONE else odd.entry, odd.off, odd.len))
        return out, self.swept.n_odds

    def broken(self):
        """The entries that cannot be read."""
        cdef uint32_t i
        return [i for i in range(self.c.entries.len) if (<const pth_zip_entry *>self.c.entries.data)[i].code]

    def kinds(self, named):
        """The kind of each entry's data, for a ledger: the last one of [(prefix of the name, kind)] that fits, else 'other members'."""
        cdef uint32_t i
        cdef pth_bytes name
        cdef object out = bytearray([_KIND_OF["other members"]]) * (self.c.entries.len + 1)
        cdef uint8_t[::1] at = out
        for prefix, kind in named:
            for i in range(self.c.entries.len):
                name = pth_zip_name(&self.c, i)
                if name.len >= <uint64_t>len(prefix) and memcmp(name.data, PyBytes_AsString(prefix), len(prefix)) == 0:
                    at[i] = _KIND_OF[kind]
        return out

    def check(self, uint32_t i):
        """Raises what keeps an entry from being read."""
        cdef pth_err err
        self.at(i)
        if pth_zip_check(&self.c, i, &err):
            raise_err(&err)

    def store(self, bytes prefix, bint big=False, bytes suffix=b""):
        cdef Store s = Store(self.arena, self)
        cdef pth_err err
        cdef pth_bytes b, e
        cdef int rc
        s.suffix = suffix
        b.data, e.data = <const uint8_t *>PyBytes_AsString(prefix), <const uint8_t *>PyBytes_AsString(suffix)
        b.len, e.len = len(prefix), len(suffix)
        with nogil:
            rc = pth_zip_store(&self.c, b, e, s.c, &err)
        if rc:
            raise_err(&err)
        s.c.big = big
        return s


@cython.no_gc_clear
cdef class Legacy:
    """The five pickles of a legacy stream."""
    cdef pth_legacy c
    cdef readonly Arena arena
    cdef Buffer buffer

    def __cinit__(self, Arena arena):
        self.arena = arena

    def read(self, data, Limits limits):
        """Reads them once; the error that stopped it, or None. What was read before stays."""
        cdef pth_err err
        cdef int rc
        if self.buffer is not None:
            raise ValueError("read already")
        self.buffer = Buffer(data)
        with nogil:
            rc = pth_legacy_read(&self.c, &self.arena.c, self.buffer.bytes, &limits.c, &err)
        return error_from(&err) if rc else None

    def __dealloc__(self):
        pth_legacy_free(&self.c)

    @property
    def end(self):
        return self.c.end

    @property
    def n_read(self):
        """Pickles that there are; after an error the last one is as far as it goes."""
        return self.c.n_read

    def pickle(self, int i):
        """(where it begins, its graph)"""
        if not 0 <= i < self.c.n_read:
            raise IndexError(i)
        cdef Graph g = Graph(self.arena)
        g.c = &self.c.pickles[i]
        g.owner = self
        g.buffer = self.buffer
        return self.c.at[i], g

    def store(self, uint64_t total_len):
        """(store, where the stream ends); the storages' headers are still to be compared."""
        if self.c.n_read != PTH_N_LEGACY:
            raise ValueError("not read to the end")
        cdef Store s = Store(self.arena, self)
        cdef pth_err err
        cdef uint64_t end = 0
        cdef int rc
        with nogil:
            rc = pth_legacy_store(&self.c, total_len, s.c, &end, &err)
        if rc:
            raise_err(&err)
        return s, end


def legacy_check(Store store, window, uint64_t window_off, uint32_t next):
    """Compares the storage headers inside of a window; the first span whose header lies elsewhere."""
    cdef Buffer buffer = Buffer(window)
    cdef pth_err err
    if pth_legacy_check(store.c, buffer.bytes, window_off, &next, &err):
        raise_err(&err)
    return next


def tar_header(block):
    """(name, size, kind) or None at the end of the archive."""
    cdef Buffer buffer = Buffer(block)
    cdef pth_err err
    cdef pth_tar_entry e
    cdef c_bool used = False
    if pth_tar_header(buffer.bytes, &e, &used, &err):
        raise_err(&err)
    if not used:
        return None
    return bytes(block[: e.name_len]), e.size, chr(e.type)


@cython.no_gc_clear
cdef class Tar:
    """Storages and tensors of an ancient tar."""
    cdef pth_tar c
    cdef readonly Arena arena
    cdef Limits limits

    def __cinit__(self, Arena arena, Limits limits):
        self.arena = arena
        self.limits = limits
        pth_tar_init(&self.c, &arena.c)

    def __dealloc__(self):
        if self.arena is not None:
            pth_tar_free(&self.c)

    def count(self, window):
        cdef Buffer buffer = Buffer(window)
        cdef pth_err err
        cdef uint64_t n = 0, used = 0
        if pth_tar_count(&self.c, buffer.bytes, &self.limits.c, &n, &used, &err):
            raise_err(&err)
        return n, used

    def storage(self, window, uint64_t window_off, uint64_t member_end):
        cdef Buffer buffer = Buffer(window)
        cdef pth_err err
        cdef uint64_t next = 0
        if pth_tar_storage(&self.c, buffer.bytes, window_off, member_end, &self.limits.c, &next, &err):
            raise_err(&err)
        return next

    def views(self, data):
        cdef Buffer buffer = Buffer(data)
        cdef pth_err err
        if pth_tar_views(&self.c, buffer.bytes, &self.limits.c, &err):
            raise_err(&err)

    def tensors(self, data):
        cdef Buffer buffer = Buffer(data)
        cdef pth_err err
        if pth_tar_tensors(&self.c, buffer.bytes, &self.limits.c, &err):
            raise_err(&err)

    def finish(self):
        cdef pth_err err
        cdef Store s = Store(self.arena, self)
        if pth_tar_finish(&self.c, &err):
            raise_err(&err)
        s.c = &self.c.store
        return s


@cython.no_gc_clear
cdef class Safetensors:
    """The header of a safetensors file."""
    cdef pth_safetensors c
    cdef readonly Arena arena
    cdef Buffer buffer

    def __cinit__(self, Arena arena, data, Limits limits):
        """data: the file up to its data."""
        cdef pth_err err
        cdef int rc
        self.arena = arena
        self.buffer = Buffer(data)
        with nogil:
            rc = pth_safetensors_read(&self.c, &self.arena.c, self.buffer.bytes, &limits.c, &err)
        if rc:
            raise_err(&err)

    def __dealloc__(self):
        if self.c.arena != NULL:
            pth_safetensors_free(&self.c)

    @property
    def json_end(self):
        """Where the JSON ends; spaces follow."""
        return self.c.json

    @property
    def end(self):
        """Where the last tensor ends, in the file."""
        return self.c.end

    @property
    def in_order(self):
        """Each tensor begins where the one before it ends."""
        return bool(self.c.in_order)

    @property
    def doubled(self):
        """Two tensors have one name."""
        return bool(self.c.doubled)

    def names(self):
        """The names of the tensors, in the order of the header."""
        cdef const pth_span *s = <const pth_span *>self.c.store.spans.data
        cdef uint32_t i
        return [_text(s[i].key) for i in range(self.c.store.spans.len)]

    def metadata(self):
        """[(key, value)]"""
        cdef const pth_bytes *b = <const pth_bytes *>self.c.pairs.data
        cdef uint32_t i
        return [(_text(b[2 * i]), _text(b[2 * i + 1])) for i in range(self.c.pairs.len // 2)]

    def places(self):
        """[(where it begins in the file, where it ends, its number)] of the tensors that have bytes of the file."""
        cdef const pth_span *s = <const pth_span *>self.c.store.spans.data
        cdef uint32_t i
        return [(s[i].off, s[i].off + s[i].len, i) for i in range(self.c.store.spans.len)]

    def store(self):
        cdef Store s = Store(self.arena, self)
        s.c = &self.c.store
        return s

    def tensors(self, Store store, Limits limits):
        """The table of its tensors: a row for each name."""
        cdef Tensors t = Tensors(Graph(self.arena), store, limits, False)
        cdef pth_err err
        cdef int rc
        with nogil:
            rc = pth_safetensors_tensors(&self.c, &t.c, &limits.c, &err)
        if rc:
            raise_err(&err)
        return t


def fill(record, tuple names, values):
    """Sets the slots of a record that has a `__setattr__` of its own."""
    cdef Py_ssize_t i
    cdef tuple given = tuple(values)
    if len(names) != len(given):
        raise ValueError("a value for each name")
    for i in range(len(names)):
        PyObject_GenericSetAttr(record, names[i], given[i])


# ---- tensors ----

@cython.no_gc_clear
cdef class Tensors:
    """The table of a pickle's tensors, their storages and names."""
    cdef pth_tensors c
    cdef readonly Graph graph
    cdef readonly Store store
    cdef readonly object home  # what the Python side needs to know of them
    cdef Zip zip
    cdef bint big, lying
    cdef list tuples  # made of lists of dims, lately
    cdef uint32_t tuple_at[64]

    def __cinit__(self, Graph graph, Store store, Limits limits, bint read=True):
        cdef pth_err err
        cdef int rc
        cdef const pth_store *s = store.c if store is not None else NULL
        self.graph = graph
        self.store = store
        self.tuples = [None] * 64
        if not read:
            pth_tensors_init(&self.c, graph.c.arena, graph.c, s, &err)
            return
        with nogil:
            rc = pth_tensors_read(&self.c, graph.c, s, &limits.c, &err)
        if rc:
            raise_err(&err)

    def __dealloc__(self):
        if self.graph is not None and self.c.arena != NULL:
            pth_tensors_free(&self.c)

    def bind(self, home, Zip zip=None, bint big=False, bint lying=True):
        """home: what the tensors share. zip: whose members the store means. big: the file is big endian.

        Not lying: the store's spans are none of the file's.
        """
        self.home = home
        self.zip, self.big, self.lying = zip, big, lying

    def __len__(self):
        return self.c.tensors.len

    @property
    def n_names(self):
        return self.c.names.len

    @property
    def flat(self):
        """No two names can be equal."""
        return bool(self.c.flat)

    @property
    def whole_module(self):
        return bool(self.c.whole_module)

    cdef const pth_tensor *row(self, uint32_t i) except NULL:
        if i >= self.c.tensors.len:
            raise IndexError(i)
        return &(<const pth_tensor *>self.c.tensors.data)[i]

    cdef tuple dims(self, uint32_t at, uint32_t n):
        # Models have few distinct shapes: equal ones are one list of the core, and here mostly the same tuple.
        cdef const int64_t *d = <const int64_t *>self.c.dims.data
        cdef uint32_t i, slot = (at * <uint32_t>0x9E3779B1) >> 26
        if n == 0:
            return ()
        cdef object kept = self.tuples[slot]
        if kept is not None and self.tuple_at[slot] == at:
            return <tuple>kept
        cdef tuple made = tuple([d[at + i] for i in range(n)])
        self.tuples[slot] = made
        self.tuple_at[slot] = at
        return made

    cdef str path_text(self, uint32_t path):
        cdef const pth_path *p = &(<const pth_path *>self.c.paths.data)[path]
        cdef const pth_node *n
        if p.sep == 0 and p.kind == PTH_P_KEY and p.parent == 0:
            n = pth_node_at(self.graph.c, p.key)
            if n.kind == PTH_NODE_STR:
                return _text(pth_slice(self.graph.c, n))
        cdef bytes out = PyBytes_FromStringAndSize(NULL, p.len)
        cdef char *at = PyBytes_AsString(out)
        pth_path_write(&self.c, path, <uint8_t *>at)
        return PyUnicode_DecodeUTF8(at, p.len, "surrogatepass")

    def names(self):
        """The names, in the order of the file."""
        cdef uint32_t i
        cdef const pth_name *names = <const pth_name *>self.c.names.data
        cdef list out = []
        for i in range(self.c.names.len):
            out.append(self.path_text(names[i].path))
        return out

    def name_rows(self):
        """The tensor of each name: a list, or a range where no tensor has two names."""
        cdef uint32_t i
        cdef const pth_name *names = <const pth_name *>self.c.names.data
        for i in range(self.c.names.len):
            if names[i].tensor != i:
                break
        else:
            return range(self.c.names.len)
        return [names[i].tensor for i in range(self.c.names.len)]

    def path(self, uint32_t name):
        """[(kind, key node or number, owner node, separator)] of a name, outermost first."""
        cdef list out = []
        if name >= self.c.names.len:
            raise IndexError(name)
        cdef uint32_t path = (<const pth_name *>self.c.names.data)[name].path
        cdef const pth_path *p
        while path != PTH_NONE:
            p = &(<const pth_path *>self.c.paths.data)[path]
            if p.parent != PTH_NONE:
                out.append((p.kind, p.key, p.owner, chr(p.sep) if p.sep else ""))
            path = p.parent
        out.reverse()
        return out

    cdef TensorRow made(self, type cls, str name, uint32_t row):
        cdef const pth_tensor *c = self.row(row)
        cdef TensorRow t = <TensorRow>seam_new(cls)
        t.table = self
        t.row = row
        t.name = name
        t.c = c
        return t

    def make(self, type cls, str name, uint32_t row):
        """One tensor as a `cls`, a subclass of TensorRow."""
        if not issubclass(cls, TensorRow):
            raise TypeError("a subclass of TensorRow")
        return self.made(cls, name, row)

    def each(self, type cls, list names, rows):
        """An iterator that makes a tensor for each name and its row when it comes to it."""
        cdef TensorIterator it = TensorIterator()
        if not issubclass(cls, TensorRow):
            raise TypeError("a subclass of TensorRow")
        it.table = self
        it.cls = cls
        it.names = names
        it.rows = None if isinstance(rows, range) else list(rows)
        return it

    def storage_of(self, uint32_t row):
        """The storage of a tensor's row, or None."""
        cdef const pth_tensor *t = self.row(row)
        return None if t.storage == PTH_NONE else t.storage

    def has_parts(self, uint32_t row):
        """Is it made of others, or has it any among its attributes?"""
        return self.row(row).part != PTH_NONE

    def row_of_node(self, uint32_t node):
        cdef uint32_t row = pth_row_of_node(&self.c, node)
        return None if row == PTH_NONE else row

    def storage_of_node(self, uint32_t node):
        cdef uint32_t row = pth_storage_of_node(&self.c, node)
        return None if row == PTH_NONE else row

    def add(self, span, uint32_t dtype, sizes, strides, int64_t offset, bint requires_grad, Limits limits):
        """A dense tensor that the container describes: its row."""
        cdef pth_dense d
        cdef pth_err err
        cdef uint32_t row = 0, n = len(sizes), i
        if dtype >= PTH_N_DTYPES or len(strides) != n:
            raise ValueError("a dtype index; as many strides as sizes")
        cdef int64_t *dims = <int64_t *>calloc(2 * n + 1, sizeof(int64_t))
        if dims == NULL:
            raise MemoryError
        try:
            for i in range(n):
                dims[i] = sizes[i]
                dims[n + i] = strides[i]
            d.span = PTH_NONE if span is None else span
            d.dtype = dtype
            d.n_dims = n
            d.sizes = dims
            d.strides = dims + n
            d.offset = offset
            d.requires_grad = requires_grad
            if pth_tensors_add(&self.c, &d, &limits.c, &row, &err):
                raise_err(&err)
        finally:
            free(dims)
        return row

    @property
    def n_storages(self):
        return self.c.storages.len

    cdef const uint32_t[::1] rows_of(self, order):
        """A column of u32, of as many rows as there are; one more, so that it has a first item."""
        cdef const uint32_t[::1] rows = memoryview(bytes(order) + bytes(4)).cast("I")
        if rows.shape[0] != <Py_ssize_t>self.c.tensors.len + 1:
            raise ValueError("all rows")
        return rows

    def same_elements(self, order):
        """A column of u32: the first tensor, in this order of all rows, that is the same elements of the same storage; or itself."""
        cdef bytes out = bytes(4 * (self.c.tensors.len + 1))  # as rows_of()
        cdef const uint32_t[::1] rows = self.rows_of(order)
        cdef pth_err err
        cdef int rc
        cdef uint32_t *at = <uint32_t *>PyBytes_AsString(out)
        rc = pth_same_elements(&self.c, &rows[0], at, &err)  # under the GIL, which guards the arena of an open file
        if rc:
            raise_err(&err)
        return out

    def numels(self):
        """A column of u64: elements of each tensor."""
        cdef bytes out = bytes(8 * self.c.tensors.len)
        cdef uint64_t *at = <uint64_t *>PyBytes_AsString(out)
        cdef uint32_t i
        for i in range(self.c.tensors.len):
            at[i] = self.row(i).numel
        return out

    def facts(self):
        """(dtype, kind, flags, made of others?) of each tensor: four columns of u8."""
        cdef bytes dtypes = bytes(self.c.tensors.len), kinds = bytes(self.c.tensors.len)
        cdef bytes parameters = bytes(self.c.tensors.len), parts = bytes(self.c.tensors.len)
        cdef uint8_t *d = <uint8_t *>PyBytes_AsString(dtypes)
        cdef uint8_t *k = <uint8_t *>PyBytes_AsString(kinds)
        cdef uint8_t *p = <uint8_t *>PyBytes_AsString(parameters)
        cdef uint8_t *m = <uint8_t *>PyBytes_AsString(parts)
        cdef const pth_tensor *t
        cdef uint32_t i
        for i in range(self.c.tensors.len):
            t = self.row(i)
            d[i] = t.dtype if t.cast == PTH_DT_UNTYPED else t.cast
            k[i] = t.kind
            p[i] = (t.flags & PTH_F_PARAMETER) != 0
            m[i] = t.part != PTH_NONE
        return dtypes, kinds, parameters, parts

    def places(self):
        """A column of i64: equal for tensors that look at the same storage of the file; -1: at none."""
        cdef bytes out = bytes(8 * self.c.tensors.len)
        cdef int64_t *at = <int64_t *>PyBytes_AsString(out)
        cdef uint32_t i, storage
        for i in range(self.c.tensors.len):
            storage = self.row(i).storage
            at[i] = -1 if storage == PTH_NONE else self.place(storage)
        return out

    def place(self, uint32_t storage):
        """The same of a storage."""
        if storage >= self.c.storages.len:
            raise IndexError(storage)
        cdef const pth_storage *s = &(<const pth_storage *>self.c.storages.data)[storage]
        return <int64_t>s.span if s.span != PTH_NONE else (<int64_t>storage + 1) << 32

    def error_of_row(self, uint32_t i):
        """What is wrong with a tensor, or None."""
        cdef const pth_tensor *t = self.row(i)
        return error_of(t.code, t.want, t.have) if t.code else None

    def troubles(self):
        """({error code: (tensors, row of the first)}, storages with two dtypes or sizes, storages larger than the pickle says,
        {error code: (storages, the first)})"""
        cdef uint32_t i
        cdef const pth_tensor *t = <const pth_tensor *>self.c.tensors.data
        cdef const pth_storage *s = <const pth_storage *>self.c.storages.data
        cdef dict out = {}, broken = {}
        cdef list mixed = [], larger = []
        for i in range(self.c.tensors.len):
            if t[i].code:
                n, first = out.get(t[i].code, (0, i))
                out[t[i].code] = (n + 1, first)
        for i in range(self.c.storages.len):
            if s[i].flags & PTH_S_MIXED:
                mixed.append(i)
            if s[i].flags & PTH_S_LARGER:
                larger.append(i)
            if s[i].code:
                n, first = broken.get(s[i].code, (0, i))
                broken[s[i].code] = (n + 1, first)
        return out, mixed, larger, broken

    def storage(self, uint32_t i):
        """(span or None, key, location or None, dtype index, flags, first byte in span or pickle, bytes, code)"""
        if i >= self.c.storages.len:
            raise IndexError(i)
        cdef const pth_storage *s = &(<const pth_storage *>self.c.storages.data)[i]
        key = None if s.key == PTH_NONE else self.graph.leaf(s.key)
        if key is None and s.span != PTH_NONE:
            key = self.store.span(s.span)[0]
        return (
            None if s.span == PTH_NONE else s.span,
            key,
            None if s.location == PTH_NONE else self.graph.leaf(s.location),
            s.dtype, s.flags, s.base, s.nbytes, s.code,
        )


cdef class TensorIterator:
    """What Tensors.each() gives. Names without rows go by their own number."""
    cdef Tensors table
    cdef type cls
    cdef list names
    cdef list rows
    cdef Py_ssize_t at

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t i = self.at
        if i >= len(self.names):
            raise StopIteration
        self.at = i + 1
        return self.table.made(self.cls, <str>self.names[i], <uint32_t>i if self.rows is None else <uint32_t>self.rows[i])

    def __length_hint__(self):
        return len(self.names) - self.at


@cython.no_gc
cdef class TensorRow:
    """One row under one name; what needs no data. `pthparse.Tensor` adds the rest. Made by its table alone.

    A checkpoint may have 100,000 of them, so the cyclic collector does not follow them: nothing that a table reaches refers to one.
    """
    cdef readonly Tensors table
    cdef readonly uint32_t row
    cdef readonly str name
    cdef const pth_tensor *c

    @property
    def _sizes(self):
        return self.table.dims(self.c.sizes, self.c.n_dims)

    @property
    def shape(self):
        """Sizes of the dimensions; -1 where the parts of a nested tensor differ."""
        return self._nested_shape() if self.c.kind == PTH_T_NESTED else self._sizes

    @property
    def dtype(self):
        """torch's name of the element type."""
        return _DTYPE_NAMES[self.c.dtype if self.c.cast == PTH_DT_UNTYPED else self.c.cast]

    @property
    def _strides(self):
        return self.table.dims(self.c.strides, self.c.n_dims)

    @property
    def _dtype(self):
        """Of the stored elements."""
        return self.c.dtype

    @property
    def _cast(self):
        """Of the elements that they are turned into, or None."""
        return None if self.c.cast == PTH_DT_UNTYPED else self.c.cast

    @property
    def _numel(self):
        return self.c.numel

    @property
    def _in_line(self):
        """Do the elements, whole bytes and one at least, lie one behind the other in the order of their indices?"""
        return pth_tensor_in_line(&self.table.c, self.c)

    @property
    def _line(self):
        """(first byte in the file, bytes, elements, dtype) where nothing need be done to the elements but to read them; else None.

        Of a member of a zip whose local header was not read yet it is not known.
        """
        cdef Tensors t = self.table
        cdef uint64_t at = pth_place(&t.c, self.c, &t.zip.c if t.zip is not None else NULL, t.big) if t.lying else PTH_NOWHERE
        return None if at == PTH_NOWHERE else (at, self.c.numel * pth_dtypes[self.c.dtype].itemsize, self.c.numel, self.c.dtype)

    @property
    def _kind(self):
        return self.c.kind

    @property
    def itemsize(self):
        """Bytes of one element."""
        return pth_dtypes[self.c.dtype if self.c.cast == PTH_DT_UNTYPED else self.c.cast].itemsize

    @property
    def storage_offset(self):
        """Elements from the start of the storage to the first one."""
        return self.c.offset

    @property
    def requires_grad(self):
        return bool(self.c.flags & PTH_F_GRAD)

    @property
    def parameter(self):
        """Saved as an nn.Parameter?"""
        return bool(self.c.flags & PTH_F_PARAMETER)

    @property
    def conj(self):
        """Saved as a lazily conjugated view? Then numpy() conjugates."""
        return bool(self.c.flags & PTH_F_CONJ)

    @property
    def neg(self):
        """Saved as a lazily negated view? Then numpy() negates."""
        return bool(self.c.flags & PTH_F_NEG)

    @property
    def layout(self):
        """'strided', 'sparse_coo', 'sparse_csr', ..., 'jagged'."""
        return LAYOUTS[self.c.layout]

    @property
    def _storage(self):
        return None if self.c.storage == PTH_NONE else self.c.storage

    @property
    def _node(self):
        return None if self.c.node == PTH_NONE else self.c.node

    @property
    def _part(self):
        return None if self.c.part == PTH_NONE else self.c.part

    @property
    def _cls(self):
        return None if self.c.cls == PTH_NONE else self.c.cls

    @property
    def _device(self):
        """What the call that rebuilds it says: a text, another value, a Ref, or None."""
        return None if self.c.device == PTH_NONE else self.table.graph.leaf(self.c.device)

    @property
    def _code(self):
        return self.c.code

    def _error(self):
        """What is wrong with it, or None."""
        if self.c.code == 0:
            return None
        return error_of(self.c.code, self.c.want, self.c.have)


# ---- audit ----

@cython.no_gc_clear
cdef class Audit:
    """What a pickle names and calls, beside what writers do."""
    cdef pth_audit c
    cdef readonly Graph graph

    def __cinit__(self, Graph graph, Tensors tensors, Limits limits, bint legacy):
        cdef pth_err err
        cdef int rc
        cdef const pth_tensors *t = &tensors.c if tensors is not None else NULL
        self.graph = graph
        with nogil:
            rc = pth_audit_graph(&self.c, graph.c, t, legacy, &limits.c, &err)
        if rc:
            raise_err(&err)

    def __dealloc__(self):
        if self.graph is not None:
            pth_audit_free(&self.c)

    def __len__(self):
        return self.c.refs.len

    def refs(self, uint32_t first, uint32_t last):
        """[(module, name, meaning, uses, byte of the first opcode, its opcode, node of the first call or None, is it misused?)]
        of the globals from `first` on, up to `last`."""
        cdef const pth_ref *r
        cdef const pth_global *row
        cdef uint32_t i
        cdef list out = []
        cdef Graph g = self.graph
        for i in range(first, min(last, self.c.refs.len)):
            r = &(<const pth_ref *>self.c.refs.data)[i]
            row = &(<const pth_global *>g.c.globals.data)[r.row]
            out.append((
                g.shared(pth_global_module(g.c, row)), g.shared(pth_global_name(g.c, row)), MEANINGS[row.meaning], r.uses,
                row.at, _OPCODE_NAMES[row.op], None if r.call == PTH_NONE else r.call, r.misused,
            ))
        return out

    def odds(self):
        """([(finding, node, number of the global or None)], how many there are in all)"""
        cdef const pth_odd *odd
        cdef uint32_t i
        cdef list out = []
        for i in range(self.c.odds.len):
            odd = &(<const pth_odd *>self.c.odds.data)[i]
            out.append((finding_code(odd.finding), odd.node, None if odd.ref == PTH_NONE else odd.ref))
        return out, self.c.n_odds

    def nested(self):
        """The nodes of bytes that a loader would load as files."""
        cdef uint32_t i
        return [(<const uint32_t *>self.c.nested.data)[i] for i in range(self.c.nested.len)]

    def traced(self):
        """The calls that bring source code."""
        cdef uint32_t i
        return [(<const uint32_t *>self.c.traced.data)[i] for i in range(self.c.traced.len)]


def unclaimed(Zip z, pairs):
    """The entries that no persistent id of a (graph, store) pair refers to."""
    cdef uint32_t n = z.c.entries.len, i
    cdef uint8_t *claimed = <uint8_t *>calloc(n + 1, 1)
    cdef uint8_t *used = NULL
    cdef Graph graph
    cdef Store store
    if claimed == NULL:
        raise MemoryError
    try:
        for graph, store in pairs:
            used = <uint8_t *>calloc(store.c.spans.len + 1, 1)
            if used == NULL:
                raise MemoryError
            with nogil:
                pth_audit_spans(graph.c, store.c, used)
                for i in range(store.c.spans.len):
                    if used[i] and (<const pth_span *>store.c.spans.data)[i].member < n:
                        claimed[(<const pth_span *>store.c.spans.data)[i].member] = 1
            free(used)
            used = NULL
        return [i for i in range(n) if not claimed[i]]
    finally:
        free(used)
        free(claimed)


# ---- ledger ----

@cython.no_gc_clear
cdef class Ledger:
    """Whose each byte of a file is: claims in, sums out. Kinds are those of LEDGER."""
    cdef pth_ledger c
    cdef readonly Arena arena

    def __cinit__(self, Arena arena, uint64_t size):
        self.arena = arena
        pth_ledger_init(&self.c, &arena.c, size)

    def __dealloc__(self):
        if self.arena is not None:
            pth_ledger_free(&self.c)

    def claim(self, uint64_t begin, uint64_t end, str kind, bint counted=True):
        """Bytes begin..end of the file. Not counted: they belong to a part that was."""
        cdef pth_err err
        if pth_ledger_claim(&self.c, begin, end, _KIND_OF[kind], counted, &err):
            raise_err(&err)

    def inside(self, uint64_t base):
        """Claims from now on, but those of tensors, come from a file that begins at byte `base` of this one."""
        pth_ledger_inside(&self.c, base)

    def spans(self, Store store, uint64_t header):
        """The storages of a container that is no zip, each with a header before it."""
        cdef pth_err err
        if pth_ledger_spans(&self.c, store.c, header, &err):
            raise_err(&err)

    def members(self, Zip z, const uint8_t[::1] kinds, window, uint64_t window_off):
        """A zip's members inside of a window, their data of the kind that `kinds` says; where the next window must begin, or None."""
        cdef Buffer buffer = Buffer(window)
        cdef pth_err err
        cdef uint64_t want = 0
        cdef c_bool more = False
        cdef int rc
        if kinds.shape[0] <= <Py_ssize_t>z.c.entries.len:
            raise ValueError("a kind for each entry, and one more byte")
        rc = pth_ledger_zip(&self.c, &z.c, &kinds[0], buffer.bytes, window_off, z.ending.dir_off, &want, &more, &err)
        if rc:
            raise_err(&err)
        return want if more else None

    def ending(self, Zip z):
        """A zip's directory and end records."""
        cdef pth_err err
        if pth_ledger_zip_end(&self.c, &z.ending, &err):
            raise_err(&err)

    def tensors(self, Tensors tensors, Zip z, pickle_off, uint8_t table, order):
        """The elements of a table of tensors, the `table`-th, credited in this order of all rows.

        pickle_off: where its pickle lies in the file; None: it was deflated.
        """
        cdef const uint32_t[::1] rows = tensors.rows_of(order)
        cdef const uint32_t[::1] first = memoryview(tensors.same_elements(order)).cast("I")
        cdef uint64_t off = PTH_INFLATED if pickle_off is None else pickle_off
        cdef pth_err err
        cdef int rc
        with nogil:
            rc = pth_ledger_tensors(&self.c, &tensors.c, &z.c if z is not None else NULL, &rows[0], &first[0], off, table, &err)
        if rc:
            raise_err(&err)

    def settle(self):
        """[(kind, bytes, parts)]: the sum of the bytes is the file's size. Once, at last."""
        cdef pth_err err
        cdef int rc
        with nogil:
            rc = pth_ledger_settle(&self.c, &err)
        if rc:
            raise_err(&err)
        return [(kind, self.c.nbytes[i], self.c.n_claims[i]) for i, kind in enumerate(LEDGER)]

    def credits(self, uint8_t table, Tensors tensors):
        """A column of u64: bytes of the file that each tensor of a table is credited with."""
        cdef bytes out = bytes(8 * tensors.c.tensors.len)
        cdef uint64_t *at = <uint64_t *>PyBytes_AsString(out)
        cdef const pth_claim *claims = <const pth_claim *>self.c.claims.data
        cdef uint32_t i
        for i in range(self.c.claims.len):
            if claims[i].kind == PTH_L_TENSOR and claims[i].table == table and claims[i].row < tensors.c.tensors.len:
                at[claims[i].row] += claims[i].nbytes
        return out


BY_CONTAINER, BY_LAST = 0, -1


def group_names(list names, int depth):
    """(a column of u32: the group of each name, [what a group's names have in common]).

    depth n: the first n components of the module that a tensor belongs to, or its own name if that is none; BY_CONTAINER: all that
    stands before the last '/', and the first component behind it; BY_LAST: the last component.
    """
    cdef dict ids = {}
    cdef bytes out = bytes(4 * len(names))
    cdef uint32_t *at = <uint32_t *>PyBytes_AsString(out)
    cdef Py_ssize_t i, k, first, last, seps
    cdef str name
    cdef Py_UCS4 c
    for i in range(len(names)):
        name = <str>names[i]
        first = last = -1
        seps = 0
        if depth == BY_CONTAINER:
            last = name.rfind("/")
            first = name.find(".", last + 1)
            key = name if first < 0 else name[:first]
            if first < 0 and last >= 0:
                key = name[: last + 1]
        else:
            last = max(name.rfind("."), name.rfind("/"))
            if depth == BY_LAST:
                key = name[last + 1 :]
            else:
                first = last
                for k in range(1, max(last, 1)):  # a name may begin with a dot
                    c = name[k]
                    if c == u"." or c == u"/":
                        seps += 1
                        if seps == depth:
                            first = k
                            break
                key = name if last < 0 else name[:first]
        found = ids.get(key)
        if found is None:
            found = ids[key] = len(ids)
        at[i] = <uint32_t>found
    return out, list(ids)


def sums(groups, columns, uint32_t n):
    """For each of n groups [how many, sum of the first column, ...]: the groups are a column of u32, the columns of u64."""
    cdef const uint32_t[::1] group = memoryview(groups).cast("B").cast("I")
    cdef const uint64_t[::1] column
    cdef uint32_t i, k, m = <uint32_t>group.shape[0]
    cdef uint64_t *low = <uint64_t *>calloc(n + 1, sizeof(uint64_t))
    cdef uint64_t *high = <uint64_t *>calloc(n + 1, sizeof(uint64_t))
    cdef list out
    try:
        if low == NULL or high == NULL:
            raise MemoryError
        for i in range(m):
            if group[i] >= n:
                raise IndexError(group[i])
            low[group[i]] += 1
        out = [[low[k]] for k in range(n)]
        for data in columns:
            column = memoryview(data).cast("B").cast("Q")
            if column.shape[0] != group.shape[0]:
                raise ValueError("columns of one length")
            for k in range(n):
                low[k] = high[k] = 0
            for i in range(m):
                low[group[i]] += column[i]
                high[group[i]] += low[group[i]] < column[i]
            for k in range(n):
                top = <object>high[k]
                out[k].append(top << 64 | low[k])
        return out
    finally:
        free(low)
        free(high)
