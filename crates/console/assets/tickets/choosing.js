// Beside the map: what is chosen, how many places of general admission, best available, and the hold with its countdown.

import { path } from '../api.js';
import { h } from '../dom.js';
import { count, counted } from '../format.js';
import { button } from '../parts.js';
import { countdown, money, place } from './words.js';

export const checkoutLink = (hold) => `#${path('tickets', 'checkout', hold)}`;

/** The last minute is told to everyone, also to those who listen. */
const WARN_MS = 60_000;

export function chosen({ plan, basket, mayBuy }) {
  const seats = [...basket.picked];
  return h('section', { class: 'card stack-small', 'aria-label': 'Your choice' },
    h('h2', null, seats.length === 0 ? 'Choose seats' : counted(seats.length, 'seat')),
    seats.length === 0
      ? h('p', { class: 'muted' }, 'Tap a section to come closer, then tap free seats.')
      : h('ul', { class: 'seat-lines' }, seats.map((seat) => h('li', { key: seat },
        h('span', { class: 'swatch', style: { background: plan.levels[plan.level[seat]]?.color ?? 'transparent' } }),
        h('span', { class: 'break' }, place(plan.placeOf(seat))),
        h('span', { class: 'nowrap' }, money(plan.priceOf(seat))),
        h('button', { type: 'button', class: 'plain', 'aria-label': `Give up ${place(plan.placeOf(seat))}`, onclick: () => basket.toggle(seat) }, '×')))),
    reserveButton(basket, mayBuy));
}

function reserveButton(basket, mayBuy) {
  if (basket.count === 0) return null;
  return [
    h('p', { class: 'sum' }, h('span', null, 'Together'), h('strong', null, money(basket.total))),
    button(basket.busy === 'reserve' ? 'Holding…' : `Hold ${counted(basket.count, 'ticket')}`, () => basket.reserve(), { kind: 'primary', disabled: !mayBuy || basket.busy !== null, name: 'reserve' }),
    !mayBuy && h('p', { class: 'muted' }, 'Not on sale to you at this moment; see above.'),
  ];
}

export function areaPicker({ plan, seats, basket, mayBuy }) {
  if (plan.areas.length === 0) return null;
  const room = basket.limit - basket.count;
  return h('section', { class: 'card stack-small', 'aria-label': 'General admission' },
    h('h2', null, 'General admission'),
    h('ul', { class: 'area-lines' }, plan.areas.map((area) => {
      const free = seats.freeOfArea.get(area.key) ?? 0;
      const chosenHere = basket.areas.get(area.key) ?? 0;
      return h('li', { key: area.key },
        h('span', { class: 'swatch', style: { background: plan.levels[area.level]?.color ?? 'transparent' } }),
        h('span', { class: 'area-name' }, h('span', { class: 'strong break' }, area.name), h('span', { class: 'muted' }, `${money(plan.levels[area.level]?.price)} · ${free === 0 ? 'sold out' : `${count(free)} free`}`)),
        h('span', { class: 'stepper', role: 'group', 'aria-label': `Tickets for ${area.name}` },
          button('−', () => basket.setArea(area.key, chosenHere - 1), { kind: 'small', disabled: chosenHere === 0, label: 'One fewer' }),
          h('output', { 'aria-live': 'polite' }, String(chosenHere)),
          button('+', () => basket.setArea(area.key, chosenHere + 1), { kind: 'small', disabled: room <= 0 || chosenHere >= free, label: 'One more' })));
    })),
    plan.sections.length === 0 && reserveButton(basket, mayBuy));
}

const best = { quantity: 2, level: '' };

/** The server chooses: seats side by side, the best rows first. */
export function bestPicker({ page, plan, basket, mayBuy }) {
  if (basket.picked.size > 0) return null;
  const most = Math.min(basket.limit, 20);
  return h('section', { class: 'card stack-small', 'aria-label': 'Best available' },
    h('h2', null, 'Best available'),
    h('p', { class: 'muted' }, 'Seats side by side, chosen for you.'),
    h('form', {
      class: 'best',
      onsubmit: (event) => {
        event.preventDefault();
        basket.best(best.quantity, best.level);
      },
    },
    h('label', { class: 'field' }, h('span', null, 'How many'),
      h('select', { onchange: (event) => { best.quantity = Number(event.target.value); page.render(); } },
        Array.from({ length: most }, (_, index) => h('option', { key: index, value: String(index + 1), selected: best.quantity === index + 1 }, String(index + 1))))),
    h('label', { class: 'field' }, h('span', null, 'Price'),
      h('select', { onchange: (event) => { best.level = event.target.value; page.render(); } },
        h('option', { value: '', selected: best.level === '' }, 'Any'),
        plan.levels.map((level) => h('option', { key: level.key, value: level.key, selected: best.level === level.key }, `${level.name}, ${money(level.price)}`)))),
    h('button', { type: 'submit', class: 'button', disabled: !mayBuy || basket.busy !== null }, basket.busy === 'reserve' ? 'Looking…' : 'Find and hold')));
}

export function holdCard({ basket }) {
  const { hold, leftMs } = basket;
  return h('section', { class: 'card stack-small hold-card', 'aria-label': 'Your hold' },
    h('div', { class: 'section-head' }, h('h2', null, `${counted(hold.tickets.length, 'ticket')} held for you`), countdownBadge(leftMs)),
    ticketLines(hold.tickets),
    h('p', { class: 'sum' }, h('span', null, 'Total'), h('strong', null, money(hold.total))),
    h('div', { class: 'actions' },
      h('a', { class: 'button primary', href: checkoutLink(hold.hold_id) }, 'Go to payment'),
      button(basket.busy === 'release' ? 'Letting go…' : 'Let them go', () => basket.release(), { disabled: basket.busy !== null })));
}

export function countdownBadge(leftMs) {
  const soon = leftMs < WARN_MS;
  return h('span', { class: soon ? 'countdown tone-bad' : 'countdown', role: 'timer', 'aria-live': soon ? 'polite' : 'off', 'aria-label': `${countdown(leftMs)} left` }, countdown(leftMs));
}

export function ticketLines(tickets) {
  return h('ul', { class: 'seat-lines' }, tickets.map((ticket) => h('li', { key: ticket.id },
    h('span', { class: 'break' }, place(ticket)), h('span', { class: 'nowrap' }, money(ticket.price)))));
}

/** On a phone the choice follows the thumb. */
export function phoneBar({ basket, mayBuy }) {
  if (basket.hold) {
    return h('div', { class: 'phone-bar' },
      h('span', null, h('strong', null, `${counted(basket.hold.tickets.length, 'ticket')} held`), h('small', null, `${money(basket.hold.total)} · ${countdown(basket.leftMs)} left`)),
      h('a', { class: 'button primary', href: checkoutLink(basket.hold.hold_id) }, 'Pay'));
  }
  if (basket.count === 0) return null;
  return h('div', { class: 'phone-bar' },
    h('span', null, h('strong', null, counted(basket.count, 'ticket')), h('small', null, money(basket.total))),
    button(basket.busy ? 'Holding…' : 'Hold', () => basket.reserve(), { kind: 'primary', disabled: !mayBuy || basket.busy !== null }));
}
