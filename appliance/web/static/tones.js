// The colour of a label: known labels have theirs, others take turns.

const KNOWN = { hardhat: "good", head: "alert", nobody: "calm" };

export function labelTone(label) {
  return Object.hasOwn(KNOWN, label) ? KNOWN[label] : "unsure";
}
