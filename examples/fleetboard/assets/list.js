// The devices, as a grid of all devices or as a table with pages. Filtering and
// sorting pause while the list is in use, so that an element does not move under a
// click.

import { arrange, attr, byId, icon, make, setIcon, text } from "./dom.js";
import { severity, stateNames } from "./fleet.js";
import { capital, count, micros, plural, span } from "./format.js";

const perPage = 100, denseAbove = 400, resortEvery = 3000, restAfter = 5000;

// These sort in ascending order by default.
const ascending = new Set(["name", "state"]);

const orders = {
  name: (a, b) => compareNames(a, b),
  state: (a, b) => severity(a) - severity(b),
};
const collator = new Intl.Collator("en", { numeric: true });
const compareNames = (a, b) => collator.compare(a.name, b.name) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

export class List {
  shown = []; // names, filtered and sorted
  cells = new Map();
  lines = new Map();
  asTable = false;
  sort = "name";
  up = true;
  states = new Set(); // of the filter: numbers, and "losing"
  search = "";
  page = 0;
  selected = null;
  sorted = 0; // time of the last sort
  touched = 0; // when the pointer or a key was last used in the list
  pending = false; // the list must be sorted again
  named = null; // the device under the pointer
  known = new Set(); // names at the last sort

  constructor(fleet, onSelect) {
    this.fleet = fleet;
    this.grid = byId("grid");
    this.body = byId("rows");
    this.onSelect = onSelect;
    byId("search").addEventListener("input", (e) => { this.search = e.target.value.trim().toLowerCase(); this.page = 0; this.refresh(); });
    for (const b of document.querySelectorAll("[data-state]")) {
      b.addEventListener("click", () => {
        const state = b.dataset.state === "losing" ? "losing" : Number(b.dataset.state), on = !this.states.delete(state);
        if (on) this.states.add(state);
        attr(b, "aria-pressed", String(on));
        this.page = 0;
        this.refresh();
      });
    }
    byId("sort").addEventListener("change", (e) => this.sortBy(e.target.value, ascending.has(e.target.value)));
    for (const th of document.querySelectorAll("th[data-sort]")) {
      th.firstElementChild.addEventListener("click", () => {
        const by = th.dataset.sort;
        this.sortBy(by, this.sort === by ? !this.up : ascending.has(by));
      });
    }
    byId("as-grid").addEventListener("click", () => this.show(false));
    byId("as-table").addEventListener("click", () => this.show(true));
    byId("back").addEventListener("click", () => { this.page--; this.draw(); });
    byId("forth").addEventListener("click", () => { this.page++; this.draw(); });
    const pick = (e) => {
      const button = e.target.closest("button[data-name]");
      const row = e.target.closest("tr[data-name]");
      const name = button?.dataset.name ?? row?.dataset.name;
      if (name !== undefined) this.onSelect(name);
    };
    for (const node of [this.grid, this.body]) {
      for (const kind of ["pointermove", "keydown", "focusin"]) node.addEventListener(kind, () => { this.touched = Date.now(); });
    }
    this.grid.addEventListener("click", pick);
    this.body.addEventListener("click", pick);
    // Small cells have no names, so the name of the device under the pointer is shown above.
    for (const kind of ["pointerover", "focusin"]) {
      this.grid.addEventListener(kind, (e) => { this.named = e.target.closest("button")?.dataset.name ?? null; this.say(); });
    }
    for (const kind of ["pointerleave", "focusout"]) this.grid.addEventListener(kind, () => { this.named = null; this.say(); });
    // The arrow keys move through the grid, so that Tab leaves it.
    this.grid.addEventListener("keydown", (e) => this.move(e));
    this.mark();
  }

  show(asTable) {
    this.asTable = asTable;
    byId("table").hidden = !asTable;
    this.grid.hidden = asTable;
    attr(byId("as-grid"), "aria-pressed", String(!asTable));
    attr(byId("as-table"), "aria-pressed", String(asTable));
    this.refresh();
  }

