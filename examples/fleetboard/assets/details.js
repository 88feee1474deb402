// The details of one device, its last events, and the buttons for faults.

import { arrange, byId, icon, make, post, setIcon, text } from "./dom.js";
import { stateNames } from "./fleet.js";
import { capital, clock, count, micros, plural, span } from "./format.js";

const reasons = { birth: "connected", heartbeat: "heartbeat", correction: "corrected its status", close: "disconnected", will: "the broker published its will" };
const reason = (r) => reasons[r] || r;

function line(e, withName) {
  const item = make("li", e.done ? "did" : "");
  const when = make("time", "", clock(e.at));
  const mark = e.done ? make("span") : icon(stateNames.indexOf(e.to));
  const words = make("span", "text");
  if (withName && e.device) words.append(make("strong", "", e.device), " ");
  if (e.done) words.append(e.device ? `simulated: ${e.done}` : e.done);
  else {
    words.append(e.initial ? `is ${e.to}` : e.from === e.to ? e.to : `${e.from} → ${e.to}`);
    if (e.reason) words.append(` (${reason(e.reason)})`);
  }
  item.append(when, mark, words);
  return item;
}

// events shows a list of events. It keeps the existing elements.
function events(list, all, withName) {
  const have = new Map([...list.children].map((n) => [n.dataset.key, n]));
  const seen = new Map();
  arrange(list, all.map((e) => {
    let key = JSON.stringify(e);
    const n = (seen.get(key) ?? 0) + 1;
    seen.set(key, n);
    key += n;
    const node = have.get(key) ?? line(e, withName);
    node.dataset.key = key;
    return node;
  }));
}

export class Details {
  name = null;
  info = null;
  noted = -1;
  asked = 0;
  from = null; // the element that had the focus before the details

  constructor(fleet, list) {
    this.fleet = fleet;
    this.list = list;
    byId("d-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (e) => { if (e.key === "Escape" && this.name !== null) this.close(); });
    for (const b of document.querySelectorAll("[data-fault]")) {
      b.addEventListener("click", async () => {
        const name = this.name;
        let problem;
        try {
          await post(`/api/device?name=${encodeURIComponent(name)}&fault=${b.dataset.fault}`);
        } catch (err) {
          problem = err.message;
        }
        if (name !== this.name) return; // closed, or another device is shown
        if (problem) text(byId("d-trouble"), problem);
        this.fetch();
      });
    }
    this.latest();
  }

  open(name) {
    this.from = document.activeElement;
    this.name = name;
    this.info = null;
    this.noted = -1;
    this.list.select(name);
    byId("d-events").replaceChildren();
    byId("details").hidden = false;
    byId("side").classList.add("open");
    this.draw();
    this.fetch();
    byId("d-name").focus({ preventScroll: true });
  }

  close() {
    const name = this.name;
    this.name = null;
    byId("details").hidden = true;
    byId("side").classList.remove("open");
    this.list.select(null);
    if (this.from?.isConnected && this.from.dataset.name === name) this.from.focus();
    else this.list.focus(name);
  }

  // second is called once per second, for values that are not in the stream.
  second() {
    if (this.name !== null) {
      const r = this.fleet.rows.get(this.name);
      if (r && r.events !== this.noted) this.fetch();
    }
    if (!document.hidden) this.latest();
    this.draw();
  }

  async fetch() {
    const name = this.name, turn = ++this.asked, noted = this.fleet.rows.get(name)?.events;
    try {
      const answer = await fetch(`/api/device?name=${encodeURIComponent(name)}`);
      if (!answer.ok || turn !== this.asked || name !== this.name) return;
      this.info = await answer.json();
      this.noted = noted;
      events(byId("d-events"), this.info.events, false);
      this.draw();
    } catch { /* the stream tells that the backend is gone */ }
  }

  async latest() {
    try {
      const answer = await fetch("/api/latest");
      if (answer.ok) events(byId("events"), await answer.json(), true);
    } catch { /* as above */ }
  }

  draw() {
    if (this.name === null) return;
    const r = this.fleet.rows.get(this.name), now = this.fleet.now(), info = this.info;
    text(byId("d-name"), this.name);
    setIcon(byId("d-icon"), r ? r.state : 0);
    text(byId("d-state"), capital(stateNames[r ? r.state : 0]));
    text(byId("d-since"), r ? `for ${span(now - r.since)}` : "is not known any more");
    byId("d-faults").hidden = !r?.simulated;
    if (!r) return;
    const until = info?.until ? `, ${span(info.until - now + 999)} more` : "";
    text(byId("d-trouble"), r.trouble ? `Simulated: ${r.trouble}${until}` : "No simulated fault.");
    const facts = [
      ["Backlog", r.reported ? plural(r.backlog, "reading") + (r.old && info?.reported ? `, ${span(now - info.reported)} ago` : "") : "–"],
      ["Lost", r.reported ? plural(r.dropped, "reading") : "–"],
      [`Latency, median of the last ${this.fleet.period()}`, micros(r.p50)],
      [`Latency, 99th percentile of the last ${this.fleet.period()}`, micros(r.p99)],
      ["Handled", plural(r.handled, "reading")],
      ["Reconnects", r.reported ? count(r.reconnects) : "–"],
      ["Boots", count(r.boots)],
      ["Flaps (offline and back online)", count(r.flaps)],
    ];
    if (info) {
      facts.push(["Last status", info.reason ? reason(info.reason) : "–"], ["Last message of the device", info.seen ? `${span(now - info.seen)} ago` : "–"],
        ["Version", info.version || "–"], ["Boot", info.boot ? "…" + info.boot.slice(-12) : "–"]);
    }
    const dl = byId("d-facts");
    while (dl.children.length > 2 * facts.length) dl.lastElementChild.remove();
    facts.forEach(([name, value], i) => {
      if (!dl.children[2 * i]) dl.append(make("dt"), make("dd"));
      text(dl.children[2 * i], name);
      text(dl.children[2 * i + 1], value);
    });
  }
}
