// The cameras: how each is, and what a person can do with it.

import { $, drawIcon, element, fill, say } from "/static/camera/dom.js";
import { labelWords } from "/static/camera/words.js";
import { count, doing, icon, more, question } from "/static/parts.js";

const FIRST = 50;
const STEP = 100;
const FINDER_FROM = 8;

let fleet = null;
let shown = FIRST;
let troubledOnly = false;

export function showCameras(state) {
  fleet = state;
  const { cameras, revoked, privacy } = state;
  say($("cameras-lead"), leadOf(state));
  const asking = state.requests.length;
  $("cameras-asking").hidden = asking === 0;
  say($("cameras-asking").firstElementChild, `${count(asking, "camera asks", "cameras ask")} to come in`);
  $("privacy").hidden = !privacy.sentence;
  say($("privacy"), privacy.sentence);
  $("cameras-finder").hidden = cameras.length < FINDER_FROM;
  showRows();
  $("revoked").hidden = revoked.length === 0;
  say($("revoked").querySelector("summary"), `Revoked (${revoked.length})`);
  fill($("revoked-list"), revoked, () => element("li", ""), (row, { name, when, why }) =>
    say(row, `${name}, ${when}${why ? `: ${why}` : ""}`),
  );
}

function leadOf({ cameras, night }) {
  if (!cameras.length) return "";
  const troubled = cameras.filter(({ tone }) => tone === "alert").length;
  const how = troubled === 0 ? "None needs a look" : `${troubled} of ${cameras.length} ${troubled === 1 ? "needs" : "need"} a look`;
  if (!night) return `${how}. No night has been held yet.`;
  return night.outcome === null ? `${how}. A night goes on.` : `${how}. Last night: ${night.words.toLowerCase()}.`;
}

function showRows() {
  const wanted = $("cameras-find").value.trim().toLowerCase();
  const found = fleet.cameras.filter(
    ({ name, sentence, tone }) =>
      (!troubledOnly || tone === "alert") &&
      (!wanted || name.toLowerCase().includes(wanted) || sentence.toLowerCase().includes(wanted)),
  );
  $("cameras-none").hidden = found.length > 0;
  say($("cameras-none"), noneOf(wanted));
  fill($("cameras-list"), found.slice(0, shown), row, write);
  more($("cameras-more"), found.length, shown, STEP);
}

function noneOf(wanted) {
  if (!fleet.cameras.length) return "No camera belongs to this fleet yet. Open “Let a camera in”.";
  if (wanted) return `No camera’s name or state has “${wanted}” in it.`;
  return "No camera needs a look.";
}

function row() {
  const fact = (name, words) => element("div", name, element("dt", "", words), element("dd", ""));
  const release = element("button", "button release", "Let it train again");
  const revoke = element("button", "button quiet revoke", "Revoke");
  for (const button of [release, revoke]) button.type = "button";
  return element(
    "li",
    "card camera",
    element("div", "camera-head", icon("calm"), element("h3", ""), element("p", ""), release),
    element("dl", "", fact("seen", "Last seen"), fact("version-of", "Version"), fact("frames", "Labelled frames"), fact("board", "What its board takes")),
    revoke,
  );
}

function write(made, camera) {
  const { name, sentence, tone, seen, version, newest, held } = camera;
  made.dataset.camera = name;
  made.dataset.tone = tone;
  drawIcon(made.querySelector("use"), tone);
  say(made.querySelector("h3"), name);
  say(made.querySelector(".camera-head p"), sentence);
  say(made.querySelector(".seen dd"), seen);
  const behind = fleet.version !== null && !newest;
  say(made.querySelector(".version-of dd"), version === null ? "–" : `${version}${newest ? ", the newest" : behind ? `, not ${fleet.version}` : ""}`);
  made.querySelector(".version-of").dataset.behind = String(version !== null && behind);
  say(made.querySelector(".frames dd"), framesOf(camera));
  const board = made.querySelector(".board");
  board.hidden = camera.board === null;
  say(board.querySelector("dt"), unbroken(camera.board?.name ?? ""));
  say(board.querySelector("dd"), unbroken(camera.board?.takes ?? ""));
  made.querySelector(".release").hidden = !held;
  made.querySelector(".revoke").setAttribute("aria-label", `Revoke ${name}`);
  made.querySelector(".release").setAttribute("aria-label", `Let ${name} train again`);
}

function framesOf({ train, test }) {
  const labels = [...new Set([...fleet.labels, ...Object.keys(train), ...Object.keys(test)])];
  const of = (label) => (train[label] ?? 0) + (test[label] ?? 0);
  const known = labels.filter((label) => of(label) > 0);
  if (!known.length) return "none";
  return known.map((label) => `${labelWords(label).toLowerCase()}\u00a0${of(label).toLocaleString("en-GB")}`).join(", ");
}

/** A number and its unit stay on one line. */
function unbroken(words) {
  return words.replace(/(\d) (ms|[MG]B|cores?|threads)\b/g, "$1\u00a0$2");
}

async function revoke(button, name) {
  const why = await question({
    title: `Revoke ${name}?`,
    words:
      "It leaves the fleet for good: its next message is refused, and it gets no more models. It goes on watching with the model it has. To have it back, it must be let in again as a new camera.",
    label: "Why? It stands in the trail.",
    yes: "Revoke it",
    danger: true,
  });
  if (why !== null) await doing(button, "/api/revoke", { camera: name, why }, `${name} was revoked.`);
}

$("cameras-list").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const name = button.closest(".camera").dataset.camera;
  if (button.classList.contains("revoke")) revoke(button, name);
  else doing(button, "/api/release", { camera: name }, `${name} may train again.`);
});
$("cameras-find").addEventListener("input", () => {
  shown = FIRST;
  showRows();
});
$("cameras-troubled").addEventListener("click", () => {
  troubledOnly = !troubledOnly;
  $("cameras-troubled").setAttribute("aria-pressed", String(troubledOnly));
  shown = FIRST;
  showRows();
});
$("cameras-more").addEventListener("click", () => {
  shown += STEP;
  showRows();
});
