// Answers on their way to the camera: in order, one at a time, tried again until it has said yes or no.

import { post } from "./api.js";

const LONGEST_PAUSE_MS = 15_000;
const TRIES = 4; // of an answer that makes the camera stumble; one that can't be reached is tried for ever

/**
 * @typedef {object} Job
 * @property {string} path where it goes
 * @property {object} body what it says
 * @property {(answer: object) => void} saved the camera said yes
 * @property {(refusal: Error) => void} refused the camera said no: the answer is not saved
 */

export class Outbox {
  #jobs = []; // the first one is under way
  #failures = 0;
  #timer = 0;
  #busy = false;
  #changed;

  /** `changed` is called with { unsent, trouble } whenever one of them changed; trouble is a Refusal or null. */
  constructor(changed) {
    this.#changed = changed;
    addEventListener("online", () => this.tryNow());
    document.addEventListener("visibilitychange", () => this.tryNow());
  }

  /** How many answers the camera has not taken yet. */
  get unsent() {
    return this.#jobs.length;
  }

  add(job) {
    this.#jobs.push(job);
    this.#tell(null);
    if (!this.#timer) this.#send();
  }

  /** Take back what was not sent yet. False where it was: then only another answer can undo it. */
  takeBack(job) {
    const place = this.#jobs.indexOf(job);
    if (place < 0 || (place === 0 && (this.#busy || this.#failures))) return false;
    this.#jobs.splice(place, 1);
    this.#tell(null);
    return true;
  }

  /** Don't wait for the next try. */
  tryNow() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#send();
  }

  async #send() {
    if (this.#busy || !this.#jobs.length) return;
    const [job] = this.#jobs;
    this.#busy = true;
    try {
      const answer = await post(job.path, job.body, { stay: true });
      this.#end(job);
      job.saved(answer);
    } catch (error) {
      this.#busy = false;
      this.#failures += 1;
      const stumbled = error.status >= 500 && error.status !== 507 && this.#failures < TRIES;
      if (error.away || error.status === 401 || error.status === 429 || stumbled) {
        this.#wait(error);
        return;
      }
      this.#end(job);
      job.refused(error);
    }
    this.#tell(null);
    this.#send();
  }

  #end(job) {
    this.#busy = false;
    this.#failures = 0;
    this.#jobs.splice(this.#jobs.indexOf(job), 1);
  }

  #wait(trouble) {
    const pause_ms = Math.max(500 * 2 ** this.#failures, 1000 * (trouble.wait_s ?? 0));
    this.#timer = setTimeout(() => this.tryNow(), Math.min(pause_ms, LONGEST_PAUSE_MS));
    this.#tell(trouble);
  }

  #tell(trouble) {
    this.#changed({ unsent: this.#jobs.length, trouble });
  }
}
