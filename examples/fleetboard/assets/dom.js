// Functions that change the page only if a value has changed. Text from the
// network is always inserted as text.

import { stateNames } from "./fleet.js";

const svg = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function text(node, value) {
  const s = String(value);
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) {
    if (node.firstChild.data !== s) node.firstChild.data = s;
  } else {
    node.textContent = s;
  }
}

export function attr(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function make(tag, className, content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  return node;
}

export function icon(state) {
  const node = document.createElementNS(svg, "svg"), use = document.createElementNS(svg, "use");
  node.setAttribute("aria-hidden", "true");
  node.append(use);
  setIcon(node, state);
  return node;
}

// setIcon shows the icon of a state, given as a number or a name.
export function setIcon(node, state) {
  const name = typeof state === "string" ? state : stateNames[state] || "unknown";
  attr(node, "class", "i " + name);
  attr(node.firstElementChild, "href", "#i-" + name);
}

// arrange orders the children of a node with as few moves as possible. The keyboard focus stays on its
// element. If that element is removed, the focus moves to the node instead.
export function arrange(parent, nodes, instead) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
  if (focused && focused !== document.activeElement) (focused.isConnected ? focused : instead)?.focus({ preventScroll: true });
}

export async function post(url) {
  const answer = await fetch(url, { method: "POST" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
}
