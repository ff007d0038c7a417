// Rides › Ride: from where to where, what it costs, and then the car that comes.

import { get, getAll, path, serverNow, withQuery } from '../api.js';
import { openDialog } from '../dialog.js';
import { h } from '../dom.js';
import { send } from '../intents.js';
import { badge, banner, button, empty, facts, heading, moment, section } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { countdown, money } from '../tickets/words.js';
import { CityMap } from './citymap.js';
import { decodeLine, distance, parsePlace, placeText } from './geo.js';
import { Glide, paintCar, paintPin, paintSteps, paintWay } from './paint.js';
import { trouble } from './trouble.js';
import { Watch } from './watch.js';
import { CANCELLED_BY, DRIVEN, UNDER_WAY, minutes, surgeText } from './words.js';

/** Rides that are looked through for one under way, and shown as the last ones. */
const RECENT_MS = 7 * 86_400_000;
const RECENT_SHOWN = 5;
/** How often a position comes over the stream. */
const POSITION_MS = 2000;
const LOCATE_MS = 10_000;

export function rider(page) {
  page.title('Ride');
  page.view = () => [heading({ title: 'Ride' }), signInFirst('rider', 'A ride belongs to somebody.')];
  if (signInFirst('rider', '')) return;
  const state = {
    from: null, to: null, setting: 'from', texts: { from: '', to: '' }, estimate: null, fresh: false, ride: null, detail: null, eta: null, heading: null,
    busy: null, problem: null, watch: null, recent: null, resuming: true,
  };
  state.map = new CityMap(page, { label: 'Map of the city.', paint: (pen, map, now) => paint(pen, map, state, now), tap: (place) => pick(page, state, place) });
  state.glide = new Glide(state.map, POSITION_MS);
  page.tick(1000);
  resume(page, state);
  page.view = () => {
    state.map.draw();
    return [
      heading({ title: 'Ride', beside: state.ride && badge(state.ride.state) }),
      h('div', { class: 'ride-grid' },
        h('div', { class: 'ride-panel', role: 'region', 'aria-label': 'Your ride' }, panel(page, state)),
        h('div', { key: 'map', class: 'map citymap', ref: (host) => state.map.attach(host) })),
      recent(state),
    ];
  };
}

function panel(page, state) {
  return [
    state.map.problem && banner({ tone: 'warn', title: 'There is no map', text: state.map.problem.message, code: state.map.problem, action: button('Try again', () => state.map.load(), { kind: 'small' }) }),
    trouble(page, state),
    state.watch?.status === 'behind' && h('p', { class: 'light light-down', role: 'status' }, 'Reconnecting…'),
    state.ride ? (UNDER_WAY.has(state.ride.state) ? underWay(page, state) : over(page, state))
      : state.estimate ? offer(page, state) : choosing(page, state),
  ];
}

/* Where from, where to */

function choosing(page, state) {
  return h('form', {
    class: 'card stack-small',
    onsubmit: (event) => {
      event.preventDefault();
      if (state.from && state.to) estimate(page, state);
    },
  },
  h('h2', null, state.from ? 'Where to?' : 'Where are you?'),
  h('p', { class: 'muted' }, state.map.problem ? 'Write latitude and longitude.' : 'Tap the map, or move it with the arrow keys and press Enter. You can also write latitude and longitude.'),
  [['from', 'From', 'A'], ['to', 'To', 'B']].map(([name, text, letter]) => h('div', { class: `place-field ${state.setting === name ? 'place-setting' : ''}`, key: name },
    h('span', { class: `pin pin-${name}`, 'aria-hidden': 'true' }, letter),
    h('label', { class: 'field' }, h('span', null, text),
      h('input', {
        name, value: state.texts[name], placeholder: '41.14960, -8.61100', autocomplete: 'off', inputmode: 'text',
        // Not on focus: who passes by with the keyboard has chosen nothing.
        onclick: () => { state.setting = name; page.render(); },
        oninput: (event) => {
          state.texts[name] = event.target.value;
          state[name] = parsePlace(event.target.value);
          state.setting = state.from ? 'to' : 'from';
          page.render();
        },
      })))),
  ['from', 'to'].map((name) => state.texts[name] && !state[name] && h('p', { class: 'field-error', key: name, role: 'alert' }, `“${state.texts[name]}” is no place: write it as 41.14960, -8.61100.`)),
  h('div', { class: 'actions' },
    h('button', { type: 'submit', class: 'button primary', disabled: !state.from || !state.to || state.busy !== null }, state.busy === 'estimate' ? 'Asking…' : 'See the price'),
    navigator.geolocation && button(state.busy === 'locate' ? 'Looking…' : 'I am here', () => locate(page, state), { shape: 'pin', disabled: state.busy !== null, label: 'Take my own position as the start' })));
}

