// The state that the backend has sent. This file does not change the page.

const columns = ["name", "state", "since", "boots", "flaps", "backlog", "p50", "p99", "reconnects",
  "handled", "events", "trouble", "reported", "old", "simulated"]; // as row.MarshalJSON writes them
const pointColumns = ["at", "online", "rate", "p99", "backlog", "trusted"];
const maxPoints = 300;

export const stateNames = ["unknown", "online", "offline", "stale"];

function named(names, values) {
  const o = {};
  names.forEach((name, i) => { o[name] = values[i]; });
  return o;
}

export class Fleet {
  rows = new Map();
  points = [];
  totals = null;
  link = null;
  chaos = false;
  restart = false;
  limit = 0;
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
    this.link = frame.link;
    this.chaos = frame.chaos;
    this.heard = Date.now();
    this.offset = frame.now - this.heard;
    return { changed, gone, all, points: (frame.points || []).length > 0 };
  }

  now() { return Date.now() + this.offset; }
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
      onState(false);
      if (source.readyState !== EventSource.CLOSED) return; // EventSource reconnects by itself
      source.close();
      clearTimeout(timer);
      timer = setTimeout(open, delay);
      delay = Math.min(delay * 2, 8000);
    };
    source.onopen = () => onState(true);
  };
  open();
}
