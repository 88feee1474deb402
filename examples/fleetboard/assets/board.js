// The page passes the frames of the stream to its parts, at most once per frame of
// the screen.

import { attr, byId, make, post, text } from "./dom.js";
import { Details } from "./details.js";
import { Fleet, listen } from "./fleet.js";
import { count, micros, plural, span } from "./format.js";
import { List } from "./list.js";
import { Plot } from "./plot.js";
import { Problems } from "./problems.js";

const spokenEvery = 15000;

const fleet = new Fleet();
let details;
const list = new List(fleet, (name) => details.open(name));
details = new Details(fleet, list);
const problems = new Problems(fleet, (name) => details.open(name), () => {
  list.sortBy("state", true);
  byId("fleet").focus();
});

const devices = (t) => t ? t.online + t.offline + t.stale + t.unknown : 0;
const counted = () => [1, count];
const latency = (most) => {
  const [unit, name] = most < 1e6 ? [1000, "ms"] : most < 120e6 ? [1e6, "s"] : [60e6, "min"];
  return [unit, (v) => `${count(v / unit)} ${name}`];
};
const plots = [
  { key: "online", title: "Online", unit: "devices", value: (v) => plural(v, "device"), axis: counted, floor: () => Math.max(1, devices(fleet.shown())) },
  { key: "rate", title: "Handled", unit: "readings per second", value: (v) => `${count(Math.round(v))}/s`, axis: () => [1, (v) => `${count(v)}/s`], floor: () => 10 },
  { key: "p99", title: "Latency", unit: "99th percentile of each second", value: micros, axis: latency, floor: () => 1000 },
  { key: "backlog", title: "Backlog", unit: "readings not delivered yet", value: (v) => plural(v, "reading"), axis: counted, floor: () => 10 },
].map((p) => new Plot(fleet, p));

let waiting = null, spoken = 0;

listen(fleet, (change) => {
  if (waiting) {
    for (const n of change.changed) { waiting.changed.add(n); waiting.gone.delete(n); }
    for (const n of change.gone) { waiting.gone.add(n); waiting.changed.delete(n); }
    waiting.all ||= change.all;
    waiting.points ||= change.points;
    return;
  }
  waiting = change;
  requestAnimationFrame(() => {
    const all = waiting;
    waiting = null;
    list.take(all);
    problems.draw();
    numbers();
    link();
    if (all.points || all.all) for (const p of plots) p.draw();
    if (details.name !== null && all.changed.has(details.name)) details.draw();
  });
}, link);

setInterval(() => {
  list.second();
  details.second();
  link();
  if (fleet.totals === null) return;
  problems.draw();
  numbers();
  if (fleet.asOf() !== null) for (const p of plots) p.draw(); // the age of the last known value
}, 1000);

// value writes a number and its unit.
function value(id, number, unit) {
  const node = byId(id);
  if (!node.firstElementChild) node.replaceChildren(make("span"), " ", make("small"));
  text(node.firstElementChild, number);
  text(node.lastElementChild, unit);
}

// note writes the line below a number: what the number describes, or the age of the last known number.
function note(node, age) {
  node.dataset.current ??= node.textContent;
  text(node, age === null ? node.dataset.current : `last known, ${age} ago`);
}

function numbers() {
  const now = fleet.totals, t = fleet.shown(), asOf = fleet.asOf();
  for (const node of document.querySelectorAll("[data-window]")) {
    const words = `${node.dataset.window} ${fleet.period()}`;
    if (node.classList.contains("note")) node.dataset.current = words;
    else text(node, words);
  }
  if (t) {
    value("n-online", count(t.online), `of ${count(devices(t))}`);
    value("n-rate", count(Math.round(t.rate)), "/s");
    for (const [id, us] of [["n-p50", t.p50], ["n-p99", t.p99]]) value(id, ...(us < 0 ? ["–", ""] : micros(us).split(/ (?=[a-z]+$)/)));
    value("n-backlog", count(t.backlog), t.backlog === 1 ? "reading" : "readings");
    value("n-dropped", count(t.dropped), t.dropped === 1 ? "reading" : "readings");
    value("n-reconnects", count(t.reconnects), "");
  }
  const age = asOf === null ? null : span(fleet.now() - asOf);
  for (const node of document.querySelectorAll(".note")) note(node, age);
  for (const [state, n] of [[1, now.online], [2, now.offline], [3, now.stale], [0, now.unknown], ["losing", now.losing]]) {
    text(document.querySelector(`[data-state="${state}"] b`), count(n));
  }
  attr(byId("random"), "aria-pressed", String(fleet.chaos));
  byId("restart-broker").hidden = !fleet.restart;
  const words = `${now.online} online, ${now.offline} offline, ${now.stale} stale, ${now.unknown} unknown, ${now.losing} losing readings`;
  if (Date.now() - spoken > spokenEvery && byId("spoken").textContent !== words) {
    spoken = Date.now();
    text(byId("spoken"), words);
  }
}

// link shows whether the page is up to date. This depends on two connections:
// from the page to the backend, and from the backend to the broker.
function link() {
  const l = fleet.link;
  let kind = "good", words = "Live. The backend is connected and has received all statuses.", rest = "";
  if (!l) [kind, words] = ["wait", "Connecting to the backend …"];
  else if (fleet.silent()) [kind, words, rest] = ["bad", "Not live. This page receives nothing from the backend.", ` The numbers are ${span(Date.now() - fleet.heard)} old.`];
  else if (!l.trusted && l.phase === "connected") [kind, words] = ["wait", "The backend has reconnected and is reading all statuses."];
  else if (!l.trusted) [kind, words, rest] = ["bad", "Out of date. The backend is disconnected from the broker.", ` The numbers are the last known, ${span(fleet.now() - (fleet.asOf() ?? l.since))} old.`];
  if (byId("link").dataset.kind !== kind) text(byId("alarm"), words);
  attr(byId("link"), "data-kind", kind);
  text(byId("link-text"), words + rest);
  attr(byId("link"), "title", l?.err || "");
  document.body.classList.toggle("untrusted", l !== null && (fleet.asOf() !== null || kind === "bad"));
}

function button(id, url) {
  byId(id).addEventListener("click", async () => {
    const b = byId(id);
    b.disabled = true;
    try {
      await post(url());
    } catch (err) {
      text(byId("alarm"), err.message);
      b.title = err.message;
    }
    setTimeout(() => { b.disabled = false; }, 1000);
  });
}
button("random", () => `/api/faults?random=${fleet.chaos ? "off" : "on"}`);
button("cut-backend", () => "/api/backend/cut");
button("restart-broker", () => "/api/broker/restart");