function pick(page, state, place) {
  if (state.ride || state.estimate) return;
  put(state, state.setting, place);
  if (state.from && state.to) estimate(page, state);
  else state.setting = state.from ? 'to' : 'from';
  page.render();
}

function put(state, name, place) {
  state[name] = place;
  state.texts[name] = placeText(place);
}

function locate(page, state) {
  state.busy = 'locate';
  page.render();
  const done = (act) => (answer) => {
    state.busy = null;
    act(answer);
    page.render();
  };
  navigator.geolocation.getCurrentPosition(
    done(({ coords }) => { put(state, 'from', { lat: coords.latitude, lng: coords.longitude }); state.setting = 'to'; state.map.show([state.from]); }),
    done(({ message }) => { state.problem = { title: 'Your position is not known', message: `${message || 'The browser does not say where it is'}. Tap the map instead.` }; }),
    { timeout: LOCATE_MS },
  );
}

/* The price */

async function estimate(page, state) {
  await act(page, state, 'estimate', async () => {
    state.estimate = await send('/fare-estimate', { pickup: state.from, destination: state.to });
    state.fresh = false;
    showAll(state);
  });
}

function offer(page, state) {
  const { estimate: known } = state;
  const left = Date.parse(known.expires_at) - serverNow();
  const surge = surgeText(known.surge);
  return h('div', { class: 'card stack-small' },
    state.fresh && banner({ tone: 'warn', title: 'The price had expired', text: 'This is a fresh one.' }),
    h('div', { class: 'section-head' }, h('h2', null, 'Your ride'), surge && h('span', { class: 'surge', title: 'Many want to ride here now' }, `${surge} demand`)),
    h('p', { class: 'price' }, money(known.estimated_price)),
    facts([
      ['Pickup in', known.estimated_pickup_time === null ? 'Nobody is near now' : minutes(known.estimated_pickup_time)],
      ['Trip', `${minutes(known.duration_s)}, ${distance(known.distance_m)}`],
      ['Price holds', left > 0 ? countdown(left) : 'No longer'],
    ]),
    h('div', { class: 'actions' },
      left > 0
        ? button(state.busy === 'request' ? 'Requesting…' : 'Request this ride', () => request(page, state), { kind: 'primary large', disabled: state.busy !== null, name: 'request' })
        : button('Get a fresh price', () => estimate(page, state), { kind: 'primary large', disabled: state.busy !== null }),
      button('Change', () => { state.estimate = null; state.setting = 'to'; page.render(); }, { disabled: state.busy !== null })));
}

async function request(page, state) {
  await act(page, state, 'request', async () => {
    try {
      follow(page, state, await send('/ride/request', { ride_id: state.estimate.ride_id }, { method: 'PATCH' }));
    } catch (problem) {
      const fresh = problem.code === 'rides.estimate_expired' ? problem.members.estimate : null;
      if (!fresh) throw problem;
      Object.assign(state, { estimate: fresh, fresh: true });
    }
  });
}

/* The ride */

/** Shows a ride, and keeps it up to date until it is over. */
function follow(page, state, ride) {
  state.watch?.stop();
  Object.assign(state, { ride, estimate: null, detail: null, eta: null, from: ride.pickup, to: ride.destination });
  showAll(state);
  if (DRIVEN.has(ride.state)) details(page, state);
  state.watch = new Watch(page, path('rides', ride.ride_id, 'stream'), (name, data) => {
    if (name === 'ride') take(page, state, data);
    if (name === 'position') {
      Object.assign(state, { eta: data.eta_s, heading: data.heading });
      state.glide.set([['car', data.place]]);
    }
    page.render();
  });
}

function take(page, state, ride) {
  const before = state.ride;
  if (ride.version < before.version) return;
  state.ride = ride;
  if (!DRIVEN.has(ride.state)) {
    Object.assign(state, { detail: null, eta: null });
    state.glide.set([]);
  } else if (ride.driver !== before.driver || ride.state !== before.state) {
    details(page, state);
  }
  if (ride.state !== before.state && (ride.state === 'picked_up_rider' || !UNDER_WAY.has(ride.state))) showAll(state);
  if (!UNDER_WAY.has(ride.state)) {
    state.watch.stop();
    resumeLater(page, state);
  }
}

