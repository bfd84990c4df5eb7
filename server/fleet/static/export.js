// What can be taken away, table by table.

import { $, element, fill, say } from "/static/camera/dom.js";

const TABLES = [
  ["cameras", "who belongs to the fleet, and who did"],
  ["nights", "when each began and how it ended"],
  ["rounds", "accuracy and loss, round by round"],
  ["replies", "whose numbers counted, and why not"],
  ["models", "each version, and why it went out"],
  ["verdicts", "what each camera made of each version"],
  ["statuses", "what each camera said of itself, night by night"],
  ["boards", "what each camera’s board is, and what the model takes on it"],
  ["events", "what was said in each night"],
  ["trail", "who did what to the fleet"],
];

export function showExport() {
  fill($("exports"), TABLES, row, (made, [name, words]) => {
    const link = made.querySelector("a");
    link.href = `/api/export/${name}.csv`;
    say(link, `${name}.csv`);
    say(made.querySelector("span"), words);
  });
}

function row() {
  const link = element("a", "button");
  link.download = "";
  return element("li", "", link, element("span", "soft"));
}
