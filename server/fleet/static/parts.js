// Small parts that every section uses: chips, questions to a person, complaints, tables.

import { $, element, say } from "/static/camera/dom.js";
import { act } from "/static/api.js";

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** An outcome in colour, sign and word. */
export function chip(tone, words) {
  const made = element("span", "chip", icon(tone), element("span", "", words));
  made.dataset.tone = tone;
  return made;
}

export function share(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`;
}

export function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

export function count(number, one, many) {
  return number === 1 ? `1 ${one}` : `${number.toLocaleString("en-GB")} ${many}`;
}

/** A table that scrolls within itself where the screen is narrow. `numbers` are columns set to the right. */
export function table(caption, heads, rows, numbers = []) {
  const made = element("table", "", element("caption", "unseen", caption));
  const cells = (kind, texts) =>
    element("tr", "", ...texts.map((text, column) => element(kind, numbers.includes(column) ? "number" : "", text)));
  const head = cells("th", heads);
  for (const cell of head.children) cell.scope = "col";
  made.append(element("thead", "", head), element("tbody", "", ...rows.map((row) => cells("td", row))));
  const box = element("div", "table", made);
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", caption);
  return box;
}

/** Ask a person; null for no, else what was written. */
export function question({ title, words, label = "", yes, danger = false }) {
  const dialog = $("question");
  say($("question-title"), title);
  say($("question-words"), words);
  say($("question-label"), label);
  say($("question-yes"), yes);
  $("question-label").hidden = $("question-field").hidden = !label;
  $("question-field").value = "";
  $("question-yes").classList.toggle("danger", danger);
  $("question-yes").classList.toggle("main-button", !danger);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener(
      "close",
      () => answer(dialog.returnValue === "yes" ? $("question-field").value.trim() : null),
      { once: true },
    );
  });
}

export function complain(error) {
  const away = error instanceof TypeError || error.name === "TimeoutError";
  const words = away ? "The server does not answer, so it is not known whether that was done." : error.message;
  say($("notice-action-words"), words);
  $("notice-action").hidden = false;
}

/** Have something done, say so, and show how things are then. */
export async function doing(button, path, body, done) {
  button.disabled = true;
  $("notice-action").hidden = true;
  try {
    const answer = await act(path, body);
    say($("spoken"), done);
    document.dispatchEvent(new Event("sitecam-changed"));
    return answer;
  } catch (error) {
    complain(error);
    return null;
  } finally {
    button.disabled = false;
  }
}

/** Show only the first `shown` of a list that may have a thousand, with a button for more. */
export function more(button, total, shown, step) {
  const left = total - shown;
  button.hidden = left <= 0;
  say(button, `Show ${Math.min(left, step).toLocaleString("en-GB")} more of ${total.toLocaleString("en-GB")}`);
}