/** Who comes, on which way, and what cancelling costs. */
async function details(page, state) {
  const { ride_id: id, version } = state.ride;
  try {
    const detail = await get(path('rides', id));
    if (page.closed || state.ride?.ride_id !== id || state.ride.version > detail.version) return;
    state.detail = detail;
    if (detail.state === 'accepted' && version === state.ride.version) state.map.show([detail.pickup, ...decoded(detail.route_to_pickup)]);
    page.render();
  } catch {
    // The stream goes on; the next change asks again.
  }
}

function underWay(page, state) {
  const { ride, detail } = state;
  const driven = DRIVEN.has(ride.state);
  return h('div', { class: 'card stack-small' },
    h('div', { role: 'status', 'aria-live': 'polite' }, standing(state)),
    !driven && searching(ride),
    driven && detail?.driver_profile && h('div', { class: 'car-card' },
      h('span', { class: 'plate' }, detail.driver_profile.plate),
      h('span', null, h('strong', { class: 'break' }, detail.driver_profile.name), h('span', { class: 'muted break' }, detail.driver_profile.vehicle))),
    (ride.state === 'accepted' || ride.state === 'arrived') && ride.code && h('div', { class: 'code-card' },
      h('p', null, 'Tell the driver this code'), h('p', { class: 'big-code', 'aria-label': `Code ${ride.code.split('').join(' ')}` }, ride.code)),
    facts([['Price', money(ride.price)], ['Trip', `${minutes(ride.duration_s)}, ${distance(ride.distance_m)}`]]),
    ride.state !== 'picked_up_rider' && h('div', null, button('Cancel the ride', () => cancelDialog(page, state), { kind: 'danger', name: 'cancel' })));
}

/** What is read out when it changes. */
function standing({ ride, eta }) {
  switch (ride.state) {
    case 'accepted':
      return [h('h2', null, 'Your car is coming'), h('p', { class: 'big-eta' }, eta === null ? 'On the way' : `${minutes(eta)} away`)];
    case 'arrived':
      return [h('h2', null, 'Your car is here'), h('p', null, 'Look for the plate, tell the code, get in.')];
    case 'picked_up_rider':
      return [h('h2', null, 'On your trip'), h('p', { class: 'big-eta' }, eta === null ? 'To your destination' : `${minutes(eta)} to go`)];
    default:
      return [h('h2', null, 'Looking for a driver'), h('p', null, ride.state === 'offered' ? 'A driver is being asked.' : 'Drivers near you are asked one after the other.')];
  }
}

function searching(ride) {
  const waited = Math.max(0, serverNow() - Date.parse(ride.requested_at ?? ride.created_at));
  return [
    h('div', { class: 'bar bar-unknown', role: 'progressbar', 'aria-label': 'Looking for a driver' }, h('span', null)),
    h('p', { class: 'muted' }, `${countdown(waited)} so far.`),
  ];
}

function over(page, state) {
  const { ride } = state;
  const again = button('New ride', () => reset(page, state), { kind: 'primary', name: 'new' });
  if (ride.state === 'completed') {
    return h('div', { class: 'card stack-small' }, h('div', { role: 'status' }, h('h2', null, 'You are there'), h('p', { class: 'price' }, money(ride.price))),
      facts([['Trip', `${distance(ride.distance_m)}`], ['Ended', moment(ride.ended_at)]]), h('div', { class: 'actions' }, again));
  }
  const retry = button(state.busy === 'estimate' ? 'Asking…' : 'Try again', () => { state.ride = null; estimate(page, state); }, { kind: 'primary', disabled: state.busy !== null });
  if (ride.state === 'no_driver') {
    return h('div', { class: 'card stack-small' }, h('div', { role: 'status' }, h('h2', null, 'Nobody was found'), h('p', null, 'All drivers near you are busy or did not answer. You pay nothing.')),
      h('div', { class: 'actions' }, retry, button('Change', () => reset(page, state))));
  }
  const { by, reason, fee } = ride.cancellation ?? {};
  return h('div', { class: 'card stack-small' },
    h('div', { role: 'status' }, h('h2', null, ride.state === 'expired' ? 'The price has expired' : 'Cancelled'),
      by && h('p', null, `By ${by === 'rider' ? 'you' : CANCELLED_BY[by] ?? by}${reason ? `: ${reason}` : ''}.`),
      h('p', null, fee?.amount > 0 ? h('strong', null, `A fee of ${money(fee)} is due.`) : 'You pay nothing.')),
    h('div', { class: 'actions' }, retry, again));
}

