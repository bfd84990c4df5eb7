// Changes the page's elements, and only where something changed.

export const $ = (id) => document.getElementById(id);

/** Write text only where it changed, so that a reader's place and a selection survive. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function drawIcon(use, name) {
  const target = `#icon-${name}`;
  if (use.getAttribute("href") !== target) use.setAttribute("href", target);
}

export function element(tag, className, ...inside) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

/** Make a list as long as `items` and fill its rows; rows that stay keep their place in the page. */
export function fill(list, items, make, write) {
  while (list.children.length > items.length) list.lastChild.remove();
  while (list.children.length < items.length) list.append(make());
  items.forEach((item, index) => write(list.children[index], item, index));
}

/** Mark the steps before `current` as past and that one as the current one; all are past at their number. */
export function markSteps(list, current) {
  [...list.children].forEach((step, index) => {
    step.className = index < current ? "past" : "";
    if (index === current) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
}
