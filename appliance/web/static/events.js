// The list of events: what happened, when, how it was decided, and who has looked at it.

import { get, post } from "./api.js";
import { $, element, say } from "./dom.js";
import { icon } from "./icons.js";
import { may, me } from "./nav.js";
import { button, chip, count, doing, keepLooking, question, tell } from "./parts.js";
import { trailParts } from "./trail.js";
import { capital, duration, eventWords } from "./words.js";

const AT_ONCE = 20;
const EVERY_MS = 5000;
const NEAR_TOP_PX = 160; // somebody who reads further down is not pushed about by what is new
const ICONS = { seen: "head", "no picture": "camera-off" };
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const rows = new Map(); // id -> its card
let shown = []; // events on the page, newest first
let waiting = []; // newer ones that a person has not asked for yet
let earlier = false; // whether there are more further back
let person = null;

// What is asked for

function address(before = "") {
  const asked = new URLSearchParams({ count: AT_ONCE });
  if ($("kind").value) asked.set("kind", $("kind").value);
  if (onlyOpen()) asked.set("open", "true");
  if (before) asked.set("before", before);
  return `/api/events?${asked}`;
}

const onlyOpen = () => $("open").getAttribute("aria-pressed") === "true";
const isOpen = (event) => !event.acknowledged && !event.false;

async function showAnew() {
  const { events, more } = await get(address());
  shown = events;
  waiting = [];
  earlier = more;
  draw();
}

async function refresh() {
  person ??= await me;
  const asked = address();
  const { events, more } = await get(asked);
  if (asked !== address()) return 0; // the choice changed meanwhile
  const known = new Set(shown.map(({ id }) => id));
  const fresh = events.filter(({ id }) => !known.has(id));
  const now = new Map(events.map((event) => [event.id, event]));
  shown = shown.map((event) => now.get(event.id) ?? event);
  if (!shown.length || scrollY < NEAR_TOP_PX) {
    if (fresh.length && rows.size) say($("spoken"), count(fresh.length, "new event", "new events"));
    if (fresh.length === events.length) [shown, earlier] = [events, more]; // a first look, or a gap in between
    else shown = [...fresh, ...shown];
    waiting = [];
  } else {
    waiting = fresh;
  }
  draw();
  return EVERY_MS;
}

// The list

function draw() {
  const stays = (event) => !onlyOpen() || isOpen(event) || rows.get(event.id)?.dataset.stay;
  // The camera lists them as it came to know of them; that is not always the order in which they began.
  const events = shown.filter(stays).sort((a, b) => Date.parse(b.began_utc) - Date.parse(a.began_utc));
  const days = [];
  for (const event of events) {
    const day = dayOf(event);
    if (days.at(-1)?.day !== day) days.push({ day, cards: [] });
    days.at(-1).cards.push(card(event));
  }
  place($("days"), days.map(({ day, cards }) => section(day, cards)));
  $("asked").hidden = !$("asked-row").childElementCount; // it may have come into the list
  $("none").hidden = events.length > 0;
  if (!events.length) emptyWords();
  $("more").hidden = !earlier;
  $("newer-box").hidden = waiting.length === 0;
  say($("newer"), `Show ${count(waiting.length, "new event", "new events")}`);
}

/** Put children in order, touching only what has to move: a card that a person reads stays as it is. */
function place(parent, children) {
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  while (parent.children.length > children.length) parent.lastChild.remove();
}

const sections = new Map(); // day -> its section

function section(day, cards) {
  if (!sections.has(day)) {
    sections.set(day, element("section", "day", element("h2", "", day), element("ol", "rows")));
  }
  const made = sections.get(day);
  place(made.querySelector("ol"), cards);
  return made;
}

function emptyWords() {
  const narrowed = $("kind").value || onlyOpen();
  say($("none-head"), narrowed ? "Nothing like that" : "Nothing has happened yet");
  const kept = "Events are listed here as soon as the camera sees something that people must hear of.";
  const open = "Every event was looked at.";
  say($("none-words"), narrowed ? (onlyOpen() ? open : "Choose another kind to see more.") : kept);
}

