// Tickets › Checkout: pay for a hold before it ends. A declined card leaves the hold; a payment without an answer is asked
// about, never repeated.

import { get, path, serverNow, SLOW_MS } from '../api.js';
import { h } from '../dom.js';
import { counted } from '../format.js';
import { send } from '../intents.js';
import { banner, button, empty, heading, loading, section } from '../parts.js';
import { signInFirst } from '../pages/sign-in.js';
import { CardFrame } from './cardframe.js';
import { countdownBadge, ticketLines } from './choosing.js';
import { eventLink } from './event.js';
import { recall, remember } from './keeping.js';
import { TEST_CARDS } from './testcards.js';
import { clockTime, money, onClock, when } from './words.js';

const ASK_AGAIN_MS = 1000;
/** How long a hold lasts is told by the buyer's own clock, not the venue's. */
const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;
/** States in which an order may still go either way. */
const OPEN_STATES = ['paying', 'authorised'];

export const orderLink = (id) => `#${path('tickets', 'orders', id)}`;

export function checkout(page) {
  page.title('Checkout');
  const { hold: id } = page.params;
  const state = { hold: null, event: null, provider: null, frame: null, method: null, problem: null, over: null, busy: false, declined: null, order: null, next: null, tried: false, said: '', card: { number: '', expiry: '', cvc: '' }, promo: '' };
  const underWay = recall('order', id);
  if (signInFirst('fan', '') === null) {
    if (underWay) follow(page, state, { id: underWay.id, state: 'paying' }, underWay.next);
    else load(page, id, state);
  }
  page.tick(1000);
  page.view = () => {
    const refusal = signInFirst('fan', 'Tickets are sold to somebody: sign in to pay.');
    if (refusal) return [heading({ title: 'Checkout' }), refusal];
    const left = state.hold ? Date.parse(state.hold.expires_at) - serverNow() : null;
    if (left !== null && left <= 0 && !state.busy && !state.order) state.over = 'The time for this hold is up. The seats are free again.';
    return [
      heading({
        title: 'Checkout',
        crumbs: state.event ? [['Events', '#/tickets'], [state.event.name, eventLink(state.event.id)]] : [['Events', '#/tickets']],
        beside: left !== null && !state.over && !state.order && countdownBadge(left),
        under: state.event && `${state.event.name} · ${when(state.event.starts_at, state.event.venue.timezone)}`,
      }),
      content(page, state, id),
      h('p', { class: 'hidden', role: 'status', 'aria-live': 'assertive' }, state.said),
    ];
  };
}

async function load(page, id, state) {
  state.problem = null;
  try {
    state.hold = await get(path('booking', 'hold', id));
    [state.event, state.provider] = await Promise.all([get(path('event', state.hold.event)), get('/payments/provider')]);
    if (state.provider.card_form) state.frame ??= new CardFrame(page, state.provider.card_form, () => page.render());
  } catch (problem) {
    if (problem.status === 404 || problem.status === 409 || problem.status === 410) state.over = problem.message;
    else state.problem = problem;
  }
  page.render();
}

function content(page, state, id) {
  if (state.problem) return banner({ title: 'The hold cannot be shown', text: state.problem.message, code: state.problem, action: button('Try again', () => load(page, id, state), { kind: 'small' }) });
  if (state.order) return settling(state);
  if (state.over) {
    return empty('This hold is over', onClock(state.over, HERE), state.event
      ? h('a', { class: 'button primary', href: eventLink(state.event.id) }, 'Choose again')
      : h('a', { class: 'button', href: '#/tickets' }, 'To the events'));
  }
  if (!state.hold || !state.provider) return loading(4);
  return h('div', { class: 'checkout-grid' },
    paymentForm(page, state, id),
    h('aside', { class: 'card stack-small', 'aria-label': 'Your tickets' },
      h('h2', null, counted(state.hold.tickets.length, 'ticket')),
      ticketLines(state.hold.tickets),
      h('p', { class: 'sum' }, h('span', null, 'Total'), h('strong', null, money(state.hold.total))),
      h('p', { class: 'muted' }, `Kept for you until ${clockTime(state.hold.expires_at, HERE)}.`)));
}

