// The time zones of venues, for lists that name venues only.

import { getAll } from '../../api.js';

/** `of(venueId)` is its time zone, once it is known. */
export function zonesOf(page) {
  const feed = page.feed((signal) => getAll('/organiser/venues', signal), 60_000);
  let zones = { of: null, by: new Map() };
  return {
    of(id) {
      if (zones.of !== feed.data) zones = { of: feed.data, by: new Map((feed.data?.items ?? []).map((venue) => [venue.id, venue.timezone])) };
      return zones.by.get(id);
    },
  };
}
