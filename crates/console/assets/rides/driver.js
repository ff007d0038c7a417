// Rides › Drive: a profile, a shift, offers that want an answer in seconds, and the way to the rider and on.

import { get, path, serverNow } from '../api.js';
import { openDialog } from '../dialog.js';
import { h } from '../dom.js';
import { send } from '../intents.js';
import { badge, banner, button, choices, facts, heading, loading, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { countdown, money } from '../tickets/words.js';
import { Beacon, PACES } from './beacon.js';
import { CityMap } from './citymap.js';
import { decodeLine, distance, parsePlace, placeText } from './geo.js';
import { Glide, paintCar, paintPin, paintSteps, paintWay } from './paint.js';
import { profileForm } from './profile.js';
import { trouble } from './trouble.js';
import { Watch } from './watch.js';
import { CANCELLED_BY, DRIVEN, minutes } from './words.js';

const ME_MS = 5000;

export function driver(page) {
  page.title('Drive');
  page.view = () => [heading({ title: 'Drive' }), signInFirst('driver', 'A shift belongs to somebody.')];
  if (signInFirst('driver', '')) return;
  const state = { me: null, offer: null, ride: null, toPickup: null, last: null, note: null, busy: null, problem: null, code: '', heard: null, editing: false, text: '', line: [] };
  const me = page.feed((signal) => get('/drivers/me', signal), ME_MS);
  state.learn = (answer) => {
    me.data = answer;
    know(state, answer);
    me.refresh();
  };
  state.map = new CityMap(page, { label: 'Map of the city with your car.', paint: (pen, map, now) => paint(pen, map, state, now), tap: (place) => moveTo(page, state, place) });
  state.glide = new Glide(state.map, 1000);
  state.beacon = new Beacon(page, {
    moved: (place) => { state.glide.set([['me', place]]); },
    refused: (code) => { state.note = REFUSALS[code] ?? `The position was refused: ${code}.`; },
  });
  state.watch = new Watch(page, path('drivers', 'me', 'stream'), (name, data) => { if (name === 'ride') hear(page, state, data); else state.watch.again(); }, () => check(page, state));
  page.tick(500);
  page.view = () => {
    if (me.data) know(state, me.data);
    state.map.draw();
    return [
      heading({ title: 'Drive', beside: state.me && badge(stateOf(state)), under: state.me?.profile ? `${state.me.profile.name}, ${state.me.profile.vehicle}, ${state.me.profile.plate}` : null }),
      troubles(me),
      me.waiting && loading(4),
      state.me && h('div', { class: 'ride-grid' },
        h('div', { class: 'ride-panel', role: 'region', 'aria-label': 'Your shift' }, panel(page, state)),
        h('div', { key: 'map', class: 'map citymap', ref: (host) => state.map.attach(host) })),
    ];
  };
}

const REFUSALS = {
  off_duty: 'The position was not taken: you are off duty.',
  jump: 'That is further than a car comes in the time: the position was not taken.',
  past: 'The clock of this device is slow: positions are from the past.',
  future: 'The clock of this device is fast: positions are from the future.',
};

function stateOf({ me, ride, offer }) {
  if (!me.profile) return 'no_profile';
  if (!me.approved) return 'unapproved';
  if (ride) return ride.state === 'accepted' ? 'to_rider' : ride.state;
  return offer ? 'asked' : me.on_duty ? 'on_duty' : 'off_duty';
}

/** What the server says of the driver: the first time it says where, the car is there. */
function know(state, me) {
  if (state.me === me) return;
  state.me = me;
  if (!me.on_duty) state.beacon.rest();
  else if (me.place && !state.beacon.on) {
    state.beacon.begin(me.place);
    state.map.show([me.place]);
  }
}

function panel(page, state) {
  const { me, ride, offer } = state;
  return [
    state.map.problem && banner({ tone: 'warn', title: 'There is no map', text: state.map.problem.message, code: state.map.problem, action: button('Try again', () => state.map.load(), { kind: 'small' }) }),
    trouble(page, state),
    (state.watch.status === 'behind' || state.beacon.lost) && h('p', { class: 'light light-down', role: 'status' }, 'Reconnecting…'),
    state.watch.status === 'over' && state.watch.problem && banner({ title: state.watch.problem.title, text: state.watch.problem.message, code: state.watch.problem }),
    state.note && banner({ tone: 'warn', title: state.note, action: button('Dismiss', () => { state.note = null; page.render(); }, { kind: 'small' }) }),
    offer ? offerCard(page, state) : ride ? rideCard(page, state) : !me.profile || state.editing ? profileForm(page, state) : !me.approved ? unapproved(page, state) : shift(page, state),
    me.on_duty && steering(page, state),
  ];
}

function unapproved(page, state) {
  return h('div', { class: 'card stack-small', role: 'status' }, h('h2', null, 'Waiting for approval'),
    h('p', null, 'An operator looks at your profile. This page goes on by itself.'),
    h('div', null, button('Change the profile', () => { state.editing = true; page.render(); })));
}

/* The shift */

function shift(page, state) {
  if (state.me.on_duty) {
    return h('div', { class: 'card stack-small' }, h('h2', null, 'On duty'),
      state.last && ended(state.last),
      h('p', { role: 'status' }, 'Offers come by themselves: you have some seconds to answer each. Stay on this page.'),
      h('div', null, button(state.busy === 'shift' ? 'Ending…' : 'End the shift', () => setShift(page, state, null), { disabled: state.busy !== null, name: 'off-duty' })));
  }
  const place = state.beacon.place ?? parsePlace(state.text);
  return h('form', { class: 'card stack-small', onsubmit: (event) => { event.preventDefault(); if (place) setShift(page, state, place); } },
    h('h2', null, 'Off duty'),
    h('p', { class: 'muted' }, state.map.problem ? 'Write where you are.' : 'Tap the map where you are, or move it with the arrow keys and press Enter.'),
    h('label', { class: 'field' }, h('span', null, 'Where you are'),
      h('input', { name: 'place', value: state.text, placeholder: '41.14960, -8.61100', autocomplete: 'off', oninput: (event) => { state.text = event.target.value; state.beacon.place = null; page.render(); } })),
    state.text && !place && h('p', { class: 'field-error', role: 'alert' }, `“${state.text}” is no place: write it as 41.14960, -8.61100.`),
    h('div', { class: 'actions' },
      h('button', { type: 'submit', class: 'button primary large', disabled: !place || state.busy !== null, 'data-action': 'on-duty' }, state.busy === 'shift' ? 'Beginning…' : 'Go on duty'),
      button('Change the profile', () => { state.editing = true; page.render(); })));
}

function ended(ride) {
  if (ride.state === 'completed') return banner({ tone: 'good', title: `Trip completed: ${money(ride.price)}` });
  const { by, fee } = ride.cancellation ?? {};
  return banner({ tone: 'warn', title: `The ride was cancelled by ${CANCELLED_BY[by] ?? 'somebody'}.`, text: fee?.amount > 0 ? `The rider owes ${money(fee)}.` : null });
}

/** Begins a shift at a place, moves it there, or ends it. */
function setShift(page, state, place) {
  return act(page, state, 'shift', async () => {
    const begins = place && !state.me.on_duty;
    const me = await send('/drivers/shift', place ? { on_duty: true, place } : { on_duty: false });
    state.last = null;
    if (place) state.beacon.begin(place);
    if (begins) state.map.show([place]);
    state.learn(me);
  });
}

function moveTo(page, state, place) {
  if (!state.me?.approved) return;
  if (state.me.on_duty) {
    state.beacon.drive(null);
    setShift(page, state, place);
    return;
  }
  state.beacon.place = place;
  state.text = placeText(place);
  state.glide.set([['me', place]]);
  page.render();
}

/** Where positions come from: this device, the way itself, or taps on the map. */
function steering(page, state) {
  const { beacon } = state;
  return h('div', { class: 'card stack-small' },
    h('div', { class: 'section-head' }, h('h2', null, 'Your position'), h('span', { class: 'muted' }, beacon.sentAt ? `sent ${countdown(Date.now() - beacon.sentAt)} ago` : '')),
    choices('Where positions come from', [['tap', 'Map'], ['gps', 'This device'], ['auto', 'Drive by itself']], beacon.mode, (mode) => { beacon.use(mode); beacon.drive(lineOf(state)); page.render(); }),
    beacon.mode === 'auto' && choices('How fast', PACES.map(({ name, text }) => [name, text]), beacon.pace, (name) => { beacon.pace = name; page.render(); }),
    h('p', { class: 'muted' }, HINTS[beacon.mode]),
    beacon.problem && h('p', { class: 'field-error', role: 'alert' }, beacon.problem));
}

const HINTS = {
  tap: 'Tap the map to be somewhere else.',
  gps: 'The position of this device, as it moves.',
  auto: 'For trying things out: the car follows the way to the rider and to the destination.',
};

/* Offers */

function hear(page, state, ride) {
  const mine = ride.driver === state.me?.id;
  if (ride.state === 'offered' && ride.offer && (!state.me || ride.offer.driver === state.me.id)) {
    if (state.offer?.offer?.offer_id !== ride.offer.offer_id) arrive(state, ride);
  } else if (DRIVEN.has(ride.state) && (mine || !state.me)) {
    go(page, state, ride);
  } else {
    if (state.offer?.ride_id === ride.ride_id) {
      if (state.busy === null) state.note = ride.state === 'cancelled' ? 'The rider cancelled.' : 'The offer is over: it was not answered in time.';
      state.offer = null;
    }
    if (state.ride?.ride_id === ride.ride_id) leave(state, ride);
  }
  page.render();
}

function arrive(state, ride) {
  Object.assign(state, { offer: ride, last: null, note: null, line: decodeLine(ride.route) });
  state.map.show([state.beacon.place, ...state.line]);
  // Browsers complain where nobody has touched the page yet.
  if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.(200);
}

function offerCard(page, state) {
  const { offer: ride } = state;
  const left = Date.parse(ride.offer.expires_at) - serverNow();
  const whole = (state.offer.span ??= Math.max(left, 1));
  return h('div', { class: 'card stack-small offer-card', role: 'alertdialog', 'aria-label': 'A ride is offered' },
    h('div', { class: 'section-head' }, h('h2', null, 'A ride is offered'), h('span', { class: left < 5000 ? 'countdown tone-bad' : 'countdown', role: 'timer' }, countdown(left))),
    h('div', { class: 'bar', 'aria-hidden': 'true' }, h('span', { style: { width: `${Math.max(0, Math.min(1, left / whole)) * 100}%` } })),
    facts([['To the rider', minutes(ride.offer.eta_s)], ['Trip', `${minutes(ride.duration_s)}, ${distance(ride.distance_m)}`], ['Fare', money(ride.price)]]),
    h('div', { class: 'actions answer' },
      button('Accept', () => respond(page, state, true), { kind: 'primary large', disabled: state.busy !== null || left <= 0, name: 'accept' }),
      button('Deny', () => respond(page, state, false), { kind: 'large', disabled: state.busy !== null || left <= 0, name: 'deny' })));
}

function respond(page, state, accept) {
  const { ride_id: ride, offer } = state.offer;
  return act(page, state, 'respond', async () => {
    try {
      const answer = await send('/ride/driver/respond', { ride_id: ride, offer_id: offer.offer_id, accept }, { method: 'PATCH' });
      state.offer = null;
      if (accept) go(page, state, answer);
    } catch (problem) {
      if (problem.status === 409) state.offer = null;
      throw problem;
    }
  });
}

/* The ride */

/** On the way with a ride, or further on. */
function go(page, state, ride) {
  const same = state.ride?.ride_id === ride.ride_id;
  if (same && ride.version < state.ride.version) return;
  const turned = !same || state.ride.state !== ride.state;
  const before = same ? lineOf(state) : null;
  Object.assign(state, { ride, offer: null, last: null, code: turned ? '' : state.code, heard: turned ? null : state.heard });
  if (!same) state.toPickup = null;
  if (ride.route_to_pickup) state.toPickup ??= decodeLine(ride.route_to_pickup);
  if (turned) state.line = decodeLine(ride.route);
  if (ride.state === 'accepted' && !state.toPickup) way(page, state, ride.ride_id);
  if (turned && ride.state === 'arrived') listen(page, state, ride.ride_id);
  const other = lineOf(state) !== before;
  if (other) state.beacon.drive(lineOf(state));
  if (turned || other) {
    state.map.show(ride.state === 'picked_up_rider' ? state.line : [state.beacon.place, ride.pickup, ...(state.toPickup ?? [])]);
  }
}

/** After a cut: a ride that ended meanwhile is not told again. */
async function check(page, state) {
  const { ride } = state;
  if (!ride) return;
  try {
    hear(page, state, await get(path('rides', ride.ride_id)));
  } catch (problem) {
    if (problem.status !== 404 || state.ride?.ride_id !== ride.ride_id) return;
    leave(state, { ...ride, state: 'requested' });
    page.render();
  }
}

/** In the demo riders may be simulated: what such a one says at the pickup is asked for. Elsewhere people say it. */
async function listen(page, state, id) {
  try {
    const { code } = await get(path('demo', 'rides', id, 'code'));
    if (page.closed || state.ride?.ride_id !== id) return;
    state.heard = code;
    page.render();
  } catch {
    // No demo here.
  }
}

/** After a reload the way to the pickup is asked for again. */
async function way(page, state, id) {
  try {
    const { route_to_pickup: line } = await get(path('rides', id));
    if (page.closed || state.ride?.ride_id !== id || state.toPickup || !line) return;
    state.toPickup = decodeLine(line);
    state.beacon.drive(lineOf(state));
    state.map.show([state.beacon.place, ...state.toPickup]);
    page.render();
  } catch {
    // There is the pickup on the map; the way is a help only.
  }
}

function lineOf({ ride, toPickup, line }) {
  if (ride?.state === 'accepted') return toPickup;
  return ride?.state === 'picked_up_rider' ? line : null;
}

function leave(state, ride) {
  const over = ride.state === 'completed' || ride.state === 'cancelled';
  Object.assign(state, { ride: null, toPickup: null, line: [], last: over ? ride : null, code: '' });
  state.beacon.drive(null);
}

function rideCard(page, state) {
  const { ride, beacon } = state;
  const steps = { accepted: toPickup, arrived: atPickup, picked_up_rider: onTrip };
  return h('div', { class: 'card stack-small' },
    h('div', { role: 'status' }, h('h2', null, { accepted: 'To the rider', arrived: 'At the pickup', picked_up_rider: 'To the destination' }[ride.state])),
    beacon.left !== null && h('p', { class: 'big-eta' }, beacon.left < 20 ? 'You are there' : distance(beacon.left)),
    steps[ride.state](page, state),
    facts([['Fare', money(ride.price)], ['Trip', `${minutes(ride.duration_s)}, ${distance(ride.distance_m)}`]]),
    ride.state !== 'picked_up_rider' && h('div', null, button('Give the ride back', () => giveBack(page, state), { kind: 'danger', name: 'give-back' })));
}

function toPickup(page, state) {
  return h('div', null, button(state.busy ? 'Telling…' : 'I have arrived', () => setStatus(page, state, 'arrived'), { kind: 'primary large', disabled: state.busy !== null, name: 'arrived' }));
}

function atPickup(page, state) {
  return [
    h('form', { class: 'code-form', onsubmit: (event) => { event.preventDefault(); setStatus(page, state, 'picked_up_rider', state.code.trim()); } },
      h('label', { class: 'hidden', for: 'ride-code' }, 'The rider’s code'),
      h('input', {
        id: 'ride-code', value: state.code, placeholder: '0000', inputmode: 'numeric', maxlength: '4', autocomplete: 'off', class: 'code-input',
        oninput: (event) => { state.code = event.target.value; page.render(); },
      }),
      h('button', { type: 'submit', class: 'button primary large', disabled: state.busy !== null || !/^\d{4}$/.test(state.code.trim()), 'data-action': 'pick-up' }, 'Start the trip')),
    h('p', { class: 'muted' }, state.heard ? ['The rider, who is simulated, says: ', h('strong', { class: 'heard' }, state.heard)] : 'The rider tells you the four digits.'),
    h('div', null, button('The rider did not come', () => noShow(page, state), { disabled: state.busy !== null })),
  ];
}

function onTrip(page, state) {
  return h('div', null, button(state.busy ? 'Telling…' : 'Complete the trip', () => setStatus(page, state, 'completed'), { kind: 'primary large', disabled: state.busy !== null, name: 'complete' }));
}

function setStatus(page, state, status, code) {
  const body = { ride_id: state.ride.ride_id, status };
  if (code) body.code = code;
  return act(page, state, 'status', async () => {
    const ride = await send('/ride/status', body, { method: 'PATCH' });
    if (DRIVEN.has(ride.state)) go(page, state, ride);
    else leave(state, ride);
  });
}

function noShow(page, state) {
  return act(page, state, 'status', async () => leave(state, await send('/ride/cancel', { ride_id: state.ride.ride_id, reason: '', no_show: true })));
}

function giveBack(page, state) {
  openDialog({
    title: 'Give this ride back?',
    confirm: 'Give it back',
    dismiss: 'Keep it',
    danger: true,
    check: () => null,
    submit: async () => {
      const id = state.ride?.ride_id;
      leave(state, await send('/ride/cancel', { ride_id: id, reason: 'given back' }));
      page.render();
    },
    view: () => h('p', null, 'The rider keeps the place in the line, and another driver is asked at once. You are not asked for this ride again.'),
  });
}

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

/* The map */

function paint(pen, map, state, now) {
  const { beacon } = state;
  const shown = state.ride ?? state.offer;
  if (shown) {
    paintSteps(pen, map, shown.pickup, state.line[0]);
    paintSteps(pen, map, shown.destination, state.line[state.line.length - 1]);
  }
  if (shown) paintWay(pen, map, state.line, { dashed: shown.state !== 'picked_up_rider' });
  if (state.ride?.state === 'accepted' && state.toPickup) paintWay(pen, map, state.toPickup, { ink: map.inks.way });
  if (shown) {
    if (shown.state !== 'picked_up_rider') paintPin(pen, map, shown.pickup, 'A', map.inks.accent);
    paintPin(pen, map, shown.destination, 'B', map.inks.ink);
  }
  const me = state.glide.at('me', now) ?? beacon.place;
  if (me) paintCar(pen, map, me, { heading: beacon.heading, duty: state.ride ? 'busy' : 'free', size: 8, ring: true });
}
