// Who this browser is signed in as. The token is kept in this browser only; the server verifies it with every request. An account's
// token lasts minutes and is replaced before it ends, with the help of a cookie that no script can read.

import { newKey, signAs, write } from './api.js';

const STORED = 'tessera.session';
/** How long before its end a token is replaced. */
const AHEAD_MS = 60_000;
/** How long to wait when the server does not answer. */
const RETRY_MS = 10_000;
/** The longest that a timer takes. */
const LONGEST_MS = 2 ** 31 - 1;

let session = read();
const listeners = new Set();
signAs(session?.token ?? null);

/** `{token, subject, roles, name, expires_at, account}`, or null when nobody is signed in or the time is up. */
export function whoami() {
  return session?.expires_at && Date.parse(session.expires_at) <= Date.now() ? null : session;
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
  keep({ token: answer.token, subject: answer.subject, roles: answer.roles, name: name || answer.subject, expires_at: answer.expires_at ?? null });
}

/** With a token that `tessera token` printed. What it says of itself is for display: the server decides. */
export function signInWith(token) {
  const claims = claimsOf(token.trim());
  keep({ token: token.trim(), subject: claims.sub, roles: claims.roles, name: claims.sub, expires_at: Number.isFinite(claims.exp) ? new Date(claims.exp * 1000).toISOString() : null });
}

/** With an account; the server sets the cookie. */
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

export async function signOut({ everywhere = false } = {}) {
  const ended = session?.account ? write('POST', '/accounts/sign-out', { everywhere }) : null;
  keep(null);
  await ended?.catch(() => {});
}

function keepAccount({ access_token: token, expires_at, user }) {
  keep({ token, subject: user.id, roles: user.roles, name: user.name, expires_at, account: true });
}

let timer = null;

/** Replaces the token of an account in time, and at once where it is over already. */
function plan() {
  clearTimeout(timer);
  if (!session?.account) return;
  const left = Date.parse(session.expires_at) - Date.now() - AHEAD_MS;
  timer = setTimeout(refresh, Math.min(Math.max(left, 0), LONGEST_MS));
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
  plan();
  for (const listener of listeners) listener();
}

window.addEventListener('storage', (event) => {
  if (event.key === STORED) adopt(read());
});
plan();

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
    return typeof stored?.token === 'string' && Array.isArray(stored.roles) ? stored : null;
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
