// Tickets › one event: what it is, its seats live, and what this fan has chosen of them.

import { get, getCached, path, serverNow } from '../api.js';
import { h } from '../dom.js';
import { compact, relative } from '../format.js';
import { badge, banner, button, choices, codes, empty, heading, isMissing, loading, prose, troubles } from '../parts.js';
import { whoami } from '../session.js';
import { Basket } from './basket.js';
import { admission } from './keeping.js';
import { areaPicker, bestPicker, chosen, holdCard, phoneBar } from './choosing.js';
import { Plan } from './plan.js';
import { seatList } from './seatlist.js';
import { SeatMap } from './seatmap.js';
import { Seats } from './seats.js';
import { clockTime, countdown, kindName, money, onClock, when } from './words.js';

/** Counts and lists follow the seats this often; the map follows at once. */
const COUNTS_MS = 400;
/** Whether one has to wait may change at any time; spread, since everyone asks. */
const SERVING_MS = 4000;
const SPREAD_MS = 2000;

export const eventLink = (id, ...rest) => `#${path('tickets', 'events', id, ...rest)}`;

export function event(page) {
  const { id } = page.params;
  page.title('Event');
  const feed = page.feed((signal) => get(path('event', id), signal), 5000);
  const state = { plan: null, seats: null, map: null, problem: null, only: null, view: { section: null, row: null }, said: '', stale: null, line: null };
  const say = (text) => { state.said = text; page.render(); };
  const basket = new Basket(id, () => { state.map?.draw(); page.render(); }, say, (numbers) => state.map?.show(numbers));
  page.closing(() => {
    state.seats?.stop();
    state.map?.close();
    clearTimeout(state.stale);
  });
  page.tick(1000);
  loadPlan(page, id, state, basket);

  page.view = () => {
    if (isMissing(feed)) return missingEvent();
    const data = feed.data;
    if (data) {
      page.title(data.name);
      basket.limit = data.rules.max_per_customer;
      state.plan?.inCurrency(data.currency);
      if (data.queue.mode !== 'off') state.line ??= page.feed((signal) => get(path('event', id, 'queue', 'serving'), signal), () => SERVING_MS + Math.random() * SPREAD_MS);
    }
    basket.watch();
    return [
      heading({
        crumbs: [['Events', '#/tickets']],
        title: data?.name ?? 'Event',
        beside: data && eventBadge(data),
        under: data && [`${when(data.starts_at, data.venue.timezone)} · `, h('span', { class: 'nowrap' }, `${data.venue.name}, ${data.venue.city}`)],
      }),
      troubles(feed),
      feed.waiting && loading(4),
      data && [about(data), saleState(data, state), seating(page, data, state, basket)],
      h('p', { class: 'hidden', role: 'status', 'aria-live': 'polite' }, state.said),
    ];
  };
}

function missingEvent() {
  return [heading({ title: 'No such event', crumbs: [['Events', '#/tickets']] }),
    empty('There is no event at this address', 'It may have been withdrawn by its organiser.', h('a', { class: 'button', href: '#/tickets' }, 'Look for events'))];
}

/** The plan once, then the seats for as long as the page is open. */
async function loadPlan(page, id, state, basket) {
  try {
    state.plan = new Plan(await getCached(path('event', id, 'plan')));
    state.problem = null;
  } catch (problem) {
    if (page.closed) return;
    state.problem = problem;
    page.render();
    return;
  }
  if (page.closed) return;
  const changed = (numbers) => {
    state.map?.draw();
    basket.notice(numbers);
    if (state.stale === null) state.stale = setTimeout(() => { state.stale = null; page.render(); }, COUNTS_MS);
  };
  state.seats = new Seats(id, state.plan, changed);
  basket.plan = state.plan;
  basket.seats = state.seats;
  state.map = new SeatMap(state.plan, {
    get states() { return state.seats.status === 'loading' ? null : state.seats; },
    picked: () => basket.picked,
    mine: () => basket.mine,
    only: () => state.only,
    choose: (seat) => basket.toggle(seat),
  });
  page.render();
}

/** Where an event stands; by its times where the answer does not say whether it is on sale. */
export function eventBadge({ status, on_sale: onSale, on_sale_at: from, off_sale_at: until, starts_at: starts, seats }) {
  if (status !== 'published') return badge(status);
  if (seats && seats.total > 0 && seats.free === 0) return badge('sold_out');
  const now = serverNow();
  if (from && Date.parse(from) > now) return badge('coming');
  return badge(onSale ?? Date.parse(until ?? starts) > now ? 'on_sale' : 'off_sale');
}

function about(data) {
  const performers = data.performers.map(({ name }) => name).filter((name) => !data.name.includes(name));
  const doors = data.doors_at && `Doors ${clockTime(data.doors_at, data.venue.timezone)}`;
  const line = [kindName(data.kind), performers.length && performers.join(', '), doors, data.venue.address].filter(Boolean).join(' · ');
  return h('div', { class: 'about' }, h('p', { class: 'muted break' }, line), data.description && h('p', { class: 'break prose' }, data.description));
}

