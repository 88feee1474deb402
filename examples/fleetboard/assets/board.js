// The page passes the frames of the stream to its parts, at most once per frame of
// the screen.

import { attr, byId, post, text } from "./dom.js";
import { Details } from "./details.js";
import { Fleet, listen } from "./fleet.js";
import { count, micros, span } from "./format.js";
import { List } from "./list.js";
import { Plot } from "./plot.js";

const silence = 4000; // milliseconds; frames arrive every 250 ms
const spokenEvery = 15000;

const fleet = new Fleet();
let details;
const list = new List(fleet, (name) => details.open(name));
details = new Details(fleet, list);
const plots = [
  new Plot(fleet, "online", count, 1),
  new Plot(fleet, "rate", (v) => count(Math.round(v)), 10),
  new Plot(fleet, "p99", micros, 1000),
  new Plot(fleet, "backlog", count, 10),
];

let open = false, waiting = null, spoken = 0;

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
    numbers();
    link();
    if (all.points || all.all) for (const p of plots) p.draw();
    if (details.name !== null && all.changed.has(details.name)) details.draw();
  });
}, (isOpen) => { open = isOpen; link(); });

setInterval(() => { list.second(); details.second(); link(); }, 1000);

function numbers() {
  const t = fleet.totals;
  text(byId("n-online"), count(t.online));
  text(byId("n-of"), `of ${count(t.online + t.offline + t.stale + t.unknown)}`);
  text(byId("n-rate"), count(Math.round(t.rate)));
  text(byId("n-p50"), micros(t.p50));
  text(byId("n-p99"), micros(t.p99));
  text(byId("n-backlog"), count(t.backlog));
  text(byId("n-reconnects"), count(t.reconnects));
  for (const [state, n] of [[1, t.online], [2, t.offline], [3, t.stale], [0, t.unknown]]) {
    text(document.querySelector(`[data-state="${state}"] b`), count(n));
  }
  attr(byId("random"), "aria-pressed", String(fleet.chaos));
  byId("restart-broker").hidden = !fleet.restart;
  const words = `${t.online} online, ${t.offline} offline, ${t.stale} stale, ${t.unknown} unknown`;
  if (Date.now() - spoken > spokenEvery && byId("spoken").textContent !== words) {
    spoken = Date.now();
    text(byId("spoken"), words);
  }
}

// link shows whether the page is up to date. This depends on two connections:
// from the page to the backend, and from the backend to the broker.
function link() {
  const l = fleet.link, late = Date.now() - fleet.heard;
  let kind = "good", words = "Live. The backend is connected and has received all statuses.";
  if (!l) [kind, words] = ["wait", "Connecting to the backend …"];
  else if (!open || late > silence) [kind, words] = ["bad", `Not live: this page has received nothing from the backend for ${span(late)}`];
  else if (!l.trusted && l.phase === "connected") [kind, words] = ["wait", "The backend has reconnected and is reading all statuses"];
  else if (!l.trusted) [kind, words] = ["bad", `Out of date: the backend has been disconnected from the broker, for ${span(fleet.now() - l.since)}` ];
  if (byId("link").dataset.kind !== kind) text(byId("alarm"), words.replace(/, for .*| for .*/, ""));
  attr(byId("link"), "data-kind", kind);
  text(byId("link-text"), words);
  attr(byId("link"), "title", l?.err || "");
  document.body.classList.toggle("untrusted", kind === "bad");
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
