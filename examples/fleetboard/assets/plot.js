// One value over the last five minutes, on a canvas, with the values of both axes as text beside it.
// Times when the backend was disconnected are shaded. There, a dashed line continues the last known
// value.

import { attr, byId, make, text } from "./dom.js";
import { clock, span } from "./format.js";

const longest = 300_000, shortest = 60_000; // limits of the shown period, in milliseconds
const pad = 7; // half of the height of an axis value, in pixels
const timeWidth = 62; // width of a value on the time axis with its gap, in pixels
const timeSteps = [10, 15, 30, 60, 120, 300].map((s) => s * 1000);

// steps returns the distance between the values of an axis, and the top of the axis. The distance is
// 1, 2 or 5 times a power of ten, in units of one, and there are two to four distances.
function steps(most, one) {
  const least = most / one / 4, ten = 10 ** Math.floor(Math.log10(least));
  const step = Math.max(1, [1, 2, 5, 10].map((n) => n * ten).find((n) => n >= least * 0.999)) * one;
  return [step, Math.max(Math.ceil(most / step * 0.999), 2) * step];
}

export class Plot {
  at = null; // position of the pointer, in pixels
  label = ""; // values of the vertical axis

  // title: what is shown. unit: in the caption, after the title. value formats a value in the text, axis
  // returns for the top of the axis the size of one unit, and a function that formats values of the axis.
  constructor(fleet, { key, title, unit, value, axis, floor }) {
    Object.assign(this, { fleet, key, title, unit, format: value, axis, floor });
    const figure = byId("f-" + key), caption = make("figcaption"), area = make("div", "area");
    this.value = make("output");
    this.value.id = "v-" + key;
    this.canvas = make("canvas");
    this.canvas.id = "p-" + key;
    attr(this.canvas, "role", "img");
    attr(this.canvas, "aria-label", title);
    this.y = make("div", "y axis");
    this.x = make("div", "x axis");
    for (const node of [this.y, this.x]) attr(node, "aria-hidden", "true"); // the label of the canvas has the range
    caption.append(make("strong", "", title), make("span", "unit", unit), this.value);
    area.append(this.y, this.canvas, this.x);
    figure.append(caption, area);
    this.canvas.addEventListener("pointermove", (e) => { this.at = e.offsetX; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // axes writes the values beside the canvas. It returns the range, the top and the distances of both axes.
  axes(most, begin, end, w) {
    const [one, format] = this.axis(most), [step, top] = steps(most, one), values = [];
    for (let v = top; v > -step / 2; v -= step) values.push(format(Math.max(v, 0)));
    if (this.label !== values.join()) {
      this.label = values.join();
      this.y.replaceChildren(...values.map((v) => make("span", "", v)));
    }
    const range = Math.min(Math.max(end - begin, shortest), longest);
    const timeStep = timeSteps.find((s) => s / range * w >= timeWidth) ?? timeSteps.at(-1), times = [];
    for (let at = Math.ceil((end - range) / timeStep) * timeStep; at <= end; at += timeStep) {
      const x = w - (end - at) / range * w;
      if (x >= timeWidth / 2 - 6 && x <= w - timeWidth / 2 + 6) times.push([x, clock(at), at]);
    }
    while (this.x.children.length > times.length) this.x.lastChild.remove();
    times.forEach(([x, words], i) => {
      if (!this.x.children[i]) this.x.append(make("time"));
      text(this.x.children[i], words);
      this.x.children[i].style.left = `${x / w * 100}%`;
    });
    return { range, top, step, times: times.map(([x]) => x) };
  }

  draw() {
    const { canvas, key } = this, points = this.fleet.points;
    const w = canvas.clientWidth, h = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
    if (w === 0 || h === 0 || points.length === 0) return;
    const known = points.filter((p) => p.trusted && p[key] >= 0);
    const most = known.reduce((m, p) => Math.max(m, p[key]), 0), end = points.at(-1).at;
    const { range, top, step, times } = this.axes(Math.max(most, this.floor()), points[0].at, end, w);
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const c = canvas.getContext("2d"), style = getComputedStyle(canvas), color = (name) => style.getPropertyValue(name).trim();
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    const bottom = h - pad, x = (at) => w - (end - at) / range * w, y = (v) => bottom - v / top * (bottom - pad);

    c.fillStyle = color("--untrusted");
    for (let i = 0; i < points.length; i++) {
      if (points[i].trusted) continue;
      const from = i ? x(points[i - 1].at) : x(points[i].at - 1000);
      c.fillRect(from, 0, x(points[i].at) - from, bottom);
    }
    c.strokeStyle = color("--line");
    c.lineWidth = 1;
    c.beginPath();
    for (let v = 0; v < top + step / 2; v += step) {
      c.moveTo(0, Math.round(y(v)) + 0.5);
      c.lineTo(w, Math.round(y(v)) + 0.5);
    }
    for (const at of times) {
      c.moveTo(Math.round(at) + 0.5, bottom);
      c.lineTo(Math.round(at) + 0.5, h);
    }
    c.stroke();

    // A second without handled readings has no latency, so the line has a gap.
    const runs = [], gaps = [];
    let run = null, last = null;
    for (const p of points) {
      if (!p.trusted || p[key] < 0) {
        if (!p.trusted && last) gaps.push([last, p]);
        run = null;
        continue;
      }
      if (!run) runs.push(run = []);
      run.push(p);
      last = p;
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
      c.lineTo(x(run.at(-1).at), bottom);
      c.lineTo(x(run[0].at), bottom);
      c.fill();
    }
    c.setLineDash([3, 3]);
    for (const [from, to] of new Map(gaps)) {
      c.beginPath();
      c.moveTo(x(from.at), y(from[key]));
      c.lineTo(x(to.at), y(from[key]));
      c.stroke();
    }
    c.setLineDash([]);
    this.words(points, known, most, top, { c, x, h, w, end, range, color });
  }

  // words writes the value under the pointer, or the current value, or the last known value with its age.
  words(points, known, most, top, { c, x, h, w, end, range, color }) {
    const asOf = this.fleet.asOf(), peak = known.length ? `peak ${this.format(most)}` : "";
    let shown = points.at(-1), words;
    if (this.at !== null) {
      const t = end - (w - this.at) / w * range;
      shown = points.reduce((best, p) => Math.abs(p.at - t) < Math.abs(best.at - t) ? p : best);
      c.strokeStyle = color("--dim");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(Math.round(x(shown.at)) + 0.5, 0);
      c.lineTo(Math.round(x(shown.at)) + 0.5, h);
      c.stroke();
      words = `${clock(shown.at)}: ${shown.trusted ? this.format(shown[this.key]) : "backend disconnected"}`;
    } else if (asOf !== null) {
      const p = known.at(-1);
      words = p ? `${this.format(p[this.key])}, ${span(this.fleet.now() - p.at)} ago` : "not known";
    } else {
      words = [this.format(shown[this.key]), peak].filter(Boolean).join(", ");
    }
    text(this.value, words);
    attr(this.canvas, "aria-label", `${this.title} ${this.unit}: ${words}. Axis from 0 to ${this.format(top)}, time from ${clock(end - range)} to ${clock(end)}.`);
  }
}
