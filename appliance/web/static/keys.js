// Which key means what on the labelling page.

const WORDS = { 0: "unclear", "?": "unclear", s: "skip", ArrowRight: "skip", u: "undo", ArrowLeft: "undo", z: "zoom", Escape: "whole" };
const STEP = 0.25; // of the picture
const MOVES = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };

/** What a key event means, `{ act, with }`, or null. Seen closely, arrows with Shift move the picture. */
export function keyOf(event, labels, closer) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (closer && event.shiftKey && MOVES[key]) return { act: "move", with: MOVES[key] };
  const label = labels.find((each) => each.key.toLowerCase() === key);
  if (label) return { act: "label", with: label };
  const act = Object.hasOwn(WORDS, key) ? WORDS[key] : null;
  return act && (act !== "whole" || closer) ? { act } : null;
}
