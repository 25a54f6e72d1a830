"use strict";
// What the page does beyond being read: zoom, search, sort, keys. All of it works on what is there.
const all = (what, inside = document) => [...inside.querySelectorAll(what)];
const one = (what, inside = document) => inside.querySelector(what);

// ---- the treemap: a view of a part of it, stretched over all of its place ----
const map = one(".map");
let view = null, whole = null;

function boxOf(item) {
  if (item.box) return item.box;
  const b = item.dataset.b;
  if (b) return (item.box = b.split(" ").map(Number));
  const r = one("rect", item);
  return (item.box = ["x", "y", "width", "height"].map((n) => +r.getAttribute(n)));
}
const isPart = (item) => item.classList.contains("t") || item.classList.contains("g");
const below = (group) => [...group.children].filter(isPart);
const nameOf = (item) => (item.name ??= item.dataset.n ?? one("title", item).textContent.split("\n")[0]);
const isTile = (item) => item.classList.contains("t");

const lastOf = (name) => name.slice(name.lastIndexOf(".") + 1);
const fit = (texts, width) => texts.find((t) => t && t.length * 6.7 + 10 <= width) ?? "";

function draw() {
  const width = Math.round(map.getBoundingClientRect().width) || 1200;
  const height = Math.round(width < 700 ? width * 1.15 : Math.min(560, width * 0.467));
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [vx, vy, vw, vh] = boxOf(view);
  const place = ([x, y, w, h]) => [((x - vx) / vw) * width, ((y - vy) / vh) * height, (w / vw) * width, (h / vh) * height];
  const put = (rect, box) => ["x", "y", "width", "height"].forEach((n, i) => rect.setAttribute(n, box[i].toFixed(1)));
  for (const item of all(".t, .g", map)) {
    const inside = view.contains(item);
    item.style.display = inside || item.contains(view) ? "" : "none";
    const rect = one(":scope > rect", item);
    rect.style.display = inside ? "" : "none"; // the frame of what is around the view
    if (inside) put(rect, place(boxOf(item)));
  }
  const labels = one(".labels", map);
  labels.replaceChildren();
  const write = (x, y, text, strong) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "text");
    made.setAttribute("x", x.toFixed(1));
    made.setAttribute("y", y.toFixed(1));
    if (strong) made.setAttribute("class", "b");
    made.textContent = text;
    labels.append(made);
  };
  const base = view !== whole ? nameOf(view) : "";
  const local = (name, above) => (above && name.startsWith(above) ? name.slice(above.length).replace(/^[./]/, "") : name);
  const leaves = (group, above, free) => {
    for (const item of below(group)) {
      if (!isTile(item)) { leaves(item, above, free); continue; }
      const [x, y, w, h] = place(boxOf(item));
      if (h < 16 || y + h - 16 < free) continue;
      const name = local(nameOf(item), above);
      const module = name.slice(0, Math.max(0, name.lastIndexOf(".")));
      const text = fit([name, module, lastOf(module)], w);
      if (text) write(x + 6, y + h - 6, text, false);
    }
  };
  for (const edge of all(".wide", map)) edge.classList.remove("wide");
  // In place of a list of layers, and of what is most of the view, their parts are named.
  const isLayer = (item) => /(^|[./])\d+(-\d+)?$/.test(nameOf(item)) || item.classList.contains("more");
  const most = (vw * vh) / 2;
  const named = (group) => below(group).flatMap((item) => {
    const parts = isTile(item) ? [] : below(item), [, , w, h] = boxOf(item);
    const inner = parts.every(isLayer) || (w * h > most && !parts.every(isTile));
    return parts.length > 1 && parts.length <= 80 && inner ? named(item) : [item];
  });
  const area = boxOf(whole)[2] * boxOf(whole)[3];
  for (const item of isTile(view) ? [view] : named(view)) {
    const box = boxOf(item), [x, y, w, h] = place(box), full = local(nameOf(item), base);
    let own = isTile(item) ? full.slice(0, Math.max(0, full.lastIndexOf("."))) : full;
    if (/(^|[./])\d+(-\d+)?$/.test(own)) own = own.split(".").slice(-2).join(".");
    const name = isTile(item) || !isLayer(item) ? full : own;
    const text = h >= 20 ? fit([`${name}  ${((100 * box[2] * box[3]) / area).toFixed(1)} %`, name, own, lastOf(own)], w) : "";
    if (text) write(x + 6, y + 15, text, true);
    one(":scope > rect", item).classList.add("wide");
    if (isTile(item)) continue;
    leaves(item, nameOf(item), text ? y + 20 : y);
  }
  crumbs();
}

