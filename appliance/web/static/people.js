// Accounts: who may come in and what they may do; one's own password.

import { get, post } from "./api.js";
import { $, element, say } from "./dom.js";
import { may, me } from "./nav.js";
import { button, doing, question, tell } from "./parts.js";
import { capital } from "./words.js";

const ROLES = {
  viewer: "sees everything, changes nothing",
  labeller: "labels frames and acknowledges events",
  admin: "may do everything: models, people, deletion",
};

let person = null;

// Everybody's

async function showAccounts() {
  const accounts = await get("/api/accounts");
  const admins = accounts.filter(({ role }) => role === "admin").length;
  $("accounts").replaceChildren(...accounts.map((account) => row(account, account.role === "admin" && admins === 1)));
}

/** The last admin can neither go nor become less: nobody could let anybody in any more. */
function row({ name, role, created, last_seen: seen }, last) {
  const own = name === person.name;
  const made = element("li", "card person", element("h3", "", own ? `${name} (you)` : name));
  const facts = [`${capital(role)}: ${ROLES[role]}`, `since ${created}`, seen ? `last here ${seen}` : "never here yet"];
  made.append(element("p", "facts", facts.join(" · ")));
  if (last) {
    made.append(element("p", "facts", "The only admin: make somebody else one before this account can change."));
    return made;
  }
  const choice = element("select", "field", ...Object.keys(ROLES).map((each) => new Option(capital(each), each, false, each === role)));
  choice.setAttribute("aria-label", `Role of ${name}`);
  choice.addEventListener("change", () => changeRole(name, role, choice));
  const gone = button("", "Remove", (pressed) => remove(name, own, pressed));
  gone.setAttribute("aria-label", `Remove ${name}`);
  made.append(element("div", "actions", choice, gone));
  return made;
}

async function changeRole(name, before, choice) {
  const sure = await question({
    title: `Make ${name} ${choice.value === "admin" ? "an" : "a"} ${choice.value}?`,
    lines: [`${name} then ${ROLES[choice.value]}. Their sessions end now, and they log in again.`],
    yes: "Change the role",
  });
  const answer = sure === null ? null : await doing(null, () => post("/api/accounts/role", { name, role: choice.value }));
  if (!answer) {
    choice.value = before;
    return;
  }
  const words = `${name} is ${choice.value} now.`;
  await doing(null, showAccounts);
  tell(words);
}

async function remove(name, own, pressed) {
  const sure = await question({
    title: own ? "Remove your own account?" : `Remove ${name}?`,
    lines: [
      own ? "You are logged out at once and can’t come in any more." : `${name} is logged out at once and can’t come in any more.`,
      "What was labelled under this name stays, with the name.",
    ],
    yes: "Remove",
    danger: true,
  });
  if (sure === null) return;
  if (!(await doing(pressed, () => post("/api/accounts/remove", { name })))) return;
  if (own) return location.assign("/login");
  await doing(null, showAccounts);
  tell(`${name} was removed.`);
}

$("invite-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const role = new FormData(event.target).get("role");
  const answer = await doing($("invite"), () => post("/api/invitations", { role }));
  if (!answer) return;
  say($("invited-title"), `A code for one ${answer.role}`);
  say($("code"), answer.code);
  say($("code-valid"), `It works once, for ${answer.valid_minutes} minutes. It is shown only now.`);
  say($("invite-link"), `${location.origin}/login#code=${encodeURIComponent(answer.code)}`);
  say($("copy-link"), "Copy the link");
  $("invited").hidden = false;
  $("invited").focus();
});

$("copy-link").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("invite-link").textContent);
    say($("copy-link"), "Copied");
    say($("spoken"), "The link was copied.");
  } catch {
    getSelection().selectAllChildren($("invite-link")); // no clipboard without HTTPS: marked, to be copied by hand
    say($("copy-link"), "Marked: copy it by hand");
  }
});

// One's own

function sameTwice() {
  const same = $("new").value === $("again").value;
  const problem = same || !$("again").value ? "" : "The two new passwords are not the same.";
  say($("again-problem"), problem);
  $("again").setAttribute("aria-invalid", String(Boolean(problem)));
  return same;
}

$("again").addEventListener("change", sameTwice);
$("password-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!sameTwice()) {
    $("again").focus();
    return;
  }
  const answer = await doing($("change"), () => post("/api/password", { old: $("old").value, new: $("new").value }));
  if (!answer) return;
  event.target.reset();
  tell("Your password was changed. Your sessions on other devices have ended.");
});

$("end-all").addEventListener("click", async (event) => {
  const sure = await question({
    title: "Log everybody out?",
    lines: ["Every session on this camera ends, yours too. Labels that a phone has not sent yet are asked for again."],
    yes: "Log everybody out",
    danger: true,
  });
  if (sure !== null && (await doing(event.target, () => post("/api/sessions/end")))) location.assign("/login");
});

async function start() {
  person = await me;
  $("own-name").value = person.name;
  say($("own-words"), `You are ${person.name}, ${person.role}: somebody who ${ROLES[person.role]}.`);
  if (may("admin", person)) await showAccounts();
}

doing(null, start);
