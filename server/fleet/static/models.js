// The versions that nights made: where each came from, why it went out, and what the cameras made of it.

import { $, element, fill, say } from "/static/camera/dom.js";
import { capital } from "/static/camera/words.js";
import { chip, more, share } from "/static/parts.js";

const FIRST = 30;
const STEP = 100;
const KNOWN = {
  server_accuracy: (value) => `accuracy on the server’s frames ${share(value)}`,
  server_frames: (value) => `${value} test frames`,
};

let models = [];
let running = null;
let shown = FIRST;

export function showModels(state) {
  models = state.models;
  running = state.version;
  $("models-none").hidden = models.length > 0;
  showRows();
}

function showRows() {
  fill($("models-list"), models.slice(0, shown), row, write);
  more($("models-more"), models.length, shown, STEP);
}

function row() {
  return element(
    "li",
    "card version-row",
    element("div", "night-line", element("h3", ""), element("span", "night-chip")),
    element("p", "says"),
    element("p", "gate"),
    element("p", "soft facts"),
    element("p", "", element("a", "to-night", "Its night")),
  );
}

function write(made, model) {
  made.dataset.tone = model.tone;
  say(made.querySelector("h3"), `Version ${model.version}`);
  const words = model.version === running ? `${model.words}, runs now` : model.words;
  made.querySelector(".night-chip").replaceChildren(chip(model.tone, words));
  say(made.querySelector(".says"), `${capital(model.sentence)}.`);
  say(made.querySelector(".gate"), model.reason ? `${model.outcome === "withdrawn" ? "Why" : "Gate"}: ${model.reason}` : "");
  say(made.querySelector(".facts"), [`made ${model.created} from version ${model.parent}`, ...metricsOf(model)].join(" · "));
  const link = made.querySelector(".to-night");
  link.href = `#nights/${model.night}`;
  link.setAttribute("aria-label", `The night of version ${model.version}`);
}

function metricsOf({ metrics }) {
  return Object.entries(metrics).map(([name, value]) => {
    if (Object.hasOwn(KNOWN, name)) return KNOWN[name](value);
    return `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`;
  });
}

$("models-more").addEventListener("click", () => {
  shown += STEP;
  showRows();
});
