// Talks to this camera: get, post, upload. A refusal is an error whose message is words for a person.

const DEADLINE_MS = 30_000;
const AWAY = {
  what: "The camera does not answer",
  means: "Nothing was changed by this",
  do: "See that this device is on the camera’s network, then try again",
};

/** What the camera said no to, in its three sentences; `status` is 0 where it did not answer at all. */
export class Refusal extends Error {
  constructor({ what, means = "", do: advice = "" }, { status = 0, wait_s = 0 } = {}) {
    super([what, means, advice].filter(Boolean).map(sentence).join(" "));
    this.name = "Refusal";
    this.what = what;
    this.means = means;
    this.advice = advice;
    this.status = status;
    this.wait_s = wait_s; // how long to wait before the next try, 0 for not at all
    this.away = status === 0; // the camera was not reached: the same request may work later
  }
}

/** The answer at a path, parsed. Throws Refusal. */
export function get(path) {
  return ask(path, {});
}

/** Have something done: a POST with JSON. `stay`: a page with unsaved work is not left for the login. Throws Refusal. */
export function post(path, body = {}, { stay = false } = {}) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) }, stay);
}

/** Send a file as the body of a POST; `tell` hears the share that has gone, 0 to 1. Throws Refusal. */
export function upload(path, file, tell = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch can't say how much of a body has gone
    request.open("POST", path);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.addEventListener("progress", ({ loaded, total }) => tell(total ? loaded / total : 0));
    request.addEventListener("error", () => reject(new Refusal(AWAY)));
    request.addEventListener("abort", () => reject(new Refusal(AWAY)));
    request.addEventListener("load", () => {
      const body = parsed(request.responseText);
      if (request.status >= 200 && request.status < 300) resolve(body);
      else reject(refusal(request.status, body, request.getResponseHeader("Retry-After")));
    });
    request.send(file);
  });
}

/** An address inside this site that `?next=` names, else the live view: never another site's. */
export function nextAddress() {
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  const there = new URL(next, location.origin);
  return there.origin === location.origin && there.pathname !== "/login" ? there.pathname + there.search : "/";
}

async function ask(path, options, stay = false) {
  let response, text;
  try {
    response = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) });
    text = await response.text();
  } catch {
    throw new Refusal(AWAY); // no network, a name that is gone, or half a minute of silence: the same to a person
  }
  if (response.ok) return parsed(text);
  throw refusal(response.status, parsed(text), response.headers.get("Retry-After"), stay);
}

function refusal(status, body, retryAfter, stay = false) {
  if (status === 401 && !stay && location.pathname !== "/login") {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Refusal({ what: "You are not logged in any more", do: "Log in again" }, { status });
  }
  const said = body?.error ?? { what: `The camera answered ${status}`, do: "Try again; its log says more" };
  return new Refusal(said, { status, wait_s: Number(retryAfter) || 0 });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // an answer that isn't JSON, like a proxy's own error page: its status says enough
  }
}

function sentence(words) {
  return /[.!?:]$/.test(words) ? words : `${words}.`;
}
