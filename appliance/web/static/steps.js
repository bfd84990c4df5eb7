// A version on trial: where it stands, step by step; on the live page and on the models page.

import { $, element, markSteps, say } from "./dom.js";

const TRIAL = [
  ["verify", "its signature and its files are checked"],
  ["stage", "its program is put together"],
  ["probe", "it starts beside the old version and answers what it must know"],
  ["judge", "it answers this camera’s own test frames"],
  ["activate", "it takes over between two frames"],
  ["soak", "it works live, with the old version at hand"],
  ["commit", "it stays"],
];

let stepSeen = -1;

export function showTrial(trial) {
  $("trial").hidden = !trial;
  if (!trial) {
    stepSeen = -1;
    return;
  }
  const step = TRIAL.findIndex(([state]) => state === trial.state);
  const back = step < 0; // rollback: the marks stay where it failed
  if (!back) stepSeen = step;
  $("trial").dataset.back = String(back);
  say($("trial-head"), `Version ${trial.version} ${back ? "did not pass" : "is being tried"}: ${trial.state}.`);
  const where = back ? "The old version stays" : `Step ${step + 1} of ${TRIAL.length}: ${TRIAL[step][1]}`;
  say($("trial-words"), `${where}.`);
  markSteps($("trial-steps"), stepSeen);
}

for (const [state] of TRIAL) $("trial-steps").append(element("li", "", state));
