// Letting a camera in: a code for it to ask with, and a person's answer.

import { $, element, fill, say } from "/static/camera/dom.js";
import { duration } from "/static/camera/words.js";
import { serverNow } from "/static/api.js";
import { doing, question } from "/static/parts.js";

let code = null; // the one on the screen: the server can't show it a second time
let given = ""; // "": the server has not told of it yet; "open"; "used"
let codes = [];
let requests = [];

export function showJoining(state) {
  ({ codes, requests } = state);
  $("requests-none").hidden = requests.length > 0;
  fill($("requests"), requests, row, write);
  if (code) {
    if (codes.some(({ id }) => code.text.startsWith(id))) given = "open";
    else if (given === "open") given = "used";
  }
  tick();
}

function showCode() {
  $("code").hidden = !code;
  say($("join-new"), code ? "Make another code" : "Make a code");
  if (!code) return;
  say($("code-text"), code.text);
  say($("code-typed"), code.text);
  const host = code.host.includes(":") ? `[${code.host}]` : code.host;
  say($("code-server"), `--server https://${host}:${code.port}`);
  say($("code-print"), code.short);
  $("code-qr").replaceChildren(...drawing(code.qr));
  tick();
}

/** The server's picture, as elements: the page takes no pictures from texts. */
function drawing(svg) {
  if (!svg) return [];
  const read = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  return read.localName === "svg" ? [document.importNode(read, true)] : [];
}

function left(expires) {
  return (Date.parse(expires) - serverNow()) / 1000;
}

function tick() {
  if (code) {
    const seconds = left(code.expires_utc);
    const over = seconds <= 0 || given === "used";
    $("code").dataset.over = String(over);
    const why = given === "used" ? "A camera has used this code" : "This code has run out";
    say($("code-left"), over ? `${why}. For another camera make another one.` : `Counts for another ${duration(seconds)}`);
  }
  const others = codes.filter(({ id, expires_utc: expires }) => !(code && code.text.startsWith(id)) && left(expires) > 0);
  const words = others.map(({ id, expires_utc: expires }) => `${id}-… for another ${duration(left(expires))}`);
  say($("codes-open"), words.length ? `Given out before and still good: ${words.join(", ")}.` : "");
}

function row() {
  const approve = element("button", "button main-button approve", "Approve");
  const refuse = element("button", "button refuse", "Refuse");
  for (const button of [approve, refuse]) button.type = "button";
  return element(
    "li",
    "request",
    element("h4", ""),
    element("p", "soft asked"),
    element("p", "", "Its key. Compare it with what the camera shows:"),
    element("p", "print"),
    element("div", "choices", refuse, approve),
  );
}

function write(made, { id, name, fingerprint, address, asked }) {
  made.dataset.id = String(id);
  made.dataset.name = name;
  say(made.querySelector("h4"), name);
  say(made.querySelector(".asked"), `asked at ${asked} from ${address}`);
  say(made.querySelector(".print"), fingerprint);
  made.querySelector(".approve").setAttribute("aria-label", `Approve ${name}`);
  made.querySelector(".refuse").setAttribute("aria-label", `Refuse ${name}`);
}

$("join-approve").addEventListener("change", ({ target }) => ($("join-warning").hidden = !target.checked));
$("join-new").addEventListener("click", async () => {
  const approve = $("join-approve").checked;
  const made = await doing($("join-new"), "/api/code", { approve }, "A new code is on the page.");
  if (!made) return;
  code = made;
  given = "";
  showCode();
});
$("requests").addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { id, name } = button.closest(".request").dataset;
  if (button.classList.contains("approve")) {
    await doing(button, "/api/approve", { id: Number(id) }, `${name} was let in.`);
    return;
  }
  const reason = await question({
    title: `Refuse ${name}?`,
    words: "It is told so, with your reason. It may ask again with a new code.",
    label: "Why? The camera shows it.",
    yes: "Refuse it",
    danger: true,
  });
  if (reason !== null) await doing(button, "/api/refuse", { id: Number(id), reason }, `${name} was refused.`);
});
setInterval(() => {
  if (!$("section-join").hidden) tick();
}, 1000);
