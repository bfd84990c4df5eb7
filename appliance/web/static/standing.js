// How the machine, its store and its neighbours are, what is planned for tonight, and what waits for a person.

import { $, element, fill, say } from "./dom.js";
import { may, me } from "./nav.js";

const SECONDS_PER_LABEL = 10;
const STORES = { ok: "Room left", tight: "Little room", full: "Full" };
const QUIET = ["idle", "done", "failed"];
const NAMES = { mqtt: "MQTT", webhook: "Webhook" };

let labels = false; // whether this person may label
me.then((person) => (labels = may("labeller", person)), () => {}); // the frame's bar says what went wrong

export function showStanding({ system, store, neighbours, queue, tonight, night }) {
  const power = system?.throttling;
  const hot = system?.warnings?.some((words) => words.includes("hot"));
  item("heat", system?.temperature_c ?? null, (degrees) => [`${Math.round(degrees)} °C`, !hot]);
  item("power", power ?? null, ({ now, since_start: since }) => [powerWords(now, since), !now.length && !since.includes("under-voltage")]);
  item("store", store ?? null, ({ state }) => [STORES[state] ?? state, state === "ok"]);
  item("told", neighbours?.length ? neighbours : null, toldWords);
  showWarnings(system, store, neighbours);
  $("tonight").hidden = !tonight || !QUIET.includes(night.phase); // a night under way speaks for itself
  say($("tonight"), tonight ?? "");
  showQueue(queue);
}

/** A figure that this machine doesn't tell takes no room. */
function item(name, value, words) {
  const box = $(`health-${name}`);
  box.hidden = value === null;
  if (value === null) return;
  const [text, well] = words(value);
  box.dataset.well = well ? "yes" : "no";
  say(box.querySelector("dd"), text);
}

function powerWords(now, since) {
  if (now.includes("under-voltage")) return "Too weak";
  if (now.length) return "Slowed down";
  return since.includes("under-voltage") ? "Was too weak" : "Good";
}

function toldWords(neighbours) {
  const away = neighbours.filter(({ ok }) => !ok).map(nameOf);
  return [away.length ? `Not ${away.join(", ")}` : neighbours.map(nameOf).join(", "), !away.length];
}

const nameOf = ({ name }) => NAMES[name] ?? name;

function showWarnings(system, store, neighbours) {
  const words = [...(system?.warnings ?? [])];
  if (store && store.state !== "ok" && store.sentence) words.push(store.sentence);
  for (const each of neighbours ?? []) if (!each.ok) words.push(`${nameOf(each)}: ${each.sentence}`);
  $("warnings").hidden = words.length === 0;
  fill($("warnings"), words, () => element("li", ""), (row, text) => say(row, text));
}

function showQueue(queue) {
  const left = queue ? Math.max(0, Math.min(queue.waiting, queue.asked - queue.done_today)) : 0;
  $("asking").hidden = !labels || left === 0;
  const minutes = Math.max(1, Math.round((left * SECONDS_PER_LABEL) / 60));
  say($("asking-words"), `${left === 1 ? "1 frame waits" : `${left} frames wait`}, about ${minutes === 1 ? "a minute" : `${minutes} minutes`}`);
  say($("asking-link"), left === 1 ? "Label it" : "Label them");
}