function crumbs() {
  const place = one(".crumbs");
  place.replaceChildren();
  const path = [];
  for (let at = view; at && at !== map; at = at.parentElement) path.unshift(at);
  path.forEach((group, i) => {
    if (i) place.append(" › ");
    const name = i ? nameOf(group).slice(path[i - 1] === whole ? 0 : nameOf(path[i - 1]).length).replace(/^[./]/, "") : "all";
    if (group === view) { place.append(path.length > 1 ? name : ""); return; }
    const link = document.createElement("a");
    link.textContent = name;
    link.tabIndex = 0;
    link.setAttribute("role", "button");
    link.addEventListener("click", () => zoom(group));
    link.addEventListener("keydown", (e) => { if (e.key === "Enter") zoom(group); });
    place.append(link);
  });
}

function zoom(group) { view = group; draw(); }

if (map) {
    view = whole = [...map.children].find(isPart);
  map.addEventListener("click", (e) => {
    const tile = e.target.closest(".t");
    if (!tile) return;
    let next = tile;
    while (next.parentElement !== view && next !== view) next = next.parentElement;
    if (next !== tile && next !== view) { e.preventDefault(); zoom(next); }
  });
  let wait = 0;
  new ResizeObserver(() => { cancelAnimationFrame(wait); wait = requestAnimationFrame(draw); }).observe(map.parentElement);
}

for (const link of all("svg a")) link.tabIndex = -1; // the tree and the table lead there too

// ---- tables that can be sorted ----
const worth = (cell) => {
  const text = cell ? cell.textContent.trim() : "";
  const n = parseFloat(text.replace(/[,<\s]/g, ""));
  return Number.isNaN(n) ? text.toLowerCase() : n;
};
for (const head of all(".list th")) {
  head.setAttribute("aria-sort", "none");
  head.tabIndex = 0;
  const sort = () => {
    const column = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") === (column ? "descending" : "none");
    const body = one("tbody", head.closest("table"));
    for (const h of head.parentElement.children) h.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [column ? worth(row.cells[column]) : row.cells[0].textContent, row]);
    const order = (a, b) => typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true })) : typeof a === "number" ? 1 : -1;
    rows.sort(([a], [b]) => (up ? order(a, b) : order(b, a)));
    body.append(...rows.map(([, row]) => row));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (e) => { if (e.key === "Enter") sort(); });
}

// ---- search: names that hold all words ----
const search = one("#search");
const rows = all(".list tbody tr");
function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (name) => words.every((w) => name.toLowerCase().includes(w));
  for (const row of rows) row.classList.toggle("hide", !holds(row.cells[0].textContent));
  if (map) for (const tile of all(".t", map)) tile.classList.toggle("dim", words.length > 0 && !holds(nameOf(tile)));
  const visit = (list, above) => {
    let any = false;
    for (const item of list.children) {
      const name = `${above}.${one("a", item)?.textContent ?? ""}`;
      const inner = one(":scope > details", item);
      const found = inner ? visit(one(":scope > ul", inner), name) || holds(name) : holds(name);
      item.classList.toggle("hide", words.length > 0 && !found);
      if (inner && words.length) inner.open = found;
      any ||= found;
    }
    return any;
  };
  visit(one(".tree"), "");
}
search.hidden = false;
one(".keys").hidden = false;
search.addEventListener("input", find);

// ---- the panel, and keys ----
const cards = all(".card[id^=t]");
const close = () => { location.hash = "-"; };
function mark() {
  const hash = location.hash;
  if (map) for (const tile of all("a.t", map)) tile.classList.toggle("on", tile.getAttribute("href") === hash);
  const card = one(".card:target");
  if (card) card.scrollTop = 0;
}
addEventListener("hashchange", mark);
mark();
document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const card = one(".card:target");
  if (e.key === "Escape") {
    if (e.target === search) { search.value = ""; find(); search.blur(); }
    else if (card) close();
    else if (map && view !== whole) zoom(view.parentElement.closest(".g") ?? whole);
  } else if (e.target.tagName === "INPUT") return;
  else if (e.key === "/") { e.preventDefault(); search.focus(); }
  else if ((e.key === "ArrowRight" || e.key === "ArrowLeft") && cards.length && card) {
    const at = cards.indexOf(card) + (e.key === "ArrowRight" ? 1 : -1);
    if (cards[at]) location.hash = cards[at].id;
    e.preventDefault();
  }
});
