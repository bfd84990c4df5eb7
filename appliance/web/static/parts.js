// Small parts that several pages use: icons, chips, questions to a person, complaints, and doing things.

import { $, element, say } from "./dom.js";
import { icon } from "./icons.js";

const SIGNS = { good: "good", alert: "bad", calm: "models", unsure: "waiting" }; // of tones, in icons.svg
const SVG = "http://www.w3.org/2000/svg";

/** One element of a drawing. */
export function drawn(tag, attributes, ...inside) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

/** An outcome in colour, sign and word. */
export function chip(tone, words, sign = SIGNS[tone]) {
  const made = element("span", "chip", icon(sign), element("span", "", words));
  made.dataset.tone = tone;
  return made;
}

export function button(className, words, act) {
  const made = element("button", `button ${className}`.trim(), words);
  made.type = "button";
  if (act) made.addEventListener("click", () => act(made));
  return made;
}

export function count(number, one, many) {
  return number === 1 ? `1 ${one}` : `${number.toLocaleString("en-GB")} ${many}`;
}

/** "812 bytes", "67.5 kB", "1.2 MB": powers of a thousand, as data plans are sold. */
export function size(bytes) {
  if (bytes < 1000) return count(bytes, "byte", "bytes");
  for (const [unit, factor] of [["kB", 1e3], ["MB", 1e6], ["GB", 1e9], ["TB", 1e12]]) {
    if (bytes < 999.5 * factor || unit === "TB") return `${(bytes / factor).toFixed(bytes < 99.95 * factor ? 1 : 0)} ${unit}`;
  }
  return "";
}

/** A table that scrolls within itself where the screen is narrow. `numbers` are columns set to the right. */
export function table(caption, heads, rows, numbers = []) {
  const cells = (kind, texts) =>
    element("tr", "", ...texts.map((text, column) => element(kind, numbers.includes(column) ? "number" : "", text)));
  const head = cells("th", heads);
  for (const cell of head.children) cell.scope = "col";
  const body = element("tbody", "", ...rows.map((row) => cells("td", row)));
  const box = element("div", "table", element("table", "", element("caption", "unseen", caption), element("thead", "", head), body));
  box.tabIndex = 0; // so that a keyboard can scroll it
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", caption);
  return box;
}

/**
 * Ask a person; null for no, else what was written.
 *
 * `lines` say what will happen. With `label` there is a field; with `typed`, "yes" opens only once that is written there.
 */
export function question({ title, lines, yes, no = "Cancel", danger = false, label = "", typed = "", kind = "text" }) {
  const agree = button(danger ? "danger" : "main-button", yes);
  const leave = button("", no);
  const heading = element("h2", "", title);
  heading.id = "question-title";
  const words = element("div", "question-words", ...lines.map((line) => element("p", "", line)));
  words.id = "question-words";
  const form = element("form", "", heading, words);
  const field = element("input", "field");
  if (label) {
    Object.assign(field, { id: "question-field", type: kind, autocomplete: "off", spellcheck: false });
    const name = element("label", "", label);
    name.htmlFor = field.id;
    form.append(name, field);
  }
  if (typed) {
    agree.disabled = true;
    field.addEventListener("input", () => (agree.disabled = field.value.trim() !== typed));
  }
  agree.type = "submit";
  form.append(element("div", "choices", leave, agree));
  const dialog = element("dialog", "question", form);
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.setAttribute("aria-describedby", words.id);
  document.body.append(dialog);
  return new Promise((answer) => {
    const end = (value) => {
      dialog.close();
      dialog.remove();
      answer(value);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!agree.disabled) end(field.value.trim());
    });
    leave.addEventListener("click", () => end(null));
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(null);
    });
    dialog.showModal();
    (label ? field : leave).focus(); // Enter at once changes nothing
  });
}

/** Say on the page what went well (read out politely) or wrong (read out at once). */
export function tell(words, wrong = false) {
  const box = $("told");
  const notice = element("p", "notice", icon(wrong ? "bad" : "good"), element("span", "", words));
  notice.dataset.tone = wrong ? "alert" : "good";
  notice.append(button("quiet", "Close", () => notice.remove()));
  if (wrong) notice.setAttribute("role", "alert");
  box.replaceChildren(notice);
}

export function untell() {
  $("told").replaceChildren();
}

/** Have something done: the button waits meanwhile; null where it failed, which is said. */
export async function doing(pressed, work) {
  if (pressed) pressed.disabled = true;
  untell();
  try {
    return await work();
  } catch (error) {
    tell(error.message, true);
    return null;
  } finally {
    if (pressed) pressed.disabled = false;
  }
}

/** Look again and again, but only while somebody looks at the page. `look` says in how many ms it wants to look again. */
export function keepLooking(look) {
  let timer = 0;
  let looking = false;
  const next = async () => {
    clearTimeout(timer);
    if (document.hidden || looking) return;
    looking = true;
    try {
      timer = setTimeout(next, await look());
      setAway("");
    } catch (error) {
      setAway(error.message);
      timer = setTimeout(next, 5000);
    } finally {
      looking = false;
    }
  };
  document.addEventListener("visibilitychange", next);
  next();
  return next;
}

function setAway(words) {
  $("away").hidden = !words;
  if (words) say($("away-words"), words);
}
