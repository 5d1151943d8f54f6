// One order's timeline as a picture: a lane for each participant, an arrow for each event, and what is still to come.

import { badge } from "./badge.js";
import { el, show, svg } from "./dom.js";
import { headers } from "./stream.js";
import { span, time, when } from "./words.js";

const EVERY_MS = 3_000;
const LANES = [["source", "src"], ["process manager", "pm"], ["orders", "ord"], ["e-mail", "mail"]];
// From which lane to which an event goes.
const WAYS = {
  CommandReceived: [0, 1],
  CancelReceived: [0, 1],
  OrderDetailsQueried: [1, 2],
  OrderDetailsMissing: [2, 1],
  OrderDetailsRetrieved: [2, 1],
  EmailRequested: [1, 3],
  EmailSent: [3, 1],
  EmailFailed: [3, 1],
  ConfirmationFailed: [1, 0],
};

/** Shows the order that the address's hash names, for as long as it does. */
export class OrderView {
  #section;
  #onDenied;
  #id = null;
  #timer = 0;
  #asked = 0;

  constructor(section, onDenied) {
    this.#section = section;
    this.#onDenied = onDenied;
  }

  open(orderId) {
    clearTimeout(this.#timer);
    this.#id = orderId;
    this.#section.hidden = orderId === null;
    if (orderId === null) {
      this.#section.replaceChildren();
      return;
    }
    this.#show([el("p", { class: "hint" }, "Asking the worker that has it…")]);
    this.#ask(true);
  }

  again() {
    if (this.#id !== null) this.#ask(false);
  }

  async #ask(first) {
    clearTimeout(this.#timer);
    const [orderId, asked] = [this.#id, ++this.#asked];
    let goesOn = false;
    let body;
    try {
      const answer = await fetch(`/orders/${encodeURIComponent(orderId)}`, { headers: headers(), cache: "no-store" });
      const order = await answer.json();
      if (answer.status === 401) this.#onDenied();
      goesOn = answer.status >= 500 || (order.processes ?? []).some((one) => one.waits_for);
      body = order.order_id === undefined ? [problem(order.error)] : pictureOf(order);
    } catch {
      goesOn = true;
      body = [problem("This worker doesn't answer now; it is asked again.")];
    }
    if (orderId !== this.#id || asked !== this.#asked) return;
    this.#show(body);
    if (first) this.#section.querySelector("h2")?.focus();
    if (goesOn) this.#timer = setTimeout(() => this.#ask(false), EVERY_MS);
  }

  #show(body) {
    show(this.#section,
      el("div", { class: "order-head" },
        el("h2", { id: "order-title", tabindex: -1 }, "Order ", el("code", null, this.#id)),
        el("a", { href: "#", class: "close" }, "Close")),
      body);
  }
}

function problem(text) {
  return el("p", { class: "wrong", role: "alert" }, text ?? "No answer that could be understood.");
}

function pictureOf(order) {
  if (!order.known) return [el("p", null, "Nothing is remembered of this order: it never came, or is forgotten by now.")];
  const { details } = order;
  return [
    el("p", { class: "hint" }, `Partition ${order.partition}, owned by ${order.owner}. `,
      details
        ? `Order details: version ${details.version}, seen ${when(details.seen_at, 3)}, ${because(details.cause, order)}; kept until ${when(details.forgotten_at)}.`
        : "No order details are kept."),
    order.processes.map((process) => ofProcess(process, order)),
    order.sent_before_their_command.map((one) =>
      el("p", null, "An e-mail was reported sent that no known command asked for: ", el("code", null, one.email_id),
        `, heard ${when(one.heard_at, 3)}.`)),
  ];
}

function ofProcess(process, order) {
  return el("article", { class: "process" },
    el("h3", null, badge(process.waits_for ? "…" : process.state, process.state),
      process.reason ? [" ", el("code", null, process.reason)] : null, " ",
      el("span", { class: "hint" }, "command ", el("code", null, process.command_id))),
    strip(process),
    el("div", { class: "lane-heads", "aria-hidden": "true" },
      el("span", null, "UTC"),
      el("span", { class: "lanes" }, LANES.map(([name, short]) =>
        el("span", null, el("span", { class: "long" }, name), el("span", { class: "short" }, short)))),
      el("span", null, "what, and because of which record")),
    el("ol", { class: "timeline" }, process.timeline.map((event, at) => ofEvent(event, process.timeline[at - 1], order)),
      process.waits_for ? toCome(process) : null));
}

function ofEvent({ at, event, cause, ...fields }, before, order) {
  const gap = before ? (Date.parse(at) - Date.parse(before.at)) / 1000 : null;
  const more = Object.entries(fields).map(([name, value]) => `${name} ${value}`).join(", ");
  return el("li", null,
    el("span", { class: "at" }, el("time", { datetime: at, title: at }, time(at, 3)),
      gap === null
        ? el("span", { class: "hint" }, at.slice(0, 10))
        : el("span", { class: "hint" }, gap === 0 ? "at once" : `+${span(gap)}`)),
    lanes(WAYS[event], event === "ConfirmationFailed" || (event === "EmailFailed") ? "bad" : ""),
    el("span", { class: "what" }, el("strong", null, event), more ? ` ${more}` : "",
      el("span", { class: "hint" }, because(cause, order))));
}

function because(cause, order) {
  return cause.deadline ? "a deadline passed" : `${cause.topic}/${order.partition}/${cause.offset}`;
}

function toCome(process) {
  return el("li", { class: "to-come" },
    el("span", { class: "at" }, process.next_try_at ? el("time", { datetime: process.next_try_at }, time(process.next_try_at, 3)) : "",
      el("span", { class: "hint" }, process.next_try_at ? "next try" : "no next try")),
    lanes(process.state === "awaiting details" ? [2, 1] : process.state === "awaiting e-mail" ? [3, 1] : null, "expected"),
    el("span", { class: "what" }, el("strong", null, `Waits for ${process.waits_for}`),
      el("span", { class: "hint" }, process.gives_up_at ? `gives up at ${when(process.gives_up_at)}` : "")));
}

function lanes(way, kind) {
  const [from, to] = way ?? [1, 1];
  const arrow = from === to
    ? el("span", { class: `self ${kind}` })
    : el("span", { class: `arrow from-${from} to-${to} ${from < to ? "right" : "left"} ${kind}` });
  return el("span", { class: "lanes", "aria-hidden": "true" }, arrow);
}

/** Return the events on one line, as far apart as they were in time. */
function strip({ timeline, waits_for: waits, next_try_at: next }) {
  const instants = timeline.map(({ at }) => Date.parse(at));
  const begin = Math.min(...instants);
  const now = Date.now();
  const end = waits ? Math.max(now, next ? Date.parse(next) : 0) : Math.max(...instants);
  const x = (at) => `${1.5 + (97 * (at - begin)) / Math.max(1, end - begin)}%`;
  const length = (Math.max(...instants) - begin) / 1000;
  return el("figure", { class: "time-strip" },
    svg("svg", { height: 22, width: "100%", role: "img",
        "aria-label": `${timeline.length} events in ${span(length)}${waits ? ", and it still waits" : ""}` },
      svg("line", { x1: x(begin), x2: x(Math.max(...instants)), y1: 11, y2: 11, class: "past" }),
      waits ? svg("line", { x1: x(Math.max(...instants)), x2: x(end), y1: 11, y2: 11, class: "future" }) : null,
      instants.map((at, n) => svg("circle", { cx: x(at), cy: 11, r: 5, class: WAYS[timeline[n].event]?.[0] === 1 ? "ours" : "theirs" },
        svg("title", null, `${timeline[n].event} ${time(timeline[n].at, 3)}`))),
      next ? svg("circle", { cx: x(Date.parse(next)), cy: 11, r: 5, class: "next" }, svg("title", null, `next try ${next}`)) : null),
    el("figcaption", { class: "hint" }, el("span", null, time(timeline[0].at, 3)),
      el("span", null, waits ? (next ? `next try ${time(next)}` : `now, ${span((now - begin) / 1000)} later`) : `${span(length)} later`)));
}
