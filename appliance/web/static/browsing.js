// Looks through the frames: a grid that is filtered, a frame's detail, its label and its end.

import { get, post } from "./api.js";
import { $, element, say } from "./dom.js";
import { icon, labelIcon } from "./icons.js";
import { me, may } from "./nav.js";
import { labelTone } from "./tones.js";
import { closer } from "./viewer.js";
import { capital, labelWords, percent } from "./words.js";

const AT_ONCE = 48;
const USES = { train: "To learn from", test: "To test: no version learns from it" };
let person = null;
let asked = 0; // the newest question counts, whichever answer comes last
let problem = () => {};

function chipOf(frame) {
  const { label, unclear } = frame;
  const words = label ? labelWords(label) : unclear ? "Can’t tell" : "Waiting";
  const chip = element("span", "chip", icon(label ? labelIcon(label) : unclear ? "unsure" : "waiting"), words);
  chip.dataset.tone = label ? labelTone(label) : unclear ? "unsure" : "calm";
  return chip;
}

function thumb(frame) {
  const picture = element("img", "");
  picture.src = `/api/frames/${frame.id}/thumbnail`;
  picture.loading = "lazy";
  picture.alt = "";
  const button = element("button", "thumb", picture, element("span", "thumb-words", chipOf(frame), element("span", "soft", frame.taken)));
  button.type = "button";
  button.addEventListener("click", () => detail(frame, button.parentElement));
  const made = element("li", "", button);
  made.dataset.id = frame.id;
  return made;
}

function fact(name, value) {
  return element("div", "", element("dt", "", name), element("dd", "", value));
}

function detail(frame, place) {
  const facts = element("dl", "detail-facts", fact("Label", chipOf(frame)));
  if (frame.labelled_by) facts.append(fact("Said by", `${frame.labelled_by}, ${frame.labelled}`));
  if (frame.split) facts.append(fact("Use", USES[frame.split] ?? frame.split));
  if (frame.reason_words || frame.reason) facts.append(fact("Kept because", capital(frame.reason_words || frame.reason)));
  if (frame.guess) facts.append(fact(`Version ${frame.version ?? "–"} says`, `${labelWords(frame.guess)}, ${percent(frame.score)}`));
  const trouble = element("p", "notice");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  const below = element("div", "detail", facts, trouble);
  const dialog = closer(frame, below);
  if (may("labeller", person)) below.append(labelling(frame, place, dialog, trouble), deleting(frame, place, dialog, trouble));
}

function labelling(frame, place, dialog, trouble) {
  const box = element("div", "actions");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "What does it show?");
  const choices = person.labels.map((label) => ({ words: labelWords(label), label, path: "label", body: { label } }));
  choices.push({ words: "Can’t tell", label: null, path: "unclear", body: {} });
  for (const { words, label, path, body } of choices) {
    const button = element("button", "button", words);
    button.type = "button";
    const now = label ? frame.label === label : frame.unclear && !frame.label;
    button.setAttribute("aria-pressed", String(Boolean(now)));
    button.addEventListener("click", () => attempt(box, trouble, async () => {
      const { frame: said } = await post(`/api/frames/${frame.id}/${path}`, body);
      const changed = { ...frame, ...said };
      const fresh = thumb(changed);
      place.replaceWith(fresh);
      dialog.close();
      fresh.firstElementChild.focus();
      say($("spoken"), `${words}. Saved.`);
    }));
    box.append(button);
  }
  return box;
}

function deleting(frame, place, dialog, trouble) {
  const box = element("div", "actions detail-end");
  const first = element("button", "button", icon("delete"), "Delete this frame");
  first.type = "button";
  first.addEventListener("click", () => {
    const sure = element("button", "button danger", "Delete for ever");
    const keep = element("button", "button", "Keep it");
    sure.type = keep.type = "button";
    keep.addEventListener("click", () => {
      box.replaceChildren(first);
      first.focus();
    });
    sure.addEventListener("click", () => attempt(box, trouble, async () => {
      const answer = await post(`/api/frames/${frame.id}/delete`);
      place.remove();
      dialog.close();
      say($("spoken"), answer?.sentence ?? "Deleted.");
    }));
    box.replaceChildren(element("p", "", "Picture, thumbnail, label and all that was computed from it go. This can’t be undone."), keep, sure);
    keep.focus();
  });
  box.append(first);
  return box;
}

async function attempt(box, trouble, act) {
  for (const button of box.querySelectorAll("button")) button.disabled = true;
  trouble.hidden = true;
  try {
    await act();
  } catch (error) {
    say(trouble, error.message);
    trouble.hidden = false;
    for (const button of box.querySelectorAll("button")) button.disabled = false;
  }
}

async function list(before) {
  asked += 1;
  const mine = asked;
  const query = new URLSearchParams({ count: String(AT_ONCE) });
  for (const [name, value] of new FormData($("filters"))) if (value) query.set(name, value);
  if (before) query.set("before", before);
  const { frames, more } = await get(`/api/frames?${query}`);
  if (mine !== asked) return;
  const made = frames.map(thumb);
  if (before) $("grid").append(...made);
  else $("grid").replaceChildren(...made);
  if (before) made[0]?.firstElementChild.focus();
  $("older").hidden = !more;
  $("no-frames").hidden = Boolean($("grid").children.length);
}

/** The part was opened: show the newest frames. */
export async function openFrames() {
  person = await me;
  if ($("by-label").options.length === 1) {
    for (const label of person.labels) $("by-label").append(new Option(labelWords(label), label));
  }
  await list();
}

export function wireBrowsing(complain) {
  problem = complain;
  const again = (before) => list(before).catch((error) => problem(error.message));
  $("filters").addEventListener("change", () => again());
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("older").addEventListener("click", () => again($("grid").lastElementChild?.dataset.id));
}