function paymentForm(page, state, id) {
  if (state.provider.provider !== 'test' && !state.frame) {
    return banner({ tone: 'warn', title: 'No form for cards', text: 'Whoever runs this server has set no key for it: `tickets.payments.stripe_publishable_key`. Your seats stay yours for the time shown above.' });
  }
  const fault = faultOf(state);
  return h('form', {
    class: 'card payment stack-small', novalidate: true,
    onsubmit: (event) => {
      event.preventDefault();
      state.tried = true;
      // Of what is in the fields now, which may be newer than what is drawn.
      if (!state.busy && !faultOf(state)) pay(page, state, id);
      else page.render();
    },
  },
  h('h2', null, 'Card'),
  // By name, so that it takes nobody else's place when it goes: a frame that is moved begins anew.
  state.declined && h('div', { key: 'declined' }, banner({ title: state.declined.title, text: state.declined.text, code: state.declined.problem })),
  state.frame ? framedFields(state.frame) : testFields(page, state),
  h('div', { class: 'field' }, h('label', { for: 'promo' }, 'Promo code', h('small', null, ' optional')),
    h('input', { id: 'promo', value: state.promo, autocomplete: 'off', maxlength: '40', disabled: state.busy, oninput: (event) => { state.promo = event.target.value; } })),
  state.tried && fault && h('p', { class: 'field-error', role: 'alert' }, fault),
  h('button', { type: 'submit', class: 'button primary large', disabled: state.busy || (state.frame && state.frame.state !== 'ready') }, state.busy ? 'Paying…' : `Pay ${money(state.hold.total)}`),
  !state.frame && testCards(page, state));
}

function framedFields(frame) {
  return [
    frame.view(),
    frame.state === 'loading' && h('p', { class: 'muted', role: 'status' }, 'The card form is being loaded…'),
    frame.state === 'unreachable' && banner({ title: 'The card form cannot be loaded', text: `It comes from ${frame.from ?? 'the payment provider'}, which does not answer. Check the network, and whether something in this browser blocks it.`, action: button('Try again', () => frame.again(), { kind: 'small' }) }),
  ];
}

function testFields(page, state) {
  const field = (name, label, props) => h('div', { class: 'field' }, h('label', { for: `card-${name}` }, label),
    h('input', { id: `card-${name}`, value: state.card[name], inputmode: 'numeric', disabled: state.busy, oninput: (event) => { state.card[name] = event.target.value; page.render(); }, ...props }));
  return [
    field('number', 'Card number', { autocomplete: 'cc-number', placeholder: '4242 4242 4242 4242', maxlength: '23' }),
    h('div', { class: 'fields two' },
      field('expiry', 'Expires', { autocomplete: 'cc-exp', placeholder: 'MM/YY', maxlength: '7' }),
      field('cvc', 'Security code', { autocomplete: 'cc-csc', placeholder: '123', maxlength: '4' })),
  ];
}

function testCards(page, state) {
  return h('details', { class: 'note', open: true }, h('summary', null, 'Test cards: no money moves'),
    h('ul', { class: 'test-cards' }, TEST_CARDS.map(([number, text]) => h('li', { key: number },
      h('button', { type: 'button', class: 'plain', disabled: state.busy, onclick: () => { state.card = { number, expiry: '12/34', cvc: '123' }; page.render(); } }, h('code', null, number)),
      h('span', { class: 'muted' }, text)))));
}

function faultOf({ frame, card }) {
  if (!frame) return check(card);
  return frame.fault ?? (frame.complete ? null : 'The card is not complete.');
}

function check({ number, expiry, cvc }) {
  const digits = number.replaceAll(/\s/g, '');
  if (!/^\d{12,19}$/.test(digits)) return 'The card number has 12 to 19 digits.';
  if (!/^(0[1-9]|1[0-2])\s*\/\s*(\d{2}|\d{4})$/.test(expiry.trim())) return 'The expiry is a month and a year: 12/34.';
  if (!/^\d{3,4}$/.test(cvc.trim())) return 'The security code has 3 or 4 digits.';
  return null;
}

function cardOf({ number, expiry, cvc }) {
  const [month, year] = expiry.split('/').map((part) => Number(part.trim()));
  return { number: number.replaceAll(/\s/g, ''), exp_month: month, exp_year: year < 100 ? 2000 + year : year, cvc: cvc.trim() };
}

async function pay(page, state, id) {
  state.busy = true;
  state.declined = null;
  page.render();
  try {
    const body = { hold_id: id, payment_details: await detailsOf(state) };
    if (state.promo.trim()) body.promo_code = state.promo.trim();
    const { order, next_action: next } = await send('/booking/confirm', body, { deadlineMs: SLOW_MS });
    if (next || OPEN_STATES.includes(order.state)) follow(page, state, order, next ?? null);
    else arrive(state, order);
  } catch (problem) {
    refused(page, state, problem, id);
  }
  state.busy = false;
  page.render();
}