function cancelDialog(page, state) {
  const form = { reason: '' };
  const terms = () => {
    const due = state.detail?.cancel_fee;
    if (!due || !DRIVEN.has(state.ride.state)) return 'Cancelling is free.';
    const left = Date.parse(due.from) - serverNow();
    return left > 0 ? `Cancelling is free for another ${countdown(left)}; after that it costs ${money(due.fee)}.` : `A driver is on the way: cancelling now costs ${money(due.fee)}.`;
  };
  openDialog({
    title: 'Cancel this ride?',
    confirm: 'Cancel the ride',
    dismiss: 'Keep it',
    danger: true,
    check: () => null,
    submit: async () => {
      take(page, state, await send('/ride/cancel', { ride_id: state.ride.ride_id, reason: form.reason.trim() }));
      page.render();
    },
    view: () => [
      h('p', null, terms()),
      h('div', { class: 'field' }, h('label', { for: 'reason' }, 'Why', h('small', null, ' optional')),
        h('input', { id: 'reason', maxlength: '200', autocomplete: 'off', oninput: (event) => { form.reason = event.target.value; } })),
    ],
  });
}

function reset(page, state) {
  state.watch?.stop();
  Object.assign(state, { ride: null, detail: null, estimate: null, from: null, to: null, texts: { from: '', to: '' }, setting: 'from', eta: null, problem: null, watch: null });
  state.glide.set([]);
  page.render();
}

/** One thing at a time; what goes wrong is shown. */
async function act(page, state, name, work) {
  if (state.busy) return;
  Object.assign(state, { busy: name, problem: null });
  page.render();
  try {
    await work();
  } catch (problem) {
    state.problem = problem;
  }
  state.busy = null;
  page.render();
}

/* The last rides */

/** After a reload the ride goes on where it was. */
async function resume(page, state) {
  try {
    const since = new Date(serverNow() - RECENT_MS).toISOString();
    const { items } = await getAll(withQuery('/rides', { updated_since: since }));
    if (page.closed) return;
    state.recent = items.filter(({ state: at }) => at !== 'estimated' && at !== 'expired').reverse();
    const open = state.recent.find((ride) => UNDER_WAY.has(ride.state));
    if (open && !state.ride && !state.estimate) follow(page, state, open);
  } catch (problem) {
    state.problem ??= problem;
  }
  page.render();
}

function resumeLater(page, state) {
  const ended = state.ride;
  state.recent = [ended, ...(state.recent ?? []).filter(({ ride_id: id }) => id !== ended.ride_id)];
  page.render();
}

function recent({ recent: rides, ride }) {
  if (!rides || ride) return null;
  const shown = rides.filter((one) => !UNDER_WAY.has(one.state)).slice(0, RECENT_SHOWN);
  return section('Your last rides', shown.length === 0
    ? empty('No rides yet', 'Your first one begins on the map.')
    : h('ul', { class: 'ride-list' }, shown.map((one) => h('li', { key: one.ride_id },
      badge(one.state), h('span', null, moment(one.updated_at)), h('span', { class: 'muted' }, distance(one.distance_m)),
      h('span', { class: 'strong' }, one.state === 'completed' ? money(one.price) : one.cancellation?.fee?.amount > 0 ? `${money(one.cancellation.fee)} fee` : 'Free')))));
}

/* The map */

const lines = new Map();

/** The places of an encoded line; each is read once. */
function decoded(line) {
  if (!line) return [];
  if (!lines.has(line)) {
    if (lines.size > 20) lines.clear();
    lines.set(line, decodeLine(line));
  }
  return lines.get(line);
}

function showAll(state) {
  const line = decoded((state.ride ?? state.estimate)?.route);
  state.map.show(line.length > 0 ? line : [state.from, state.to]);
}

function paint(pen, map, state, now) {
  const shown = state.ride ?? state.estimate;
  const line = decoded(shown?.route);
  paintSteps(pen, map, state.from, line[0]);
  paintSteps(pen, map, state.to, line[line.length - 1]);
  if (shown) paintWay(pen, map, line, { dashed: UNDER_WAY.has(shown.state) && shown.state !== 'picked_up_rider' });
  if (state.ride?.state === 'accepted') paintWay(pen, map, decoded(state.detail?.route_to_pickup), { ink: map.inks.way });
  if (state.from && state.ride?.state !== 'picked_up_rider') paintPin(pen, map, state.from, 'A', map.inks.accent);
  if (state.to) paintPin(pen, map, state.to, 'B', map.inks.ink);
  const car = DRIVEN.has(state.ride?.state) ? state.glide.at('car', now) : null;
  if (car) paintCar(pen, map, car, { heading: state.heading, duty: 'busy', size: 8, ring: true });
}
