// Tickets › Organiser: the events that this organiser has made, and how they stand.

import { get, path, serverNow, withQuery } from '../../api.js';
import { h } from '../../dom.js';
import { count } from '../../format.js';
import { Pages } from '../../live.js';
import { choices, empty, heading, loading, morePages, table, troubles } from '../../parts.js';
import { signInFirst } from '../../pages/sign-in.js';
import { eventBadge } from '../event.js';
import { money, when } from '../words.js';
import { zonesOf } from './zones.js';

const PER_PAGE = 50;
const FRESH_MS = 4000;

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
  const load = (cursor, signal) => get(withQuery('/organiser/events', { limit: PER_PAGE, cursor }), signal);
  const first = page.feed((signal) => load(null, signal), FRESH_MS);
  const zones = zonesOf(page);
  const list = new Pages(first, ({ id }) => id, (cursor) => load(cursor), () => page.render());
  page.view = () => [
    heading({ title: 'Organiser', actions: h('a', { class: 'button primary', href: '#/tickets/organiser/new' }, 'New event') }),
    organiserTabs('events'),
    troubles(first),
    first.waiting && loading(5),
    first.data && (list.items.length === 0
      ? empty('No events yet', 'An event needs a venue, and a seat plan or areas of general admission. Then set prices and publish it.', h('a', { class: 'button primary', href: '#/tickets/organiser/new' }, 'New event'))
      : [toolbar(page, list.items), eventTable(chosen(page, list.items), zones), morePages(list)]),
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
  return items.filter(SHOWN[kind(page)][1]).sort((a, b) => Date.parse(a.starts_at) - Date.parse(b.starts_at));
}

function toolbar(page, items) {
  return h('div', { class: 'toolbar' }, choices('Show', Object.entries(SHOWN).map(([name, [text, wanted]]) => [name, `${text} ${items.filter(wanted).length}`]), kind(page),
    (name) => page.choose('show', name === 'coming' ? null : name)));
}

function eventTable(rows, zones) {
  if (rows.length === 0) return empty('None of these', 'Choose “All” above to see every event.');
  return table({
    label: 'Events',
    rows,
    key: ({ id }) => id,
    columns: [
      { label: 'Event', main: true, cell: (one) => [h('a', { class: 'break strong', href: manageLink(one.id) }, one.name), h('div', { class: 'muted break' }, [one.venue?.name, one.venue?.city].filter(Boolean).join(', '))] },
      { label: 'Starts', cell: (one) => h('span', { class: 'nowrap' }, when(one.starts_at, zones.of(one.venue?.id))) },
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
