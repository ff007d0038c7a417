// The same seats without a picture: section, row, seat, as buttons in reading order. For the keyboard and for screen
// readers, and for everyone who likes lists.

import { h } from '../dom.js';
import { count, counted } from '../format.js';
import { empty } from '../parts.js';
import { FREE, STATE_NAMES } from './seats.js';
import { money } from './words.js';

/** `view`: `{section, row}` that is open, kept by the page; `open(section, row)` changes it. */
export function seatList({ plan, seats, basket, view, open }) {
  if (plan.sections.length === 0) return empty('No numbered seats', 'This event has general admission only: choose how many beside this list.');
  const section = plan.sections[view.section];
  return h('div', { class: 'seat-list' },
    h('nav', { 'aria-label': 'Sections', class: 'seat-sections' }, h('ul', null, plan.sections.map((one) =>
      h('li', { key: one.index }, h('button', {
        type: 'button', class: 'section-button', 'aria-expanded': String(one === section), onclick: () => open(one === section ? null : one.index, null),
      }, h('span', { class: 'strong break' }, one.name), h('span', { class: 'muted nowrap' }, seats.free[one.index] === 0 ? 'sold out' : `${count(seats.free[one.index])} free`)))))),
    section
      ? h('div', { class: 'seat-rows' },
        h('h3', null, section.name),
        h('ul', null, section.rows.map((row, index) => h('li', { key: row.first }, rowOf({ plan, seats, basket, row, isOpen: view.row === index, toggle: () => open(view.section, view.row === index ? null : index) })))))
      : h('p', { class: 'muted seat-rows' }, 'Choose a section to see its rows.'));
}

function rowOf({ plan, seats, basket, row, isOpen, toggle }) {
  let free = 0;
  for (let seat = row.first; seat < row.first + row.count; seat += 1) if (seats.state[seat] === FREE) free += 1;
  return [
    h('button', { type: 'button', class: 'row-button', 'aria-expanded': String(isOpen), onclick: toggle },
      h('span', null, `Row ${row.label}`), h('span', { class: 'muted' }, free === 0 ? 'none free' : `${counted(free, 'seat')} free`)),
    isOpen && h('div', { class: 'seat-buttons', role: 'group', 'aria-label': `Seats of row ${row.label}` },
      Array.from({ length: row.count }, (_, index) => seatButton({ plan, seats, basket, seat: row.first + index, label: row.seats[index] ?? String(index + 1) }))),
  ];
}

function seatButton({ plan, seats, basket, seat, label }) {
  const mine = basket.mine.has(seat);
  const picked = basket.picked.has(seat);
  const state = mine ? 'held for you' : picked ? 'your choice' : STATE_NAMES[seats.state[seat]];
  const look = mine ? 'mine' : picked ? 'picked' : ['free', 'held', 'booked', 'blocked'][seats.state[seat]];
  const price = plan.priceOf(seat);
  return h('button', {
    type: 'button', key: seat, class: `seat seat-${look}`, 'aria-pressed': String(mine || picked), 'aria-label': `Seat ${label}, ${state}${price ? `, ${money(price)}` : ''}`,
    title: `${state}${price ? `, ${money(price)}` : ''}`, disabled: !mine && !picked && seats.state[seat] !== FREE, onclick: () => basket.toggle(seat),
    style: { '--level': plan.levels[plan.level[seat]]?.color ?? 'var(--muted)' },
  }, label);
}
