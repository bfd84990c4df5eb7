// The labelling page: one picture, one press per picture, the next one is there already.

import { get } from "./api.js";
import { $, element, say } from "./dom.js";
import { showEnd } from "./ending.js";
import { icon, labelIcon, showIcon } from "./icons.js";
import { keyOf } from "./keys.js";
import { me, may } from "./nav.js";
import { Pictures } from "./pictures.js";
import { Session } from "./session.js";
import { labelTone } from "./tones.js";
import { capital } from "./words.js";
import { zoomable } from "./zoom.js";

const GUARD_MS = 250; // a second tap of the same finger is not an answer to the next picture
const AGAIN_MS = 3000;
const MANY = 4; // more labels than this stand in two columns

const session = new Session({ changed: draw, lost: (words) => complain(words) });
const pictures = new Pictures("/api/frames");
const zoom = zoomable($("box"), (closer) => {
  $("zoom").setAttribute("aria-pressed", String(closer));
  say($("zoom").querySelector(".unseen"), closer ? "See the whole picture" : "Look closer");
});

let queue = null; // the last answer of /api/queue
let askedId = null; // of the frame whose picture is wanted
let shownId = null; // of the frame whose picture is on the screen
let shownAt = 0;
let again = 0; // timer of the next try to load a picture
let endSaved = true; // whether the end was last shown with everything saved

// What a person does

function ready() {
  return shownId !== null && shownId === session.current?.id && performance.now() - shownAt >= GUARD_MS;
}

function answer(act, words, label = null, button = null) {
  if (!ready()) return;
  clearComplaints();
  session.say(act, words, label);
  navigator.vibrate?.(12);
  flash(button);
  announce(words);
}

function undo() {
  if (!session.said.length || (session.current && shownId === session.current.id && !ready())) return;
  clearComplaints();
  const said = session.undo();
  announce(`${said.words} taken back`);
}

const acts = {
  label: ({ name, words }) => answer("label", words, name, $(`answer-${name}`)),
  unclear: () => answer("unclear", "Can’t tell", null, $("unclear")),
  skip: () => answer("skip", "Skipped", null, $("skip")),
  undo,
  zoom: () => zoom.toggle(),
  whole: () => zoom.reset(),
  move: ([x, y]) => zoom.move(x, y),
};

document.addEventListener("keydown", (event) => {
  const meant = keyOf(event, queue?.labels ?? [], zoom.closer);
  if (!meant) return;
  if (document.body.dataset.stage !== "labelling" && meant.act !== "undo") return;
  event.preventDefault();
  if (!event.repeat || meant.act === "move") acts[meant.act](meant.with);
});
$("undo").addEventListener("click", undo);
$("end-undo").addEventListener("click", undo);
$("unclear").addEventListener("click", acts.unclear);
$("skip").addEventListener("click", acts.skip);
$("zoom").addEventListener("click", acts.zoom);
$("more").addEventListener("click", () => begin(true));
addEventListener("beforeunload", (event) => {
  if (session.unsent) event.preventDefault(); // the browser asks whether to leave
});

// What stands on the page

function drawAnswers(labels) {
  $("answers").dataset.many = String(labels.length > MANY);
  $("answers").replaceChildren(...labels.map((label) => {
    const key = element("kbd", "", label.key);
    key.setAttribute("aria-hidden", "true");
    const button = element("button", "answer", icon(labelIcon(label.name)), element("span", "answer-words", label.words), key);
    button.type = "button";
    button.id = `answer-${label.name}`;
    button.dataset.tone = labelTone(label.name);
    button.dataset.label = label.name;
    button.setAttribute("aria-keyshortcuts", label.key);
    button.addEventListener("click", () => acts.label(label));
    return button;
  }));
}

function draw() {
  if (!queue) return;
  const { current, total, said } = session;
  const stage = current ? "labelling" : "end";
  const came = document.body.dataset.stage !== stage;
  document.body.dataset.stage = stage;
  $("end").hidden = Boolean(current);
  say($("place"), current ? `${said.length + 1} of ${total}` : `${total} of ${total}`);
  say($("hello"), current && !said.length ? queue.words : "");
  $("pace-bar").style.setProperty("--share", String(total ? said.length / total : 0));
  const last = said.at(-1);
  $("undo").disabled = !last;
  say($("undo-what"), last?.words ?? "");
  const home = document.querySelector(current ? ".hand" : ".end-card");
  if ($("trouble").parentElement !== home) home.prepend($("trouble"));
  drawKept();
  if (current) show(current);
  else end(came);
}

