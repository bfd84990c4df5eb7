// The door: name and password, or a one-time code that makes an account.

import { nextAddress, post } from "./api.js";
import { $, say } from "./dom.js";
import { strengthOf } from "./strength.js";

let waiting = 0; // timer of a wait that the camera asked for

function show(newcomer) {
  $("first").hidden = !newcomer;
  $("login").hidden = newcomer;
  $("problem").hidden = true;
  say($("title"), newcomer ? "Make your account" : "Log in");
  say($("lead"), newcomer ? "With the one-time code that you were given." : "To this camera’s page.");
  say($("other"), newcomer ? "I have an account" : "I have a one-time code");
  const wanted = newcomer ? ($("code").value ? "new-name" : "code") : "name";
  $(wanted).focus();
}

function complain(words) {
  say($("problem"), words);
  $("problem").hidden = false;
}

/** Count down a wait, with the buttons locked: a try in between would only make it longer. */
function waitFor(seconds, words) {
  clearInterval(waiting);
  const until = performance.now() + 1000 * seconds;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    const over = left <= 0;
    for (const id of ["enter", "make"]) $(id).disabled = !over;
    say($("enter"), over ? "Log in" : `Wait ${clockOf(left)}`);
    say($("make"), over ? "Make my account" : `Wait ${clockOf(left)}`);
    if (over) {
      clearInterval(waiting);
      complain("You can try again now.");
    }
  };
  complain(words);
  waiting = setInterval(tick, 250);
  tick();
}

function clockOf(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

async function enter(button, path, body, field) {
  button.disabled = true;
  $("problem").hidden = true;
  try {
    await post(path, body);
    location.replace(nextAddress()); // back doesn't lead to the door again
  } catch (error) {
    if (error.wait_s) {
      waitFor(error.wait_s, error.message);
      return;
    }
    button.disabled = false;
    complain(error.message);
    field.focus();
    field.select();
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("enter"), "/api/login", { name: $("name").value.trim(), password: $("password").value }, $("password"));
});

$("first").addEventListener("submit", (event) => {
  event.preventDefault();
  const [password, again] = [$("new-password"), $("again")];
  if (password.value !== again.value) {
    complain("The two passwords differ. Write the same one twice.");
    again.focus();
    again.select();
    return;
  }
  const body = { code: $("code").value.trim(), name: $("new-name").value.trim(), password: password.value };
  enter($("make"), "/api/first", body, $("code"));
});

$("other").addEventListener("click", () => show($("first").hidden));

for (const button of document.querySelectorAll("[data-shows]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    say(button, shown ? "Hide" : "Show");
    for (const id of button.dataset.shows.split(" ")) $(id).type = shown ? "text" : "password";
  });
}

function weigh() {
  const { share, words, tone } = strengthOf($("new-password").value, $("new-name").value);
  $("strength-bar").style.setProperty("--share", String(share));
  $("strength-bar").dataset.tone = tone;
  say($("strength"), words);
  const again = $("again").value;
  say($("again-hint"), again && again !== $("new-password").value ? "Not the same yet." : "");
}
for (const id of ["new-password", "again", "new-name"]) $(id).addEventListener("input", weigh);
weigh();

/** A QR code carries the code behind #: that part of an address is never sent anywhere. */
const code = new URLSearchParams(location.hash.slice(1)).get("code");
if (code) {
  $("code").value = code;
  history.replaceState(null, "", location.pathname + location.search); // nor is it kept in the history
}
show(Boolean(code));
