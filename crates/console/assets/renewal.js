// When the token of an account is replaced: in time, and never in a storm, whatever the clocks of this browser and of the server say. All
// times are of this browser's clock, in milliseconds.

/** How long before its end a token is replaced, where it lasts long enough. */
const AHEAD_MS = 60_000;
/** The least time between two: a token that lasts for less is over for a while. */
const LEAST_MS = 5_000;
/** The longest that a timer takes. */
const LONGEST_MS = 2 ** 31 - 1;

/** From when to when a token holds that was had now and lasts so many seconds. */
export function lasting(seconds, now) {
  return { since: now, until: now + seconds * 1000 };
}

/** How long to wait before it is replaced; `fresh` where it has just been had. A clock that was set back since then knows nothing. */
export function renewalMs({ since, until }, now, fresh) {
  const lasts = Math.max(until - since, 0);
  const left = now < since ? 0 : until - Math.min(AHEAD_MS, lasts / 2) - now;
  return Math.min(Math.max(left, fresh ? LEAST_MS : 0), LONGEST_MS);
}
