// The picture of the topology: who takes part, and the topics between them with their rates.

import { el, svg } from "./dom.js";
import { glyphOf } from "./badge.js";
import { count, counted, rate } from "./words.js";

const ROLES = { "process manager": "worker", "orders service": "orders", "e-mail service": "email" };
const LETTERS = "order-confirmation.dead-letters";

// Boxes are x, y, width, height; arrows run from x, y to x, y; labels stand at x, y.
const WIDE = {
  name: "wide",
  size: [1080, 372],
  boxes: {
    "command source": [0, 36, 168, 84],
    anyone: [0, 202, 168, 84],
    "process manager": [430, 14, 220, 294],
    "orders service": [896, 36, 184, 84],
    "e-mail service": [896, 202, 184, 84],
    "a person": [430, 330, 220, 42],
  },
  arrows: {
    "order-confirmation.commands": [168, 78, 430, 78, 299, 66, 100],
    "order-confirmation.events": [430, 244, 168, 244, 299, 232, 266],
    "order-details.queries": [650, 66, 896, 66, 773, 40, 58],
    "order-details.events": [896, 90, 650, 90, 773, 108, 126],
    "email.commands": [650, 232, 896, 232, 773, 206, 224],
    "email.events": [896, 256, 650, 256, 773, 274, 292],
    [LETTERS]: [540, 308, 540, 330],
  },
};
const NARROW = {
  name: "narrow",
  size: [340, 560],
  boxes: {
    "command source": [0, 0, 160, 62],
    anyone: [180, 0, 160, 62],
    "process manager": [0, 172, 340, 92],
    "orders service": [0, 378, 160, 84],
    "e-mail service": [180, 378, 160, 84],
    "a person": [0, 508, 340, 44],
  },
  arrows: {
    "order-confirmation.commands": [80, 62, 80, 172, 80, 112],
    "order-confirmation.events": [260, 172, 260, 62, 260, 112],
    "order-details.queries": [38, 264, 38, 378, 38, 316],
    "order-details.events": [122, 378, 122, 264, 122, 316],
    "email.commands": [218, 264, 218, 378, 218, 316],
    "email.events": [302, 378, 302, 264, 302, 316],
    [LETTERS]: [170, 264, 170, 508],
  },
};
const NARROW_BELOW = 720;

/** Return the picture of *picture*'s topics for a place that is *width* wide. */
export function topology(picture, width) {
  const layout = width < NARROW_BELOW ? NARROW : WIDE;
  const [w, h] = layout.size;
  const topics = new Map(picture.topics.map((topic) => [topic.declared, topic]));
  return svg(
    "svg",
    { viewBox: `-2 -2 ${w + 4} ${h + 4}`, class: `topology ${layout.name}`, role: "img", "aria-label": said(picture) },
    svg(
      "defs",
      null,
      svg(
        "marker",
        { id: "head", viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 8, markerHeight: 8, orient: "auto" },
        svg("path", { d: "M0 1 9 5 0 9z", class: "head" }),
      ),
    ),
    Object.entries(layout.arrows).map(([name, at]) => topics.has(name) && arrow(topics.get(name), at, layout)),
    Object.entries(layout.boxes).map(([name, at]) => box(name, at, picture, topics)),
  );
}

function said(picture) {
  const flows = picture.topics.map((t) => `${t.declared}, to ${t.to}: ${rate(t.per_second)}`);
  return `Topics and the participants between them. ${flows.join("; ")}. The table below says the same.`;
}

