// What the camera's state means, in words.

const KNOWN = {
  hardhat: { words: "Hardhat", icon: "hardhat", tone: "good" },
  head: { words: "Bare head", icon: "head", tone: "alert" },
  nobody: { words: "Nobody", icon: "nobody", tone: "calm" },
};
const UNSURE = { words: "Unsure", icon: "unsure", tone: "unsure" };
const NO_ANSWER = { words: "No answer", icon: "waiting", tone: "calm" };
const NO_PICTURE = { words: "No picture", icon: "camera-off", tone: "calm" };
const DOUBTS = { "low score": "the best score is low" };

/** What can be wrong with pictures that come. `blind`: then what the model says of them is worth nothing. */
const CONDITIONS = {
  dark: { words: "Dark picture", short: "Dark", blind: "the picture is dark", icon: "dark" },
  frozen: { words: "Frozen picture", short: "Frozen", blind: "the picture stands still", icon: "frozen" },
  slow: { words: "Few pictures", short: "Slow", blind: "", icon: "slow" },
};
const HAPPENINGS = { ...CONDITIONS, "no picture": { words: "No picture" } };

const OLD_AFTER_S = 5;

const look = (table, key) => (Object.hasOwn(table, key) ? table[key] : null);

export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function percent(score) {
  return `${(100 * score).toFixed(score > 0.995 || score < 0.1 ? 1 : 0)} %`;
}

/** "12 s", "3 min 5 s", "2 h", "4 d 1 h": two units at most. */
export function duration(seconds) {
  if (seconds < 1) return "under 1 s";
  const whole = Math.floor(seconds);
  for (const [size, unit, smaller, rest] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole < size) continue;
    const left = Math.floor((whole % size) / smaller);
    return `${Math.floor(whole / size)} ${unit}${left ? ` ${left} ${rest}` : ""}`;
  }
  return `${whole} s`;
}

export function labelWords(label) {
  return look(KNOWN, label)?.words ?? label;
}

export function labelTone(label) {
  return look(KNOWN, label)?.tone ?? "calm";
}

export function conditionWords({ kind }) {
  return look(CONDITIONS, kind) ?? { words: capital(kind), short: capital(kind), blind: "", icon: "bad" };
}

/** An event in two or three words; a sentence only where it is somebody that was seen. */
export function eventWords({ kind, sentence }) {
  return look(HAPPENINGS, kind)?.words ?? capital(sentence);
}

/** What a frame showed long ago says nothing of now: neither alarm nor safety. */
export function isOld(frame) {
  return frame !== null && frame.age_s > OLD_AFTER_S;
}

/** What makes the picture itself worthless, though it comes; "" where it is good. */
export function flawOf({ conditions }) {
  return conditions.map((condition) => conditionWords(condition).blind).find(Boolean) ?? "";
}

/** What a camera without a fleet misses. */
export const ALONE = "no fleet, so no model and no nights";

/** Why nobody would be noticed now; "" where somebody would. */
export function blindness(state) {
  const { frame, faults, decision } = state;
  if (!frame) return "no picture yet";
  if (isOld(frame)) return `no picture since ${frame.taken}`;
  if (faults.camera) return "the camera has a fault";
  const unanswered = state.fleet ? "no model answers" : ALONE;
  return flawOf(state) || (decision ? "" : unanswered);
}

export function meaningOf(state) {
  const { frame, decision } = state;
  if (isOld(frame)) return NO_PICTURE;
  if (!decision) return NO_ANSWER;
  if (decision.label === null) return UNSURE;
  const meaning = look(KNOWN, decision.label) ?? { words: decision.label, icon: "label", tone: "calm" };
  return flawOf(state) ? { ...meaning, tone: "calm" } : meaning;
}

/** What stands below the decision: how sure it is, or why there is none. */
export function reasonOf(state) {
  const { frame, decision, model, faults, fleet } = state;
  if (isOld(frame)) return `Since ${frame.taken}`;
  if (!decision) {
    if (!fleet) return "It works alone";
    if (faults.model) return "The model has a fault";
    return model.version === null ? "The model is starting" : "Waiting";
  }
  if (decision.label === null) return capital(look(DOUBTS, decision.doubt) ?? decision.doubt);
  const flaw = flawOf(state);
  return `${percent(decision.confidence)} sure${flaw ? `, but ${flaw}` : ""}`;
}
