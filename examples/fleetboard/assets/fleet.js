// What the backend sent, kept up to date. Nothing here touches the page.

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
  offset = 0; // of the backend's clock before ours
  heard = 0; // when the last frame came, by ours

  // take is given a frame and says what changed.
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

// listen keeps a stream open for as long as the page is, and starts it again when
// it ends, also after an answer that EventSource gives up on.
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
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source.close();
      clearTimeout(timer);
      timer = setTimeout(open, delay);
      delay = Math.min(delay * 2, 8000);
    };
    source.onopen = () => onState(true);
  };
  open();
}
