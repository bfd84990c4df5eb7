// How strong a password is, in words. The camera decides what it takes; this says it while one writes.

const LEAST = 10; // characters, as the camera demands
const STRONG = 16;
const EVERY_DAY = /^(.)\1*$|password|passwort|qwert|qwerz|abcdef|letmein|sitecam|camera|hardhat|1234|0000|1111/i;

/** { share 0..1, words, tone } of a password for somebody of that name. */
export function strengthOf(password, name = "") {
  const length = [...password].length;
  if (!length) return { share: 0, words: `At least ${LEAST} characters; three or four words are easy to keep.`, tone: "calm" };
  const share = Math.min(1, length / STRONG);
  if (length < LEAST) {
    const left = LEAST - length;
    return { share, words: `Too short: ${left} more ${left === 1 ? "character" : "characters"}.`, tone: "alert" };
  }
  const kinds = new Set(password).size;
  if (EVERY_DAY.test(password) || kinds < 5 || (name && password.toLowerCase().includes(name.toLowerCase()))) {
    return { share: Math.min(share, 0.5), words: "Easy to guess: it holds your name, a common word or a row of keys.", tone: "alert" };
  }
  if (length < STRONG) return { share, words: "Good. Longer is better than stranger.", tone: "good" };
  return { share: 1, words: "Strong.", tone: "good" };
}
