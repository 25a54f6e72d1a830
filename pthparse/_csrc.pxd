# The native core as Cython sees it: hand-kept, no more than is used. Meanings, units and ownership are in csrc/*.h.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "pth.h" nogil:
    ctypedef struct pth_bytes:
        const uint8_t *data
        uint64_t len

    ctypedef struct pth_err:
        int code
        int op
        uint64_t off
        uint64_t want
        uint64_t have

    ctypedef struct pth_limits:
        uint64_t max_arena_bytes

    ctypedef struct pth_arena:
        uint64_t used
        uint64_t budget
        uint64_t seed

    ctypedef struct pth_pool:
        void *data
        uint32_t len

    uint32_t PTH_NONE
    const char *PTH_COMPUTED_TEXT

    # graph
    enum:
        PTH_NODE_NONE
        PTH_NODE_FALSE
        PTH_NODE_TRUE
        PTH_NODE_INT
        PTH_NODE_BIGINT
        PTH_NODE_INTTEXT
        PTH_NODE_FLOAT
        PTH_NODE_FLOATTEXT
        PTH_NODE_STR
        PTH_NODE_STR8
        PTH_NODE_BYTES
        PTH_NODE_BYTEARRAY
        PTH_NODE_TUPLE
        PTH_NODE_FROZENSET
        PTH_NODE_LIST
        PTH_NODE_SET
        PTH_NODE_DICT
        PTH_NODE_GLOBAL
        PTH_NODE_OBJECT
        PTH_NODE_PERSID
        PTH_IN_TEXT
        PTH_N_DTYPES
        PTH_N_CODES
        PTH_N_MEANINGS
        PTH_N_LEGACY
        PTH_N_FINDINGS

    ctypedef struct pth_node:
        uint8_t kind
        uint8_t flags
        uint32_t a
        uint64_t b

    ctypedef struct pth_list:
        uint32_t n

    ctypedef struct pth_ext:
        uint32_t kwargs
        pth_list items
        pth_list pairs
        pth_list states

    ctypedef struct pth_dtype:
        const char *name
        const char *storage
        const char *numpy
        uint8_t itemsize
        uint8_t packing
        uint8_t swap
        uint8_t ml

    const pth_dtype pth_dtypes[]

    ctypedef struct pth_global:
        uint64_t at
        uint8_t op
        uint8_t meaning
        uint8_t dtype

    ctypedef struct pth_graph:
        pth_arena *arena
        pth_bytes input "in"
        pth_pool nodes
        pth_pool text
        pth_pool globals
        uint32_t root
        uint64_t end
        uint64_t n_ops
        uint8_t proto
        bint has_str8
        bint frame_straddled
        bint late_proto
        bint far_memo

    ctypedef struct pth_items:
        uint32_t left

    void pth_graph_init(pth_graph *g, pth_arena *a)
    void pth_graph_free(pth_graph *g)
    const pth_node *pth_node_at(const pth_graph *g, uint32_t id)
    pth_bytes pth_slice(const pth_graph *g, const pth_node *n)
    pth_bytes pth_global_module(const pth_graph *g, const pth_global *row)
    pth_bytes pth_global_name(const pth_graph *g, const pth_global *row)
    const pth_ext *pth_ext_of(const pth_graph *g, const pth_node *object)
    uint32_t pth_args_of(const pth_node *object)
    pth_items pth_items_of(const pth_graph *g, uint32_t id)
    ctypedef struct pth_pairs:
        uint32_t n
    bint pth_pairs_of(const pth_graph *g, uint32_t id, pth_pairs *out)
    bint pth_pairs_next(pth_pairs *it, uint32_t *key, uint32_t *value)
    pth_items pth_items_of_list(const pth_graph *g, pth_list list)
    bint pth_items_next(pth_items *it, uint32_t *kid)
    uint32_t pth_n_items(const pth_graph *g, uint32_t id)

    # pickle
    ctypedef struct pth_opcode:
        const char *name
        uint8_t code
        uint8_t proto

    const pth_opcode pth_opcodes[]
    uint32_t pth_n_opcodes
    ctypedef struct pth_piece:
        uint64_t name, begin, end
    int pth_pickle_run(pth_graph *g, pth_bytes data, const pth_limits *lim, pth_err *err)
    int pth_pickle_join(pth_graph *g, pth_bytes data, const pth_piece *pieces, uint32_t n, const pth_limits *lim, pth_err *err)

    # store, zip, legacy, tar
    ctypedef struct pth_span:
        pth_bytes key
        uint64_t off
        uint64_t len
        uint32_t member
        uint16_t code
        uint8_t dtype

    ctypedef struct pth_store:
        pth_pool spans
        bint fixed_little
        bint big

    int pth_store_init(pth_store *s, pth_arena *a, uint32_t expected, pth_err *err)
    int pth_store_add(pth_store *s, const pth_span *span, pth_err *err)
    void pth_store_free(pth_store *s)
    void pth_store_cut(pth_store *s, uint64_t file_len)
    uint32_t pth_store_find(const pth_store *s, pth_bytes key)

    enum:
        PTH_ZIP_TAIL
        PTH_ZIP_LOCAL

    ctypedef struct pth_zip_end:
        uint64_t eocd_off
        uint64_t end64_off
        uint64_t dir_off
        uint64_t dir_len
        uint64_t n_entries
        uint64_t trailing
        uint64_t comment_len

    ctypedef struct pth_zip_entry:
        uint64_t lho
        uint64_t room_end
        uint64_t csize
        uint64_t usize
        uint64_t data_off
        uint32_t crc
        uint16_t name_len
        uint16_t method
        uint16_t flags
        uint16_t code

    ctypedef struct pth_zip_odd:
        uint32_t entry
        uint16_t finding
        uint64_t off
        uint64_t len

    ctypedef struct pth_zip_sweep:
        uint64_t want
        uint64_t n_odds

    enum:
        PTH_ZIP_WINDOW

    ctypedef struct pth_zip:
        pth_arena *arena
        pth_pool entries
        pth_pool odds
        bint short_count

    int pth_zip_find(pth_bytes tail, uint64_t tail_off, uint64_t file_len, pth_zip_end *out, pth_err *err)
    int pth_zip_read(pth_zip *z, pth_arena *a, pth_bytes dir, const pth_zip_end *end, const pth_limits *lim, pth_err *err)
    void pth_zip_free(pth_zip *z)
    pth_bytes pth_zip_name(const pth_zip *z, uint32_t entry)
    uint32_t pth_zip_entry_named(const pth_zip *z, pth_bytes name, bint fold)
    int pth_zip_check(const pth_zip *z, uint32_t entry, pth_err *err)
    int pth_zip_local(pth_zip *z, uint32_t entry, pth_bytes header, uint64_t *data_off, uint16_t *odd, pth_err *err)
    c_bool pth_zip_locals(pth_zip *z, uint32_t *next, pth_bytes window, uint64_t window_off, uint64_t dir_off, uint64_t *want)
    int pth_zip_sweep_window(pth_zip *z, pth_zip_sweep *s, pth_bytes window, uint64_t window_off, uint64_t dir_off,
                             c_bool *more, pth_err *err)
    int pth_zip_store(const pth_zip *z, pth_bytes prefix, pth_bytes suffix, pth_store *out, pth_err *err)

    ctypedef struct pth_legacy:
        pth_graph *pickles
        uint64_t *at
        uint64_t end
        int n_read

    int pth_legacy_read(pth_legacy *l, pth_arena *a, pth_bytes data, const pth_limits *lim, pth_err *err)
    void pth_legacy_free(pth_legacy *l)
    int pth_legacy_store(const pth_legacy *l, uint64_t total_len, pth_store *out, uint64_t *end, pth_err *err)
    int pth_legacy_check(const pth_store *s, pth_bytes window, uint64_t window_off, uint32_t *next, pth_err *err)

    ctypedef struct pth_tar_entry:
        uint64_t size
        uint8_t name_len
        uint8_t type

    ctypedef struct pth_tar:
        pth_store store

    int pth_tar_header(pth_bytes block, pth_tar_entry *out, c_bool *used, pth_err *err)
    void pth_tar_init(pth_tar *t, pth_arena *a)
    void pth_tar_free(pth_tar *t)
    int pth_tar_count(pth_tar *t, pth_bytes data, const pth_limits *lim, uint64_t *n, uint64_t *used, pth_err *err)
    int pth_tar_storage(pth_tar *t, pth_bytes window, uint64_t window_off, uint64_t member_end,
                        const pth_limits *lim, uint64_t *next, pth_err *err)
    int pth_tar_views(pth_tar *t, pth_bytes data, const pth_limits *lim, pth_err *err)
    int pth_tar_tensors(pth_tar *t, pth_bytes member, const pth_limits *lim, pth_err *err)
    int pth_tar_finish(pth_tar *t, pth_err *err)

    # tensor
    enum:
        PTH_N_LAYOUTS
        PTH_T_NESTED
        PTH_F_GRAD
        PTH_F_PARAMETER
        PTH_F_CONJ
        PTH_F_NEG
        PTH_S_IN_PICKLE
        PTH_S_IN_TEXT
        PTH_S_MIXED
        PTH_S_LARGER
        PTH_S_META
        PTH_P_KEY

    const char *pth_layouts[]

    ctypedef struct pth_tensor:
        uint32_t node
        uint8_t kind
        uint8_t dtype
        uint8_t layout
        uint8_t flags
        uint32_t storage
        uint32_t n_dims
        uint32_t sizes
        uint32_t strides
        uint32_t part
        uint32_t cls
        uint32_t device
        uint16_t code
        uint8_t cast
        int64_t offset
        uint64_t numel
        uint64_t want
        uint64_t have

    ctypedef struct pth_storage:
        uint32_t span
        uint32_t key
        uint32_t location
        uint16_t code
        uint8_t dtype
        uint8_t flags
        uint64_t base
        uint64_t nbytes

    ctypedef struct pth_path:
        uint32_t parent
        uint32_t key
        uint32_t owner
        uint32_t len
        uint8_t kind
        uint8_t sep

    ctypedef struct pth_name:
        uint32_t path
        uint32_t tensor

    ctypedef struct pth_tensors:
        pth_arena *arena
        const pth_graph *graph
        const pth_store *store
        pth_pool tensors
        pth_pool storages
        pth_pool dims
        pth_pool paths
        pth_pool names
        bint whole_module
        bint flat

    ctypedef struct pth_dense:
        uint32_t span
        uint32_t dtype
        uint32_t n_dims
        const int64_t *sizes
        const int64_t *strides
        int64_t offset
        bint requires_grad

    int pth_tensors_read(pth_tensors *t, const pth_graph *g, const pth_store *s, const pth_limits *lim, pth_err *err)
    int pth_tensors_init(pth_tensors *t, pth_arena *a, const pth_graph *g, const pth_store *s, pth_err *err)
    int pth_tensors_add(pth_tensors *t, const pth_dense *d, const pth_limits *lim, uint32_t *row, pth_err *err)
    void pth_tensors_free(pth_tensors *t)
    # safetensors
    ctypedef struct pth_st_dtype:
        const char *name
        uint8_t dtype
        uint8_t bits

    const pth_st_dtype pth_st_dtypes[]
    uint32_t pth_n_st_dtypes

    ctypedef struct pth_safetensors:
        pth_arena *arena
        pth_store store
        pth_pool pairs
        uint64_t json
        uint64_t end
        bint in_order
        bint doubled

    int pth_safetensors_read(pth_safetensors *s, pth_arena *a, pth_bytes data, const pth_limits *lim, pth_err *err)
    void pth_safetensors_free(pth_safetensors *s)
    int pth_safetensors_tensors(const pth_safetensors *s, pth_tensors *t, const pth_limits *lim, pth_err *err)

    uint32_t pth_row_of_node(const pth_tensors *t, uint32_t node)
    bint pth_tensor_in_line(const pth_tensors *t, const pth_tensor *r)
    uint32_t pth_storage_of_node(const pth_tensors *t, uint32_t node)
    enum:
        PTH_DT_UNTYPED
    void pth_path_write(const pth_tensors *t, uint32_t path, uint8_t *out)

    # audit
    ctypedef struct pth_ref:
        uint32_t row
        uint32_t uses
        uint32_t call
        uint32_t calls
        bint misused

    ctypedef struct pth_odd:
        uint32_t node
        uint32_t ref
        uint16_t finding

    ctypedef struct pth_audit:
        pth_pool refs
        pth_pool odds
        pth_pool nested
        pth_pool traced
        uint64_t n_odds

    ctypedef struct pth_meaning_row:
        bint handled

    const pth_meaning_row pth_meanings[]
    int pth_audit_graph(pth_audit *a, const pth_graph *g, const pth_tensors *t, bint legacy, const pth_limits *lim, pth_err *err)
    void pth_audit_free(pth_audit *a)
    void pth_audit_spans(const pth_graph *g, const pth_store *s, uint8_t *used)

    # place
    enum:
        PTH_ZIP_STORED
    const uint64_t PTH_NOWHERE
    uint64_t pth_place(const pth_tensors *t, const pth_tensor *r, const pth_zip *z, bint big)

    # ledger
    const uint64_t PTH_INFLATED
    enum:
        PTH_N_LEDGER
        PTH_L_TENSOR

    ctypedef struct pth_claim:
        uint64_t begin
        uint64_t end
        uint64_t nbytes
        uint32_t row
        uint8_t kind
        uint8_t table

    ctypedef struct pth_ledger:
        pth_arena *arena
        pth_pool claims
        uint64_t *nbytes
        uint64_t *n_claims

    void pth_ledger_init(pth_ledger *l, pth_arena *a, uint64_t size)
    void pth_ledger_free(pth_ledger *l)
    void pth_ledger_inside(pth_ledger *l, uint64_t base)
    int pth_ledger_claim(pth_ledger *l, uint64_t begin, uint64_t end, int kind, bint counted, pth_err *err)
    int pth_ledger_spans(pth_ledger *l, const pth_store *s, uint64_t header, pth_err *err)
    int pth_ledger_zip(pth_ledger *l, pth_zip *z, const uint8_t *kinds, pth_bytes window, uint64_t window_off, uint64_t dir_off,
                       uint64_t *want, c_bool *more, pth_err *err)
    int pth_ledger_zip_end(pth_ledger *l, const pth_zip_end *end, pth_err *err)
    int pth_ledger_tensors(pth_ledger *l, const pth_tensors *t, const pth_zip *z, const uint32_t *order, const uint32_t *first,
                           uint64_t pickle_off, uint8_t table, pth_err *err)
    int pth_ledger_settle(pth_ledger *l, pth_err *err)
    int pth_same_elements(const pth_tensors *t, const uint32_t *order, uint32_t *first, pth_err *err)
