// What the page shows beside the picture and the lag: the verdict, who waits, what failed, dead letters, members.

import { badge, glyphOf } from "./badge.js";
import { el } from "./dom.js";
import { count, counted, span, sumOf, time, when } from "./words.js";

const TITLES = { well: "All is well", look: "Worth a look", bad: "Needs you now" };

/** Return the link that opens an order. */
export function orderLink(orderId) {
  return el("a", { href: `#/orders/${encodeURIComponent(orderId)}`, class: "order" }, orderId);
}

export function verdictSaid({ level, known, findings }) {
  const looking = level === "well" && !known;
  const title = looking ? "Looking…" : TITLES[level];
  const more = findings.length
    ? findings.length === 1 ? "One thing, below." : `${findings.length} things, the worst first.`
    : looking
      ? "A few seconds are needed to judge by."
      : "Every group gets on, nothing is held, nothing waits for too long.";
  return el("div", { class: `verdict ${looking ? "waits" : level}` },
    el("span", { class: "sign", "aria-hidden": "true" }, looking ? "…" : glyphOf(level)),
    el("div", null, el("h2", { id: "verdict-title" }, title), el("p", null, more)));
}

export function findings(picture) {
  const notes = [picture.note && el("li", { class: "look" }, el("strong", null, "This page sees its own group only"),
    el("span", null, picture.note))];
  const found = picture.verdict.findings.map(({ level, what, do: advice, where }) =>
    el("li", { class: level }, el("strong", null, badge(level, level === "bad" ? "Now" : "Look"), " ", what),
      el("span", null, advice, " ", el("a", { href: `#${where}` }, "Show"))));
  return picture.note || found.length ? el("ul", { class: "findings" }, found, notes.filter(Boolean)) : null;
}

export function figures(picture) {
  const lag = sumOf(picture.groups.map((group) => group.lag));
  const waiting = count(sumOf(picture.waiting.map((step) => step.processes)));
  const letters = picture.dead_letters.by_reason;
  const failures = picture.failures;
  const list = [
    ["Lag", count(lag), "offsets behind, all groups"],
    picture.unanswered.length
      ? ["Waiting", `≥ ${waiting}`, "not all workers tell"]
      : ["Waiting", waiting, "processes owed an answer"],
    ["Failed", count(failures.error ? null : failures.count), failures.since ? `since ${when(failures.since)}` : "not told"],
    ["Dead letters", count(letters ? total(letters) : null), `last ${picture.dead_letters.since}`],
  ];
  return list.map(([name, value, note]) =>
    el("div", null, el("dt", null, name), el("dd", null, value), el("dd", { class: "hint" }, note)));
}

function total(letters) {
  return Object.values(letters).reduce((sum, one) => sum + one, 0);
}

function table(heads, rows) {
  return el("table", null,
    el("thead", null, el("tr", null, heads.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))),
    el("tbody", null, rows));
}

export function waiting(picture) {
  const steps = new Map(picture.waiting.map((step) => [step.step, step]));
  const rows = picture.steps.map((title) => {
    const step = steps.get(title);
    return el("tr", { class: step ? null : "nothing" }, el("th", { scope: "row" }, title),
      el("td", { class: "number" }, step ? count(step.processes) : picture.unanswered.length ? "?" : "0"),
      el("td", { class: "number" }, step ? span(step.oldest_s) : "–"));
  });
  return [
    table([["Step"], ["Processes", "number"], ["Oldest", "number"]], rows),
    picture.unanswered.length
      ? el("p", { class: "hint" }, `Not all is known: ${picture.unanswered.join("; ")}`)
      : el("p", { class: "hint" }, "By the processes' steps: lag can't tell of them."),
  ];
}

export function failures({ failures: found }) {
  if (found.error) return el("p", { class: "hint" }, found.error);
  const more = found.count > found.last.length;
  const since = `ince the workers started, at ${when(found.since)}`;
  return [
    found.last.length
      ? el("div", { class: "scrolls tall", role: "region", "aria-label": "Failed processes", tabindex: 0 },
          table([["When"], ["Order"], ["Reason"]], found.last.map(failure)))
      : el("p", { class: "none" }, badge("well", "None")),
    found.since
      ? el("p", { class: "hint" }, more ? `The last ${found.last.length} of ${count(found.count)} s${since}.` : `S${since}.`)
      : null,
    found.unanswered.length ? el("p", { class: "hint" }, `Not told: ${found.unanswered.join("; ")}`) : null,
  ];
}

function failure(one) {
  return el("tr", null,
    el("td", { class: "when" }, el("time", { datetime: one.at, title: one.at }, time(one.at))),
    el("td", null, orderLink(one.order_id)),
    el("td", null, el("code", null, one.reason)));
}

export function deadLetters({ dead_letters: found }) {
  if (found.error) return el("p", { class: "hint" }, found.error);
  if (found.by_reason === null) return el("p", { class: "hint" }, "Counting…");
  const letters = Object.entries(found.by_reason);
  const note = `Last ${found.since}, counted at ${time(found.at_ms)}${found.more ? "; there are more" : ""}.`;
  return [
    letters.length
      ? table([["Reason"], ["Records", "number"]],
          letters.map(([reason, records]) =>
            el("tr", null, el("th", { scope: "row" }, reason), el("td", { class: "number" }, count(records)))))
      : el("p", { class: "none" }, badge("well", "None")),
    el("p", { class: "hint" }, note, letters.length ? [" See ", el("code", null, "rejoinder dead-letters list"), "."] : ""),
  ];
}

export function members(picture) {
  return picture.groups.map((group) =>
    el("div", { class: "group" },
      el("h3", null, group.group, " ", badge(group.members.length ? "well" : "bad", counted(group.members.length, "member"))),
      el("ul", { class: "members" }, group.members.map(member))));
}

function member({ client_id: url, status }) {
  if (status.error) {
    return el("li", null, el("strong", null, url), el("p", { class: "wrong" }, status.error));
  }
  const phases = new Map();
  for (const [number, phase] of Object.entries(status.partitions)) {
    phases.set(phase, [...(phases.get(phase) ?? []), number]);
  }
  return el("li", null,
    el("p", null, el("strong", null, status.instance), " ", el("span", { class: "hint" }, `release ${status.version}`)),
    el("p", { class: "hint" }, url),
    phases.size
      ? [...phases].map(([phase, numbers]) =>
          el("p", { class: "phase" }, badge(phase), " ",
            el("span", { class: "chips" },
              el("span", { class: "visually-hidden" }, "partitions "),
              numbers.map((number) => [el("span", { class: "chip" }, number), " "]))))
      : el("p", { class: "hint" }, "no partition"),
    status.held.map((at) =>
      el("p", { class: "wrong" }, "Held at ", el("code", null, `${at.topic}/${at.partition}/${at.offset}`))));
}
