// The camera's page: one stream of pictures, one of events, and what they mean in words.
import { get } from "./api.js";
import { $, drawIcon, element, fill, markSteps, say } from "./dom.js";
import { showModel } from "./model.js";
import { alarmIsUnknown, showAlarm, showConditions, showEvents } from "./news.js";
import { showStanding } from "./standing.js";
import { capital, conditionWords, isOld, labelWords, meaningOf, percent, reasonOf } from "./words.js";

const STEPS = [
  ["waiting", "Wait"],
  ["features", "Read"],
  ["training", "Train"],
  ["testing", "Test"],
  ["receiving", "Load"],
  ["done", "Done"],
];
const PHASES = {
  idle: "No night under way",
  waiting: "Waiting for the server",
  features: "Reading labelled frames",
  training: "Training",
  testing: "Testing",
  receiving: "Receiving a new version",
  done: "Finished",
  failed: "Ended early",
};

const LOST_AFTER_MS = 3000;
const SPEAK_EVERY_MS = 5000;
const RETRY_MS = 2000;

// The picture

const picture = $("picture");
const still = $("still");
const screen_ = $("screen");
let paused = false;
let streamNumber = 0;
let streamRetry = 0;

function startPicture() {
  clearTimeout(streamRetry);
  if (paused || document.hidden) return;
  streamNumber += 1;
  picture.src = `/stream.mjpg?n=${streamNumber}`;
}

function stopPicture() {
  clearTimeout(streamRetry);
  picture.removeAttribute("src");
}

function showState(name, words) {
  screen_.dataset.state = name;
  if (words) say($("blank-words"), words);
}

picture.addEventListener("error", () => {
  if (!picture.hasAttribute("src")) return;
  clearTimeout(streamRetry);
  streamRetry = setTimeout(startPicture, RETRY_MS);
});

$("pause").addEventListener("click", () => {
  paused = !paused;
  const button = $("pause");
  button.setAttribute("aria-pressed", String(paused));
  drawIcon(button.querySelector("use"), paused ? "play" : "pause");
  say(button.querySelector(".unseen"), paused ? "Show the live picture" : "Pause the picture");
  if (paused && picture.naturalWidth) {
    still.width = picture.naturalWidth;
    still.height = picture.naturalHeight;
    still.getContext("2d").drawImage(picture, 0, 0);
  }
  still.hidden = !paused;
  picture.hidden = paused;
  if (paused) stopPicture();
  else startPicture();
});

function showPicture(state) {
  const { frame, faults } = state;
  if (frame) screen_.style.setProperty("--shape", `${frame.width} / ${frame.height}`);
  if (!frame || (!picture.naturalWidth && !paused)) {
    showState("waiting", faults.camera ? "No picture from the camera" : "Waiting for the picture");
  } else if (isOld(frame) && !paused) {
    showState("old", `This picture is ${Math.round(frame.age_s)} s old`);
  } else {
    showState("live");
  }
  if (frame && !paused) say($("taken"), frame.taken);
  $("taken-chip").hidden = !frame;
}

// The decision

let spokenAt = 0;
let spoken = "";

function showDecision(state) {
  const meaning = meaningOf(state);
  const reason = reasonOf(state);
  $("decision").dataset.tone = meaning.tone;
  drawIcon($("decision-icon"), meaning.icon);
  say($("words"), meaning.words);
  say($("sure"), reason);
  showScores(state);
  speak(`${meaning.words}${meaning.tone === "unsure" && reason ? `: ${reason}` : ""}. `, state);
}

function showScores({ frame, labels, decision }) {
  const scores = decision && !isOld(frame) ? decision.scores : {};
  const names = labels.length ? labels : Object.keys(scores);
  fill($("scores"), names, scoreRow, (row, label) => {
    const score = scores[label];
    const best = score !== undefined && score === Math.max(...Object.values(scores));
    row.classList.toggle("best", best);
    say(row.querySelector(".name"), labelWords(label));
    say(row.querySelector(".number"), score === undefined ? "–" : percent(score));
    row.querySelector("i").style.setProperty("--score", String(score ?? 0));
  });
}

function scoreRow() {
  const bar = element("span", "bar", element("i", ""));
  bar.setAttribute("aria-hidden", "true");
  return element("li", "", element("span", "name"), element("span", "number"), bar);
}

/** Tell a screen reader what changed, but not ten times a second. */
function speak(words, state) {
  const text = state.model.version === null ? words : `${words}Version ${state.model.version}.`;
  if (text === spoken || Date.now() - spokenAt < SPEAK_EVERY_MS) return;
  spoken = text;
  spokenAt = Date.now();
  say($("spoken"), text);
}