/** A payment method lives until the server has answered: an attempt without an answer is repeated with the same one. */
async function detailsOf(state) {
  if (!state.frame) return { card: cardOf(state.card) };
  state.method ??= await state.frame.method();
  return { payment_method: state.method };
}

function refused(page, state, problem, id) {
  if (problem.status !== 0) state.method = null;
  const order = problem.members?.order;
  const title = {
    'tickets.payment_declined': 'The card was declined',
    'tickets.payment_unknown': 'The payment has no answer yet',
    'tickets.hold_over': 'The hold is over',
    'tickets.seats_gone': 'The seats had gone before the payment came',
  }[problem.code] ?? (problem.status === 0 ? 'No answer yet' : 'Not paid');
  state.said = `${title}. ${problem.message}`;
  if (problem.code === 'tickets.payment_unknown' && order) {
    follow(page, state, { id: order, state: 'paying' }, null);
  } else if (problem.code === 'tickets.seats_gone' && order) {
    arrive(state, { id: order });
  } else if (problem.code === 'tickets.hold_over') {
    state.over = problem.message;
    if (state.hold) remember('hold', state.hold.event, null);
  } else {
    const again = problem.status === 0 ? ' Press “Pay” again: the same attempt is not charged twice.' : '';
    state.declined = { title, text: onClock(problem.message, HERE) + again, problem };
    if (problem.code === 'tickets.payment_declined') {
      state.card = { number: '', expiry: '', cvc: '' };
      state.tried = false;
      refreshHold(page, state, id);
    }
  }
}

/** A failed payment may have used up some of the time, or prolonged it: the server knows. */
async function refreshHold(page, state, id) {
  try {
    state.hold = await get(path('booking', 'hold', id));
  } catch (problem) {
    if (problem.status === 410 || problem.status === 404 || problem.status === 409) state.over = problem.message;
  }
  page.render();
}

/** Asks for the order until it is decided. */
function follow(page, state, order, next) {
  state.order = order;
  state.next = next;
  remember('order', page.params.hold, { id: order.id, next });
  const ask = async () => {
    if (page.closed) return;
    try {
      state.order = await get(path('orders', order.id));
    } catch (problem) {
      if (problem.status !== 0 && problem.status < 500) {
        remember('order', page.params.hold, null);
        state.order = null;
        state.problem = problem;
      }
    }
    if (state.order && !OPEN_STATES.includes(state.order.state)) decided(page, state);
    else if (state.order) setTimeout(ask, ASK_AGAIN_MS);
    page.render();
  };
  setTimeout(ask, ASK_AGAIN_MS);
}

function decided(page, state) {
  const { order } = state;
  remember('order', page.params.hold, null);
  if (['booked', 'captured', 'refund_due', 'refunded'].includes(order.state)) {
    arrive(state, order);
    return;
  }
  state.order = null;
  state.next = null;
  state.declined = { title: 'The payment failed', text: order.failure?.detail ?? 'Nothing was charged. Try another card.', problem: { code: order.failure?.code ?? null } };
  if (state.hold) refreshHold(page, state, state.hold.hold_id);
  else load(page, page.params.hold, state);
}

function arrive(state, order) {
  if (state.hold) remember('hold', state.hold.event, null);
  location.hash = `${orderLink(order.id)}?new=1`;
}

/** The second step is the bank's own page: it opens beside this one, which notices when it is done. */
function settling({ order, next }) {
  const url = next?.url ?? null;
  return section(url ? 'One more step' : 'The payment is being settled', h('div', { class: 'card stack-small settling' },
    h('p', null, url ? 'Your bank wants to be sure that it is you. Confirm there, then come back: this page goes on by itself.' : 'The payment provider has not answered yet. Your seats stay yours meanwhile; this page asks until it knows.'),
    url && h('div', null, button('Confirm with the bank', () => openBank(url), { kind: 'primary large', name: 'second-step' })),
    h('p', { class: 'muted light' }, 'Waiting for the answer'),
    h('p', { class: 'codes' }, 'order ', h('code', null, order.id))));
}

function openBank(url) {
  const target = new URL(url, location.href);
  if (target.origin !== location.origin && target.protocol !== 'https:') return;
  window.open(target.href, '_blank', 'noopener');
}
