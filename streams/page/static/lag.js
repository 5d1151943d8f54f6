// Lag: for each topic of each group a strip with a cell a partition, and all of its numbers when it is opened.

import { badge, glyphOf, kindOf } from "./badge.js";
import { el } from "./dom.js";
import { count, rate, span, sumOf } from "./words.js";

const HEADS = ["Committed", "Last stable", "End", "Lag", "Unstable", "Behind", "Read", "ETA"];
const LEVELS = [0, 1, 100, 10_000]; // Offsets from which a cell is fuller.

/** Return all groups of *picture*. */
export function lag(picture) {
  return picture.groups.map((group) => {
    const topics = Map.groupBy
      ? Map.groupBy(group.partitions, (at) => at.topic)
      : group.partitions.reduce((map, at) => map.set(at.topic, [...(map.get(at.topic) ?? []), at]), new Map());
    return el("div", { class: "group" },
      el("h3", null, group.group, " ", group.members.length ? badge(group.status ?? "…") : badge("bad", "no member"), " ",
        el("span", { class: "hint" }, `lag ${count(group.lag)}`)),
      [...topics].map(([topic, partitions]) => ofTopic(group, topic, partitions)));
  });
}

function ofTopic(group, topic, partitions) {
  const sum = sumOf(partitions.map((at) => at.lag));
  const oldest = Math.max(...partitions.map((at) => at.seconds));
  const hanging = partitions.filter((at) => at.hanging_s > 0).length;
  return el("details", { class: "topic-lag" },
    el("summary", null,
      el("span", { class: "name" }, topic),
      el("span", { class: "strip", "aria-hidden": "true" }, partitions.map(cell)),
      el("span", { class: "figures" },
        el("span", null, `lag ${count(sum)}`),
        el("span", { class: "hint" }, sum === 0 ? "all read" : sum === null ? "without a position" : `${span(oldest)} behind`),
        hanging ? badge("look", `${count(hanging)} held back`) : null)),
    el("div", { class: "scrolls", role: "region", "aria-label": `${topic} by partition, ${group.group}`, tabindex: 0 },
      el("table", null,
        el("thead", null, el("tr", null, el("th", { scope: "col" }, "Partition"), el("th", { scope: "col" }, "Status"),
          HEADS.map((head) => el("th", { scope: "col", class: "number" }, head)), el("th", { scope: "col" }, "Whose"))),
        el("tbody", null, partitions.map(row)))));
}

function cell(at) {
  const broken = kindOf(at.status) === "bad";
  const level = LEVELS.findLastIndex((least) => (at.lag ?? 0) >= least);
  const sign = broken ? glyphOf(at.status) : at.hanging_s > 0 ? "!" : at.lag ? count(at.lag) : "";
  const kind = broken ? "bad" : at.hanging_s > 0 ? "look" : `level-${level}`;
  const title = `partition ${at.partition}: lag ${count(at.lag)}${at.unstable ? `, ${count(at.unstable)} unstable` : ""}`;
  return el("span", { class: `cell ${kind}`, title }, sign);
}

function row(at) {
  const numbers = [
    count(at.committed), count(at.stable), count(at.end), count(at.lag), count(at.unstable),
    at.lag ? span(at.seconds) : "–", rate(at.rate), at.lag ? span(at.eta_s) : "–",
  ];
  return el("tr", null,
    el("th", { scope: "row" }, String(at.partition)),
    el("td", null, badge(at.status ?? "…"),
      at.hanging_s > 0 ? [" ", badge("look", `open transaction, ${span(at.hanging_s)}`)] : null),
    numbers.map((text) => el("td", { class: "number" }, text)),
    el("td", null, at.member ? at.member.client_id : "nobody's"));
}
