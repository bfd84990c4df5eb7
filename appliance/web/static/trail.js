// How an event was decided: one bar per decision, as high as the model was sure; and the same in words and as a table.

import { element } from "./dom.js";
import { count, drawn, table } from "./parts.js";
import { labelTone, labelWords, percent } from "./words.js";

const HEIGHT = 72;
const NO_LABEL = "Unsure";

const nameOf = ({ label }) => (label === null ? NO_LABEL : labelWords(label));
const toneOf = ({ label }) => (label === null ? "unsure" : labelTone(label));

/** The strip, its key, and every decision as a table. `trail` is never empty. */
export function trailParts(trail) {
  const names = [...new Set(trail.map(nameOf))];
  const sums = names.map((name) => {
    const those = trail.filter((each) => nameOf(each) === name);
    return { name, tone: toneOf(those[0]), number: those.length, highest: Math.max(...those.map(sure)) };
  });
  sums.sort((a, b) => b.number - a.number);
  return [
    element("p", "", inWords(trail, sums)),
    strip(trail, inWords(trail, sums)),
    element("div", "axis", element("span", "", trail[0].at), element("span", "", trail.at(-1).at)),
    element("ul", "key", ...sums.map(keyRow)),
    asTable(trail),
  ];
}

const sure = ({ confidence }) => confidence ?? 0;

function inWords(trail, sums) {
  const each = sums.map(({ name, number, highest }) => `${number} said “${name}”, at most ${percent(highest)} sure`);
  const versions = [...new Set(trail.map(({ version }) => version))];
  const by = versions.length === 1 ? `version ${versions[0]}` : `versions ${versions.join(" and ")}`;
  return `${count(trail.length, "decision", "decisions")} by ${by}: ${each.join("; ")}.`;
}

function strip(trail, words) {
  const made = drawn("svg", {
    class: "trail-strip",
    viewBox: `0 0 ${trail.length} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": words,
  });
  made.append(drawn("line", { class: "half", x1: 0, x2: trail.length, y1: HEIGHT / 2, y2: HEIGHT / 2 }));
  trail.forEach((each, index) => {
    const height = Math.max(2, HEIGHT * sure(each));
    const bar = { x: index + 0.1, width: 0.8, y: HEIGHT - height, height, "data-tone": toneOf(each) };
    const more = drawn("title", {}, `${each.at}: ${nameOf(each)}, ${percent(sure(each))}`);
    made.append(drawn("rect", bar, more));
  });
  return made;
}

function keyRow({ name, tone, number }) {
  const swatch = element("i", "");
  swatch.dataset.tone = tone;
  return element("li", "", swatch, `${name}: ${number}`);
}

function asTable(trail) {
  const rows = trail.map((each) => [each.at, nameOf(each), percent(sure(each)), String(each.version ?? "–")]);
  const box = table("Every decision of this event", ["Time", "Decision", "Sure", "Version"], rows, [2, 3]);
  return element("details", "", element("summary", "", "Every decision"), box);
}
