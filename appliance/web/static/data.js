// The data page: four parts behind tabs; how the data stands, and how much room there is.

import { wireAdding } from "./adding.js";
import { get } from "./api.js";
import { openFrames, wireBrowsing } from "./browsing.js";
import { $, element, say } from "./dom.js";
import { icon, labelIcon } from "./icons.js";
import { openLeaving, wireLeaving } from "./leaving.js";
import { me, may } from "./nav.js";
import { labelTone } from "./tones.js";
import { labelWords } from "./words.js";

const PARTS = { health: showHealth, frames: openFrames, add: () => {}, delete: openLeaving };

/** "2.9 GB", "340 MB". */
function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(bytes < 1e10 ? 1 : 0)} GB`;
  return `${Math.round(bytes / 1e6)} MB`;
}

function finding({ state, what, do: advice }) {
  const words = element("p", "", element("strong", "", what));
  if (advice) words.append(" ", element("span", "", advice));
  const made = element("li", "finding", icon(state === "ok" ? "good" : "bad"), words);
  made.dataset.tone = state === "ok" ? "good" : "alert";
  return made;
}

function countRow(label, { train, test }, most) {
  const chip = element("span", "chip", icon(labelIcon(label)), labelWords(label));
  chip.dataset.tone = labelTone(label);
  const name = element("th", "", chip);
  name.scope = "row";
  const cells = [train, test].map((counts) => {
    const number = counts[label] ?? 0;
    const bar = element("span", "meter", element("i", ""));
    bar.setAttribute("aria-hidden", "true");
    bar.dataset.tone = labelTone(label);
    bar.firstChild.style.setProperty("--share", String(most ? number / most : 0));
    return element("td", "", element("b", "", number.toLocaleString("en-GB")), bar);
  });
  return element("tr", "", name, ...cells);
}

async function showHealth() {
  const { counts, waiting, unclear, findings, store, recording } = await get("/api/data");
  const badFirst = findings.toSorted((a, b) => (a.state === "ok") - (b.state === "ok"));
  $("findings").replaceChildren(...badFirst.map(finding));
  const labels = [...new Set([...Object.keys(counts.train), ...Object.keys(counts.test)])];
  const numbers = labels.flatMap((label) => [counts.train[label] ?? 0, counts.test[label] ?? 0]);
  $("counts").replaceChildren(...labels.map((label) => countRow(label, counts, Math.max(...numbers))));
  const all = numbers.reduce((a, b) => a + b, 0).toLocaleString("en-GB");
  say($("counts-words"), `${all} in all; ${waiting.toLocaleString("en-GB")} wait for a label, ${unclear.toLocaleString("en-GB")} nobody could tell.`);
  const share = store.budget_bytes ? Math.min(1, store.size_bytes / store.budget_bytes) : 0;
  $("store-meter").dataset.tone = store.state === "ok" ? "good" : "alert";
  $("store-meter").firstElementChild.style.setProperty("--share", String(share));
  $("store-meter").setAttribute("aria-label", `${Math.round(100 * share)} % of the budget is used`);
  say($("store-words"), store.sentence);
  const used = `${size(store.size_bytes)} of ${size(store.budget_bytes)} used`;
  say($("store-numbers"), `${used}. ${size(store.free_bytes)} of the disk free, ${size(store.floor_bytes)} of it always stay so.`);
  say($("recording"), recording?.sentence ?? "");
}

async function open() {
  const wanted = location.hash.slice(1);
  const part = Object.hasOwn(PARTS, wanted) ? wanted : "health";
  for (const id of Object.keys(PARTS)) $(`part-${id}`).hidden = id !== part;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  problem("");
  scrollTo(0, 0);
  try {
    await PARTS[part]();
  } catch (error) {
    problem(error.message);
  }
}

function problem(words) {
  say($("problem"), words);
  $("problem").hidden = !words;
}

addEventListener("hashchange", open);
wireAdding();
wireBrowsing(problem);
wireLeaving();
open();
me.then(async (person) => {
  if (!may("labeller", person)) return;
  const { words } = await get("/api/queue");
  say($("queue-words"), words);
}).catch((error) => problem(error.message));
