// The fleet page: which section is open, what is asked of the server for it, and whether the server answers.

import { $, say } from "/static/camera/dom.js";
import { act, look, Refusal } from "/static/api.js";
import { showCameras } from "/static/cameras.js";
import { showExport } from "/static/export.js";
import { showJoining } from "/static/joining.js";
import { showModels } from "/static/models.js";
import { showNight } from "/static/night.js";
import { showNights } from "/static/nights.js";
import { complain } from "/static/parts.js";
import { showTrail } from "/static/trail.js";

const LOOK_MS = 4000;
const SECTIONS = {
  cameras: { title: "Cameras", show: showCameras },
  nights: { title: "Nights", path: () => "/api/nights", show: showNights },
  night: { title: "Night", path: (number) => `/api/nights/${number}`, show: showNight },
  models: { title: "Models", path: () => "/api/models", show: showModels },
  join: { title: "Let a camera in", show: showJoining },
  trail: { title: "Trail", path: () => "/api/trail", show: showTrail },
  export: { title: "Export", show: showExport },
};

let open = { name: "", argument: "" };
let shown = ""; // the address whose state is on the page
let timer = 0;
let looks = 0;
let answeredAt = "";

function target() {
  const [name, argument = ""] = location.hash.slice(1).split("/");
  if (name === "nights" && /^\d{1,9}$/.test(argument)) return { name: "night", argument };
  return { name: Object.hasOwn(SECTIONS, name) && name !== "night" ? name : "cameras", argument: "" };
}

function follow({ focus }) {
  open = target();
  for (const name of Object.keys(SECTIONS)) $(`section-${name}`).hidden = name !== open.name;
  const tab = open.name === "night" ? "nights" : open.name;
  for (const link of document.querySelectorAll(".tabs a")) {
    const current = link.getAttribute("href") === `#${tab}`;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (current) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  if (open.name === "night") say($("night-title"), "Night");
  if (focus) {
    scrollTo(0, 0);
    $(`${open.name}-title`).focus({ preventScroll: true });
  }
  document.title = `${SECTIONS[open.name].title} – Sitecam fleet`;
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  const number = ++looks;
  const { name, argument } = open;
  const section = SECTIONS[name];
  try {
    const path = section.path?.(argument);
    const [fleet, own] = await Promise.all([look("/api/fleet"), path ? look(path) : null]);
    if (number !== looks) return; // another section was opened meanwhile
    if (fleet.fresh || !answeredAt) showTop(fleet.state);
    const address = `${name}/${argument}`;
    if (address !== shown || fleet.fresh || own?.fresh) section.show(own ? own.state : fleet.state, fleet.state);
    shown = address;
    answeredAt = fleet.state.clock;
    setLink("live");
  } catch (error) {
    if (number !== looks) return;
    lose(error);
  }
  if (!document.hidden) timer = setTimeout(refresh, LOOK_MS);
}

function showTop(state) {
  say($("fleet"), state.fleet);
  say($("clock"), state.clock);
  const cameras = state.cameras.length === 1 ? "1 camera" : `${state.cameras.length.toLocaleString("en-GB")} cameras`;
  say($("standing"), state.version === null ? cameras : `${cameras}, version ${state.version}`);
  const asking = state.requests.length;
  $("asking").hidden = asking === 0;
  say($("asking"), String(asking));
  $("asking").setAttribute("aria-label", asking === 1 ? "1 camera asks" : `${asking} cameras ask`);
}

function lose(error) {
  const refused = error instanceof Refusal;
  say($("notice-link-head"), refused ? "The server can’t say." : "The server does not answer.");
  const since = answeredAt ? `This is how things stood at ${answeredAt}. ` : "";
  say($("notice-link-words"), `${refused ? `${error.message} ` : ""}${since}Trying again…`);
  setLink("lost");
  if (!refused && !(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
}

function setLink(name) {
  document.body.dataset.link = name;
  say($("link-words"), { live: "Live", lost: "Lost", connecting: "Connecting" }[name]);
  $("notice-link").hidden = name !== "lost";
}

$("leave").addEventListener("click", async () => {
  try {
    await act("/api/logout");
    location.assign("/login");
  } catch (error) {
    complain(error);
  }
});

$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // addresses name sections here
  $(`${open.name}-title`).focus();
});
addEventListener("hashchange", () => follow({ focus: true }));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else refresh();
});
document.addEventListener("sitecam-changed", refresh);
$("notice-action-close").addEventListener("click", () => {
  $("notice-action").hidden = true;
});
follow({ focus: false });
