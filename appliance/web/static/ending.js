// The end of a sitting: thanks, what was said, and what today's labels changed.

import { get } from "./api.js";
import { $, element, say } from "./dom.js";
import { icon, labelIcon, showIcon } from "./icons.js";
import { labelTone } from "./tones.js";

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** Write the end page for what was said in a session. Nothing is called saved that the camera has not taken. */
export async function showEnd(session) {
  const { said, unsent, doneToday } = session;
  $("end").dataset.state = unsent ? "waiting" : "done";
  $("end-undo").hidden = !said.length;
  showIcon(document.querySelector(".end-icon"), unsent ? "waiting" : "good");
  if (unsent) {
    say($("end-title"), `Saving ${count(unsent, "answer", "answers")}`);
    say($("end-words"), session.trouble ? "The camera has not taken them yet. Leave this page open." : "One moment.");
    return;
  }
  if (!said.length) {
    say($("end-title"), doneToday ? "Done for today" : "Nothing to label now");
    const today = doneToday ? `${count(doneToday, "frame", "frames")} labelled today. ` : "";
    say($("end-words"), `${today}The camera keeps frames worth asking about as it sees them. Come back later, or take a burst on the Data page.`);
  } else {
    say($("end-title"), "Thank you");
    say($("end-words"), `${count(doneToday, "frame is", "frames are")} labelled today. All of it is saved.`);
  }
  drawTally(said);
  await drawChanges(session);
}

function drawTally(said) {
  const tally = new Map();
  for (const { words, label } of said) tally.set(words, { label, number: (tally.get(words)?.number ?? 0) + 1 });
  $("tally").replaceChildren(...[...tally].map(([words, { label, number }]) => {
    const chip = element("li", "chip", icon(label ? labelIcon(label) : words === "Skipped" ? "next" : "unsure"), `${number} ${words}`);
    chip.dataset.tone = label ? labelTone(label) : "none";
    return chip;
  }));
}

async function drawChanges(session) {
  const splits = session.said.filter(({ act }) => act === "label").map((each) => each.saved?.frame?.split);
  const skipped = new Set(session.said.filter(({ act }) => act === "skip").map(({ frame }) => frame.id));
  const learn = splits.filter((split) => split === "train").length;
  const test = splits.filter((split) => split === "test").length;
  const lines = [];
  if (learn + test) {
    lines.push({ words: `${learn} of them teach the next version; ${test} test it, and it never learns from those.` });
  }
  try {
    const [data, review, next] = await Promise.all([get("/api/data"), get("/api/review?count=1"), get("/api/queue")]);
    const total = Object.values(data.counts.train).concat(Object.values(data.counts.test)).reduce((a, b) => a + b, 0);
    lines.push({ words: `This camera has ${count(total, "labelled frame", "labelled frames")} now.` });
    const worst = data.findings.find(({ state }) => state === "warning");
    if (worst) lines.push({ words: `${worst.what}. ${worst.do}`.replace(/\.\. /, ". "), state: "warning" });
    const more = next.frames.length;
    $("more").hidden = !more;
    const putOff = next.frames.length > 0 && next.frames.every(({ id }) => skipped.has(id));
    say($("more"), putOff ? `${count(more, "frame", "frames")} put off` : `${more} more`);
    $("to-review").hidden = !review.total;
    say($("to-review"), `Look at ${count(review.total, "disagreement", "disagreements")}`);
  } catch (error) {
    lines.push({ words: error.message, state: "warning" });
  }
  $("changed").replaceChildren(...lines.map(({ words, state }) => {
    const line = element("li", "", words);
    if (state) line.dataset.state = state;
    return line;
  }));
}
