// Who this browser is signed in as. The token is kept in this browser only; the server verifies it with every request.

import { newKey, signAs, write } from './api.js';

const STORED = 'tessera.session';

let session = read();
const listeners = new Set();
signAs(session?.token ?? null);

/** `{token, subject, roles, name, expires_at}`, or null when nobody is signed in or the time is up. */
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

export function signOut() {
  keep(null);
}

function keep(next) {
  session = next;
  signAs(next?.token ?? null);
  try {
    if (next) localStorage.setItem(STORED, JSON.stringify(next));
    else localStorage.removeItem(STORED);
  } catch {
    // A browser that stores nothing keeps the session until the page is left.
  }
  for (const listener of listeners) listener();
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
