#include "gadget.h"

bool pth_is_gadget(enum pth_meaning m) { return m == PTH_G_FOLD || m == PTH_G_MAP || m == PTH_G_MEMMAP; }

bool pth_gadget_call_fits(pth_facts *f, uint32_t id, enum pth_meaning m) {
  const pth_node *call = pth_node_at(f->g, id);
  const pth_ext *ext = pth_ext_of(f->g, call);
  if (!pth_call_fits(f, call, pth_meanings[m].calls) || (ext != NULL && ext->kwargs != PTH_NONE)) return false;
  enum pth_meaning first = pth_meaning_of_node(f->g, pth_item(f->g, pth_args_of(call), 0), NULL);
  if (m == PTH_G_FOLD) return first == PTH_G_OR;
  /* What is known and checked in calls of its own would be called with what nobody has checked. */
  return m == PTH_G_MAP && (first == PTH_G_UNKNOWN || first == PTH_G_NAMED);
}

int pth_gadget_places(const pth_graph *g, pth_pool *places, pth_err *err) {
  int rc = pth_pool_reserve(g->arena, places, g->kids.len / 8 + 1, err);
  if (rc) return rc;
  memset(places->data, 0, g->kids.len / 8 + 1);
  for (uint32_t round = 0; round < 2; round++) { /* other calls may have the same arguments */
    for (uint32_t id = PTH_N_FIXED; id < g->nodes.len; id++) {
      bool takes = pth_is_meant(g, id, PTH_G_NUMPY_RECONSTRUCT);
      if (pth_node_at(g, id)->kind != PTH_NODE_OBJECT || takes == (round > 0)) continue;
      uint32_t args = pth_args_of(pth_node_at(g, id));
      if (pth_node_at(g, args)->kind != PTH_NODE_TUPLE || pth_meaning_of_node(g, pth_item(g, args, 0), NULL) != PTH_G_MEMMAP) continue;
      uint32_t at = pth_items_of(g, args).at;
      uint8_t bit = (uint8_t)(1u << at % 8), *byte = &PTH_AT(uint8_t, *places, at / 8);
      *byte = takes ? *byte | bit : (uint8_t)(*byte & ~bit);
    }
  }
  return 0;
}
