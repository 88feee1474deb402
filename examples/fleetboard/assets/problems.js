// The devices with problems, the most severe first. A fleet without problems takes one line.

import { arrange, attr, byId, icon, make, setIcon, text } from "./dom.js";
import { noProblem, severity, stateNames } from "./fleet.js";
import { capital, count, plural, span } from "./format.js";

const maxShown = 12, restAfter = 5000;

// order puts the most severe problem first, and then the oldest.
const order = (a, b) => severity(a) - severity(b) || a.since - b.since || (a.name < b.name ? -1 : 1);

export class Problems {
  items = new Map();
  touched = 0; // when the pointer or a key was last used here

  constructor(fleet, onSelect, onAll) {
    this.fleet = fleet;
    this.node = byId("problems-list");
    this.node.addEventListener("click", (e) => {
      const name = e.target.closest("button")?.dataset.name;
      if (name !== undefined) onSelect(name);
    });
    for (const kind of ["pointermove", "keydown", "focusin"]) this.node.addEventListener(kind, () => { this.touched = Date.now(); });
    byId("problems-all").addEventListener("click", onAll);
  }

  // held returns whether the list is in use. Then its elements do not move.
  held() {
    return Date.now() - this.touched < restAfter && (this.node.matches(":hover") || this.node.contains(document.activeElement));
  }

  draw() {
    const { fleet } = this, lost = fleet.link && !fleet.link.trusted, counts = [0, 0, 0, 0];
    let rows = [];
    for (const r of fleet.rows.values()) {
      const s = severity(r);
      if (s === noProblem) continue;
      counts[s]++;
      // While the backend is disconnected, each online device becomes stale. The backend has the problem then.
      if (!lost || stateNames[r.state] !== "stale" || r.losing) rows.push(r);
    }
    const all = rows.length;
    if (!this.held()) {
      rows.sort(order);
      rows = rows.slice(0, maxShown);
      const wanted = new Set(rows.map((r) => r.name));
      for (const name of this.items.keys()) if (!wanted.has(name)) this.items.delete(name);
      arrange(this.node, rows.map((r) => this.item(r)), byId("problems"));
    } else {
      for (const name of this.items.keys()) if (fleet.rows.has(name)) this.item(fleet.rows.get(name));
    }
    byId("problems").classList.toggle("calm", all === 0 && !lost);
    byId("problems-all").hidden = all <= maxShown;
    text(byId("problems-all"), `Show all ${count(all)} in the list of devices`);
    text(byId("problems-title"), all === 0 ? "Problems" : `Problems: ${plural(all, "device")}`);
    text(byId("problems-text"), this.words(all, counts, lost));
  }

  words(all, [losing, offline, stale, unknown], lost) {
    const n = this.fleet.rows.size;
    if (lost && stale > 0) return `${plural(stale, "device")} became stale because the backend is disconnected. Their current states are unknown.`;
    if (lost) return "The backend is disconnected. This is the last known state.";
    if (n === 0) return "No devices yet.";
    if (all === 0) return n === 1 ? "None. The device is online." : `None. All ${count(n)} devices are online.`;
    return [[losing, "losing readings"], [offline, "offline"], [stale, "stale"], [unknown, "unknown"]]
      .filter(([k]) => k > 0).map(([k, what]) => `${count(k)} ${what}`).join(", ");
  }

  item(r) {
    let item = this.items.get(r.name);
    if (!item) {
      item = make("li");
      const button = make("button");
      button.type = "button";
      button.dataset.name = r.name;
      button.append(icon(r.state), make("span", "name", r.name), make("span", "more"));
      item.append(button);
      this.items.set(r.name, item);
    }
    const button = item.firstElementChild, state = stateNames[r.state], kind = r.losing ? "losing" : state;
    setIcon(button.firstElementChild, kind);
    attr(button, "class", kind);
    const parts = [r.state === 1 ? "Online" : `${capital(state)} for ${span(this.fleet.now() - r.since)}`];
    if (r.losing) parts.push(`losing readings (${count(r.dropped)} lost so far)`);
    if (r.backlog > 0) parts.push(`backlog: ${plural(r.backlog, "reading")}`);
    text(button.lastElementChild, parts.join(", "));
    return item;
  }
}
