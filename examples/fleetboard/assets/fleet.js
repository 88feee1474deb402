// The state that the backend has sent. This file does not change the page.

const columns = ["name", "state", "since", "boots", "flaps", "backlog", "p50", "p99", "reconnects",
  "handled", "events", "trouble", "reported", "old", "simulated", "dropped", "losing"]; // as row.MarshalJSON writes them
const pointColumns = ["at", "online", "rate", "p99", "backlog", "trusted"];
const maxPoints = 300;
const silence = 4000; // milliseconds; frames arrive every 250 ms

export const stateNames = ["unknown", "online", "offline", "stale"];

// severity orders devices with problems: losing readings, offline, stale, unknown. Devices without
// problems have the highest value.
export const noProblem = 4;
export const severity = (r) => r.losing ? 0 : [3, noProblem, 1, 2][r.state];

function named(names, values) {
  const o = {};
  names.forEach((name, i) => { o[name] = values[i]; });
  return o;
}

export class Fleet {
  rows = new Map();
  points = [];
  totals = null;
  known = null; // totals and time when the backend was last connected, while it is disconnected
  link = null;
  open = false; // the stream is connected
  chaos = false;
  restart = false;
  limit = 0;
  window = 0; // milliseconds; period of the percentiles
  offset = 0; // how far the backend's clock is ahead of the browser's clock
  heard = 0; // time of the last frame, by the browser's clock

  // take applies a frame and returns the changes.
  take(kind, frame) {
    const all = kind === "snapshot";
    const changed = new Set(), gone = new Set(frame.gone || []);
    if (all) {
      for (const name of this.rows.keys()) gone.add(name);
      this.rows.clear();
      this.points = [];
      this.restart = Boolean(frame.restart);
      this.limit = frame.limit;
      this.window = frame.window;
    }
    for (const name of gone) this.rows.delete(name);
    for (const values of frame.rows || []) {
      const row = named(columns, values);
      this.rows.set(row.name, row);
      changed.add(row.name);
      gone.delete(row.name);
    }
    for (const values of frame.points || []) this.points.push(named(pointColumns, values));
    this.points.splice(0, this.points.length - maxPoints);
    this.totals = frame.totals;
    this.known = frame.known ?? null;
    this.link = frame.link;
    this.chaos = frame.chaos;
    this.heard = Date.now();
    this.offset = frame.now - this.heard;
    return { changed, gone, all, points: (frame.points || []).length > 0 };
  }

  now() { return Date.now() + this.offset; }

  // period returns the period of the percentiles in words.
  period() { return `${this.window / 1000} s`; }

  // silent returns whether the backend sends nothing to this page.
  silent() { return !this.open || Date.now() - this.heard > silence; }

  // asOf returns the time of the shown numbers if they are not current, or null.
  asOf() {
    if (!this.link) return null;
    if (!this.link.trusted) return this.known?.at ?? null;
    return this.silent() ? this.heard + this.offset : null;
  }

  // shown returns the current or the last known totals. It returns null if nothing is known yet.
  shown() { return !this.link || this.link.trusted ? this.totals : this.known; }
}

// listen keeps a stream open while the page is open. It starts the stream again when
// it ends, also after responses after which EventSource does not reconnect.
export function listen(fleet, onFrame, onState) {
  let source, timer, delay = 500;
  const open = () => {
    source = new EventSource("/events");
    for (const kind of ["snapshot", "delta"]) {
      source.addEventListener(kind, (e) => {
        delay = 500;
        if (kind === "delta" && fleet.totals === null) return; // a snapshot comes first
        onFrame(fleet.take(kind, JSON.parse(e.data)));
      });
    }
    source.onerror = () => {
      fleet.open = false;
      onState();
      if (source.readyState !== EventSource.CLOSED) return; // EventSource reconnects by itself
      source.close();
      clearTimeout(timer);
      timer = setTimeout(open, delay);
      delay = Math.min(delay * 2, 8000);
    };
    source.onopen = () => { fleet.open = true; onState(); };
  };
  open();
}
