// Pictograms of the page, from one file; they say nothing to a screen reader, the words beside them do.

const SVG = "http://www.w3.org/2000/svg";
const FILE = "/static/icons.svg";
const KNOWN_LABELS = ["hardhat", "head", "nobody"];

/** An `<svg class="icon">` that shows a symbol of icons.svg: `icon("events")`. */
export function icon(name) {
  const drawn = document.createElementNS(SVG, "svg");
  drawn.setAttribute("class", "icon");
  drawn.setAttribute("aria-hidden", "true");
  drawn.append(document.createElementNS(SVG, "use"));
  return showIcon(drawn, name);
}

/** Let an icon show another symbol. */
export function showIcon(drawn, name) {
  const use = drawn.querySelector("use");
  if (use.getAttribute("href") !== `#icon-${name}`) use.setAttribute("href", `#icon-${name}`);
  return drawn;
}

/** The symbol of a label: its own, or the luggage label that stands for any other. */
export function labelIcon(label) {
  return KNOWN_LABELS.includes(label) ? label : "label";
}

/** The symbols live in the page itself: a page that lost the camera can still draw the sign for it. */
async function bringSymbols() {
  const response = await fetch(FILE);
  if (!response.ok) return; // words stand beside every icon
  const sprite = new DOMParser().parseFromString(await response.text(), "image/svg+xml").documentElement;
  for (const symbol of sprite.querySelectorAll("symbol")) {
    symbol.id = `icon-${symbol.id}`;
    if (document.getElementById(symbol.id)) symbol.remove(); // the live page brings its own
  }
  sprite.setAttribute("class", "sprite");
  sprite.setAttribute("aria-hidden", "true");
  document.body.prepend(document.adoptNode(sprite));
}

bringSymbols().catch(() => {}); // no answer: the page itself says so
