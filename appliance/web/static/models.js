// The versions of the model on this camera: which runs, how well, why others don't; and two ways back.

import { get, post } from "./api.js";
import { $, element, fill, say } from "./dom.js";
import { may, me } from "./nav.js";
import { button, chip, doing, keepLooking, question, tell } from "./parts.js";
import { showTrial } from "./steps.js";
import { capital } from "./words.js";

const CALM_MS = 5000;
const BUSY_MS = 700;
const STATES = {
  previous: { tone: "calm", words: "Ran before this one" },
  quarantined: { tone: "alert", words: "Kept out" },
  waits: { tone: "unsure", words: "Waits for its trial" },
  "": { tone: "calm", words: "Not in use" },
};
const METRICS = {
  server_accuracy: (value) => [`${(100 * value).toFixed(1)} %`, "of the server’s test frames right"],
  server_frames: (value) => [String(value), "test frames on the server"],
};

let person = null;
let state = null;
let working = ""; // what a person has asked for and the camera is doing
let look = () => {};

// How things are

async function refresh() {
  person ??= await me;
  state = await get("/api/models");
  draw();
  return working || state.trial ? BUSY_MS : CALM_MS;
}

function draw() {
  const { current, versions, trial } = state;
  const running = versions.find(({ version }) => version === current);
  say($("current-title"), current === null ? "None runs" : running ? nameOf(running) : `Version ${current}`);
  say($("current-since"), running ? madeWords(running) : "");
  say($("current-verdict"), sentenceOf(running));
  fill($("current-metrics"), metricsOf(running), () => element("li", "", element("strong", ""), element("span", "")), writeMetric);
  showTrial(trial);
  $("working").hidden = !working;
  say($("working-words"), working);
  $("none").hidden = versions.length > 0;
  fill($("versions"), versions, newRow, write);
  drawHands(versions, current);
}

function writeMetric(row, [value, words]) {
  say(row.querySelector("strong"), value);
  say(row.querySelector("span"), words);
}

/** Roll back = to the version before; recover = to the factory's. Two words, two buttons. */
function drawHands(versions, current) {
  $("hands").hidden = !may("admin", person) || versions.length === 0;
  const before = versions.find((each) => each.state === "previous");
  const factory = versions.find((each) => each.factory);
  const busy = Boolean(working || state.trial);
  $("rollback").disabled = busy || !before;
  $("recover").disabled = busy || !factory;
  if (busy) return; // its words stay as they were asked for
  const back = before ? `Back to version ${before.version}, which ran before this one.` : "There is no good version before this one.";
  say($("rollback-words"), back);
  const made = factory && factory.version === current ? "Puts it together afresh from its parts." : "This camera then learns from the fleet again, night by night.";
  say($("recover-words"), factory ? `Back to version ${factory.version}, which this camera started with. ${made}` : "The version this camera started with is not on it.");
}

// One version

function newRow() {
  return element(
    "li",
    "card version-row",
    element("div", "row-head", element("h3", ""), element("span", "state")),
    element("p", "verdict-words"),
    element("p", "facts"),
    element("div", "actions"),
  );
}

function write(row, version) {
  const { tone, words } = stateOf(version);
  row.dataset.tone = tone;
  row.dataset.version = version.version;
  say(row.querySelector("h3"), nameOf(version));
  if (row.querySelector(".state").textContent !== words) row.querySelector(".state").replaceChildren(chip(tone, words));
  say(row.querySelector(".verdict-words"), sentenceOf(version));
  const metrics = metricsOf(version).map(([value, what]) => `${value} ${what}`);
  say(row.querySelector(".facts"), [madeWords(version), ...metrics].filter(Boolean).join(" · "));
  const retry = may("admin", person) && keptOut(version) && !version.runs;
  const box = row.querySelector(".actions");
  box.hidden = !retry;
  if (retry && box.dataset.retries !== String(version.version)) {
    box.dataset.retries = version.version;
    const made = button("", "Try again", () => tryAgain(version.version));
    made.setAttribute("aria-label", `Try version ${version.version} again`);
    box.replaceChildren(made);
  }
  if (retry) box.firstChild.disabled = Boolean(working || state.trial);
}

