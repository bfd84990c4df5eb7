// One sitting of labelling: which frame is before the person, what they said, and what the camera took of it.

import { Outbox } from "./outbox.js";

/**
 * @typedef {object} Said
 * @property {object} frame as /api/queue gives it
 * @property {"label" | "unclear" | "skip"} act
 * @property {string} words what was said, for people
 * @property {string | null} label
 * @property {object | null} saved the camera's answer; null until it said so
 */

export class Session {
  /** @type {object[]} the first one is before the person */
  pending = [];
  /** @type {Said[]} the last one is what undo takes back */
  said = [];
  doneToday = 0;
  trouble = null; // why answers wait, or null
  #outbox;
  #changed;
  #lost;

  /** `changed` is called after every change; `lost` with a sentence for each answer that the camera refused. */
  constructor({ changed, lost }) {
    this.#changed = changed;
    this.#lost = lost;
    this.#outbox = new Outbox(({ trouble }) => {
      this.trouble = trouble;
      changed();
    });
  }

  get current() {
    return this.pending[0] ?? null;
  }

  get total() {
    return this.said.length + this.pending.length;
  }

  get unsent() {
    return this.#outbox.unsent;
  }

  get saved() {
    return this.said.filter((each) => each.saved).length;
  }

  /** Begin with what /api/queue said. Frames that wait here already come once. */
  begin({ frames, done_today: doneToday }) {
    const known = new Set([...this.pending, ...this.said.map((each) => each.frame)].map(({ id }) => id));
    this.pending.push(...frames.filter(({ id }) => !known.has(id)));
    this.doneToday = doneToday;
  }

  /** Forget what was said and saved, for the next dozen. */
  clear() {
    this.said = [];
  }

  /** Say something of the current frame, and go on at once. */
  say(act, words, label = null) {
    const frame = this.pending.shift();
    const said = { frame, act, words, label, saved: null };
    said.job = this.#job(frame, act, label === null ? {} : { label }, {
      saved: (answer) => {
        said.saved = answer;
      },
      refused: (refusal) => {
        this.said = this.said.filter((each) => each !== said);
        const gone = refusal.status === 404;
        if (!gone) this.pending.push(frame);
        this.#lost(`“${words}” was not saved. ${refusal.message}${gone ? "" : " The picture comes again."}`);
      },
    });
    this.said.push(said);
    this.#outbox.add(said.job);
  }

  /** Take the last word back; its frame is before the person again. Returns what was taken back, or null. */
  undo() {
    const said = this.said.pop();
    if (!said) return null;
    this.pending.unshift(said.frame);
    if (!this.#outbox.takeBack(said.job)) this.#undoThere(said);
    this.#changed();
    return said;
  }

  /** Leave out a frame whose picture can't be had any more. */
  drop() {
    this.pending.shift();
    this.#changed();
  }

  tryNow() {
    this.#outbox.tryNow();
  }

  #undoThere(said) {
    // Where the answer itself was refused there is nothing to undo: its frame is here already.
    let refusedBefore = false;
    said.job.refused = () => {
      refusedBefore = true;
    };
    this.#outbox.add(this.#job(said.frame, "undo", {}, {
      saved: () => {},
      refused: (refusal) => {
        if (!refusedBefore) this.#lost(`“${said.words}” could not be taken back. ${refusal.message}`);
      },
    }));
  }

  #job(frame, act, body, { saved, refused }) {
    return {
      path: `/api/frames/${frame.id}/${act}`,
      body,
      saved: (answer) => {
        this.doneToday = answer?.done_today ?? this.doneToday;
        saved(answer);
      },
      refused,
    };
  }
}
