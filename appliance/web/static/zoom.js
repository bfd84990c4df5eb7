// Looks closer at a picture: press on a place, pinch, or a key; drag to move; press again to see all of it.

const CLOSER = 2.5;
const MOST = 6;
const SLIP_PX = 10; // a press that moves less than this is a press

/** Gives a box that holds one picture its zoom; `changed` hears whether one looks closer now. */
export function zoomable(box, changed = () => {}) {
  const fingers = new Map(); // pointer id -> { x, y }
  let scale = 1;
  let shift = { x: 0, y: 0 };
  let start = null; // of a gesture: where, how close, and whether it was more than a press

  function apply() {
    const limit = { x: (box.clientWidth * (scale - 1)) / 2, y: (box.clientHeight * (scale - 1)) / 2 };
    for (const axis of ["x", "y"]) shift[axis] = Math.max(-limit[axis], Math.min(limit[axis], shift[axis]));
    box.style.setProperty("--zoom", String(scale));
    box.style.setProperty("--shift-x", `${shift.x}px`);
    box.style.setProperty("--shift-y", `${shift.y}px`);
    box.dataset.zoomed = String(scale > 1);
    changed(scale > 1);
  }

  /** A place on the screen, from the middle of the box. */
  function place(x, y) {
    const { left, top, width, height } = box.getBoundingClientRect();
    return { x: x - left - width / 2, y: y - top - height / 2 };
  }

  /** Be `wanted` times closer, with what is at `at` staying there. */
  function scaleAt(wanted, at) {
    const next = Math.max(1, Math.min(MOST, wanted));
    shift = { x: at.x - ((at.x - shift.x) * next) / scale, y: at.y - ((at.y - shift.y) * next) / scale };
    scale = next;
    apply();
  }

  function middle() {
    const [a, b = a] = [...fingers.values()];
    const at = place((a.x + b.x) / 2, (a.y + b.y) / 2);
    return { ...at, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  function begin() {
    start = fingers.size ? { ...middle(), scale, shift: { ...shift }, moved: start?.moved ?? false } : null;
  }

  box.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || event.target.closest("button, a")) return;
    box.setPointerCapture(event.pointerId);
    if (!fingers.size) start = null;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    begin();
    if (fingers.size > 1) start.moved = true;
  });

  box.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const now = middle();
    if (Math.hypot(now.x - start.x, now.y - start.y) > SLIP_PX) start.moved = true;
    if (!start.moved) return;
    scale = start.scale;
    shift = { x: start.shift.x + now.x - start.x, y: start.shift.y + now.y - start.y };
    if (fingers.size > 1 && start.apart > 0) scaleAt((start.scale * now.apart) / start.apart, now);
    else apply();
  });

  function lift(event) {
    if (!fingers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && !fingers.size && start && !start.moved) {
      if (scale > 1) api.reset();
      else scaleAt(CLOSER, place(event.clientX, event.clientY));
    }
    begin();
  }
  box.addEventListener("pointerup", lift);
  box.addEventListener("pointercancel", lift);

  const api = {
    get closer() {
      return scale > 1;
    },
    reset() {
      scale = 1;
      shift = { x: 0, y: 0 };
      apply();
    },
    toggle() {
      if (scale > 1) api.reset();
      else scaleAt(CLOSER, { x: 0, y: 0 });
    },
    /** Move by shares of the box, for keys. */
    move(x, y) {
      shift = { x: shift.x + x * box.clientWidth, y: shift.y + y * box.clientHeight };
      apply();
    },
  };
  return api;
}
