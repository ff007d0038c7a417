// The time zones of venues, for lists that name venues only.

import { get, withQuery } from '../../api.js';

const MOST = 100;

/** `of(venueId)` is its time zone, once it is known. */
export function zonesOf(page) {
  const feed = page.feed((signal) => get(withQuery('/organiser/venues', { limit: MOST }), signal), 60_000);
  return { of: (id) => feed.data?.items.find((venue) => venue.id === id)?.timezone };
}
