// Tickets › Events: search as you type, filters, and the events that fit.

import { get, serverNow, withQuery } from '../api.js';
import { h } from '../dom.js';
import { count, counted } from '../format.js';
import { icon } from '../icons.js';
import { Pages } from '../live.js';
import { badge, button, choices, empty, heading, loading, morePages, toast, troubles } from '../parts.js';
import { eventLink } from './event.js';
import { clockTime, kindName, leaf, money } from './words.js';

const TYPING_MS = 150;
const PER_PAGE = 24;
const FRESH_MS = 15_000;
const NEAR_KM = 50;
const MONTHS_SHOWN = 6;
const SORTS = [['relevance', 'Best match'], ['date', 'Date'], ['price', 'Price'], ['distance', 'Distance']];
const DATES = [['', 'Any day'], ['today', 'Today'], ['weekend', 'Weekend']];
/** What narrows the search, as named in the address. */
const FILTERS = ['city', 'near', 'type', 'date', 'from', 'to', 'price_max', 'available'];

export function search(page) {
  page.title('Events');
  const state = { asked: null, timer: null, open: false, list: null };
  const load = (signal) => {
    state.asked = page.query.toString();
    return get(withQuery('/search', question(page.query)), signal);
  };
  const feed = page.feed(load, FRESH_MS);
  const newList = () => new Pages(feed, ({ id }) => id, (cursor) => get(withQuery('/search', { ...question(page.query), cursor })), () => page.render());
  state.list = newList();
  const change = (name, value) => {
    page.choose(name, value);
    state.list = newList();
    clearTimeout(state.timer);
    state.timer = setTimeout(() => feed.refresh(), TYPING_MS);
  };
  page.closing(() => clearTimeout(state.timer));

  page.view = () => {
    // A link or the back button has changed the address.
    if (state.asked !== null && state.asked !== page.query.toString() && state.timer === null) {
      state.list = newList();
      feed.refresh();
    }
    state.timer = null;
    return [
      heading({ title: 'Events', under: feed.data && found(feed.data) }),
      searchBar(page, change, state),
      filters(page, feed.data, change, state),
      notServed(feed) ?? troubles(feed),
      feed.waiting && loading(5),
      feed.data && results(page, state.list),
    ];
  };
}

function question(query) {
  const near = query.get('near')?.split(',');
  const located = near?.length === 2;
  const price = Number((query.get('price_max') ?? '').replace(',', '.'));
  return {
    term: query.get('term'),
    location: located ? null : query.get('city'),
    lat: located ? near[0] : null,
    lng: located ? near[1] : null,
    radius_km: located ? NEAR_KM : null,
    type: query.get('type'),
    date: query.get('date'),
    from: query.get('date') ? null : query.get('from'),
    to: query.get('date') ? null : query.get('to'),
    tz: query.get('date') ? Intl.DateTimeFormat().resolvedOptions().timeZone : null,
    price_max: Number.isFinite(price) && price > 0 ? Math.round(price * 100) : null,
    available: query.get('available'),
    sort: query.get('sort') ?? (query.get('term') ? null : 'date'),
    limit: PER_PAGE,
  };
}

/** How many, and how far the words had to be bent to find them. */
function found({ total, matched }) {
  if (total === 0) return 'Nothing fits';
  const how = { typos: ', with other spellings', any_word: ', none with all the words' }[matched] ?? '';
  return `${counted(total, 'event')}${how}`;
}

function notServed(feed) {
  if (feed.data !== null || feed.problem?.status !== 404) return null;
  return empty('Tickets does not answer here', `No tickets API behind ${location.host}. Start one with \`tessera up\`, or open the console through the gateway that knows it.`);
}

function searchBar(page, change, state) {
  const chosen = FILTERS.filter((name) => page.query.get(name)).length;
  return h('div', { class: 'search-bar' },
    h('label', { class: 'big-search' }, icon('search'), h('span', { class: 'hidden' }, 'Search events'),
      h('input', { type: 'search', placeholder: 'Event, team, artist, venue…', autocomplete: 'off', value: page.query.get('term') ?? '', oninput: (event) => change('term', event.target.value) })),
    h('button', { type: 'button', class: 'button filters-button', 'aria-expanded': String(state.open), onclick: () => { state.open = !state.open; page.render(); } }, chosen ? `Filters (${chosen})` : 'Filters'));
}

