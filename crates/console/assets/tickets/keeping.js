// What this browser tab remembers between pages: the hold of an event, the place in its waiting room, the admission, the
// order that is being paid.

const PREFIX = 'tessera.tickets';

function name(sort, of) {
  return `${PREFIX}.${sort}.${of}`;
}

/** Sorts: `hold` (a hold's id), `place` (a waiting-room token), `admission` (`{token, expires_at}`), each of an event; `order`
 * (the id of an order under way), of a hold. */
export function recall(sort, of) {
  try {
    return JSON.parse(sessionStorage.getItem(name(sort, of)));
  } catch {
    return null;
  }
}

/** Forgets when `value` is null. A browser that stores nothing remembers until the page is left. */
export function remember(sort, of, value) {
  try {
    if (value === null) sessionStorage.removeItem(name(sort, of));
    else sessionStorage.setItem(name(sort, of), JSON.stringify(value));
  } catch {
    // Nothing to do: the page works on, and forgets on reload.
  }
}

/** The admission that still counts, or null. */
export function admission(event, nowMs) {
  const kept = recall('admission', event);
  if (!kept) return null;
  return kept.expires_at && Date.parse(kept.expires_at) <= nowMs ? null : kept;
}
