// What happens in front of the camera and to it: the alarm, bad pictures, the last events.

import { $, drawIcon, element, fill, say } from "./dom.js";
import { blindness, capital, conditionWords, duration, eventWords } from "./words.js";

const ICONS = { none: "good", on: "alarm", was: "alarm", blind: "blind" };

let alarm = null; // the event that lasted when the camera was heard last
let announced = "";

/** The strip at the top. It is always there, so that an alarm pushes nothing away. */
function showStrip(name, words, more) {
  $("alarm").dataset.state = name;
  drawIcon($("alarm-icon"), ICONS[name]);
  say($("alarm-words"), words);
  say($("alarm-more"), more);
}

const lasts = ({ sentence, began }) => `${capital(sentence)}, since ${began}`;

/** An event is announced once, however often the camera tells of it. */
function announce(event) {
  if (!event) {
    say($("alarm-spoken"), "");
    return;
  }
  const name = `${event.kind} ${event.began_utc}`;
  if (name === announced) return;
  announced = name;
  say($("alarm-spoken"), `Alarm: ${lasts(event)}.`);
}

export function showAlarm(state) {
  alarm = state.alarm;
  announce(alarm);
  const blind = blindness(state);
  const unseen = blind ? `Not watching now: ${blind}` : "";
  if (alarm) {
    showStrip("on", lasts(alarm), unseen);
  } else if (blind) {
    showStrip("blind", "Not watching", capital(blind));
  } else {
    const last = state.events.find(({ kind }) => kind === "seen");
    showStrip("none", "No alarm", last ? `Last: ${last.began}` : "");
  }
}

/** The camera isn't heard any more: old news must not look like an alarm, nor like safety. */
export function alarmIsUnknown(asOf) {
  const known = alarm ? lasts(alarm) : "Alarm unknown";
  showStrip(alarm ? "was" : "blind", known, asOf ? `As of ${asOf}: connection lost` : "Connection lost");
}

export function showConditions({ conditions }) {
  const box = $("conditions");
  for (const notice of [...box.children]) {
    if (!conditions.some(({ kind }) => kind === notice.dataset.kind)) notice.remove();
  }
  for (const condition of conditions) {
    const known = [...box.children].find((notice) => notice.dataset.kind === condition.kind);
    const notice = known ?? $("condition").content.firstElementChild.cloneNode(true);
    const { words, icon } = conditionWords(condition);
    notice.dataset.kind = condition.kind;
    drawIcon(notice.querySelector("use"), icon);
    say(notice.querySelector("strong"), `${words}, since ${condition.since}.`);
    say(notice.querySelector(".why"), condition.sentence);
    if (!known) box.append(notice); // complete, so that it is read out as one
  }
}

export function showEvents({ events }) {
  $("events-none").hidden = events.length > 0;
  $("events-list").hidden = events.length === 0;
  fill($("events-list"), events, eventRow, (row, event) => {
    const time = row.querySelector("time");
    row.dataset.kind = event.kind;
    row.classList.toggle("lasting", event.ended_utc === null);
    say(row.querySelector("strong"), eventWords(event));
    say(time, event.began);
    if (time.dateTime !== event.began_utc) time.dateTime = event.began_utc;
    say(row.querySelector(".long"), event.ended_utc === null ? "now" : duration(event.lasted_s));
  });
}

function eventRow() {
  const when = element("span", "", element("time", ""), " ·"); // a line breaks after a dot, never within a time
  return element("li", "", element("strong", ""), " · ", when, " ", element("span", "long"));
}
