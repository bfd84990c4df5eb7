// What leaves the camera: deletions by time, with a look before; the owner's export, and import.

import { get, post, upload } from "./api.js";
import { $, element, say } from "./dom.js";
import { me, may } from "./nav.js";
import { capital } from "./words.js";

const count = (number, one, many) => `${number.toLocaleString("en-GB")} ${number === 1 ? one : many}`;

function pastRow({ at, by, what, sentence }) {
  return element("li", "", element("strong", "", capital(what)), element("span", "soft", `${at}, by ${by}. ${sentence}`));
}

/** The part was opened: list what was deleted. */
export async function openLeaving() {
  const seen = may("labeller", await me);
  $("deletions").hidden = !seen;
  if (!seen) return;
  const past = await get("/api/deletions");
  $("past").replaceChildren(...past.map(pastRow));
  $("no-past").hidden = past.length > 0;
}

/** Ask in words; resolves to whether the person is sure. */
function sure(found) {
  const dialog = $("sure");
  say($("sure-words"), found.sentence);
  $("sure-versions").hidden = !found.versions.length;
  say($("sure-yes"), `Delete ${count(found.frames, "frame", "frames")}${found.events ? ` and ${count(found.events, "event", "events")}` : ""} for ever`);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function deleteRange(event) {
  event.preventDefault();
  const form = $("range");
  const button = form.querySelector("[type=submit]");
  const { begin, end } = Object.fromEntries(new FormData(form));
  button.disabled = true;
  say($("range-words"), "");
  try {
    const found = await post("/api/deletions", { begin, end, confirm: false });
    if (!found.frames && !found.events) {
      say($("range-words"), "There is nothing of that time.");
    } else if (await sure(found)) {
      const gone = await post("/api/deletions", { begin, end, confirm: true });
      say($("range-words"), gone.sentence);
      await openLeaving();
    } else {
      say($("range-words"), "Nothing was deleted.");
    }
  } catch (error) {
    say($("range-words"), error.message);
  } finally {
    button.disabled = false;
  }
}

async function bringIn({ target }) {
  const [file] = target.files;
  target.value = "";
  if (!file) return;
  const meter = $("import-meter");
  meter.hidden = false;
  target.disabled = true;
  say($("import-words"), "Uploading");
  try {
    const answer = await upload("/api/import", file, (share) => {
      meter.firstElementChild.style.setProperty("--share", String(share));
      if (share === 1) say($("import-words"), "Being read in");
    });
    say($("import-words"), answer?.sentence ?? "It is in.");
  } catch (error) {
    say($("import-words"), error.message);
  } finally {
    meter.hidden = true;
    target.disabled = false;
  }
}

export function wireLeaving() {
  $("range").addEventListener("submit", deleteRange);
  $("import").addEventListener("change", bringIn);
}
