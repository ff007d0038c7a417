// Tickets › Waiting room. Everyone has a number; the number being served is one answer for all, which any cache may hold.
// Only whose turn it is asks for the admission.

import { get, path, serverNow } from '../api.js';
import { h } from '../dom.js';
import { count, duration } from '../format.js';
import { send } from '../intents.js';
import { badge, banner, button, empty, facts, heading, isMissing, loading, progress, prose, troubles } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { eventLink } from './event.js';
import { recall, remember } from './keeping.js';
import { clockTime, countdown, when } from './words.js';

/** Spread, so that a million people do not ask in the same instant. */
const SERVING_MS = 2000;
const SPREAD_MS = 1500;
/** The own place is asked for this often, for the estimate. */
const PLACE_MS = 10_000;

export function waitingRoom(page) {
  const { id } = page.params;
  page.title('Waiting room');
  const state = { place: null, problem: null, busy: false, first: null, least: Infinity, asked: 0, checked: null };
  const feed = page.feed((signal) => get(path('event', id), signal), 30_000);
  const serving = page.feed((signal) => get(path('event', id, 'queue', 'serving'), signal), () => SERVING_MS + Math.random() * SPREAD_MS);
  const kept = recall('place', id);
  if (kept) ask(page, state, id, kept);
  page.tick(1000);
  page.view = () => {
    if (isMissing(feed)) return [heading({ title: 'No such event', crumbs: [['Events', '#/tickets']] }), empty('There is no event at this address', 'It may have been withdrawn.')];
    if (state.place) watch(page, state, id, serving.data);
    return [
      heading({
        title: 'Waiting room',
        crumbs: [['Events', '#/tickets'], [feed.data?.name ?? 'Event', eventLink(id)]],
        under: feed.data && `${feed.data.name} · ${when(feed.data.starts_at, feed.data.venue.timezone)}`,
      }),
      troubles(feed, serving),
      feed.waiting && loading(3),
      feed.data && room(page, state, id, feed.data, serving.data),
    ];
  };
}

function room(page, state, id, data, serving) {
  const signIn = signInFirst('fan', 'A place in the line belongs to somebody: sign in to take one.');
  if (signIn) return signIn;
  return [
    state.problem && banner({ title: 'That did not work', text: state.problem.message, code: state.problem, action: button('Try again', () => join(page, state, id), { kind: 'small' }) }),
    state.place ? standing(state, data, serving) : outside(page, state, id, data, serving),
    fairness(state, page, serving),
  ];
}

function outside(page, state, id, data, serving) {
  const before = serving?.phase === 'before';
  if (serving?.active === false) return nobodyWaits(data);
  const opensAt = serving?.opens_at ?? data.on_sale_at;
  return h('div', { class: 'card stack-small line-card' },
    h('p', null, before
      ? `The doors open ${opensAt ? when(opensAt, data.venue.timezone) : 'soon'}. Everyone who is here by then is drawn by lottery: coming earlier makes no difference.`
      : 'Whoever comes first is let in first. You may close this page and come back: your place is kept.'),
    h('div', null, button(state.busy ? 'Joining…' : before ? 'Join the lottery' : 'Join the line', () => join(page, state, id), { kind: 'primary large', disabled: state.busy, name: 'join' })));
}

function nobodyWaits(data) {
  return empty('Nobody has to wait at the moment', 'Take your seats at once.', h('a', { class: 'button primary', href: eventLink(data.id) }, 'To the seats'));
}