function filters(page, data, change, state) {
  const value = (name) => page.query.get(name) ?? '';
  const kinds = facet(data?.facets?.kind, value('type'));
  const cities = facet(data?.facets?.city, value('city'));
  const clearing = FILTERS.some(value);
  const dates = value('date') || value('from') || value('to') ? value('date') || 'range' : '';
  return h('section', { class: state.open ? 'filters filters-open' : 'filters', 'aria-label': 'Filters' },
    h('div', { class: 'filter-row' },
      kinds.length > 0 && choices('Type', [['', 'All'], ...kinds.map((one) => [one.value, `${kindName(one.value)}${one.count === null ? '' : ` ${count(one.count)}`}`])], value('type'), (kind) => change('type', kind)),
      choices('When', DATES, dates === 'range' ? null : dates, (date) => { page.query.delete('from'); page.query.delete('to'); change('date', date); }),
      navigator.geolocation && window.isSecureContext && button('Near me', () => nearMe(change, page), { shape: 'pin', kind: value('near') ? 'small chosen' : 'small' })),
    h('div', { class: 'filter-row' },
      h('label', { class: 'field' }, h('span', null, 'City'), h('select', { onchange: (event) => { page.query.delete('near'); change('city', event.target.value); } },
        h('option', { value: '', selected: !value('city') }, value('near') ? 'Near me' : 'Anywhere'),
        cities.map((one) => h('option', { key: one.value, value: one.value, selected: value('city') === one.value }, one.count === null ? one.value : `${one.value} (${count(one.count)})`)))),
      dateField('From', value('from'), (date) => { page.query.delete('date'); change('from', date); }),
      dateField('To', value('to'), (date) => { page.query.delete('date'); change('to', date); }),
      h('label', { class: 'field field-short' }, h('span', null, 'Price up to'), h('input', { inputmode: 'decimal', placeholder: 'any', value: value('price_max'), oninput: (event) => change('price_max', event.target.value) })),
      h('label', { class: 'field' }, h('span', null, 'Sort by'), h('select', { onchange: (event) => change('sort', event.target.value) },
        SORTS.filter(([sort]) => sort !== 'distance' || value('near')).map(([sort, text]) => h('option', { key: sort, value: sort, selected: (value('sort') || (value('term') ? 'relevance' : 'date')) === sort }, text)))),
      h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: value('available') === 'true', onchange: (event) => change('available', event.target.checked ? 'true' : null) }), h('span', null, 'Only available')),
      clearing && button('Clear filters', () => { FILTERS.forEach((name) => page.query.delete(name)); change('sort', null); }, { kind: 'small' })),
    months(page, data, change));
}

function dateField(text, value, changed) {
  return h('label', { class: 'field' }, h('span', null, text), h('input', { type: 'date', value, onchange: (event) => changed(event.target.value) }));
}

/** A facet's values; one that is chosen stays even when nothing fits it any more. */
function facet(values, chosen) {
  const known = (values ?? []).map((one) => ({ ...one }));
  if (chosen && !known.some(({ value }) => value === chosen)) known.unshift({ value: chosen, count: null });
  return known;
}

function months(page, data, change) {
  const list = data?.facets?.month ?? [];
  if (list.length < 2) return null;
  return h('div', { class: 'pills', role: 'group', 'aria-label': 'Months' }, h('ul', null, list.slice(0, MONTHS_SHOWN).map(({ value, count: events }) => {
    const [from, to] = monthRange(value);
    const on = page.query.get('from') === from && page.query.get('to') === to;
    return h('li', { key: value }, h('button', {
      type: 'button', class: 'pill', 'aria-pressed': String(on),
      onclick: () => { page.query.delete('date'); if (on) page.query.delete('to'); else page.query.set('to', to); change('from', on ? null : from); },
    }, monthName(value), h('span', { class: 'muted' }, count(events))));
  })));
}

function monthRange(month) {
  const [year, number] = month.split('-').map(Number);
  const last = new Date(Date.UTC(year, number, 0)).getUTCDate();
  return [`${month}-01`, `${month}-${String(last).padStart(2, '0')}`];
}

function monthName(month) {
  const parts = leaf(`${month}-15T12:00:00Z`, 'UTC');
  return `${parts.month} ${parts.year}`;
}

function nearMe(change, page) {
  navigator.geolocation.getCurrentPosition(
    ({ coords }) => { page.query.delete('city'); page.query.set('sort', 'distance'); change('near', `${coords.latitude.toFixed(3)},${coords.longitude.toFixed(3)}`); },
    () => toast('Your browser does not say where you are. Choose a city instead.'),
  );
}

function results(page, list) {
  if (list.items.length === 0) return empty('No event fits', 'Try fewer words, another spelling, or fewer filters.');
  return [
    h('ul', { class: 'event-cards' }, list.items.map((one) => h('li', { key: one.id }, eventCard(one)))),
    morePages(list, 'Show more'),
  ];
}

/** On a leaf the year takes the weekday's place when it is not this one. */
export function thisYear({ year }) {
  return year === String(new Date(serverNow()).getUTCFullYear());
}

export function eventCard(one) {
  const day = leaf(one.starts_at, one.venue.timezone);
  const performers = one.performers.filter((name) => !one.name.includes(name));
  return h('a', { class: 'event-card', href: eventLink(one.id) },
    h('span', { class: 'leaf', 'aria-hidden': 'true' }, h('span', null, day.month), h('strong', null, day.day), h('small', null, thisYear(day) ? day.weekday : day.year)),
    h('span', { class: 'event-text' },
      h('span', { class: 'event-name break' }, one.name),
      performers.length > 0 && h('span', { class: 'muted break' }, performers.join(', ')),
      h('span', { class: 'muted break' }, `${one.venue.name}, ${one.venue.city}`, one.distance_km !== null && one.distance_km !== undefined && ` · ${count(one.distance_km)} km`),
      h('span', { class: 'event-foot' },
        h('span', { class: 'muted' }, h('span', { class: 'hidden' }, `${day.weekday} ${day.day} ${day.month} ${day.year}, `), clockTime(one.starts_at, one.venue.timezone)),
        one.available ? one.price_from && h('span', { class: 'event-price' }, h('small', null, 'from '), money(one.price_from)) : badge('sold_out'))));
}
