// Rides › Operator: the city as it is now. Who is on duty where, where riders wait, what the prices do, which rides are under
// way, and who would like to drive.

import { get, serverNow, withQuery } from '../api.js';
import { h } from '../dom.js';
import { count, counted, percent } from '../format.js';
import { send } from '../intents.js';
import { badge, banner, button, choices, empty, heading, loading, moment, prose, section, table, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { money } from '../tickets/words.js';
import { CityMap } from './citymap.js';
import { distance } from './geo.js';
import { Growing } from './growing.js';
import { Glide, paintArea, paintAreaWords, paintCar, paintWaiting } from './paint.js';
import { trouble } from './trouble.js';
import { DRIVEN, UNDER_WAY, rideLink, shortId, surgeText } from './words.js';

const LIVE_MS = 2000;
const AREAS_MS = 5000;
const DRIVERS_MS = 5000;
/** Cars on the map; more of them would be a carpet. */
const CARS = 3000;
/** Rides of the last hour are listed. */
const SPAN_MS = 3_600_000;
const ROWS = 40;
/** How near a pointer must be to a car, pixels. */
const NEAR_PX = 14;

export function operator(page) {
  page.title('Rides');
  page.view = () => [heading({ title: 'Rides' }), signInFirst('operator', 'Only an operator sees where drivers are.')];
  if (signInFirst('operator', '')) return;
  const state = { rows: ROWS, problem: null, busy: new Set() };
  state.map = new CityMap(page, { label: 'Map of the city with drivers, areas and waiting riders.', paint: (pen, map, now) => paint(pen, map, state, now), hover: (x, y) => say(state, x, y) });
  state.glide = new Glide(state.map, LIVE_MS);
  const rides = new Growing('/rides', ({ ride_id: id }) => id, new Date(serverNow() - SPAN_MS).toISOString());
  const drivers = new Growing('/drivers', ({ id }) => id);
  const feeds = {
    live: page.feed((signal) => get(withQuery('/drivers/live', { limit: CARS }), signal), LIVE_MS),
    areas: page.feed((signal) => get('/areas', signal), AREAS_MS),
    rides: page.feed((signal) => rides.load(signal), LIVE_MS),
    drivers: page.feed((signal) => drivers.load(signal), DRIVERS_MS),
  };
  Object.assign(state, { feeds, taken: null, drivers, page });
  page.view = () => {
    if (feeds.live.data && state.taken !== feeds.live.data) {
      state.taken = feeds.live.data;
      state.glide.set(feeds.live.data.items.map((one) => [one.driver_id, one.place]));
    }
    state.map.draw();
    return [
      heading({ title: 'Rides' }),
      troubles(feeds.live, feeds.areas, feeds.rides, feeds.drivers),
      trouble(page, state),
      tiles(state),
      state.map.problem && banner({ tone: 'warn', title: 'There is no map', text: state.map.problem.message, code: state.map.problem, action: button('Try again', () => state.map.load(), { kind: 'small' }) }),
      h('div', { key: 'map', class: 'map citymap citymap-wide', ref: (host) => state.map.attach(host) }),
      legend(),
      lists(page, state),
    ];
  };
}

function tiles({ feeds }) {
  if (feeds.live.waiting && feeds.rides.waiting) return loading(1);
  const cars = feeds.live.data?.items ?? [];
  const free = cars.filter(({ duty }) => duty === 'free').length;
  const all = [...(feeds.rides.data?.values() ?? [])];
  const number = (...states) => all.filter(({ state }) => states.includes(state)).length;
  const done = number('completed');
  const lost = number('no_driver');
  const surge = Math.max(1, ...(feeds.areas.data ?? []).map((area) => area.surge));
  const tile = (name, value, under) => h('div', { class: 'tile', key: name }, h('dt', null, name), h('dd', null, value, under && h('p', { class: 'tile-under' }, under)));
  return h('dl', { class: 'tiles tiles-dense' },
    tile('Free drivers', count(free), cars.length >= CARS ? `of the first ${count(CARS)}` : `${count(cars.length)} on duty`),
    tile('Riders waiting', count(number('requested', 'offered')), `${count(number('offered'))} being offered`),
    tile('Under way', count(number('accepted', 'arrived', 'picked_up_rider')), `${count(number('picked_up_rider'))} on the trip`),
    tile('Done in an hour', count(done), done + lost > 0 ? `${percent(done / (done + lost))} matched` : null),
    tile('Highest surge', surgeText(surge) ?? 'none', null));
}

function legend() {
  return h('ul', { class: 'shapes', 'aria-label': 'Shapes on the map' },
    [['car-free', 'Free driver'], ['car-busy', 'Busy driver'], ['waiting', 'Rider waits'], ['area', 'Area'], ['surge', 'Area with surge']].map(([look, text]) =>
      h('li', { key: look }, h('span', { class: `shape map-${look}`, 'aria-hidden': 'true' }), text)));
}

function lists(page, state) {
  const waiting = toApprove(state);
  const shown = page.query.get('show') ?? 'rides';
  const views = { rides: ridesOf, drivers: driversOf, areas: areasOf };
  const words = [['rides', 'Rides'], ['drivers', waiting.length > 0 ? `Drivers, ${waiting.length} to approve` : 'Drivers'], ['areas', 'Areas']];
  return [
    h('div', { class: 'toolbar' }, choices('Show', words, shown, (value) => { state.rows = ROWS; page.choose('show', value === 'rides' ? null : value); })),
    (views[shown] ?? ridesOf)(page, state, waiting),
  ];
}

/* Rides */

const FILTERS = {
  active: ['Under way', ({ state }) => UNDER_WAY.has(state)],
  waiting: ['Waiting', ({ state }) => state === 'requested' || state === 'offered'],
  over: ['Over', ({ state }) => !UNDER_WAY.has(state) && state !== 'estimated' && state !== 'expired'],
  all: ['All', () => true],
};

function ridesOf(page, state) {
  const { rides } = state.feeds;
  if (rides.waiting) return loading(5);
  const name = page.query.get('rides') ?? 'active';
  const [, fits] = FILTERS[name] ?? FILTERS.active;
  const fitting = [...(rides.data?.values() ?? [])].filter(fits).reverse();
  return section('Rides of the last hour', [
    h('div', null, choices('Which rides', Object.entries(FILTERS).map(([value, [text]]) => [value, text]), name, (value) => { state.rows = ROWS; page.choose('rides', value === 'active' ? null : value); })),
    fitting.length === 0
      ? empty('No rides here', name === 'active' ? 'Nobody rides or waits at the moment.' : 'None of the last hour is like that.')
      : table({
        label: 'Rides',
        rows: fitting.slice(0, state.rows),
        key: ({ ride_id: id }) => id,
        columns: [
          { label: 'Ride', main: true, cell: (one) => h('a', { href: rideLink(one.ride_id) }, h('code', null, shortId(one.ride_id))) },
          { label: 'State', cell: (one) => badge(one.state) },
          { label: 'Requested', cell: (one) => moment(one.requested_at ?? one.created_at) },
          { label: 'Driver', cell: (one) => driverName(state, one.driver ?? one.offer?.driver) },
          { label: 'Way', numeric: true, cell: (one) => distance(one.distance_m) },
          { label: 'Price', numeric: true, cell: (one) => [money(one.price), one.surge > 1 && h('span', { class: 'muted' }, ` ${surgeText(one.surge)}`)] },
        ],
      }),
    more(page, state, fitting.length),
  ], { beside: h('span', { class: 'muted' }, counted(fitting.length, 'ride')) });
}

function more(page, state, total) {
  return total > state.rows && h('div', { class: 'more' }, button(`Show more (${count(total - state.rows)})`, () => { state.rows += 5 * ROWS; page.render(); }));
}

function driverName(state, id) {
  if (!id) return null;
  return state.drivers.items.get(id)?.profile?.name ?? h('code', null, shortId(id));
}

/* Drivers */

function toApprove({ drivers }) {
  return [...drivers.items.values()].filter((one) => one.profile && !one.approved);
}

function driversOf(page, state, waiting) {
  const { drivers } = state.feeds;
  if (drivers.waiting) return loading(5);
  const known = [...state.drivers.items.values()].filter(({ approved }) => approved).sort((a, b) => Number(b.on_duty) - Number(a.on_duty) || b.offered - a.offered);
  return [
    section('To approve', waiting.length === 0
      ? empty('Nobody waits', 'Who writes a profile appears here.')
      : h('ul', { class: 'approve-list' }, waiting.map((one) => h('li', { class: 'card', key: one.id },
        h('span', { class: 'plate' }, one.profile.plate),
        h('div', { class: 'approve-who' }, h('strong', { class: 'break' }, one.profile.name), h('span', { class: 'muted break' }, `${one.profile.vehicle}, ${counted(one.profile.seats, 'seat')}`)),
        button(state.busy.has(one.id) ? 'Approving…' : 'Approve', () => approve(page, state, one, true), { kind: 'primary', disabled: state.busy.has(one.id), label: `Approve ${one.profile.name}` }))))),
    section('Drivers', known.length === 0
      ? empty('No drivers yet', 'Approve the first one above.')
      : table({
        label: 'Drivers',
        rows: known.slice(0, state.rows),
        key: ({ id }) => id,
        columns: [
          { label: 'Driver', main: true, cell: (one) => [h('span', { class: 'strong break' }, one.profile?.name ?? shortId(one.id)), h('div', { class: 'muted break' }, one.profile?.vehicle)] },
          { label: 'Plate', cell: (one) => one.profile?.plate },
          { label: 'Shift', cell: (one) => badge(one.on_duty ? 'on_duty' : 'off_duty') },
          { label: 'Offers', numeric: true, cell: (one) => count(one.offered) },
          { label: 'Accepted', numeric: true, cell: (one) => (one.offered > 0 ? percent(one.accepted / one.offered) : null) },
          { label: '', cell: (one) => h('div', { class: 'actions' }, button('Withdraw', () => approve(page, state, one, false), { kind: 'small danger', disabled: state.busy.has(one.id), label: `Withdraw the approval of ${one.profile?.name ?? one.id}` })) },
        ],
      }), { beside: h('span', { class: 'muted' }, counted(known.length, 'driver')) }),
    more(page, state, known.length),
  ];
}

async function approve(page, state, one, approved) {
  state.busy.add(one.id);
  state.problem = null;
  page.render();
  try {
    state.drivers.take(await send(`/drivers/${encodeURIComponent(one.id)}/approval`, { approved }, { method: 'PUT' }));
  } catch (problem) {
    state.problem = problem;
  }
  state.busy.delete(one.id);
  page.render();
}

/* Areas */

function areasOf(page, { feeds: { areas }, map }) {
  if (areas.waiting) return loading(3);
  const sorted = [...(areas.data ?? [])].sort((a, b) => b.waiting - a.waiting || b.surge - a.surge || b.free - a.free);
  if (sorted.length === 0) return empty('No areas', 'An area is listed while somebody waits or drives there.');
  return section('Areas', table({
    label: 'Areas',
    rows: sorted,
    key: ({ id }) => id,
    columns: [
      { label: 'Area', main: true, cell: (one) => h('button', { type: 'button', class: 'plain', onclick: () => map.show(one.corners) }, h('code', null, one.id)) },
      { label: 'Waiting', numeric: true, cell: (one) => count(one.waiting) },
      { label: 'Free drivers', numeric: true, cell: (one) => count(one.free) },
      { label: 'Surge', numeric: true, cell: (one) => surgeText(one.surge) ?? 'none' },
    ],
  }), { note: prose('H3 cells of resolution 7, about 5 km² each. Riders wait in the line of theirs, and prices follow who waits and who is free.') });
}

/* The map */

function paint(pen, map, { feeds, glide, taken }, now) {
  const areas = feeds?.areas.data ?? [];
  for (const area of areas) paintArea(pen, map, area);
  const size = map.camera.scale > 0.5 ? 6 : map.camera.scale > 0.15 ? 5 : 4;
  const cars = taken?.items ?? [];
  // Busy ones above free ones: there are fewer of them.
  for (const duty of ['free', 'busy']) {
    for (const one of cars) if (one.duty === duty) paintCar(pen, map, glide.at(one.driver_id, now) ?? one.place, { heading: one.heading, duty, size });
  }
  for (const one of feeds?.rides.data?.values() ?? []) if (one.state === 'requested' || one.state === 'offered') paintWaiting(pen, map, one.pickup);
  for (const area of areas) paintAreaWords(pen, map, area);
}

function say(state, x, y) {
  const { map, feeds, glide, taken } = state;
  let best = null;
  let least = NEAR_PX;
  const look = (place, text) => {
    const [left, top] = map.at(place);
    const far = Math.hypot(left - x, top - y);
    if (far < least) [best, least] = [text, far];
  };
  const now = performance.now();
  for (const one of taken?.items ?? []) {
    look(glide.at(one.driver_id, now) ?? one.place, () => {
      const driver = state.drivers.items.get(one.driver_id);
      return `${driver?.profile ? `${driver.profile.name}, ${driver.profile.vehicle}` : shortId(one.driver_id)}: ${one.duty}`;
    });
  }
  for (const ride of feeds.rides.data?.values() ?? []) {
    if (UNDER_WAY.has(ride.state) && !DRIVEN.has(ride.state)) look(ride.pickup, () => `A rider waits (${shortId(ride.ride_id)})`);
  }
  return best?.() ?? null;
}
