// The nights: how good the model became, and how each night ended.

import { $, element, fill, say } from "/static/camera/dom.js";
import { duration } from "/static/camera/words.js";
import { chip, more, share } from "/static/parts.js";
import { Plot } from "/static/plot.js";

const FIRST = 30;
const STEP = 100;
const PLOTTED = 120;

const accuracy = new Plot({ title: "Accuracy on the server’s test frames", across: "Night", format: share, most: 1 });
const loss = new Plot({ title: "Loss on the same frames", across: "Night", format: (value) => value.toFixed(3) });
$("nights-plots").append(accuracy.box, loss.box);

let nights = [];
let shown = FIRST;

export function showNights(state) {
  nights = state.nights;
  $("nights-none").hidden = nights.length > 0;
  const plotted = nights.slice(0, PLOTTED).reverse();
  $("nights-plots").hidden = !plotted.some((night) => night.accuracy !== null);
  const points = (key) => plotted.map((night) => ({ label: night.day, name: night.name, value: night[key], tone: night.tone, more: night.words }));
  accuracy.show(points("accuracy"));
  loss.show(points("loss"));
  showRows();
}

function showRows() {
  fill($("nights-list"), nights.slice(0, shown), row, write);
  more($("nights-more"), nights.length, shown, STEP);
}

function row() {
  return element(
    "li",
    "card night-row",
    element("div", "night-line", element("h3", "", element("a", "")), element("span", "night-chip")),
    element("p", "night-says"),
    element("p", "soft night-facts"),
  );
}

function write(made, night) {
  made.dataset.tone = night.tone;
  const link = made.querySelector("a");
  link.href = `#nights/${night.id}`;
  say(link, night.name);
  made.querySelector(".night-chip").replaceChildren(chip(night.tone, night.words));
  say(made.querySelector(".night-says"), night.message);
  made.querySelector(".night-says").hidden = !night.message;
  say(made.querySelector(".night-facts"), factsOf(night));
}

export function factsOf(night) {
  const facts = [`began ${night.began}`];
  if (night.lasted_s !== null) facts.push(`took ${duration(night.lasted_s)}`);
  if (night.used !== null) facts.push(`${night.used} of ${night.asked} cameras in its last round`);
  if (night.accuracy !== null) {
    const before = night.accuracy_before === null ? "" : ` (was ${share(night.accuracy_before)})`;
    facts.push(`accuracy ${share(night.accuracy)}${before}`);
  }
  return facts.join(" · ");
}

$("nights-more").addEventListener("click", () => {
  shown += STEP;
  showRows();
});