// Night, health

function showNight({ night }) {
  document.querySelector(".night").dataset.phase = night.phase;
  const busy = !["idle", "done", "failed"].includes(night.phase);
  const round = busy && night.round ? `, round ${night.round}${night.rounds ? ` of ${night.rounds}` : ""}` : "";
  say($("phase"), (PHASES[night.phase] ?? night.phase) + round);
  say($("night-when"), !busy && night.phase !== "idle" && night.updated ? night.updated : "");
  say($("night-message"), night.message);
  $("night-message").hidden = !night.message;
  $("steps").hidden = !busy && night.phase !== "done";
  const current = STEPS.findIndex(([phase]) => phase === night.phase);
  markSteps($("steps"), night.phase === "done" ? STEPS.length : current);
}

function showHealth({ loop, faults, model, decision, conditions, fleet }) {
  say($("rate"), loop.decisions_per_s.toFixed(1));
  say($("dropped"), loop.frames_dropped.toLocaleString("en-GB"));
  const pictures = conditions.length ? conditions.map((each) => conditionWords(each).short).join(", ") : "Working";
  const working = decision ? `${Math.round(decision.classify_ms)} ms` : model.version === null ? "Starting" : "Waiting";
  for (const [name, words] of [["camera", pictures], ["model", working]]) {
    const item = $(`health-${name}`);
    item.dataset.well = faults[name] || (name === "camera" && conditions.length) ? "no" : "yes";
    const missing = name === "model" && !fleet; // it works alone: nothing is broken
    say(item.querySelector("dd"), !faults[name] ? words : missing ? "None" : "Fault");
    $(`notice-${name}`).hidden = !faults[name];
    if (faults[name]) say($(`notice-${name}-words`), faults[name]);
  }
}

function show(state) {
  say($("camera"), state.camera);
  say($("fleet"), state.fleet);
  say($("clock"), state.clock);
  document.title = `${state.alarm ? `⚠ ${capital(state.alarm.sentence)} – ` : ""}${state.camera} – Sitecam`;
  showAlarm(state);
  showPicture(state);
  showConditions(state);
  showDecision(state);
  showModel(state);
  showNight(state);
  showHealth(state);
  showStanding(state);
  showEvents(state);
}

// The link

let events = null;
let heardAt = 0;
let triedAt = 0;

function setLink(name) {
  if (document.body.dataset.link === name) return;
  const returned = document.body.dataset.link === "lost" && name === "live";
  document.body.dataset.link = name;
  say($("link-words"), { live: "Live", lost: "Lost", connecting: "Connecting" }[name]);
  $("notice-link").hidden = name !== "lost";
  if (name === "lost") {
    const taken = $("taken").textContent;
    say($("notice-link-words"), `${taken ? `This is how things stood at ${taken}. ` : ""}Trying again…`);
    alarmIsUnknown(taken);
    $("decision").dataset.tone = "calm"; // old news must not look like an alarm, nor like safety
    say($("sure"), taken ? `As of ${taken}` : "");
  }
  if (returned) startPicture(); // its old connection is dead too, and doesn't always say so
}

function connect() {
  disconnect();
  triedAt = Date.now();
  events = new EventSource("/api/live");
  events.addEventListener("message", (event) => {
    heardAt = Date.now();
    show(JSON.parse(event.data));
    setLink("live");
  });
}

function disconnect() {
  if (events) events.close();
  events = null;
}

setInterval(() => {
  if (!events || Date.now() - heardAt < LOST_AFTER_MS) return;
  setLink("lost");
  // The browser tries again by itself, except after an answer it doesn't like.
  if (events.readyState === EventSource.CLOSED && Date.now() - triedAt > RETRY_MS) askWhy();
}, 500);

/** A browser doesn't say why a stream was refused: one plain question leads to the login where that is the reason. */
function askWhy() {
  triedAt = Date.now();
  get("/api/me").then(connect, (refusal) => say($("notice-link-words"), refusal.message));
}

/** A page nobody looks at costs the camera nothing. */
function followVisibility() {
  if (document.hidden) {
    disconnect();
    stopPicture();
  } else {
    heardAt = Date.now();
    connect();
    startPicture();
  }
}

for (const [, words] of STEPS) $("steps").append(element("li", "", words));
document.addEventListener("visibilitychange", followVisibility);
followVisibility();