/** "Today", or "Sunday 22 November": the site's days, as the camera writes them before the time. */
function dayOf({ began, began_utc: utc }) {
  const [date, time] = began.split(", ");
  if (time === undefined) return "Today";
  const [day, month, year] = date.split(" ");
  const near = Number(utc.slice(0, 4));
  const years = year ? [Number(year)] : [near, near - 1, near + 1]; // at New Year UTC is in another year
  const dates = years.map((each) => new Date(Date.UTC(each, MONTHS.indexOf(month), Number(day))));
  const away = (each) => Math.abs(each - Date.parse(utc));
  const best = dates.reduce((a, b) => (away(b) < away(a) ? b : a));
  const options = { weekday: "long", day: "numeric", month: "long", timeZone: "UTC", ...(year && { year: "numeric" }) };
  return best.toLocaleDateString("en-GB", options);
}

const timeOf = (words) => words.split(", ").at(-1);

// One event

function card(event) {
  if (!rows.has(event.id)) rows.set(event.id, newCard(event));
  const made = rows.get(event.id);
  made.dataset.tone = isOpen(event) && event.kind === "seen" ? "alert" : "calm";
  const lasting = !event.ended_utc;
  const ended = !lasting && timeOf(event.ended) !== timeOf(event.began) ? ` to ${timeOf(event.ended)}` : "";
  say(made.querySelector(".when"), `${timeOf(event.began)}${ended}`);
  say(made.querySelector(".long"), lasting ? "now" : duration(event.lasted_s));
  made.querySelector(".long").classList.toggle("now", lasting);
  const state = `${event.false} ${event.acknowledged} ${event.acknowledged_by}`;
  if (made.dataset.state !== state) {
    made.dataset.state = state;
    made.querySelector(".standing").replaceChildren(...standing(event));
    made.querySelector(".actions").replaceChildren(...actions(event));
  }
  return made;
}

function newCard(event) {
  const title = element("h3", "", icon(ICONS[event.kind] ?? "bad"), eventWords(event));
  const when = element("a", "when"); // its own address, to be sent to somebody
  when.href = `#${event.id}`;
  const times = element("p", "times", when, " · ", element("span", "long"));
  const made = element("li", "card event", element("div", "words", title, times, element("p", "standing")));
  made.id = event.id;
  made.tabIndex = -1;
  if (event.snapshot) {
    made.classList.add("pictured");
    made.prepend(thumbnail(event));
  }
  if (capital(event.sentence) !== eventWords(event)) made.append(element("p", "sentence soft", event.sentence));
  made.append(element("p", "actions"));
  if (event.kind === "seen") made.append(more(event));
  return made;
}

function thumbnail({ id, sentence, began }) {
  const picture = element("img", "");
  picture.alt = "";
  picture.loading = "lazy";
  picture.src = `/api/events/${id}/snapshot`;
  const box = element("a", "small", picture);
  box.href = picture.src;
  box.setAttribute("aria-label", `The picture of: ${sentence}, ${began}`);
  picture.addEventListener("error", () => box.replaceWith(element("span", "small lost", "Picture deleted")), { once: true });
  return box;
}

function standing(event) {
  if (event.false) return [chip("calm", `Marked false by ${event.acknowledged_by}, ${event.acknowledged}`, "close")];
  if (event.acknowledged) return [chip("good", `Acknowledged by ${event.acknowledged_by}, ${event.acknowledged}`)];
  return [chip("alert", "Open", "events")];
}

function actions(event) {
  if (!may("labeller", person)) return [];
  const made = [];
  const named = (pressed) => {
    pressed.setAttribute("aria-label", `${pressed.textContent}: ${eventWords(event)}, ${event.began}`);
    made.push(pressed);
  };
  if (isOpen(event)) named(button("main-button", "Acknowledge", (pressed) => acknowledge(event, pressed)));
  if (!event.false && event.kind === "seen") named(button("", "Mark as false", (pressed) => markFalse(event, pressed)));
  return made;
}

