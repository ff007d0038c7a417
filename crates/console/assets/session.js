// Who this browser is signed in as. The token is kept in this browser only; the server verifies it with every request. The token of an account,
// or of another issuer, lasts minutes and is replaced before it ends, with the help of a cookie that no script can read.

import { SLOW_MS, newKey, serverNow, signAs, write } from './api.js';
import { lasting, renewalMs } from './renewal.js';

const STORED = 'tessera.session';
/** What a sign-in at an issuer began with, in this window only. */
const BEGUN = 'tessera.sign-in';
/** How long to wait when the server does not answer. */
const RETRY_MS = 10_000;

let session = read();
const listeners = new Set();
signAs(session?.token ?? null);

/**
 * `{token, subject, roles, name, since, until, account, issuer}`, or null when nobody is signed in or the time is up. `since` and `until` are
 * of this browser's clock; `until` is null for a token without end. `account` is true for one of this server, `issuer` the name of another.
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
  await endKept();
  keep({ token: answer.token, subject: answer.subject, roles: answer.roles, name: name || answer.subject, ...until(Date.parse(answer.expires_at)) });
}

/** With a token that `tessera token` printed. What it says of itself is for display: the server decides. */
export async function signInWith(token) {
  const claims = claimsOf(token.trim());
  await endKept();
  keep({ token: token.trim(), subject: claims.sub, roles: claims.roles, name: claims.sub, ...until(claims.exp * 1000) });
}

/** With an account; the server sets the cookie, and ends the session of the one that was there. */
export async function signInAccount(login, password) {
  const answer = await write('POST', '/accounts/sign-in', { login, password, cookie: true });
  if (session?.issuer) await endKept();
  keepAccount(answer);
}

/** At the issuer that the server names: this window goes there, and comes back to `endAtIssuer`. `back` is for after that. */
export async function beginAtIssuer(back) {
  const address = `${location.origin}/console/`;
  const begun = await write('POST', '/console/sign-in/begin', { redirect_uri: address }, { deadlineMs: SLOW_MS });
  sessionStorage.setItem(BEGUN, JSON.stringify({ ...begun, address, back }));
  location.assign(begun.redirect_to);
}

/** With what the issuer has sent this window back with. Gives the `back` that it began with. */
export async function endAtIssuer(returned) {
  const begun = JSON.parse(sessionStorage.getItem(BEGUN));
  sessionStorage.removeItem(BEGUN);
  // Somebody else's sign-in would make this browser act as them.
  if (begun === null || begun.state !== returned.get('state')) throw new Error('This sign-in was not begun in this window. Sign in again.');
  const named = returned.get('iss') ?? begun.issuer;
  if (named !== begun.issuer) throw new Error(`The answer is from another issuer, ${named}. Sign in again.`);
  if (returned.has('error')) throw new Error(`${begun.issuer} says: ${returned.get('error_description') ?? returned.get('error')}.`);
  const proof = { code: returned.get('code') ?? '', redirect_uri: begun.address, verifier: begun.verifier, nonce: begun.nonce };
  const answer = await write('POST', '/console/sign-in/end', proof, { deadlineMs: SLOW_MS });
  if (session?.account) await endKept();
  keepIssuer(answer, begun.issuer);
  return begun.back;
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
  await endKept(everywhere);
  keep(null);
}

/** Where the server keeps a cookie for whoever is signed in like this. */
function keeper(who) {
  return who?.account ? '/accounts' : who?.issuer ? '/console/sign-in' : null;
}

/** Whoever has a cookie is signed in no more: it would go on in this browser. A server that knows nothing of it has no sessions. */
async function endKept(everywhere = false) {
  const at = keeper(session);
  if (!at) return;
  await write('POST', `${at}/sign-out`, { everywhere }, { deadlineMs: SLOW_MS }).catch((problem) => {
    if (problem.status !== 404) throw problem;
  });
}

function keepAccount({ access_token: token, expires_in: seconds, user }) {
  keep({ token, subject: user.id, roles: user.roles, name: user.name, ...lasting(seconds, Date.now()), account: true });
}

/** The issuer has said the name when they signed in, and does not say it again. */
function keepIssuer({ access_token: token, expires_in: seconds, user }, issuer, known = null) {
  keep({ token, subject: user.id, roles: user.roles, name: user.name ?? known ?? user.id, ...lasting(seconds, Date.now()), issuer });
}

/** From now until a moment of the server's clock; NaN where there is none. */
function until(end) {
  return { since: Date.now(), until: Number.isFinite(end) ? end - serverNow() + Date.now() : null };
}

let timer = null;

/** One tab after the other, where the browser can: not every issuer takes a token that another tab has just used. */
function inTurn() {
  return navigator.locks ? navigator.locks.request(STORED, refresh) : refresh();
}

/** Replaces a token in time that has a cookie, and at once where one that was kept is over already. */
function plan(fresh) {
  clearTimeout(timer);
  if (keeper(session)) timer = setTimeout(inTurn, renewalMs(session, Date.now(), fresh));
}

async function refresh() {
  const before = session;
  // Another tab may have been first, and has told all of them.
  const stored = read();
  if (keeper(stored) && stored.token !== before?.token) {
    adopt(stored);
    return;
  }
  if (!keeper(before)) return;
  try {
    const answer = await write('POST', `${keeper(before)}/refresh`, {});
    if (session !== before) return;
    if (before.account) keepAccount(answer);
    else keepIssuer(answer, before.issuer, before.name);
  } catch (problem) {
    if (session !== before) return;
    if (problem.status === 401 || problem.status === 403 || problem.status === 404) keep(null);
    else timer = setTimeout(inTurn, RETRY_MS);
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
