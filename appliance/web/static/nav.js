// The frame that all pages share: where one can go, who is logged in, the way out.
//
// How a page uses it:
//   <link rel="stylesheet" href="/static/page.css">      colours, type, .card, .icon, .soft, .unseen, .notice
//   <link rel="stylesheet" href="/static/nav.css">       this frame, main.sheet, .lead
//   <link rel="stylesheet" href="/static/controls.css">  .button, .field, .chip, dialog, .choices, .meter
//   <script src="/static/nav.js" type="module"></script>
//   <body>
//     <a class="skip" href="#main">Skip to the content</a>
//     <nav id="nav" aria-label="Pages"></nav>            empty: it is filled here; its height is kept free
//     <header class="top"><div class="names"><h1>Events</h1><p data-camera></p></div></header>
//     <main class="sheet" id="main" tabindex="-1">...</main>
//   </body>
// - It is a bar at the top from 900 px on, else a bar at the bottom with five targets, the last one "More".
// - Every element with `data-camera` gets the camera's name; `document.title` gets " – NAME – Sitecam" behind it.
// - `data-role="labeller"` or `"admin"` on an element hides it from people who may not use it.
// - `import { me } from "./nav.js"`: `await me` is { name, role, camera, fleet, labels }, asked for once;
//   `may("admin", await me)` says whether that person may do what the role may.
// - `import { get, post } from "./api.js"`: answers, or a Refusal whose `message` can be shown as it is; nobody
//   logged in leads to /login and back.
// - `import { icon } from "./icons.js"`: icons of icons.svg; in HTML
//   <svg class="icon" aria-hidden="true"><use href="/static/icons.svg#events"/></svg>
// Ids that tests and pages may rely on: nav, nav-more, nav-panel, nav-leave; links by their address.

import { get, post } from "./api.js";
import { $, element } from "./dom.js";
import { icon } from "./icons.js";

const PAGES = [
  { href: "/", words: "Live", icon: "live" },
  { href: "/label", words: "Label", icon: "label", role: "labeller" },
  { href: "/events", words: "Events", icon: "events" },
  { href: "/data", words: "Data", icon: "data" },
  { href: "/models", words: "Models", icon: "models" },
  { href: "/privacy", words: "Privacy", icon: "privacy" },
  { href: "/people", words: "People", icon: "people", role: "admin" },
];
const ROLES = ["viewer", "labeller", "admin"]; // each may do what the ones before it may
const ON_BAR = 4; // beside "More"

/** Whether a person may do what a role may. */
export function may(role, person) {
  return ROLES.indexOf(person.role) >= ROLES.indexOf(role);
}

function link({ href, words, icon: name, hint }) {
  const made = element("a", "nav-link", icon(name), element("span", "", words));
  made.href = href;
  if (href === location.pathname || (href === "/label" && location.pathname === "/review")) {
    made.setAttribute("aria-current", "page");
  }
  if (hint) made.title = hint;
  return element("li", "", made);
}

function moreButton(panel) {
  const button = element("button", "nav-link", icon("more"), element("span", "", "More"));
  button.id = "nav-more";
  button.type = "button";
  button.setAttribute("aria-controls", panel.id);
  const open = (wanted) => {
    button.setAttribute("aria-expanded", String(wanted));
    panel.dataset.open = String(wanted);
  };
  open(false);
  button.addEventListener("click", () => open(panel.dataset.open !== "true"));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.dataset.open !== "true") return;
    open(false);
    button.focus();
  });
  document.addEventListener("click", ({ target }) => {
    if (!$("nav").contains(target)) open(false);
  });
  if (panel.querySelector("[aria-current]")) button.dataset.here = "true";
  return button;
}

function account(person) {
  const leave = element("button", "nav-link", icon("leave"), element("span", "", "Log out"));
  leave.id = "nav-leave";
  leave.type = "button";
  leave.addEventListener("click", async () => {
    leave.disabled = true;
    try {
      await post("/api/logout");
      location.assign("/login");
    } catch (error) {
      leave.disabled = false;
      leave.querySelector("span").textContent = error.away ? "No answer. Log out again" : "Not logged out. Again";
    }
  });
  // People is an admin's page, and everybody's way to their own password.
  const who = element("a", "nav-who", element("strong", "", person.name), element("span", "", person.role));
  who.href = "/people";
  who.title = "Your account";
  return element("div", "nav-account", who, leave);
}

function build(person) {
  const pages = PAGES.filter((page) => !page.role || may(page.role, person));
  const panel = element("div", "nav-panel", element("ul", "", ...pages.slice(ON_BAR).map(link)), account(person));
  panel.id = "nav-panel";
  const mark = element("img", "nav-mark");
  mark.src = "/static/icon.svg";
  mark.alt = "";
  $("nav").replaceChildren(mark, element("ul", "nav-bar", ...pages.slice(0, ON_BAR).map(link)), moreButton(panel), panel);
  for (const each of document.querySelectorAll("[data-camera]")) each.textContent = person.camera;
  if (!document.title.includes(person.camera)) {
    document.title = `${document.title.replace(/ – Sitecam$/, "")} – ${person.camera} – Sitecam`;
  }
  for (const each of document.querySelectorAll("[data-role]")) each.hidden ||= !may(each.dataset.role, person);
}

/** Who is logged in: { name, role, camera, fleet, labels }. */
export const me = get("/api/me");

me.then(build, (error) => {
  $("nav").replaceChildren(element("p", "nav-who", element("span", "", error.message)));
});
