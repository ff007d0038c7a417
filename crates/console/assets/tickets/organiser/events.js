// Tickets › Organiser: the events that this organiser has made, and how they stand.

import { getAll, path, serverNow } from '../../api.js';
import { h } from '../../dom.js';
import { count } from '../../format.js';
import { button, choices, empty, heading, loading, table, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { eventBadge } from '../event.js';
import { money, when } from '../words.js';
import { zonesOf } from './zones.js';

const SHOWN_AT_ONCE = 50;
const FRESH_MS = 10_000;

export const manageLink = (id, ...rest) => `#${path('tickets', 'organiser', 'events', id, ...rest)}`;

/** The same on every page of an organiser. */
export function organiserTabs(here) {
  const tabs = [['events', 'Events', '#/tickets/organiser'], ['venues', 'Venues', '#/tickets/organiser/venues'], ['plans', 'Seat plans', '#/tickets/organiser/plans']];
  return h('nav', { class: 'tabs', 'aria-label': 'Organiser' }, h('ul', null, tabs.map(([name, text, href]) =>
    h('li', { key: name }, h('a', { href, 'aria-current': name === here ? 'page' : undefined }, text)))));
}

export function organiser(page) {
  page.title('Organiser');
  page.view = () => [heading({ title: 'Organiser' }), signInFirst('organiser', 'Events belong to somebody: sign in to see yours.')];
  if (signInFirst('organiser', '')) return;
  // How many there are of each kind is only known of all.
  const list = page.feed((signal) => getAll('/organiser/events', signal), FRESH_MS);
  const zones = zonesOf(page);
  const state = { shown: SHOWN_AT_ONCE };
  page.view = () => [
    heading({ title: 'Organiser', actions: h('a', { class: 'button primary', href: '#/tickets/organiser/new' }, 'New event') }),
    organiserTabs('events'),
    troubles(list),
    list.waiting && loading(5),
    list.data && (list.data.items.length === 0
      ? empty('No events yet', 'An event needs a venue, and a seat plan or areas of general admission. Then set prices and publish it.', h('a', { class: 'button primary', href: '#/tickets/organiser/new' }, 'New event'))
      : listed(page, state, list.data, zones)),
  ];
}

function listed(page, state, { items, next_cursor: more }, zones) {
  const rows = chosen(page, items);
  return [
    toolbar(page, state, items),
    eventTable(rows.slice(0, state.shown), zones),
    rows.length > state.shown && h('div', { class: 'more' }, button(`Show more: ${count(rows.length - state.shown)} are left`, () => { state.shown += SHOWN_AT_ONCE; page.render(); })),
    more !== null && h('p', { class: 'muted' }, `These are the first ${count(items.length)}. The API lists them all: GET /organiser/events.`),
  ];
}

const SHOWN = {
  coming: ['Coming', ({ status, starts_at: at }) => status !== 'cancelled' && Date.parse(at) > serverNow()],
  draft: ['Drafts', ({ status }) => status === 'draft'],
  all: ['All', () => true],
};

function kind(page) {
  const name = page.query.get('show') ?? '';
  return Object.hasOwn(SHOWN, name) ? name : 'coming';
}

function chosen(page, items) {
  const words = (page.query.get('find') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
  const found = ({ name, venue }) => {
    const text = `${name} ${venue?.name ?? ''} ${venue?.city ?? ''}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return items.filter((one) => SHOWN[kind(page)][1](one) && found(one)).sort((a, b) => Date.parse(a.starts_at) - Date.parse(b.starts_at));
}

function toolbar(page, state, items) {
  const choose = (name, value) => { state.shown = SHOWN_AT_ONCE; page.choose(name, value); };
  return h('div', { class: 'toolbar' },
    choices('Show', Object.entries(SHOWN).map(([name, [text, wanted]]) => [name, `${text} ${count(items.filter(wanted).length)}`]), kind(page), (name) => choose('show', name === 'coming' ? null : name)),
    h('input', { type: 'search', class: 'find', 'aria-label': 'Find an event', placeholder: 'Find by name or venue', autocomplete: 'off', value: page.query.get('find') ?? '', oninput: (event) => choose('find', event.target.value) }));
}

function eventTable(rows, zones) {
  if (rows.length === 0) return empty('None of these', 'Choose “All” above to see every event, or look for other words.');
  return table({
    label: 'Events',
    rows,
    key: ({ id }) => id,
    columns: [
      { label: 'Event', main: true, cell: (one) => [h('a', { class: 'break strong', href: manageLink(one.id) }, one.name), h('div', { class: 'muted break' }, [one.venue?.name, one.venue?.city].filter(Boolean).join(', '))] },
      { label: 'Starts', cell: (one) => h('span', { class: 'nowrap' }, when(one.starts_at, zones.of(one.venue?.id)), zones.of(one.venue?.id) ? null : ' UTC') },
      { label: 'State', cell: (one) => eventBadge(one) },
      { label: 'Tickets', numeric: true, cell: (one) => count(one.tickets) },
      { label: 'Prices', numeric: true, cell: (one) => prices(one) },
    ],
  });
}

function prices({ price_from: from, price_to: to }) {
  if (!from) return null;
  return from.amount === to?.amount ? money(from) : `${money(from)} to ${money(to)}`;
}
