// What happens in front of the camera and to it: the alarm, bad pictures, the last events.

import { post } from "./api.js";
import { $, drawIcon, element, fill, say } from "./dom.js";
import { may, me } from "./nav.js";
import { ALONE, blindness, capital, conditionWords, duration, eventWords } from "./words.js";

const ICONS = { none: "good", on: "alarm", was: "alarm", blind: "blind" };

let alarm = null; // the event that lasted when the camera was heard last
let announced = "";
let mayAcknowledge = false;
me.then((person) => (mayAcknowledge = may("labeller", person)), () => {}); // the frame's bar says what went wrong

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

/** What can be done about it, right there: take note of it, or look at it. */
function showDeeds() {
  const known = alarm?.id;
  $("acknowledge").hidden = !known || !mayAcknowledge || Boolean(alarm.acknowledged_by);
  $("alarm-event").hidden = !known || !$("acknowledge").hidden;
  if (known) $("alarm-event").href = `/events#${alarm.id}`;
}

$("acknowledge").addEventListener("click", async () => {
  $("acknowledge").disabled = true;
  try {
    await post(`/api/events/${alarm.id}/acknowledge`);
    say($("spoken"), "Acknowledged.");
  } catch (error) {
    say($("alarm-more"), error.message);
  } finally {
    $("acknowledge").disabled = false;
  }
});

export function showAlarm(state) {
  alarm = state.alarm;
  announce(alarm);
  showDeeds();
  const blind = blindness(state);
  const unseen = blind ? `Not watching now: ${blind}` : "";
  if (alarm) {
    const noted = alarm.acknowledged_by ? `Acknowledged by ${alarm.acknowledged_by}` : "";
    showStrip("on", lasts(alarm), [noted, unseen].filter(Boolean).join(". "));
  } else if (blind) {
    showStrip("blind", blind === ALONE ? "Works alone" : "Not watching", capital(blind));
  } else {
    const last = state.events.find(({ kind }) => kind === "seen");
    showStrip("none", "No alarm", last ? `Last: ${last.began}` : "");
  }
}

/** The camera isn't heard any more: old news must not look like an alarm, nor like safety. */
export function alarmIsUnknown(asOf) {
  const known = alarm ? lasts(alarm) : "Alarm unknown";
  for (const deed of [$("acknowledge"), $("alarm-event")]) deed.hidden = true;
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
    showName(row, event);
    say(time, event.began);
    if (time.dateTime !== event.began_utc) time.dateTime = event.began_utc;
    say(row.querySelector(".long"), event.ended_utc === null ? "now" : duration(event.lasted_s));
  });
}

/** Its name leads to it, where it has an address. */
function showName(row, event) {
  const name = row.querySelector("strong");
  const link = name.querySelector("a");
  if (!event.id) {
    say(name, eventWords(event));
  } else if (link) {
    if (!link.href.endsWith(event.id)) link.href = `/events#${event.id}`;
    say(link, eventWords(event));
  } else {
    const made = element("a", "", eventWords(event));
    made.href = `/events#${event.id}`;
    name.replaceChildren(made);
  }
}

function eventRow() {
  const when = element("span", "", element("time", ""), " ·"); // a line breaks after a dot, never within a time
  return element("li", "", element("strong", ""), " · ", when, " ", element("span", "long"));
}
