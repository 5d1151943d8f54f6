// A state as a word with a sign before it: its colour alone says nothing.

import { el } from "./dom.js";

const SIGNS = {
  ok: "✓", running: "✓", sent: "✓", well: "✓",
  warn: "!", look: "!",
  err: "✕", stall: "✕", stop: "✕", rewind: "✕", bad: "✕", held: "✕", failed: "✕",
};
const KINDS = { "✓": "well", "!": "look", "✕": "bad", "…": "waits" };

/** Return the sign of a state. */
export function glyphOf(state) {
  return SIGNS[String(state ?? "").toLowerCase()] ?? "…";
}

/** Return "well", "look", "bad" or "waits". */
export function kindOf(state) {
  return KINDS[glyphOf(state)];
}

/** Return a state, as *text* if that is something else. */
export function badge(state, text = state) {
  return el("span", { class: `badge ${kindOf(state)}` },
    el("span", { class: "sign", "aria-hidden": "true" }, glyphOf(state)), ` ${text ?? "…"}`);
}