  sortBy(by, up) {
    this.sort = by;
    this.up = up;
    this.page = 0;
    this.mark();
    this.refresh();
  }

  mark() {
    for (const th of document.querySelectorAll("th[data-sort]")) {
      if (th.dataset.sort === this.sort) attr(th, "aria-sort", this.up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    const select = byId("sort");
    if ([...select.options].some((o) => o.value === this.sort)) select.value = this.sort;
    else select.selectedIndex = -1;
  }

  held() {
    const place = this.asTable ? this.body : this.grid;
    return Date.now() - this.touched < restAfter && (place.matches(":hover") || place.contains(document.activeElement));
  }

  matches(row) {
    return (this.states.size === 0 || this.states.has(row.state) || row.losing && this.states.has("losing")) && (this.search === "" || row.name.toLowerCase().includes(this.search));
  }

  // take applies the changes of a frame.
  take(change) {
    for (const name of change.gone) {
      this.cells.delete(name);
      this.lines.delete(name);
    }
    const others = change.gone.size > 0 || [...change.changed].some((name) => !this.known.has(name));
    const moving = this.sort !== "name" || this.states.size > 0;
    this.pending ||= others || moving;
    if (change.all || others && !moving || this.pending && Date.now() - this.sorted > resortEvery && !this.held()) {
      this.refresh();
      return;
    }
    for (const name of change.changed) {
      if (this.asTable) this.drawLine(name);
      else this.drawCell(name);
    }
    this.say();
  }

  // refresh filters and sorts again.
  refresh() {
    this.sorted = Date.now();
    this.pending = false;
    this.known = new Set(this.fleet.rows.keys());
    const rows = [...this.fleet.rows.values()].filter((r) => this.matches(r));
    const order = orders[this.sort] || ((a, b) => a[this.sort] - b[this.sort]);
    const sign = this.up ? 1 : -1;
    rows.sort((a, b) => sign * order(a, b) || compareNames(a, b));
    this.shown = rows.map((r) => r.name);
    this.draw();
  }

  draw() {
    const pages = Math.max(1, Math.ceil(this.shown.length / perPage));
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    byId("pages").hidden = !this.asTable || pages === 1;
    if (this.asTable) {
      const names = this.shown.slice(this.page * perPage, (this.page + 1) * perPage), wanted = new Set(names);
      for (const name of this.lines.keys()) if (!wanted.has(name)) this.lines.delete(name);
      arrange(this.body, names.map((name) => this.drawLine(name, true)));
      text(byId("page"), `Page ${this.page + 1} of ${pages}`);
      byId("back").disabled = this.page === 0;
      byId("forth").disabled = this.page === pages - 1;
    } else {
      this.grid.classList.toggle("dense", this.shown.length > denseAbove);
      arrange(this.grid, this.shown.map((name) => this.drawCell(name)));
      this.oneTabStop();
    }
    this.say();
  }

  say() {
    const all = this.fleet.rows.size, n = this.shown.length, r = this.fleet.rows.get(this.named);
    if (r && n > denseAbove && !this.asTable) {
      text(byId("matches"), `${r.name}: ${stateNames[r.state]} for ${span(this.fleet.now() - r.since)}` + (r.backlog > 0 ? `, backlog: ${plural(r.backlog, "reading")}` : ""));
      return;
    }
    text(byId("matches"), all === 0 ? "No devices yet" : n === all ? `All ${count(all)} devices` : `${count(n)} of ${count(all)} devices`);
  }

  more(r) {
    if (r.losing) return "losing readings";
    if (r.trouble && r.simulated && r.state === 1) return r.trouble;
    const known = r.state === 3 && !this.fleet.link.trusted; // the last known number; the backend is disconnected
    if (r.state !== 1 && !known) return `for ${span(this.fleet.now() - r.since)}`;
    return r.backlog > 0 ? plural(r.backlog, "reading") : micros(r.p50);
  }

  drawCell(name) {
    const r = this.fleet.rows.get(name);
    let item = this.cells.get(name);
    if (!r) return item;
    if (!item) {
      item = make("li");
      const button = make("button");
      button.type = "button";
      button.tabIndex = -1;
      button.dataset.name = name;
      button.append(icon(r.state), make("span", "name", name), make("span", "more"));
      item.append(button);
      this.cells.set(name, item);
    }
    const button = item.firstElementChild, state = stateNames[r.state] || "unknown", kind = r.losing ? "losing" : state;
    setIcon(button.firstElementChild, kind);
    attr(button, "class", kind);
    const more = this.more(r);
    text(button.lastElementChild, more);
    attr(button, "aria-label", `${name}, ${state}, ${more}`);
    attr(button, "title", `${name}: ${state}`);
    this.current(button, name);
    return item;
  }

  drawLine(name, create) {
    const r = this.fleet.rows.get(name);
    let line = this.lines.get(name);
    if (!r || !line && !create) return line;
    if (!line) {
      line = make("tr");
      line.dataset.name = name;
      const button = make("button", "", name), first = make("td");
      button.type = "button";
      button.dataset.name = name;
      first.append(button);
      const state = make("td");
      state.append(icon(r.state), make("span"));
      line.append(first, state, make("td"));
      for (let i = 0; i < 6; i++) line.append(make("td", "n"));
      this.lines.set(name, line);
    }
    const [, state, since, backlog, p50, p99, reconnects, boots, flaps] = line.children;
    setIcon(state.firstElementChild, r.losing ? "losing" : r.state);
    text(state.lastElementChild, capital(stateNames[r.state] || "unknown") + (r.losing ? ", losing readings" : ""));
    text(since, span(this.fleet.now() - r.since));
    text(backlog, r.reported ? count(r.backlog) : "–");
    attr(backlog, "class", r.old ? "n old" : "n");
    attr(backlog, "title", r.old ? "As the device reported more than 10 seconds ago" : "");
    text(p50, micros(r.p50));
    text(p99, micros(r.p99));
    text(reconnects, r.reported ? count(r.reconnects) : "–");
    text(boots, count(r.boots));
    text(flaps, count(r.flaps));
    this.current(line, name);
    return line;
  }

  current(node, name) {
    if (name === this.selected) attr(node, "aria-current", "true");
    else node.removeAttribute("aria-current");
  }

  // second is called once per second and updates the visible durations.
  second() {
    if (this.asTable) for (const name of this.lines.keys()) this.drawLine(name);
    else if (!this.grid.classList.contains("dense")) {
      for (const name of this.shown) if (this.fleet.rows.get(name)?.state !== 1) this.drawCell(name);
    }
  }

  select(name) {
    const before = this.selected;
    this.selected = name;
    for (const n of [before, name]) {
      if (n === null) continue;
      if (this.cells.has(n)) this.drawCell(n);
      if (this.lines.has(n)) this.drawLine(n);
    }
    this.oneTabStop(name ?? before);
  }

  focus(name) {
    const node = this.asTable ? this.lines.get(name) : this.cells.get(name);
    node?.querySelector("button")?.focus();
  }

  oneTabStop(name) {
    const at = name ?? this.selected;
    let stop = this.shown.includes(at) ? this.cells.get(at)?.firstElementChild : undefined;
    stop ??= this.grid.querySelector('button[tabindex="0"]') ?? this.grid.querySelector("button");
    for (const b of this.grid.querySelectorAll('button[tabindex="0"]')) if (b !== stop) b.tabIndex = -1;
    if (stop) stop.tabIndex = 0;
  }

  move(e) {
    const item = e.target.closest("li");
    if (!item) return;
    const items = [...this.grid.children], i = items.indexOf(item);
    const columns = Math.max(1, items.findIndex((n) => n.offsetTop > items[0].offsetTop));
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, ArrowDown: i + columns, ArrowUp: i - columns, Home: 0, End: items.length - 1 }[e.key];
    if (to === undefined || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    const target = items[to]?.firstElementChild;
    if (!target) return;
    e.target.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
  }
}
