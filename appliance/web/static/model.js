// The model that runs, the one that is being tried, and what became of the last one.

import { $, drawIcon, element, fill, say } from "./dom.js";
import { showTrial } from "./steps.js";
import { capital } from "./words.js";

const NEW_FOR_MS = 10 * 60 * 1000;

let versionSeen = null;
let newUntil = 0;

export function showModel(state) {
  showVersion(state.model);
  showTrial(state.trial);
  showVerdict(state.last_verdict, state.trial);
  const earlier = state.model.history.filter((change) => change.version !== state.model.version);
  $("history").hidden = earlier.length === 0;
  fill($("history-list"), earlier, () => element("li", ""), (row, { version, since }) =>
    say(row, `Version ${version}, from ${since}`),
  );
}

function showVersion({ version, since }) {
  if (version !== null && versionSeen !== null && version !== versionSeen) {
    newUntil = version > versionSeen ? Date.now() + NEW_FOR_MS : 0; // an older one that came back isn't new
  }
  if (version !== null) versionSeen = version;
  say($("version"), version === null ? "None runs" : `Version ${version}`);
  say($("since"), since ? `since ${since}` : "");
  $("fresh").hidden = Date.now() > newUntil;
}

/** While a version is being tried, its trial stands in the last verdict's place. */
function showVerdict(verdict, trial) {
  $("last").hidden = !verdict || Boolean(trial);
  if (!verdict) return;
  $("last").dataset.accepted = String(verdict.accepted);
  drawIcon($("last-icon"), verdict.accepted ? "good" : "bad");
  say($("last-head"), `Version ${verdict.version} ${outcome(verdict)}`);
  const why = capital(verdict.sentence.replace(/\.$/, ""));
  say($("last-words"), `${why} (${verdict.at}).${verdict.quarantined ? " It is not tried again by itself." : ""}`);
}

function outcome({ accepted, state }) {
  if (accepted) return "was taken:";
  if (state === "rollback") return "was taken out again:"; // it had passed; a person went back
  return state ? `was not taken, at ${state}:` : "was not taken:";
}