/** A local version is better known by what its .eim is called. */
const nameOf = ({ version, local }) => local ?? `Version ${version}`;

const keptOut = ({ state: now }) => now === "quarantined";

function stateOf({ runs, state: now, factory }) {
  const { tone, words } = runs
    ? { tone: "good", words: "Runs now" }
    : STATES[now] ?? { tone: "unsure", words: capital(now) }; // "on trial: soak"
  return { tone, words: factory ? `${words} · factory` : words };
}

/** Why it was (not) taken; or what is wrong with it. */
function sentenceOf(version) {
  const words = version?.verdict ?? version?.problem;
  if (!words) return "";
  const where = keptOut(version) && version.decided_in ? `Not taken, at ${version.decided_in}: ` : "";
  return `${where}${where ? words : capital(words)}`.replace(/([^.])$/, "$1.");
}

function madeWords({ version, local, created, night }) {
  if (local) return `Version ${version}, this camera’s own${created ? `, added ${created}` : ""}`;
  return capital([created && `made ${created}`, night && `in the night of ${night}`].filter(Boolean).join(", "));
}

function metricsOf(version) {
  return Object.entries(version?.metrics ?? {})
    .filter(([, value]) => ["number", "string"].includes(typeof value))
    .map(([name, value]) => (Object.hasOwn(METRICS, name) ? METRICS[name](value) : [figure(value), name.replaceAll("_", " ")]));
}

const figure = (value) => (Number.isInteger(value) || typeof value === "string" ? String(value) : value.toFixed(3));

// What a person does

async function have(words, path, body) {
  working = words;
  draw();
  look();
  const answer = await doing(null, () => post(path, body));
  working = "";
  await refresh().catch(() => {}); // the next look says so
  if (answer) tell(`${answer.sentence.replace(/\.$/, "")}.`);
}

$("rollback").addEventListener("click", async () => {
  const before = state.versions.find((each) => each.state === "previous").version;
  const sure = await question({
    title: `Roll back to version ${before}?`,
    lines: [
      `Version ${state.current} keeps answering while version ${before} is started beside it and tested. Then they change places between two frames; no frame is lost.`,
      `Version ${state.current} is kept out from then on: it is not tried again by itself. You can have it tried again here.`,
    ],
    yes: "Roll back",
  });
  if (sure !== null) await have(`Going back to version ${before}…`, "/api/models/rollback", {});
});

$("recover").addEventListener("click", async () => {
  const factory = state.versions.find((each) => each.factory).version;
  const afresh = factory === state.current;
  const sure = await question({
    title: `Recover version ${factory}?`,
    lines: afresh
      ? [`Version ${factory} runs already. Its program is put together afresh from its parts, in case its file was damaged.`]
      : [
          `Version ${factory} is the one this camera started with. It may know much less than version ${state.current}.`,
          `It is started beside version ${state.current} and takes over between two frames. Version ${state.current} is kept out from then on, until you have it tried again here. New versions of coming nights are tried as always.`,
        ],
    yes: "Recover",
    danger: !afresh,
  });
  if (sure !== null) await have(`Recovering version ${factory}…`, "/api/models/recover", {});
});

async function tryAgain(version) {
  const sure = await question({
    title: `Try version ${version} again?`,
    lines: [
      `Its verdict is forgotten and its trial starts anew: signature, start beside version ${state.current}, this camera’s own test frames, then some minutes of live work.`,
      `Only if it passes does it take over. Otherwise version ${state.current} stays.`,
    ],
    yes: "Try again",
  });
  if (sure !== null) await have(`Trying version ${version}…`, "/api/models/try", { version });
}

look = keepLooking(refresh);
