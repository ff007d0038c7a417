// Who this browser is signed in as. The token is kept in this browser only; the server verifies it with every request. An account's
// token lasts minutes and is replaced before it ends, with the help of a cookie that no script can read.

import { newKey, serverNow, signAs, write } from './api.js';
import { lasting, renewalMs } from './renewal.js';

const STORED = 'tessera.session';
/** How long to wait when the server does not answer. */
const RETRY_MS = 10_000;

let session = read();
const listeners = new Set();
signAs(session?.token ?? null);

/**
 * `{token, subject, roles, name, since, until, account}`, or null when nobody is signed in or the time is up. `since` and `until` are of this
 * browser's clock; `until` is null for a token without end.
 */
export function whoami() {
  return session && session.until !== null && session.until <= Date.now() ? null : session;
}

/** `admin` may be everything. */
export function hasRole(role) {
  const roles = whoami()?.roles ?? [];
  return roles.includes(role) || roles.includes('admin');
}

export function onSession(listener) {
  listeners.add(listener);
}

/** As a named person of the demo; a server that is not a demo answers 404. */
export async function signInDemo(role, name) {
  const answer = await write('POST', '/demo/sign-in', name ? { as: role, name } : { as: role }, { key: newKey() });
  await endAccount();
  keep({ token: answer.token, subject: answer.subject, roles: answer.roles, name: name || answer.subject, ...until(Date.parse(answer.expires_at)) });
}

/** With a token that `tessera token` printed. What it says of itself is for display: the server decides. */
export async function signInWith(token) {
  const claims = claimsOf(token.trim());
  await endAccount();
  keep({ token: token.trim(), subject: claims.sub, roles: claims.roles, name: claims.sub, ...until(claims.exp * 1000) });
}

/** With an account; the server sets the cookie, and ends the session of the one that was there. */
export async function signInAccount(login, password) {
  keepAccount(await write('POST', '/accounts/sign-in', { login, password, cookie: true }));
}

/** Whether there is such an account already is not told; signing in tells. */
export async function signUp(login, password, name) {
  await write('POST', '/accounts/sign-up', name ? { login, password, name } : { login, password });
  await signInAccount(login, password);
}

/** All other sessions of the account end. */
export async function changePassword(current, next) {
  keepAccount(await write('POST', '/accounts/password', { current, new: next, cookie: true }));
}

/** The server ends the session first: where it does not, this browser stays signed in, and whoever asked is told why. */
export async function signOut({ everywhere = false } = {}) {
  await endAccount(everywhere);
  keep(null);
}

/** Whoever is signed in with an account is so no more: their cookie would go on in this browser. A server without accounts has no sessions. */
async function endAccount(everywhere = false) {
  if (!session?.account) return;
  await write('POST', '/accounts/sign-out', { everywhere }).catch((problem) => {
    if (problem.status !== 404) throw problem;
  });
}

function keepAccount({ access_token: token, expires_in: seconds, user }) {
  keep({ token, subject: user.id, roles: user.roles, name: user.name, ...lasting(seconds, Date.now()), account: true });
}

/** From now until a moment of the server's clock; NaN where there is none. */
function until(end) {
  return { since: Date.now(), until: Number.isFinite(end) ? end - serverNow() + Date.now() : null };
}

let timer = null;

/** Replaces the token of an account in time, and at once where one that was kept is over already. */
function plan(fresh) {
  clearTimeout(timer);
  if (session?.account) timer = setTimeout(refresh, renewalMs(session, Date.now(), fresh));
}

async function refresh() {
  const before = session;
  // Another tab may have been first, and has told all of them.
  const stored = read();
  if (stored?.account && stored.token !== before?.token) {
    adopt(stored);
    return;
  }
  try {
    const answer = await write('POST', '/accounts/refresh', {});
    if (session === before) keepAccount(answer);
  } catch (problem) {
    if (session !== before) return;
    if (problem.status === 401 || problem.status === 403 || problem.status === 404) keep(null);
    else timer = setTimeout(refresh, RETRY_MS);
  }
}

function adopt(next) {
  session = next;
  signAs(next?.token ?? null);
  plan(true);
  for (const listener of listeners) listener();
}

window.addEventListener('storage', (event) => {
  if (event.key === STORED) adopt(read());
});
plan(false);

function keep(next) {
  try {
    if (next) localStorage.setItem(STORED, JSON.stringify(next));
    else localStorage.removeItem(STORED);
  } catch {
    // A browser that stores nothing keeps the session until the page is left.
  }
  adopt(next);
}

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORED));
    if (typeof stored?.token !== 'string' || !Array.isArray(stored.roles)) return null;
    // One that an earlier page kept is asked for anew, or lasts as long as the server takes it.
    return Number.isFinite(stored.since) ? stored : { ...stored, ...lasting(0, 0), until: stored.account ? 0 : null };
  } catch {
    return null;
  }
}

function claimsOf(token) {
  const refused = new Error('This is not a token: it should be three parts with dots between them, as `tessera token` prints it.');
  const parts = token.split('.');
  if (parts.length !== 3) throw refused;
  try {
    const bytes = Uint8Array.from(atob(parts[1].replaceAll('-', '+').replaceAll('_', '/')), (letter) => letter.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims.sub !== 'string' || !Array.isArray(claims.roles)) throw refused;
    return claims;
  } catch {
    throw refused;
  }
}
