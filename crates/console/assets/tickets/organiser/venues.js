// Tickets › Organiser › Venues: the places where events happen.

import { getAll } from '../../api.js';
import { h } from '../../dom.js';
import { openDialog } from '../../dialog.js';
import { send } from '../../intents.js';
import { button, empty, heading, loading, table, toast, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { organiserTabs } from './events.js';
import { text } from './fields.js';

export function venueFeed(page) {
  return page.feed((signal) => getAll('/organiser/venues', signal), 15_000);
}

export function venues(page) {
  page.title('Venues');
  page.view = () => [heading({ title: 'Organiser' }), signInFirst('organiser', 'Venues belong to somebody: sign in to see yours.')];
  if (signInFirst('organiser', '')) return;
  const feed = venueFeed(page);
  page.view = () => [
    heading({ title: 'Organiser', actions: button('New venue', () => venueDialog(() => feed.refresh()), { kind: 'primary' }) }),
    organiserTabs('venues'),
    troubles(feed),
    feed.waiting && loading(3),
    feed.data && (feed.data.items.length === 0
      ? empty('No venues yet', 'A venue has a name, an address and a time zone.', button('New venue', () => venueDialog(() => feed.refresh()), { kind: 'primary' }))
      : venueTable(feed.data.items)),
  ];
}

function venueTable(rows) {
  return table({
    label: 'Venues',
    rows,
    key: ({ id }) => id,
    columns: [
      { label: 'Venue', main: true, cell: (one) => h('span', { class: 'break strong' }, one.name) },
      { label: 'City', cell: (one) => [one.city, one.country].filter(Boolean).join(', ') },
      { label: 'Address', cell: (one) => one.address ?? '' },
      { label: 'Time zone', cell: (one) => one.timezone },
    ],
  });
}

/** Asks for a venue; `made(venue)` when the server has it. */
export function venueDialog(made) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC';
  const form = { name: '', city: '', country: '', address: '', timezone: zone, lat: '', lng: '' };
  const coordinate = (value, most) => value === '' || (Number.isFinite(Number(value)) && Math.abs(Number(value)) <= most);
  openDialog({
    title: 'New venue',
    confirm: 'Create venue',
    check: () => {
      if (!form.name.trim() || !form.city.trim()) return 'A venue has a name and a city.';
      if (!/^[A-Za-z]{2}$/.test(form.country.trim())) return 'The country is its code of two letters, such as PT.';
      if ((form.lat === '') !== (form.lng === '') || !coordinate(form.lat, 90) || !coordinate(form.lng, 180)) return 'Latitude is -90 to 90 and longitude -180 to 180; give both or neither.';
      return null;
    },
    submit: async () => {
      const body = { name: form.name.trim(), city: form.city.trim(), country: form.country.trim().toUpperCase(), address: form.address.trim(), timezone: form.timezone.trim() };
      if (form.lat !== '') Object.assign(body, { lat: Number(form.lat), lng: Number(form.lng) });
      const venue = await send('/organiser/venues', body);
      toast(`${venue.name} is there.`);
      made(venue);
    },
    view: (redraw) => {
      const page = { render: redraw };
      return h('div', { class: 'fields' },
        text(page, form, 'name', 'Name', { maxlength: '200' }), text(page, form, 'city', 'City'), text(page, form, 'country', 'Country', { maxlength: '2', placeholder: 'PT' }),
        text(page, form, 'address', 'Address', { note: 'optional' }), text(page, form, 'timezone', 'Time zone', { placeholder: 'Europe/Lisbon' }),
        text(page, form, 'lat', 'Latitude', { note: 'optional', inputmode: 'decimal' }), text(page, form, 'lng', 'Longitude', { note: 'optional', inputmode: 'decimal' }));
    },
  });
}
