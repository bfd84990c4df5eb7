// The trail: who did what to the fleet.

import { $, element, fill, say } from "/static/camera/dom.js";

export function showTrail({ trail }) {
  $("trail-none").hidden = trail.length > 0;
  fill($("trail-list"), trail, row, (made, { at, at_utc: utc, who, text }) => {
    const time = made.querySelector("time");
    time.dateTime = utc;
    say(time, at);
    say(made.querySelector(".who"), who);
    say(made.querySelector(".what"), text);
  });
}

function row() {
  return element("li", "", element("time", "soft"), element("span", "who"), element("span", "what"));
}