/** Whether one can buy now; if not, why, and what to do. */
function saleState(data, state) {
  const now = serverNow();
  if (data.status === 'cancelled') return banner({ title: 'This event was cancelled', text: 'Tickets that were sold are being refunded.' });
  const opens = data.on_sale_at && Date.parse(data.on_sale_at) > now;
  const admitted = admission(data.id, now);
  if (needsQueue(data, state) && !admitted) {
    return banner({
      tone: 'warn',
      title: opens ? `On sale ${relative(data.on_sale_at, now)}: ${when(data.on_sale_at, data.venue.timezone)}` : 'Many people want these tickets',
      text: opens ? 'Join the waiting room before the doors open: everyone who is there by then is drawn by lottery.' : 'Join the waiting room: you are let in when it is your turn.',
      action: h('a', { class: 'button primary', href: eventLink(data.id, 'waiting-room') }, 'Join the waiting room'),
    });
  }
  if (opens) return banner({ tone: 'warn', title: `On sale ${relative(data.on_sale_at, now)}`, text: `The sale begins ${when(data.on_sale_at, data.venue.timezone)} (${clockTime(data.on_sale_at, data.venue.timezone)}).` });
  if (!data.on_sale && data.status === 'published') return banner({ tone: 'warn', title: 'The sale has ended', text: 'The seats below are shown as they were left.' });
  if (admitted?.expires_at) {
    return h('p', { class: 'admitted' }, badge('admitted'), h('span', null, `You are in. ${countdown(Date.parse(admitted.expires_at) - now)} left to take your seats.`));
  }
  return null;
}

/** The waiting room itself knows best; until it has answered, the event's own word counts. */
function needsQueue({ queue }, { line }) {
  return line?.data?.active ?? queue.active;
}

function mayBuy(data, state) {
  return data.on_sale && (!needsQueue(data, state) || admission(data.id, serverNow()) !== null);
}

function seating(page, data, state, basket) {
  if (state.problem) {
    return banner({ title: 'The seats cannot be shown', text: state.problem.message, code: state.problem, action: button('Try again', () => loadPlan(page, data.id, state, basket), { kind: 'small' }) });
  }
  if (!state.plan) return loading(3);
  const seated = state.plan.sections.length > 0;
  const asList = page.query.get('view') === 'list';
  const context = { page, data, plan: state.plan, seats: state.seats, basket, mayBuy: mayBuy(data, state) };
  return [
    h('div', { class: seated ? 'event-grid' : 'event-grid event-flat' },
      seated && h('section', { class: 'seating', 'aria-label': 'Seats' },
        h('div', { class: 'toolbar' },
          choices('Show seats as', [['map', 'Map'], ['list', 'List']], asList ? 'list' : 'map', (value) => page.choose('view', value === 'map' ? null : value)),
          liveLight(state.seats)),
        asList
          ? seatList({ plan: state.plan, seats: state.seats, basket, view: state.view, open: (section, row) => { state.view = { section, row }; page.render(); } })
          : h('div', { key: 'map', class: 'map seatmap', ref: (host) => state.map.attach(host) }),
        legend(page, state)),
      h('aside', { class: 'basket', 'aria-label': 'Your tickets' },
        basket.lapsed && banner({ tone: 'warn', title: 'Your hold has ended', text: 'The seats are free for everyone again. Choose once more.' }),
        refused(context),
        basket.hold ? holdCard(context) : [seated && chosen(context), areaPicker(context), seated && bestPicker(context)])),
    phoneBar(context),
  ];
}

function refused({ basket, data }) {
  const { problem, nearby } = basket;
  if (!problem) return null;
  const signIn = problem.status === 401 || (problem.status === 403 && problem.code !== 'tickets.not_admitted');
  return h('div', { class: 'banner tone-bad', role: 'alert' },
    h('div', { class: 'banner-body' }, h('p', { class: 'banner-title' }, problem.status === 401 ? 'Sign in to hold tickets: they are kept for somebody.' : prose(onClock(problem.message, data.venue.timezone))), problem.requestId && problem.status !== 401 && codes(problem)),
    h('div', { class: 'banner-action actions' },
      nearby.length > 0 && button(nearby.length === 1 ? 'Take one nearby' : `Take ${nearby.length} nearby`, () => basket.takeNearby(), { kind: 'small primary' }),
      problem.code === 'tickets.not_admitted' && h('a', { class: 'button small', href: eventLink(data.id, 'waiting-room') }, 'Waiting room'),
      signIn && h('a', { class: 'button small', href: `#/sign-in?back=${encodeURIComponent(location.hash)}` }, whoami() ? 'Switch person' : 'Sign in'),
      button('Dismiss', () => { basket.problem = null; basket.nearby = []; basket.changed(); }, { kind: 'small' })));
}

function liveLight(seats) {
  const words = { loading: 'Loading seats…', live: 'Seats live', behind: 'Reconnecting…' };
  return h('span', { class: seats.status === 'behind' ? 'light light-down muted' : 'light muted', role: 'status' }, words[seats.status]);
}

/** Prices that are also filters, and what the shapes mean. */
function legend(page, state) {
  const { plan, seats } = state;
  return h('div', { class: 'legend-box' },
    h('ul', { class: 'price-levels', 'aria-label': 'Price levels' }, plan.levels.map((level, index) => h('li', { key: level.key },
      h('button', {
        type: 'button', class: 'price-level', 'aria-pressed': String(state.only === index), title: 'Show only these',
        onclick: () => { state.only = state.only === index ? null : index; state.map.draw(); page.render(); },
      },
      h('span', { class: 'swatch', style: { background: level.color } }), h('span', { class: 'break' }, level.name), h('span', { class: 'strong nowrap' }, money(level.price)),
      h('span', { class: 'muted nowrap' }, seats.freeOfLevel[index] === 0 ? 'sold out' : `${compact(seats.freeOfLevel[index], 1)} free`))))),
    h('ul', { class: 'shapes', 'aria-label': 'Shapes on the map' },
      [['free', 'Free'], ['held', 'Held by somebody'], ['booked', 'Sold'], ['picked', 'Yours']].map(([look, text]) =>
        h('li', { key: look }, h('span', { class: `shape shape-${look}`, 'aria-hidden': 'true' }), text))));
}
