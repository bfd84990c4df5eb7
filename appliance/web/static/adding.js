// Frames on demand: a burst, the empty site, pictures from a phone.

import { get, post, upload } from "./api.js";
import { $, element, say } from "./dom.js";
import { icon, showIcon } from "./icons.js";
import { me, may } from "./nav.js";

const LOOK_MS = 1000;

/** Wire a form that starts a capture; what comes back looks how it goes, until it is over.

The page's button waits for the first look: its answer could otherwise overtake what a press has started. */
function capture(form, path) {
  const [button, meter, words] = [form.querySelector("[type=submit]"), form.querySelector(".meter"), form.querySelector("[role=status]")];
  let timer = 0;

  function show({ busy, taken, count, sentence }) {
    button.disabled = busy;
    meter.hidden = !busy;
    meter.firstElementChild.style.setProperty("--share", String(count ? taken / count : 0));
    say(words, sentence);
    clearTimeout(timer);
    if (busy) timer = setTimeout(look, LOOK_MS);
  }

  async function look() {
    try {
      show(await get(path));
    } catch (error) {
      say(words, error.message);
      timer = setTimeout(look, 5 * LOOK_MS);
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const { count, every_s: every } = Object.fromEntries(new FormData(form));
    try {
      show(await post(path, { count: Number(count), every_s: Number(every) }));
      form.querySelector("[type=checkbox]")?.click(); // it held for this time
    } catch (error) {
      button.disabled = false;
      say(words, error.message);
    }
  });
  return look;
}

function row(name) {
  const meter = element("div", "meter", element("i", ""));
  const made = element("li", "", icon("waiting"), element("span", "upload-name", name), element("span", "soft", "Waiting"), meter);
  $("uploads").append(made);
  return {
    tell: (share) => {
      meter.firstElementChild.style.setProperty("--share", String(share));
      say(made.children[2], share < 1 ? `${Math.round(100 * share)} %` : "Being looked at");
    },
    end: (well, words) => {
      showIcon(made.firstElementChild, well ? "good" : "bad");
      made.dataset.tone = well ? "good" : "alert";
      say(made.children[2], words);
      meter.remove();
    },
  };
}

/** One file after the other: a phone's uplink carries no more, and a refusal is said beside its file. */
async function send(files) {
  const rows = files.map(({ name }) => row(name));
  let well = 0;
  for (const [index, file] of files.entries()) {
    say($("upload-words"), `Uploading ${index + 1} of ${files.length}`);
    try {
      const { sentence } = await upload("/api/upload", file, rows[index].tell);
      rows[index].end(true, sentence);
      well += 1;
    } catch (error) {
      rows[index].end(false, error.message);
    }
  }
  const refused = files.length - well;
  say($("upload-words"), `${well} of ${files.length} arrived${refused ? `; ${refused} did not: it says beside each why` : ""}.`);
}

export async function wireAdding() {
  const looks = [capture($("burst"), "/api/capture"), capture($("empty"), "/api/learn-empty")];
  for (const id of ["files", "snap"]) {
    $(id).addEventListener("change", async ({ target }) => {
      const files = [...target.files];
      target.value = ""; // the same file may be chosen again
      $("files").disabled = $("snap").disabled = true;
      await send(files);
      $("files").disabled = $("snap").disabled = false;
    });
  }
  $("snap-button").hidden = !matchMedia("(pointer: coarse)").matches; // only phones and tablets have that camera
  const person = await me.catch(() => null); // the page says so itself
  if (person && may("labeller", person)) for (const look of looks) look(); // one may be under way already
}
