// One frame, as large as the screen: a dialog that any page can open.

import { element } from "./dom.js";
import { icon } from "./icons.js";

/** Show a frame's picture; `below` is what stands under it. Returns the dialog, which is gone once it is closed. */
export function closer(frame, ...below) {
  const picture = element("img", "viewer-picture");
  picture.src = `/api/frames/${frame.id}/picture`;
  picture.alt = `Frame of ${frame.taken}`;
  const shut = element("button", "button viewer-shut", icon("close"), element("span", "unseen", "Close"));
  shut.type = "button";
  const head = element("header", "viewer-head", element("h2", "", frame.taken), shut);
  const dialog = element("dialog", "viewer", head, picture, ...below);
  shut.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