function standing(state, data, serving) {
  const { place } = state;
  if (place.admission) {
    return h('div', { class: 'card stack-small line-card' },
      h('div', { class: 'section-head' }, h('h2', null, 'It is your turn'), badge('admitted')),
      h('p', null, place.admission_expires_at ? `You have ${countdown(Date.parse(place.admission_expires_at) - serverNow())} to take your seats; after that your turn is over.` : 'Take your seats now.'),
      h('div', null, h('a', { class: 'button primary large', href: eventLink(data.id) }, 'To the seats')));
  }
  const now = Math.max(serving?.serving ?? 0, place.serving ?? 0);
  const opensAt = place.opens_at ?? data.on_sale_at;
  if (place.number === null || place.number === undefined || place.phase === 'before') {
    const opens = opensAt && Date.parse(opensAt) - serverNow();
    return h('div', { class: 'card stack-small line-card', role: 'status' },
      h('h2', null, 'You are in the lottery'),
      opens > 0 && h('p', { class: 'big-number' }, duration(opens / 1000), h('small', null, 'until the doors open')),
      h('p', { class: 'muted' }, `Numbers are drawn when the doors open, ${opensAt ? clockTime(opensAt, data.venue.timezone) : 'soon'}. Keep this page, or come back to it.`));
  }
  const ahead = peopleBefore(place.number, now);
  const span = Math.max(1, peopleBefore(place.number, state.first ?? now));
  return h('div', { class: 'card stack-small line-card' },
    h('div', { class: 'section-head' }, h('h2', null, 'You are in the line'), serving?.paused && badge('paused')),
    h('p', { class: 'big-number', role: 'status' }, count(ahead), h('small', null, ahead === 0 ? 'You are the next' : ahead === 1 ? 'person is before you' : 'people are before you')),
    progress('Progress in the line', span - ahead, span, true),
    facts([
      ['Your number', count(place.number)],
      ['Now serving', count(now)],
      ['Your turn in about', serving?.paused ? 'paused by the organiser' : Number.isFinite(state.least) ? duration(Math.max(1, state.least)) : null],
    ]),
    h('p', { class: 'muted' }, 'Your place is kept in this browser. When it is your turn, you have some minutes to take seats.'));
}

/** Numbers up to the one that is served are in: who has the next one has nobody before. */
export function peopleBefore(number, serving) {
  return Math.max(0, number - serving - 1);
}

async function join(page, state, id) {
  state.busy = true;
  state.problem = null;
  page.render();
  try {
    arrived(state, id, await send(path('event', id, 'queue'), {}));
  } catch (problem) {
    state.problem = problem;
  }
  state.busy = false;
  page.render();
}

async function ask(page, state, id, token) {
  state.asked = Date.now();
  try {
    arrived(state, id, await get(path('queue', token)));
  } catch (problem) {
    if (problem.status === 404 || problem.status === 410) {
      remember('place', id, null);
      state.place = null;
    }
  }
  page.render();
}

function arrived(state, id, place) {
  state.place = { ...place, admission: place.admission ?? null };
  state.first ??= place.serving ?? null;
  remember('place', id, place.token);
  state.measured = Date.now();
  if (place.estimate_s !== null && place.estimate_s !== undefined) state.estimate = place.estimate_s;
  if (place.admission) remember('admission', id, { token: place.admission, expires_at: place.admission_expires_at ?? null });
}

/** Between answers the estimate runs down by the clock, and never up. */
function watch(page, state, id, serving) {
  if (state.estimate !== undefined) state.least = Math.min(state.least, Math.max(1, state.estimate - (Date.now() - state.measured) / 1000));
  const { place } = state;
  if (place.admission) return;
  const drawn = (place.number === null || place.number === undefined) && serving && serving.phase !== 'before';
  const turn = place.number !== null && serving && serving.serving >= place.number;
  const pause = drawn || turn ? 1000 : PLACE_MS;
  if (Date.now() - state.asked > pause) ask(page, state, id, place.token);
}

/** The promise that was made before the draw, and what it was: anyone can check that one is the SHA-256 of the other. */
function fairness(state, page, serving) {
  if (!serving?.commitment) return null;
  const { commitment, seed } = serving;
  if (seed && state.checked?.seed !== seed) checkSeed(state, page, seed, commitment);
  return h('details', { class: 'note' }, h('summary', null, 'How the draw can be checked'),
    h('p', null, 'Before the doors open, the fingerprint (SHA-256) of the lottery’s seed is published; afterwards the seed itself.'),
    h('p', { class: 'codes' }, 'fingerprint ', h('code', null, commitment)),
    seed && h('p', { class: 'codes' }, 'seed ', h('code', null, seed)),
    seed && state.checked && h('p', null, prose(state.checked.text)));
}

async function checkSeed(state, page, seed, commitment) {
  state.checked = { seed, text: 'Checking…' };
  if (!crypto.subtle) {
    state.checked.text = 'This browser checks fingerprints only over HTTPS; any SHA-256 tool does it.';
    return;
  }
  const bytes = /^([0-9a-f]{2})+$/i.test(seed) ? Uint8Array.from(seed.match(/../g), (pair) => parseInt(pair, 16)) : new TextEncoder().encode(seed);
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  state.checked.text = text === commitment.toLowerCase() ? 'Your browser has checked it: the seed has this fingerprint.' : 'The seed does not have this fingerprint.';
  page.render();
}
