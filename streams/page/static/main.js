// The page: what is heard is drawn, what is asked for is opened.

import { show } from "./dom.js";
import { lag } from "./lag.js";
import { OrderView } from "./order.js";
import { deadLetters, failures, figures, findings, members, verdictSaid, waiting } from "./panels.js";
import { setToken, Stream } from "./stream.js";
import { ratesNote, topology, topologyTable } from "./topology.js";
import { when } from "./words.js";

const byId = (id) => document.getElementById(id);
const [board, signIn, connection] = [byId("board"), byId("sign-in"), byId("connection")];
const place = byId("topology-picture");
let last = null;

function draw() {
  if (last === null || board.hidden) return;
  show(place, topology(last, place.clientWidth));
}

function onPicture(picture) {
  if (picture.problem) {
    onState("trouble", picture.problem);
    return;
  }
  last = picture;
  signIn.hidden = true;
  board.hidden = false;
  board.classList.remove("stale");
  show(byId("verdict-said"), verdictSaid(picture.verdict));
  show(byId("verdict-findings"), findings(picture));
  show(byId("figures"), figures(picture));
  draw();
  show(byId("topology-table"), ratesNote(), topologyTable(picture));
  show(byId("waiting-body"), waiting(picture));
  show(byId("failures-body"), failures(picture));
  show(byId("dead-letters-body"), deadLetters(picture));
  show(byId("lag-body"), lag(picture));
  show(byId("members-body"), members(picture));
  const { instance, version } = picture.told_by;
  show(byId("told-by"), `Told by ${instance}, release ${version}, at ${when(picture.at_ms)}.`);
  const { level, known } = picture.verdict;
  document.title = `${level === "bad" ? "✕ " : level === "look" ? "! " : known ? "✓ " : ""}Rejoinder`;
}

function onState(state, text) {
  connection.dataset.state = state;
  show(connection.firstElementChild, text);
  if (state !== "live" && state !== "connecting") {
    board.classList.add("stale");
    document.title = "… Rejoinder";
  }
}

function onDenied(status, error) {
  board.hidden = true;
  if (status !== 401) {
    onState("trouble", error);
    return;
  }
  onState("waiting", "Sign in");
  const tried = byId("token").value !== "";
  show(byId("token-wrong"), tried ? "That isn't the token." : "");
  byId("token").value = "";
  signIn.hidden = false;
  byId("token").focus();
}

const stream = new Stream("/page/events", { onPicture, onState, onDenied });
const order = new OrderView(byId("order"), () => (signIn.hidden = false));

function route() {
  const found = /^#\/orders\/(.+)$/.exec(location.hash);
  let orderId = null;
  try {
    orderId = found && decodeURIComponent(found[1]);
  } catch {
    // No address of ours.
  }
  if (orderId !== null) byId("order-id").value = orderId;
  order.open(orderId);
  if (orderId !== null) byId("order").scrollIntoView({ block: "start" });
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = byId("order-id").value.trim();
  if (!wanted) return;
  const hash = `#/orders/${encodeURIComponent(wanted)}`;
  if (location.hash === hash) route();
  else location.hash = hash;
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  stream.again();
  order.again();
});

window.addEventListener("hashchange", route);
new ResizeObserver(draw).observe(place);
route();
stream.again();
