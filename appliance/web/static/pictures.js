// Pictures of frames, loaded before they are needed and kept only while they are.

const REST_MS = 2500;

/** Why a picture did not come; `gone` where it never will. */
class NoPicture extends Error {
  constructor(gone) {
    super(gone ? "The picture is gone" : "The picture did not come");
    this.gone = gone;
  }
}

export class Pictures {
  #root;
  #loading = new Map(); // frame id -> promise of a decoded <img>
  #failed = new Map(); // frame id -> when it last failed: nobody asks for it again at once

  constructor(root) {
    this.#root = root;
  }

  /** Load these now, and let go of all others. */
  keep(ids) {
    for (const id of this.#loading.keys()) if (!ids.includes(id)) this.#loading.delete(id);
    for (const id of ids) {
      if (performance.now() - (this.#failed.get(id) ?? -REST_MS) < REST_MS) continue;
      this.load(id).catch(() => {}); // said where the picture is asked for
    }
  }

  /** The picture of a frame as an element. Rejects with NoPicture; the next call tries again. */
  load(id) {
    if (!this.#loading.has(id)) {
      const loading = this.#fetch(id);
      loading.catch(() => {
        this.#loading.delete(id);
        this.#failed.set(id, performance.now());
      });
      this.#loading.set(id, loading);
    }
    return this.#loading.get(id);
  }

  async #fetch(id) {
    // The element itself is kept: what a page may not cache, a second element would have to fetch again.
    const image = new Image();
    image.decoding = "async";
    image.draggable = false;
    image.src = `${this.#root}/${id}/picture`;
    try {
      await image.decode();
      return image;
    } catch {
      throw new NoPicture(await this.#gone(image.src));
    }
  }

  async #gone(address) {
    try {
      return (await fetch(address, { method: "GET", cache: "no-store" })).status === 404;
    } catch {
      return false; // the camera can't be reached: nothing is known
    }
  }
}
