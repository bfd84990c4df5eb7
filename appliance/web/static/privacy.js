// What left this camera: sentences first, then every night with every message; and the way to make it forget.

import { get, post } from "./api.js";
import { $, element, say } from "./dom.js";
import { me } from "./nav.js";
import { count, doing, question, size, table, tell } from "./parts.js";
import { capital } from "./words.js";

const SHORT = 8; // hex digits of a hash that people compare at a glance
const NAMES = { mqtt: "MQTT" };
const COLUMNS = ["Name", "Numbers", "Size", "SHA-256"];

let nights = [];
let before = null; // where older nights are
let others = [];

function draw({ sentences, nights: more, other, before: next, broken }) {
  nights = [...nights, ...more];
  others = [...others, ...other.filter(({ at_utc: utc }) => utc || !others.length)];
  before = next;
  $("sentences").replaceChildren(...sentences.map((words) => element("p", "", words)));
  drawTotals();
  $("none").hidden = nights.length > 0;
  $("nights").append(...more.map(nightRow));
  $("older").hidden = before === null;
  $("other").hidden = others.length === 0;
  $("other-list").replaceChildren(...others.map(otherRow));
  if (broken.length) tell(`Part of the ledger can’t be read: ${broken.join("; ")}.`, true);
}

function drawTotals() {
  const sum = (key) => nights.reduce((total, night) => total + (night[key] ?? 0), 0);
  const facts = [
    [before === null ? "Nights" : "Last nights", String(nights.length)],
    ["Left the camera", size(sum("up_bytes"))],
    ["Came to it", size(sum("down_bytes"))],
    ["Pictures sent", "None"],
  ];
  $("totals").hidden = nights.length === 0;
  $("totals").replaceChildren(...facts.map(fact));
}

function fact([name, value]) {
  return element("div", "", element("dt", "", name), element("dd", "", value));
}

// Nights

function nightRow(night) {
  const facts = [
    night.learned_frames ? `learned from ${count(night.learned_frames, "frame", "frames")}` : "learned from no frame",
    night.up_bytes === null ? "cut off before its bytes were counted" : `${size(night.up_bytes)} out, ${size(night.down_bytes)} in`,
    outcome(night),
  ];
  const summary = element("summary", "", element("strong", "", `Night of ${night.night}`), element("span", "", facts.join(" · ")));
  const box = element("div", "messages");
  const folded = element("details", "", summary, box);
  const write = () => {
    if (!box.childElementCount) box.append(...nightParts(night));
  };
  folded.addEventListener("toggle", write);
  folded.write = write;
  return element("li", "card night-row", folded);
}

function outcome({ version, taken }) {
  if (!version) return "no version came of it";
  return `became version ${version}${taken ? "" : ", which was not taken here"}`;
}

function nightParts(night) {
  return [element("p", "", night.messages.length ? `Everything went to ${night.to}.` : "No message was sent."), ...night.messages.map(messagePart)];
}

function messagePart({ at, kind, words, arrays, values }) {
  const made = element("div", "", element("h3", "", capital(words)), element("p", "values", `${at} · ${kind}`));
  const numbers = Object.entries(values ?? {}).map(([name, value]) => `${name} ${inWords(value)}`);
  if (numbers.length) made.append(element("p", "values", numbers.join(" · ")));
  if (arrays?.length) made.append(arrayTable(kind, arrays));
  return made;
}

/** Single numbers and texts as they were, but for digits nobody reads; the ledger on the camera has them all. */
function inWords(value) {
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return String(value).replace(/[{}"]/g, "").replace(/: /g, " ");
}

function arrayTable(kind, arrays) {
  const rows = arrays.map(({ name, shape, dtype, size_bytes: bytes, sha256 }) => [
    name,
    `${shape.join(" × ") || "1"} ${dtype}`,
    size(bytes),
    hashButton(name, sha256),
  ]);
  return table(`Numbers in “${kind}”`, COLUMNS, rows, [2]);
}

/** Shown short, copied whole, printed whole. */
function hashButton(name, sha256) {
  if (!sha256) return "–";
  const short = element("span", "short", `${sha256.slice(0, SHORT)}…`);
  const made = element("button", "hash", short, element("span", "whole", sha256));
  made.type = "button";
  made.title = sha256;
  made.setAttribute("aria-label", `Copy the SHA-256 of ${name}, ${sha256.slice(0, SHORT)} and so on`);
  made.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(sha256);
      say(short, "Copied");
      say($("spoken"), "Copied.");
    } catch {
      say(short, sha256); // no clipboard without HTTPS: then it can be marked by hand
    }
    setTimeout(() => say(short, `${sha256.slice(0, SHORT)}…`), 3000);
  });
  return made;
}

function otherRow({ name, sentence, at }) {
  const title = NAMES[name] ?? capital(name);
  return element("li", "card", element("h3", "", `${title} `, element("span", "soft figures", at ?? "")), element("p", "", sentence));
}

// Paper: everything unfolded

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("#nights details")) {
    folded.dataset.was = String(folded.open);
    folded.write();
    folded.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const folded of document.querySelectorAll("#nights details")) folded.open = folded.dataset.was === "true";
});
$("print").addEventListener("click", () => print());

// Forgetting

$("forget").addEventListener("click", async (event) => {
  const { camera } = await me;
  const name = await question({
    title: `Forget ${camera}?`,
    lines: [
      "This wipes every frame and label, every event and its picture, every model and the camera’s keys. Nothing of it can be brought back.",
      "What other cameras have learned from this one’s numbers stays with them. The fleet’s page goes on listing this camera until somebody revokes it there.",
    ],
    label: `To go on, type the camera’s name: ${camera}`,
    typed: camera,
    yes: "Forget this camera",
    danger: true,
  });
  if (name === null) return;
  const answer = await doing(event.target, () => post("/api/forget", { name }));
  if (answer) showProof(answer.proof, camera);
});

function showProof(proof, camera) {
  const text = JSON.stringify(proof, null, 2);
  const left = proof.remains.length;
  const facts = [
    ["Asked by", proof.by],
    ["Finished", proof.finished_utc.replace("T", " ").replace(/(\.\d+)?\+00:00$/, " UTC")],
    ["Frames wiped", proof.frames === null ? "not counted" : `${proof.frames}, ${proof.labelled} of them labelled`],
    ["Model versions wiped", proof.versions.join(", ") || "none"],
    ["Files left", left ? `${left}: they go as the camera’s process ends` : "none"],
  ];
  $("proof-facts").replaceChildren(...facts.map(fact));
  $("proof-sentences").replaceChildren(...proof.sentences.map((words) => element("p", "soft", words)));
  say($("proof-json"), text);
  const link = $("proof-save");
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "application/json" }));
  link.download = `${camera.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-forgotten.json`;
  for (const section of document.querySelectorAll("main > :not(#proof)")) section.hidden = true;
  $("proof").hidden = false;
  $("proof").focus();
}

const show = async () => draw(await get(before === null ? "/api/privacy" : `/api/privacy?before=${before}`));

$("older").addEventListener("click", (event) => doing(event.target, show));
doing(null, show);