function arrow(topic, [x1, y1, x2, y2, labelX, labelY, figureY], layout) {
  const flows = topic.per_second > 0;
  const speed = !flows ? "" : topic.per_second > 100 ? "fast" : topic.per_second > 5 ? "steady" : "slow";
  // Drawn from end to end, but for the head's length.
  const line = { x1, y1, x2, y2 };
  const parts = [svg("line", { ...line, class: `way ${flows ? "flows" : ""}`, "marker-end": "url(#head)" })];
  if (flows) parts.push(svg("line", { ...line, class: `flow ${speed}` }));
  if (labelX !== undefined) {
    const figures = [
      svg("tspan", { class: "rate" }, rate(topic.per_second)),
      topic.lag ? svg("tspan", { class: "behind", dx: 8 }, `lag ${count(topic.lag)}`) : null,
    ];
    if (layout === WIDE) {
      parts.push(
        svg("text", { x: labelX, y: labelY, class: "topic" }, topic.declared),
        svg("text", { x: labelX, y: figureY, class: "figures" }, figures),
      );
    } else {
      const [one, two] = topic.declared.split(".");
      parts.push(
        svg("text", { x: labelX, y: labelY - 10, class: "figures" }, svg("tspan", { class: "rate" }, rate(topic.per_second))),
        svg("text", { x: labelX, y: labelY + 6, class: "topic" }, one),
        svg("text", { x: labelX, y: labelY + 20, class: "topic" }, `.${two}`),
      );
      if (topic.lag) {
        parts.push(svg("text", { x: labelX, y: labelY + 36, class: "behind" }, `lag ${count(topic.lag)}`));
      }
    }
  }
  return svg("g", { class: "arrow" }, svg("title", null, `${topic.topic}: ${rate(topic.per_second)}`), parts);
}

function box(name, [x, y, width, height], picture, topics) {
  const middle = x + width / 2;
  const center = y + height / 2;
  const role = ROLES[name];
  const group = role && picture.groups.find((one) => one.group.endsWith(`-${role}`));
  const lines = [];
  if (name === "a person") {
    const letters = topics.get(LETTERS);
    return svg(
      "g",
      { class: "box outside" },
      svg("rect", { x, y, width, height, rx: 10 }),
      svg("text", { x: middle, y: center + 5, class: "note" }, `dead letters ${rate(letters?.per_second)}`),
    );
  }
  if (role) {
    const status = group ? (group.status ?? "…") : "not seen";
    lines.push([`${glyphOf(group?.status)} ${status}`, `state ${(group?.status ?? "none").toLowerCase()}`]);
    lines.push([group ? `${counted(group.members.length, "member")}, lag ${count(group.lag)}` : "see the note below", "note"]);
  } else {
    lines.push([name === "anyone" ? "reads the outcomes" : "commands e-mails", "note"]);
  }
  const top = center - (lines.length * 20) / 2 + 4;
  return svg(
    "g",
    { class: role ? "box" : "box outside" },
    svg("rect", { x, y, width, height, rx: 12 }),
    svg("text", { x: middle, y: top, class: "name" }, name),
    lines.map(([text, kind], at) => svg("text", { x: middle, y: top + 21 + at * 20, class: kind }, text)),
  );
}

/** Return the same as a table. */
export function topologyTable(picture) {
  return el(
    "details",
    null,
    el("summary", null, "The same as a table"),
    el(
      "div",
      { class: "scrolls", role: "region", "aria-label": "Topics", tabindex: 0 },
      el(
        "table",
        null,
        el("thead", null, el("tr", null, ["From", "Topic", "To"].map((text) => el("th", { scope: "col" }, text)),
          ["Written", "Lag"].map((text) => el("th", { scope: "col", class: "number" }, text)))),
        el(
          "tbody",
          null,
          picture.topics.map((topic) =>
            el(
              "tr",
              null,
              el("td", null, topic.from.join(", ")),
              el("th", { scope: "row" }, el("code", null, topic.topic)),
              el("td", null, topic.to),
              el("td", { class: "number" }, rate(topic.per_second)),
              el("td", { class: "number" }, count(topic.lag)),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Return what the rates are. */
export function ratesNote() {
  return el("p", { class: "hint" },
    "Rates are of records written to a topic, over the last few seconds: its offsets, less those that ends of our ",
    "transactions take.");
}