function drawKept() {
  const { unsent, saved, trouble } = session;
  const kept = $("kept");
  kept.dataset.state = trouble ? "trouble" : unsent ? "saving" : saved ? "saved" : "none";
  showIcon(kept.querySelector(".icon"), trouble ? (trouble.away ? "offline" : "bad") : unsent ? "waiting" : "good");
  say($("kept-words"), trouble ? `${unsent} not saved` : unsent ? `Saving ${unsent}` : "Saved");
  notice("waiting", trouble ? troubleWords(trouble, unsent) : "", trouble?.status === 401);
}

function troubleWords(trouble, unsent) {
  const answers = unsent === 1 ? "1 answer is kept here and goes" : `${unsent} answers are kept here and go`;
  if (trouble.away) return `The camera can’t be reached. ${answers} out, in order, as soon as it can. Leave this page open.`;
  if (trouble.status === 401) return `You are not logged in any more. ${answers} out when you are.`;
  return `${trouble.message} ${answers} out at the next try.`;
}

// The picture

function show(frame) {
  const before = session.said.slice(-1).map((said) => said.frame); // undo shows it at once
  pictures.keep([...session.pending.slice(0, 3), ...before].map(({ id }) => id));
  if (askedId === frame.id) return;
  askedId = frame.id;
  shownId = null;
  zoom.reset();
  clearTimeout(again);
  const box = $("box");
  box.dataset.state = "loading";
  say($("blank-words"), "Loading the picture");
  say($("taken"), `${frame.taken}${frame.reason_words ? ` · ${frame.reason_words}` : ""}`);
  lock(true);
  const alt = `Picture ${session.said.length + 1} of ${session.total}, taken ${frame.taken}`;
  pictures.load(frame.id).then((image) => {
    if (askedId !== frame.id) return;
    image.alt = alt;
    $("image").replaceChildren(image);
    box.dataset.state = "shown";
    shownId = frame.id;
    shownAt = performance.now();
    lock(false);
  }, (problem) => {
    if (askedId !== frame.id) return;
    askedId = null;
    if (problem.gone) {
      complain(`The picture of ${frame.taken} is not there any more: somebody deleted it.`);
      session.drop();
      return;
    }
    box.dataset.state = "failed";
    say($("blank-words"), "The picture does not come. It is asked for again every few seconds.");
    askedId = frame.id; // until then nothing else asks
    again = setTimeout(() => {
      askedId = null;
      draw();
    }, AGAIN_MS);
  });
}

/** Nobody can answer for a picture that they don't see. The focus stays where it is. */
function lock(locked) {
  for (const button of [...$("answers").children, $("unclear"), $("skip")]) {
    button.setAttribute("aria-disabled", String(locked));
  }
}

// The end

function end(came) {
  askedId = null;
  shownId = null;
  const waiting = session.unsent > 0;
  if (came || waiting || !endSaved) showEnd(session);
  endSaved = !waiting;
  if (came) $("end").focus();
}

// What is said

function announce(words) {
  const place = session.current ? `Picture ${session.said.length + 1} of ${session.total}.` : "";
  say($("spoken"), `${words}. ${place}`);
}

function flash(button) {
  if (!button) return;
  button.dataset.hit = "true";
  setTimeout(() => delete button.dataset.hit, 160);
}

function notice(id, words, login = false) {
  const there = $("trouble").querySelector(`[data-id="${id}"]`);
  if (!words) {
    there?.remove();
    return;
  }
  const made = there ?? element("p", "notice", icon("bad"), element("span", ""));
  if (!there) {
    made.dataset.id = id;
    if (login) {
      const link = element("a", "button", "Log in");
      link.href = "/login?next=/label";
      link.target = "_blank"; // the answers stay in this page
      made.append(link);
    }
    $("trouble").append(made);
  }
  say(made.querySelector("span"), words);
}

function complain(words) {
  notice("lost", words);
}

function clearComplaints() {
  notice("lost", "");
}

/** Fetch the queue; `anew` after an end: where the day's frames are done it gives as many again. */
async function begin(anew = false) {
  $("more").disabled = true;
  try {
    const person = await me;
    if (!may("labeller", person)) {
      stop(`You are ${person.role}: labelling needs the role labeller. Ask an admin of this camera.`);
      return;
    }
    queue = await get("/api/queue");
    for (const label of queue.labels) label.words = capital(label.words);
    if (anew) session.clear();
    session.begin(queue);
    drawAnswers(queue.labels);
    draw();
    if (session.current) announce(queue.words);
    if (anew && session.current) $("answers").focus();
  } catch (error) {
    stop(error.message);
  } finally {
    $("more").disabled = false;
  }
}

function stop(words) {
  document.body.dataset.stage = "labelling";
  $("box").dataset.state = "failed";
  say($("blank-words"), words);
  say($("place"), "Nothing to show");
  lock(true);
}

lock(true);
begin();
