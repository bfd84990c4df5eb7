// Disagreements: frames where a person's label and the model's answer differ, one decision each.

import { get, post } from "./api.js";
import { $, element, say } from "./dom.js";
import { icon, labelIcon } from "./icons.js";
import { me, may } from "./nav.js";
import { labelTone } from "./tones.js";
import { closer } from "./viewer.js";
import { capital, percent } from "./words.js";

const AT_ONCE = 24;
let labels = []; // { name, words, key }
let wanted = AT_ONCE;

const wordsOf = (name) => labels.find((label) => label.name === name)?.words ?? name;

function chip(label, tone = labelTone(label)) {
  const made = element("span", "chip", icon(labelIcon(label)), wordsOf(label));
  made.dataset.tone = tone;
  return made;
}

function fact(name, ...inside) {
  return element("div", "", element("dt", "", name), element("dd", "", ...inside));
}

function card(frame, version) {
  const made = element("li", "frame card");
  made.tabIndex = -1;
  made.dataset.id = frame.id;
  made.frame = frame;
  const picture = element("img", "");
  picture.src = `/api/frames/${frame.id}/thumbnail`;
  picture.loading = "lazy";
  picture.alt = `Frame of ${frame.taken}`;
  const open = element("button", "frame-picture", picture);
  open.type = "button";
  open.setAttribute("aria-label", `Look closer at the frame of ${frame.taken}`);
  open.addEventListener("click", () => closer(frame));
  const facts = element(
    "dl",
    "frame-facts",
    fact(`${frame.labelled_by} said`, chip(frame.label)),
    fact(version === null ? "The model says" : `Version ${version} says`, chip(frame.guess), element("b", "", ` ${percent(frame.score)}`)),
  );
  const when = element("p", "soft frame-when", `Taken ${frame.taken}, labelled ${frame.labelled}`);
  made.append(open, facts, when, choices(frame, made));
  return made;
}

function choices(frame, made) {
  const keep = choice(`Keep ${wordsOf(frame.label)}`, () => decide(made, frame.label));
  const change = choice(`Change to ${wordsOf(frame.guess)}`, () => decide(made, frame.guess));
  const others = labels.filter(({ name }) => name !== frame.label && name !== frame.guess);
  const box = element("div", "frame-choices", keep, change);
  for (const { name, words } of others) box.append(choice(words, () => decide(made, name)));
  box.append(choice("Can’t tell", () => decide(made, null)));
  return box;
}

function choice(words, act) {
  const made = element("button", "button", words);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/** Say what a frame shows, `null` for "can't tell"; the card becomes one line with a way back. */
async function decide(made, label) {
  const { frame } = made;
  if (made.dataset.state) return;
  made.dataset.state = "saving";
  problem("");
  try {
    if (label === null) await post(`/api/frames/${frame.id}/unclear`);
    else await post(`/api/frames/${frame.id}/label`, { label });
  } catch (error) {
    delete made.dataset.state;
    problem(error.message);
    return;
  }
  made.dataset.state = "done";
  const settled = `${label === frame.label ? "Kept" : "Changed to"} ${wordsOf(label)}`;
  const sentence = label === null ? "Marked as can’t tell" : settled;
  const line = element("p", "frame-done", icon("good"), element("span", "", sentence));
  const back = choice("Undo", () => undo(made));
  made.querySelector(".frame-choices").replaceChildren(line, back);
  announce(`${sentence}. Saved.`);
  if (made.contains(document.activeElement) || document.activeElement === document.body) neighbour(made, 1)?.focus();
}

async function undo(made) {
  if (made.dataset.state !== "done") return;
  made.dataset.state = "saving";
  problem("");
  try {
    await post(`/api/frames/${made.frame.id}/undo`);
  } catch (error) {
    made.dataset.state = "done";
    problem(error.message);
    return;
  }
  delete made.dataset.state;
  made.querySelector(".frame-choices").replaceWith(choices(made.frame, made));
  made.focus();
  announce("Taken back.");
}

const neighbour = (made, step) => (step > 0 ? made.nextElementSibling : made.previousElementSibling);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.closest("input, select, dialog")) return;
  const here = event.target.closest(".frame");
  const key = event.key.toLowerCase();
  const step = { arrowright: 1, arrowdown: 1, j: 1, arrowleft: -1, arrowup: -1 }[key];
  if (step) {
    const there = here ? neighbour(here, step) : $("grid").firstElementChild;
    if (there) {
      event.preventDefault();
      there.focus();
    }
    return;
  }
  if (!here) return;
  const label = labels.find((each) => each.key === key);
  if (label) decide(here, label.name);
  else if (key === "k") decide(here, here.frame.label);
  else if (key === "c") decide(here, here.frame.guess);
  else if (key === "0" || key === "?") decide(here, null);
  else if (key === "u") undo(here);
});

function problem(words) {
  say($("problem"), words);
  $("problem").hidden = !words;
}

function announce(words) {
  say($("spoken"), words);
}

async function load() {
  try {
    const person = await me;
    if (!may("labeller", person)) {
      problem(`You are ${person.role}: labels need the role labeller. Ask an admin of this camera.`);
      return;
    }
    labels = (await get("/api/queue")).labels.map((label) => ({ ...label, words: capital(label.words) }));
    const { version, total, frames } = await get(`/api/review?count=${wanted}`);
    $("none").hidden = total > 0;
    say($("lead"), total ? `${total === 1 ? "One frame" : `${total} frames`} where a person and the model say different things, those first that the model is surest of. One of the two is wrong.` : "");
    const here = new Set([...$("grid").children].map((made) => made.dataset.id));
    $("grid").append(...frames.filter(({ id }) => !here.has(id)).map((frame) => card(frame, version)));
    $("more").hidden = total <= frames.length;
    document.querySelector(".keys").hidden = !total;
  } catch (error) {
    problem(error.message);
  }
}

$("more").addEventListener("click", () => {
  wanted += AT_ONCE;
  load();
});
load();
