// A line over nights or rounds: drawn as SVG, told in words, and given as a table of the same numbers.

import { element, say } from "/static/camera/dom.js";
import { table } from "/static/parts.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const EDGE = { left: 52, right: 14, top: 12, bottom: 30 };
const TICKS = 4;
const LEAST_SPAN = 0.02; // of accuracy or loss: less is noise, and would look like a mountain

/** Draws into a box of its own; `show` may be called again and again.
 *
 * points: [{ label, name, value, tone, more }], oldest first: label is the short name; a value of null is a gap. format: a value in words.
 */
export class Plot {
  constructor({ title, across, format, least = 0, most = null }) {
    Object.assign(this, { title, across, format, least, most, points: [], drawn: "" });
    this.read = element("p", "plot-read soft");
    this.stage = element("div", "plot-stage");
    this.summary = element("summary", "", "The same as a table");
    this.details = element("details", "", this.summary);
    this.box = element("figure", "card plot", element("figcaption", "title", title), this.stage, this.read, this.details);
    new ResizeObserver(() => this.draw()).observe(this.stage);
    this.stage.addEventListener("pointermove", (event) => this.tell(event));
    this.stage.addEventListener("pointerleave", () => this.rest());
    this.details.addEventListener("toggle", () => this.tabulate());
  }

  show(points) {
    const text = JSON.stringify(points);
    if (text === this.text) return;
    this.text = text;
    this.points = points;
    this.drawn = "";
    this.draw();
    this.rest();
    this.tabulate();
  }

  draw() {
    const width = Math.round(this.stage.clientWidth);
    const key = `${width} ${this.text}`;
    if (!width || this.text === undefined || key === this.drawn) return;
    this.drawn = key;
    const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": this.words() });
    const known = this.points.filter(({ value }) => value !== null);
    if (known.length) this.fill(svg, width, known);
    this.stage.replaceChildren(svg);
  }

  fill(svg, width, known) {
    const [low, high, step] = this.range(known.map(({ value }) => value));
    const across = width - EDGE.left - EDGE.right;
    const down = HEIGHT - EDGE.top - EDGE.bottom;
    const last = Math.max(1, this.points.length - 1);
    this.x = (index) => EDGE.left + (this.points.length === 1 ? across / 2 : (across * index) / last);
    const y = (value) => EDGE.top + down * (1 - (value - low) / (high - low));
    for (let tick = low; tick <= high + step / 2; tick += step) {
      svg.append(make("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(tick), y2: y(tick) }));
      svg.append(text(this.format(tick), { x: EDGE.left - 8, y: y(tick) + 4, "text-anchor": "end" }));
    }
    this.below(svg, across);
    const line = this.points.map(({ value }, index) => (value === null ? null : [this.x(index), y(value)]));
    svg.append(make("path", { class: "line", d: path(line) }));
    const radius = this.points.length > 60 ? 2.5 : 4.5;
    line.forEach((place, index) => {
      if (place) svg.append(make("circle", { class: "dot-of", "data-tone": this.points[index].tone ?? "good", cx: place[0], cy: place[1], r: radius }));
    });
    this.mark = svg.appendChild(make("line", { class: "mark-at", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" }));
  }

  /** As many names below as there is room for, the last one always. */
  below(svg, across) {
    const room = Math.max(1, Math.floor(across / 84));
    const every = Math.max(1, Math.ceil(this.points.length / room));
    const last = this.points.length - 1;
    this.points.forEach(({ label }, index) => {
      if ((last - index) % every) return;
      const anchor = last === 0 ? "middle" : index === last ? "end" : index === 0 ? "start" : "middle";
      svg.append(text(label, { x: this.x(index), y: HEIGHT - 10, "text-anchor": anchor }));
    });
  }

  range(values) {
    const least = Math.min(...values);
    const most = Math.max(...values);
    const span = Math.max(most - least, LEAST_SPAN);
    const rough = span / TICKS;
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((each) => each >= rough);
    const low = Math.max(this.least, Math.floor((least - 0.05 * span) / step) * step);
    const top = Math.ceil((most + 0.05 * span) / step) * step;
    return [low, Math.max(low + step, this.most === null ? top : Math.min(this.most, top)), step];
  }

  words() {
    const known = this.points.filter(({ value }) => value !== null);
    if (!known.length) return `${this.title}: nothing was measured`;
    const [first, last] = [known[0], known.at(-1)];
    const ends = known.length === 1 ? "" : `${nameOf(first)}: ${this.format(first.value)}, `;
    return `${this.title}, ${ends}${nameOf(last)}: ${this.format(last.value)}`;
  }

  tell({ clientX }) {
    if (!this.mark || !this.points.length) return;
    const at = clientX - this.stage.getBoundingClientRect().left;
    let nearest = 0;
    this.points.forEach((_, index) => {
      if (Math.abs(this.x(index) - at) < Math.abs(this.x(nearest) - at)) nearest = index;
    });
    const { value, more = "" } = this.points[nearest];
    for (const end of ["x1", "x2"]) this.mark.setAttribute(end, this.x(nearest));
    this.mark.setAttribute("visibility", "visible");
    say(this.read, `${nameOf(this.points[nearest])}: ${value === null ? "not measured" : this.format(value)}${more ? `, ${more}` : ""}`);
  }

  rest() {
    this.mark?.setAttribute("visibility", "hidden");
    const last = this.points.findLast(({ value }) => value !== null);
    say(this.read, last ? `${nameOf(last)}: ${this.format(last.value)}` : "Nothing was measured.");
  }

  tabulate() {
    if (!this.details.open) return;
    const rows = this.points.map((point) => [nameOf(point), point.value === null ? "–" : this.format(point.value), point.more ?? ""]);
    this.details.replaceChildren(this.summary, table(this.title, [this.across, this.title, ""], rows, [1]));
  }
}

const nameOf = ({ label, name = label }) => name;

function make(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function text(words, attributes) {
  const made = make("text", attributes);
  made.textContent = words;
  return made;
}

/** A line through the places, broken where one is missing. */
function path(places) {
  let pen = "M";
  return places
    .map((place) => {
      if (!place) {
        pen = "M";
        return "";
      }
      const piece = `${pen}${place[0].toFixed(1)} ${place[1].toFixed(1)}`;
      pen = "L";
      return piece;
    })
    .join("");
}
