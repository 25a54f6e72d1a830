/* csrc/pickle.h, csrc/audit.h: bytes -> graph -> what it names and calls. The first run is judged; others must agree with it. */
#include <stdlib.h>

#include "fuzz.h"

/* The most that one byte of a pickle can cost: a list is one byte, a node and a place on the stack. */
enum { BYTES_EACH = 32, BYTES_ALWAYS = 16384, FRAME = 0x95 };

/* And for an audit: a global takes three bytes, and two tables of names. */
enum { AUDIT_EACH = 224 };

static pth_limits limits;

static pth_arena arena(size_t size, uint64_t seed) { return fuzz_arena((uint64_t)size * BYTES_EACH + BYTES_ALWAYS, seed); }

static int run(pth_graph *g, pth_arena *a, pth_bytes in, pth_err *err) {
  *err = (pth_err){0};
  pth_graph_init(g, a);
  int rc = pth_pickle_run(g, in, &limits, err);
  check_error(rc, err, in.len);
  CHECK(rc != PTH_E_BUDGET && rc != PTH_E_MEMORY); /* linear */
  return rc;
}

static void discard(pth_graph *g) {
  pth_graph_free(g);
  CHECK(g->arena->used == 0);
}

/* A FRAME may reach behind STOP, and the budget of what is decoded does. */
static bool reaches_behind(const pth_graph *g) {
  bool found = g->frame_straddled;
  for (uint32_t i = 0; i < g->globals.len; i++) found = found || PTH_AT(pth_global, g->globals, i).meaning == PTH_G_CODECS_ENCODE;
  return found;
}

/* Bytes behind STOP do not count (but for a FRAME that reaches there, and the budget of what is decoded), nor does the seed, nor how pools
 * grow. */
static void check_again(const pth_graph *first, size_t size) {
  bool all = reaches_behind(first);
  pth_arena a = arena(size, 2);
  pth_graph again;
  pth_err err;
  a.exact = size % 8 == 0;
  CHECK(run(&again, &a, (pth_bytes){first->in.data, all ? size : first->end}, &err) == 0);
  check_same_graph(first, &again);
  discard(&again);
}

/* Twice the same, joined: two of everything below a dict of two names, and neither knows the other's memo. */
static void check_joined(const pth_graph *first, size_t size) {
  uint64_t n = first->end;
  uint8_t *twice = malloc(2 * (size_t)n + 2);
  CHECK(twice != NULL);
  for (int i = 0; i < 2; i++) {
    twice[(uint64_t)i * (n + 1)] = (uint8_t)('a' + i);
    memcpy(twice + (uint64_t)i * (n + 1) + 1, first->in.data, (size_t)n);
  }
  pth_piece pieces[2] = {{0, 1, n + 1}, {n + 1, n + 2, 2 * n + 2}};
  pth_arena a = arena(2 * size, 5);
  pth_graph g;
  pth_graph_init(&g, &a);
  CHECK(pth_pickle_join(&g, (pth_bytes){twice, 2 * n + 2}, pieces, 2, &limits, NULL) == 0);
  CHECK(pth_node_at(&g, g.root)->kind == PTH_NODE_DICT && pth_n_items(&g, g.root) == 4 && g.end == 2 * n + 2);
  CHECK(g.nodes.len == 2 * (first->nodes.len - PTH_N_FIXED) + PTH_N_FIXED + 3);
  CHECK(g.globals.len == 2 * first->globals.len && g.n_ops == 2 * first->n_ops && g.text.len == 2 * first->text.len);
  check_graph(&g, true);
  discard(&g);
  free(twice);
}

/* A pickle that is cut says so, and nothing else: whoever reads in windows relies on it. */
static void check_cut(const pth_graph *first, size_t size) {
  uint64_t cut = fuzz_pick(first->in.data, size, first->end);
  pth_arena a = arena(size, 3);
  pth_graph part;
  pth_err err;
  int rc = run(&part, &a, fuzz_part(first->in, 0, cut), &err);
  CHECK(rc == PTH_E_PICKLE_TRUNCATED || rc == PTH_E_PICKLE_LINE);
  check_same_globals(&part, first, part.globals.len);
  discard(&part);
}

/* What stands before the refused opcode is read as if that were the end; but a FRAME that reaches beyond is refused earlier. */
static void check_before(const pth_graph *first, const pth_err *why, size_t size) {
  pth_arena a = arena(size, 4);
  pth_graph before;
  pth_err err;
  uint32_t n = 0;
  CHECK(run(&before, &a, fuzz_part(first->in, 0, why->off), &err) == PTH_E_PICKLE_TRUNCATED && err.off <= why->off);
  while (n < first->globals.len && PTH_AT(pth_global, first->globals, n).at < err.off) n++;
  CHECK(before.globals.len == n);
  check_same_globals(&before, first, n);
  if (err.off == why->off)
    CHECK(before.n_ops == first->n_ops - (why->off < size) && first->globals.len - n <= 1);
  else
    CHECK(first->in.data[err.off] == FRAME);
  discard(&before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (limits.max_pickle_bytes == 0) limits = fuzz_limits();
  pth_arena a = arena(size, 1);
  pth_graph g;
  pth_err err;
  int rc = run(&g, &a, (pth_bytes){data, size}, &err);
  check_graph(&g, rc == 0);
  if (rc == 0) {
    check_again(&g, size);
    if (!reaches_behind(&g)) check_joined(&g, size);
    check_cut(&g, size);
  } else {
    check_before(&g, &err, size);
  }
  a.budget = (uint64_t)size * AUDIT_EACH + 2 * BYTES_ALWAYS; /* of the graph, too */
  (void)check_audit(&g, NULL, size % 2, &limits);
  discard(&g);
  fuzz_count(rc);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed) {
  uint64_t rng = fuzz_rng(seed);
  return mutate_pickle(data, size, max, &rng);
}
