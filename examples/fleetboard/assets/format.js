// Formats numbers and times with a nearly constant width.

const whole = new Intl.NumberFormat("en");

export const count = (n) => whole.format(n);

// plural formats a count with its unit: 1 reading, 1,200 readings.
export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

// micros formats a latency: 0.85 ms, 12 ms, 1.4 s, 2 min 05 s.
export function micros(us) {
  if (us < 0) return "–";
  if (us < 10000) return (us / 1000).toFixed(us < 1000 ? 2 : 1) + " ms";
  if (us < 1e6) return Math.round(us / 1000) + " ms";
  if (us < 60e6) return (us / 1e6).toFixed(us < 10e6 ? 1 : 0) + " s";
  return span(us / 1000);
}

// span formats a duration in milliseconds: 7 s, 2 min 05 s, 3 h 12 min, 4 d 2 h.
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000)), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + two(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + two(Math.floor(s / 60) % 60) + " min";
  return Math.floor(s / 86400) + " d " + (Math.floor(s / 3600) % 24) + " h";
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
