// One value over the last five minutes, on a canvas. Times when the backend was
// disconnected are shaded: the values were out of date then.

import { attr, byId, make, text } from "./dom.js";
import { clock, span } from "./format.js";

const longest = 300_000, shortest = 60_000; // limits of the shown period, in milliseconds

export class Plot {
  at = null; // position of the pointer, in pixels

  constructor(fleet, key, format, floor) {
    this.fleet = fleet;
    this.key = key;
    this.format = format;
    this.floor = floor; // minimum value of the top of the axis
    this.canvas = byId("p-" + key);
    this.value = byId("v-" + key);
    this.from = make("span");
    const axis = make("div", "axis");
    axis.append(this.from, make("span", "", "now"));
    this.canvas.after(axis);
    this.canvas.addEventListener("pointermove", (e) => { this.at = e.offsetX; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  draw() {
    const { canvas, key } = this, points = this.fleet.points;
    const w = canvas.clientWidth, h = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (w === 0 || h === 0) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const c = canvas.getContext("2d"), style = getComputedStyle(canvas), color = (name) => style.getPropertyValue(name).trim();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    const top = 8, bottom = h - 4, end = points.length ? points[points.length - 1].at : 0;
    const range = points.length ? Math.min(Math.max(end - points[0].at, shortest), longest) : longest;
    text(this.from, points.length ? `${span(range)} ago` : "");
    const x = (at) => w - (end - at) / range * w;
    let most = this.floor;
    for (const p of points) most = Math.max(most, p[key]);
    const y = (v) => bottom - Math.max(v, 0) / most * (bottom - top);

    c.fillStyle = color("--untrusted");
    for (let i = 0; i < points.length; i++) {
      if (points[i].trusted) continue;
      const from = i ? x(points[i - 1].at) : x(points[i].at - 1000);
      c.fillRect(from, 0, x(points[i].at) - from, h);
    }
    c.strokeStyle = color("--line");
    c.lineWidth = 1;
    c.beginPath();
    for (const v of [0, most / 2, most]) {
      const at = Math.round(y(v)) + 0.5;
      c.moveTo(0, at);
      c.lineTo(w, at);
    }
    c.stroke();

    // A second without handled readings has no latency, so the line has a gap.
    const runs = [];
    let run = null;
    for (const p of points) {
      if (p[key] < 0) { run = null; continue; }
      if (!run) runs.push(run = []);
      run.push(p);
    }
    c.strokeStyle = color("--plot");
    c.fillStyle = color("--plot-fill");
    c.lineWidth = 1.5;
    c.lineJoin = "round";
    for (const run of runs) {
      c.beginPath();
      c.moveTo(x(run[0].at) - (run.length === 1 ? 1.5 : 0), y(run[0][key]));
      for (const p of run) c.lineTo(x(p.at), y(p[key]));
      c.stroke();
      c.lineTo(x(run[run.length - 1].at), bottom);
      c.lineTo(x(run[0].at), bottom);
      c.fill();
    }

    let shown = points[points.length - 1];
    if (this.at !== null && points.length) {
      const t = end - (w - this.at) / w * range;
      shown = points.reduce((best, p) => Math.abs(p.at - t) < Math.abs(best.at - t) ? p : best);
      c.strokeStyle = color("--dim");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(Math.round(x(shown.at)) + 0.5, 0);
      c.lineTo(Math.round(x(shown.at)) + 0.5, h);
      c.stroke();
    }
    if (!shown) return;
    const now = this.format(shown[key]);
    text(this.value, this.at !== null ? `${clock(shown.at)}  ${now}` : w < 220 ? now : `${now} · peak ${this.format(most)}`);
    attr(this.canvas, "aria-label", `${this.canvas.dataset.name ??= this.canvas.getAttribute("aria-label")}: now ${now}, peak ${this.format(most)}`);
  }
}
