// Talks to the server: what changed since the last look, and what a person wants done.

const known = new Map(); // path -> { tag, state }
let ahead_ms = 0; // the server's clock before this machine's

/** What the server said no to, in its three sentences. */
export class Refusal extends Error {
  constructor({ what, means, do: advice }) {
    super([what, means, advice].filter(Boolean).map((part) => part.replace(/\.$/, "") + ".").join(" "));
  }
}

/** The server's time, in milliseconds. */
export const serverNow = () => Date.now() + ahead_ms;

/** The state at a path, and whether it is another one than last time. */
export async function look(path) {
  const before = known.get(path);
  const response = await ask(path, { headers: before ? { "If-None-Match": before.tag } : {} });
  if (response.status === 304) return { state: before.state, fresh: false };
  const state = await response.json();
  known.set(path, { tag: response.headers.get("ETag"), state });
  return { state, fresh: true };
}

/** Have something done. */
export async function act(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  const response = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

async function ask(path, options) {
  const response = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(30_000) });
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) ahead_ms = date - Date.now();
  if (response.status === 401 && path !== "/api/login") {
    location.assign("/login");
    throw new Refusal({ what: "You are not logged in any more" });
  }
  if (response.ok || response.status === 304) return response;
  const body = await response.json().catch(() => null);
  throw new Refusal(body?.error ?? { what: `The server answered ${response.status}` });
}
