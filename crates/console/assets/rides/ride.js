// Rides › Operator › one ride: where it is, and how it was matched, step by step.

import { get, path, serverNow } from '../api.js';
import { openDialog } from '../dialog.js';
import { h } from '../dom.js';
import { duration, stamp } from '../format.js';
import { icon } from '../icons.js';
import { send } from '../intents.js';
import { badge, banner, button, empty, facts, heading, isMissing, loading, section, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { money } from '../tickets/words.js';
import { CityMap } from './citymap.js';
import { decodeLine, distance } from './geo.js';
import { Growing } from './growing.js';
import { Glide, paintCar, paintPin, paintSteps, paintWay } from './paint.js';
import { Watch } from './watch.js';
import { CANCELLED_BY, DRIVEN, HAPPENED, UNDER_WAY, driverText, minutes, shortId, surgeText } from './words.js';

const RIDE_MS = 5000;
const DRIVERS_MS = 30_000;
const POSITION_MS = 2000;

export function ride(page) {
  const { id } = page.params;
  page.title('Ride');
  page.view = () => [heading({ title: 'Ride' }), signInFirst('operator', 'Only an operator sees everybody’s rides.')];
  if (signInFirst('operator', '')) return;
  const state = { eta: null, heading: null, shown: null, route: [], toPickup: [] };
  const drivers = new Growing('/drivers', (one) => one.id);
  const names = page.feed((signal) => drivers.load(signal), DRIVERS_MS);
  const feed = page.feed((signal) => get(path('rides', id), signal), (data) => (data && !UNDER_WAY.has(data.state) && data.state !== 'estimated' ? null : RIDE_MS));
  state.map = new CityMap(page, { label: 'Map of the ride.', paint: (pen, map, now) => paint(pen, map, feed.data, state, now) });
  state.glide = new Glide(state.map, POSITION_MS);
  let watch = null;
  page.tick(1000);
  page.view = () => {
    const { data } = feed;
    if (data && !watch && UNDER_WAY.has(data.state)) watch = follow(page, state, id, feed);
    if (data && state.shown !== data) look(state, data);
    state.map.draw();
    const crumbs = [['Rides', '#/rides/operator']];
    if (isMissing(feed)) return [heading({ title: 'No such ride', crumbs }), empty('There is no ride at this address', 'It may be of another server.')];
    return [
      heading({ title: `Ride ${shortId(id)}`, crumbs, beside: data && badge(data.state), actions: data && UNDER_WAY.has(data.state) && data.state !== 'picked_up_rider' && button('Cancel the ride', () => cancel(page, feed, id), { kind: 'danger' }) }),
      troubles(feed, names),
      feed.waiting && loading(4),
      data && [
        summary(data, state),
        h('div', { class: 'ride-grid' },
          h('div', { class: 'ride-panel' }, timeline(data, drivers.items)),
          h('div', { key: 'map', class: 'map citymap citymap-short', ref: (host) => state.map.attach(host) })),
      ],
    ];
  };
}

function follow(page, state, id, feed) {
  const watch = new Watch(page, path('rides', id, 'stream'), (name, data) => {
    if (name === 'ride') {
      feed.refresh();
      if (!UNDER_WAY.has(data.state)) watch.stop();
    }
    if (name === 'position') {
      Object.assign(state, { eta: data.eta_s, heading: data.heading });
      state.glide.set([['car', data.place]]);
    }
    page.render();
  });
  return watch;
}

function look(state, data) {
  const first = state.shown === null;
  Object.assign(state, { shown: data, toPickup: decodeLine(data.route_to_pickup) });
  if (!DRIVEN.has(data.state)) state.eta = null;
  if (!first) return;
  state.route = decodeLine(data.route);
  state.map.show([...state.route, ...state.toPickup]);
}

function summary(data, { eta }) {
  const { cancellation } = data;
  return [
    cancellation && banner({ tone: 'warn', title: `Cancelled by ${CANCELLED_BY[cancellation.by] ?? cancellation.by}${cancellation.reason ? `: ${cancellation.reason}` : ''}`, text: cancellation.fee.amount > 0 ? `A fee of ${money(cancellation.fee)} is due.` : 'Without a fee.' }),
    facts([
      ['Price', [money(data.price), surgeText(data.surge) && ` (${surgeText(data.surge)})`]],
      ['Trip', `${distance(data.distance_m)}, ${minutes(data.duration_s)}`],
      ['Driver', driverText(data.driver_profile)],
      eta !== null && [data.picked_up_at ? 'To the destination' : 'To the pickup', minutes(eta)],
      data.requested_at && data.accepted_at && ['Request to acceptance', duration((Date.parse(data.accepted_at) - Date.parse(data.requested_at)) / 1000)],
    ]),
  ];
}

/* How it was matched */

function timeline(data, drivers) {
  const began = Date.parse(data.requested_at ?? data.created_at);
  const name = (event) => drivers.get(event.offer?.driver)?.profile?.name ?? (event.offer ? `driver ${shortId(event.offer.driver)}` : 'a driver');
  const words = (event) => {
    // A driver who gives up gives the ride back to the line.
    if (event.kind === 'cancelled') return event.state === 'requested' ? ['history', 'warn', 'The driver gave the ride back'] : ['cross', 'bad', 'Cancelled'];
    const [shape, tone, say] = HAPPENED[event.kind] ?? ['ring', 'idle', () => event.kind];
    return [shape, tone, say(event, name(event))];
  };
  return section('What happened', h('ol', { class: 'timeline' }, data.history.map((event, index) => {
    const [shape, tone, text] = words(event);
    const since = (Date.parse(event.at) - began) / 1000;
    const before = index > 0 ? (Date.parse(event.at) - Date.parse(data.history[index - 1].at)) / 1000 : null;
    return h('li', { key: event.version },
      h('span', { class: `timeline-mark tone-${tone}` }, icon(shape)),
      h('div', null, h('p', { class: 'break' }, event.offer && event.kind === 'offered' && h('span', { class: 'offer-number' }, `${event.offer.number}`), text),
        h('p', { class: 'muted' }, h('time', { datetime: event.at, title: `${stamp(event.at, serverNow())} UTC` }, since === 0 ? `${stamp(event.at, serverNow())} UTC` : since > 0 ? `after ${seconds(since)}` : `${seconds(-since)} before the request`),
          before !== null && since > 0 && before < since && h('span', null, `, ${seconds(before)} after the last step`))));
  })), { note: 'Times count from the request. Hover or touch one for the moment itself.' });
}

const seconds = (value) => (value < 10 ? `${value.toFixed(1)} s` : duration(value));

function cancel(page, feed, id) {
  const form = { reason: '' };
  openDialog({
    title: 'Cancel this ride?',
    confirm: 'Cancel the ride',
    dismiss: 'Keep it',
    danger: true,
    check: () => null,
    submit: async () => {
      await send('/ride/cancel', { ride_id: id, reason: form.reason.trim() });
      feed.refresh();
    },
    view: () => [h('p', null, 'The rider pays nothing, and the driver is free again.'),
      h('div', { class: 'field' }, h('label', { for: 'reason' }, 'Why', h('small', null, ' the rider reads it')),
        h('input', { id: 'reason', maxlength: '200', autocomplete: 'off', oninput: (event) => { form.reason = event.target.value; } }))],
  });
}

function paint(pen, map, data, state, now) {
  if (!data) return;
  const onTrip = data.state === 'picked_up_rider' || data.state === 'completed';
  paintSteps(pen, map, data.pickup, state.route[0]);
  paintSteps(pen, map, data.destination, state.route[state.route.length - 1]);
  paintWay(pen, map, state.route, { dashed: !onTrip });
  if (data.state === 'accepted') paintWay(pen, map, state.toPickup, { ink: map.inks.way });
  paintPin(pen, map, data.pickup, 'A', map.inks.accent);
  paintPin(pen, map, data.destination, 'B', map.inks.ink);
  const car = DRIVEN.has(data.state) ? state.glide.at('car', now) : null;
  if (car) paintCar(pen, map, car, { heading: state.heading, duty: 'busy', size: 8, ring: true });
}