function more(event) {
  const box = element("div", "decided");
  const made = element("details", "", element("summary", "", "How it was decided"), box);
  made.addEventListener("toggle", async () => {
    if (!made.open || box.childElementCount) return;
    box.replaceChildren(element("p", "soft", "Reading…"));
    try {
      box.replaceChildren(...decided(await get(`/api/events/${event.id}`)));
    } catch (error) {
      box.replaceChildren(); // asked for again at the next opening
      tell(error.message, true);
      made.open = false;
    }
  });
  return made;
}

function decided(event) {
  const parts = [];
  if (event.snapshot) {
    const picture = element("img", "large");
    picture.alt = `Picture of the event: ${event.sentence}`;
    picture.src = `/api/events/${event.id}/snapshot`;
    parts.push(picture);
  }
  if (event.trail?.length) parts.push(...trailParts(event.trail));
  else parts.push(element("p", "soft", "No single decisions were kept of this event."), detail(event));
  return parts;
}

function detail({ detail: numbers }) {
  const facts = Object.entries(numbers ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`);
  return element("p", "soft figures", facts.join(" · "));
}

// What a person does about it

async function changed(event, answer) {
  const now = answer?.id ? answer : await get(`/api/events/${event.id}`);
  rows.get(event.id).dataset.stay = "yes"; // it does not vanish under the finger
  shown = shown.map((each) => (each.id === event.id ? { ...each, ...now } : each));
  if (shown.some(({ id }) => id === event.id)) draw();
  else card({ ...event, ...now });
  rows.get(event.id).focus({ preventScroll: true });
}

async function acknowledge(event, pressed) {
  await doing(pressed, async () => {
    await changed(event, await post(`/api/events/${event.id}/acknowledge`));
    say($("spoken"), "Acknowledged.");
  });
}

async function markFalse(event, pressed) {
  const sure = await question({
    title: "Was this a false alarm?",
    lines: [
      "The event stays in this list, marked false, with your name.",
      "Its picture goes to the labelling queue as a hard example: once somebody has labelled it, the next model can learn from it.",
    ],
    yes: "Mark as false",
  });
  if (sure === null) return;
  await doing(pressed, async () => {
    await changed(event, await post(`/api/events/${event.id}/false`));
    tell("Marked as false. Its picture waits in the labelling queue.");
  });
}

// An event that the address names

async function showAsked() {
  const id = location.hash.slice(1);
  const wanted = /^[0-9a-f]{32}$/.test(id) ? id : "";
  for (const each of document.querySelectorAll(".wanted")) each.classList.remove("wanted");
  if (!wanted) return;
  if (!shown.some((event) => event.id === wanted)) {
    const event = await get(`/api/events/${wanted}`);
    $("asked-row").replaceChildren(card(event));
    $("asked").hidden = false;
  }
  const found = rows.get(wanted);
  found.classList.add("wanted");
  for (const folded of found.querySelectorAll(":scope > details")) folded.open = true;
  found.scrollIntoView({ block: "start" });
  found.focus({ preventScroll: true });
}

const go = () => showAsked().catch((error) => tell(error.message, true));

$("kind").addEventListener("change", () => doing(null, showAnew));
$("open").addEventListener("click", () => {
  $("open").setAttribute("aria-pressed", String(!onlyOpen()));
  doing(null, showAnew);
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("newer").addEventListener("click", () => {
  scrollTo(0, 0);
  doing(null, async () => {
    await showAnew();
    $("days").querySelector(".event")?.focus({ preventScroll: true });
  });
});
$("more").addEventListener("click", (event) =>
  doing(event.target, async () => {
    const answer = await get(address(shown.at(-1).id));
    shown = [...shown, ...answer.events];
    earlier = answer.more;
    draw();
    if (answer.events.length) rows.get(answer.events[0].id).focus();
  }),
);

let first = true;
keepLooking(async () => {
  const wait = await refresh();
  if (first) go();
  first = false;
  return wait;
});
addEventListener("hashchange", go);
