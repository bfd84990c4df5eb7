// The camera's page: one stream of pictures, one of events, and what they mean in words.
"use strict";

const KNOWN = {
  hardhat: { words: "Hardhat", icon: "hardhat", tone: "good" },
  head: { words: "Bare head", icon: "head", tone: "alert" },
  nobody: { words: "Nobody", icon: "nobody", tone: "calm" },
};
const UNSURE = { words: "Not sure", icon: "unsure", tone: "unsure" };
const NO_ANSWER = { words: "No answer", icon: "waiting", tone: "calm" };
const NO_PICTURE = { words: "No picture", icon: "camera-off", tone: "calm" };

const STEPS = [
  ["waiting", "Wait"],
  ["features", "Read"],
  ["training", "Train"],
  ["testing", "Test"],
  ["receiving", "Receive"],
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
const OLD_AFTER_S = 5;
const SPEAK_EVERY_MS = 5000;
const RETRY_MS = 2000;
const NEW_FOR_MS = 10 * 60 * 1000;

const $ = (id) => document.getElementById(id);

/** Write text only where it changed, so that a reader's place and a selection survive. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawIcon(use, name) {
  const target = `#icon-${name}`;
  if (use.getAttribute("href") !== target) use.setAttribute("href", target);
}

function percent(score) {
  return `${(100 * score).toFixed(score > 0.995 || score < 0.1 ? 1 : 0)} %`;
}

function named(label) {
  return Object.hasOwn(KNOWN, label) ? KNOWN[label] : { words: label, icon: "label", tone: "calm" };
}

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

/** What a frame showed long ago says nothing of now: neither alarm nor safety. */
function isOld(frame) {
  return frame !== null && frame.age_s > OLD_AFTER_S;
}

function meaningOf({ frame, decision }) {
  if (isOld(frame)) return NO_PICTURE;
  if (!decision) return NO_ANSWER;
  return decision.label === null ? UNSURE : named(decision.label);
}

function showDecision(state) {
  const { frame, decision } = state;
  const meaning = meaningOf(state);
  $("decision").dataset.tone = meaning.tone;
  drawIcon($("decision-icon"), meaning.icon);
  say($("words"), meaning.words);
  if (isOld(frame)) {
    say($("sure"), `Since ${frame.taken}`);
  } else if (!decision) {
    const starting = state.model.version === null;
    say($("sure"), state.faults.model ? "The model has a fault" : starting ? "The model is starting" : "Waiting");
  } else if (decision.label === null) {
    const best = Object.entries(decision.scores).sort((a, b) => b[1] - a[1])[0];
    say($("sure"), best ? `Perhaps: ${named(best[0]).words}` : "");
  } else {
    say($("sure"), `${percent(decision.confidence)} sure`);
  }
  showScores(state);
  speak(`${meaning.words}. `, state);
}

function showScores({ frame, labels, decision }) {
  const scores = decision && !isOld(frame) ? decision.scores : {};
  const names = labels.length ? labels : Object.keys(scores);
  const list = $("scores");
  while (list.children.length > names.length) list.lastChild.remove();
  while (list.children.length < names.length) list.append(scoreRow());
  names.forEach((label, index) => {
    const row = list.children[index];
    const score = scores[label];
    const best = score !== undefined && score === Math.max(...Object.values(scores));
    row.classList.toggle("best", best);
    say(row.querySelector(".name"), named(label).words);
    say(row.querySelector(".number"), score === undefined ? "–" : percent(score));
    row.querySelector("i").style.setProperty("--score", String(score ?? 0));
  });
}

function scoreRow() {
  const row = document.createElement("li");
  for (const name of ["name", "number"]) {
    const part = document.createElement("span");
    part.className = name;
    row.append(part);
  }
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true");
  bar.append(document.createElement("i"));
  row.append(bar);
  return row;
}

/** Tell a screen reader what changed, but not ten times a second. */
function speak(words, state) {
  const text = state.model.version === null ? words : `${words}Version ${state.model.version}.`;
  if (text === spoken || Date.now() - spokenAt < SPEAK_EVERY_MS) return;
  spoken = text;
  spokenAt = Date.now();
  say($("spoken"), text);
}

// Model, night, health

let versionSeen;
let newUntil = 0;

function showModel({ model, last_verdict: verdict }) {
  if (versionSeen !== undefined && versionSeen !== null && model.version > versionSeen) {
    newUntil = Date.now() + NEW_FOR_MS;
  }
  if (model.version !== null) versionSeen = model.version;
  say($("version"), model.version === null ? "None runs" : `Version ${model.version}`);
  say($("since"), model.since ? `since ${model.since}` : "");
  $("fresh").hidden = Date.now() > newUntil;
  $("last").hidden = !verdict;
  if (verdict) {
    $("last").dataset.accepted = String(verdict.accepted);
    drawIcon($("last-icon"), verdict.accepted ? "good" : "bad");
    say($("last-head"), `Version ${verdict.version} ${verdict.accepted ? "was accepted" : "was refused"}.`);
    say($("last-words"), `${verdict.sentence.replace(/\.$/, "")} (${verdict.at}).`);
  }
  const earlier = model.history.filter((change) => change.version !== model.version);
  $("history").hidden = earlier.length === 0;
  const list = $("history-list");
  while (list.children.length > earlier.length) list.lastChild.remove();
  while (list.children.length < earlier.length) list.append(document.createElement("li"));
  earlier.forEach(({ version, since }, index) =>
    say(list.children[index], `Version ${version}, from ${since}`),
  );
}

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
  STEPS.forEach((_, index) => {
    const step = $("steps").children[index];
    const finished = night.phase === "done";
    step.className = index < current || finished ? "past" : "";
    if (index === current && !finished) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
}

function showHealth({ loop, faults, model, decision }) {
  say($("rate"), loop.decisions_per_s.toFixed(1));
  say($("dropped"), loop.frames_dropped.toLocaleString("en-GB"));
  const working = decision ? `${Math.round(decision.classify_ms)} ms` : model.version === null ? "Starting" : "Waiting";
  for (const [name, words] of [["camera", "Working"], ["model", working]]) {
    const item = $(`health-${name}`);
    item.dataset.well = faults[name] ? "no" : "yes";
    say(item.querySelector("dd"), faults[name] ? "Fault" : words);
    $(`notice-${name}`).hidden = !faults[name];
    if (faults[name]) say($(`notice-${name}-words`), faults[name]);
  }
}

function show(state) {
  say($("camera"), state.camera);
  say($("fleet"), state.fleet);
  say($("clock"), state.clock);
  document.title = `${state.camera} – Sitecam`;
  showPicture(state);
  showDecision(state);
  showModel(state);
  showNight(state);
  showHealth(state);
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
    $("decision").dataset.tone = "calm"; // old news must not look like an alarm, nor like safety
    say($("sure"), taken ? `As of ${taken}` : "");
  }
  if (returned) startPicture(); // its old connection is dead too, and doesn't always say so
}

function connect() {
  disconnect();
  triedAt = Date.now();
  events = new EventSource("/api/events");
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
  if (events.readyState === EventSource.CLOSED && Date.now() - triedAt > RETRY_MS) connect();
}, 500);

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

for (const [, words] of STEPS) {
  const step = document.createElement("li");
  step.textContent = words;
  $("steps").append(step);
}
document.addEventListener("visibilitychange", followVisibility);
followVisibility();
