// One night: its rounds, whose replies counted and whose did not, and what the cameras made of the new version.

import { $, element, say } from "/static/camera/dom.js";
import { capital, labelWords } from "/static/camera/words.js";
import { factsOf } from "/static/nights.js";
import { chip, count, fixed, share, table } from "/static/parts.js";
import { Plot } from "/static/plot.js";

const MOST_ROWS = 100;

let drawn = "";
let opened = new Set(); // titles of what a person has unfolded

export function showNight(night) {
  say($("night-title"), `Night ${night.name}`);
  const text = JSON.stringify(night);
  if (text === drawn) return;
  drawn = text;
  opened = new Set([...$("night-body").querySelectorAll("details[open] > summary")].map((each) => each.dataset.title));
  $("night-body").replaceChildren(...[head(night), ...plots(night), rounds(night), gate(night), leftOut(night), used(night), verdicts(night), events(night)].filter(Boolean));
}

function head(night) {
  const card = element("div", "card night-head", element("p", "", chip(night.tone, night.words)));
  if (night.message) card.append(element("p", "night-message", night.message));
  card.append(element("p", "soft", capital(factsOf(night))));
  if (night.model) {
    const { version, words } = night.model;
    card.append(element("p", "says", element("strong", "", `Version ${version}: `), night.sentence || words.toLowerCase()));
  }
  return card;
}

function plots({ rounds: all, frames }) {
  if (all.length < 2) return [];
  const box = element("div", "plots");
  const points = (key) => all.map((each) => ({ label: each.name === "Start" ? "Start" : `Round ${each.name}`, value: each[key], tone: "good" }));
  const accuracy = new Plot({ title: `Accuracy on ${frames} test frames`, across: "Round", format: share, most: 1 });
  const loss = new Plot({ title: "Loss on the same frames", across: "Round", format: (value) => value.toFixed(3) });
  box.append(accuracy.box, loss.box);
  requestAnimationFrame(() => {
    accuracy.show(points("accuracy"));
    loss.show(points("loss"));
  });
  return [box];
}

function rounds({ rounds: all }) {
  if (!all.length) return null;
  const noisy = all.some(({ epsilon }) => epsilon !== null);
  const heads = ["Round", "Cameras", "Accuracy", "Loss", "Seconds", ...(noisy ? ["ε so far"] : []), "How"];
  const rows = all.map((each) => [
    each.name,
    `${each.used} of ${each.asked}`,
    share(each.accuracy),
    fixed(each.loss, 3),
    fixed(each.seconds, 1),
    ...(noisy ? [each.epsilon === null ? "–" : each.epsilon.toPrecision(3)] : []),
    strategyWords(each.strategy),
  ]);
  return element("div", "card", element("h3", "title", "Rounds"), table("Rounds of this night", heads, rows, noisy ? [1, 2, 3, 4, 5] : [1, 2, 3, 4]));
}

const STRATEGIES = { fedavg: "FedAvg", fedprox: "FedProx", fedadam: "FedAdam", fedmedian: "median", fedtrimmedavg: "trimmed mean", krum: "Krum" };

/** A strategy's setting, "fedprox with noise" say, as people write it. */
function strategyWords(setting) {
  const [name, ...rest] = setting.split(" ");
  return [STRATEGIES[name] ?? name, ...rest].join(" ");
}

/** What the gate said, per label, with what chance leaves open. */
function gate({ gate: found }) {
  if (!found) return null;
  const card = element("div", "card", element("h3", "title", "Gate"));
  const saysItself = found.reason.startsWith(found.outcome);
  card.append(element("p", "", capital(saysItself ? found.reason : `${found.outcome}: ${found.reason}`)));
  if (found.labels.length) {
    const heads = ["Label", "Before", "Now", "Recall (95 % sure)"];
    const rows = found.labels.map(({ label, frames, before, after, low, high }) => {
      const ends = `${(100 * low).toFixed(0)}–${(100 * high).toFixed(0)} %`;
      return [labelWords(label), `${before}/${frames}`, `${after}/${frames}`, `${share(after / frames)} (${ends})`];
    });
    card.append(table("The gate, per label", heads, rows, [1, 2, 3]));
  }
  return card;
}

function leftOut({ replies }) {
  const troubled = replies.filter(({ left_out: out }) => out.length);
  if (!replies.length) return null;
  const card = element("div", "card", element("h3", "title", "Left out"));
  if (!troubled.length) {
    card.append(element("p", "", "Nobody: every reply counted."));
    return card;
  }
  const list = element("ul", "left-out");
  for (const { camera, left_out: out } of troubled.slice(0, MOST_ROWS)) {
    const item = element("li", "", element("strong", "", camera));
    for (const { where, bad, reason } of out) {
      const why = element("p", "", `${where}: ${reason || "no reason is known"}`);
      if (bad) why.append(" ", element("em", "", "could not be used"));
      item.append(why);
    }
    list.append(item);
  }
  card.append(list, ...rest(troubled.length));
  return card;
}

function used({ replies }) {
  const good = replies.filter(({ used: times }) => times > 0);
  if (!good.length) return null;
  const rows = good.slice(0, MOST_ROWS).map((each) => [each.camera, String(each.used), each.examples === null ? "–" : each.examples.toLocaleString("en-GB"), fixed(each.loss, 3)]);
  const heads = ["Camera", "Replies that counted", "Frames behind it", "Its own loss"];
  return folded(`Used: ${count(good.length, "camera", "cameras")}`, "used", table("Cameras whose replies counted", heads, rows, [1, 2, 3]), ...rest(good.length));
}

function verdicts({ verdicts: all }) {
  if (!all.length) return null;
  const order = ["kept the old model", "waits", "no answer", "accepted"];
  const sorted = [...all].sort((a, b) => order.indexOf(a.answer) - order.indexOf(b.answer));
  const rows = sorted.slice(0, MOST_ROWS).map(({ camera, answer, reason }) => [camera, answer, reason || "–"]);
  return folded(`Verdicts: ${count(all.length, "camera", "cameras")}`, "verdicts", table("Each camera’s verdict", ["Camera", "Verdict", "In its own words"], rows), ...rest(all.length));
}

function events({ events: all }) {
  if (!all.length) return null;
  const list = element("ol", "told");
  for (const { at, text } of all.slice(-500)) list.append(element("li", "", element("span", "soft", at), ` ${text}`));
  return folded(`What was said (${all.length.toLocaleString("en-GB")})`, "told", list);
}

function folded(title, name, ...inside) {
  const summary = element("summary", "", title);
  summary.dataset.title = name;
  const made = element("details", "card folded", summary, ...inside);
  made.open = opened.has(name);
  return made;
}

function rest(total) {
  if (total <= MOST_ROWS) return [];
  return [element("p", "soft", `and ${(total - MOST_ROWS).toLocaleString("en-GB")} more; the export has them all`)];
}
