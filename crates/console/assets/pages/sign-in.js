// Sign in: as a named person of the demo, or with a token from the command line.

import { h } from '../dom.js';
import { codes, empty, heading, prose, section } from '../parts.js';
import { hasRole, signInDemo, signInWith, whoami } from '../session.js';

const PEOPLE = [
  ['fan', 'A fan', 'Looks for events, takes seats, pays with a test card and gets tickets.', 'Buyer’s name'],
  ['organiser', 'An organiser', 'Makes venues and events, sets prices, watches the sale, runs the waiting room.', null],
  ['door', 'The door', 'Scans tickets and lets people in.', null],
  ['rider', 'A rider', 'Sees what a ride costs, requests it, watches the car come and rides.', 'Rider’s name'],
  ['driver', 'A driver', 'Goes on duty, answers offers, drives riders to where they want to be.', 'Driver’s name'],
  ['operator', 'An operator', 'Sees drivers, lines and rides on the map, and approves drivers.', null],
];
/** Where each begins. */
const FIRST = { rider: '#/rides', driver: '#/rides/driver', operator: '#/rides/operator' };

/** The page goes back to where the person came from. */
export function signIn(page) {
  page.title('Sign in');
  const state = { busy: null, problem: null, noDemo: false, token: '', names: {} };
  const back = () => {
    const to = page.query.get('back') ?? '';
    location.hash = to.startsWith('#/') && !to.startsWith('#/sign-in') ? to : FIRST[whoami()?.roles[0]] ?? '#/tickets';
  };
  const act = async (name, sign) => {
    state.busy = name;
    state.problem = null;
    page.render();
    try {
      await sign();
      state.busy = null;
      back();
    } catch (problem) {
      state.busy = null;
      state.noDemo = problem.status === 404;
      state.problem = state.noDemo ? null : problem;
      page.render();
    }
  };
  page.view = () => [
    heading({ title: whoami() ? 'Switch person' : 'Sign in', under: whoami() ? `Now ${whoami().name} (${whoami().roles.join(', ')})` : 'Choose who you are in this demo.' }),
    state.problem && h('div', { class: 'field-error', role: 'alert' }, h('p', null, prose(state.problem.message)), codes(state.problem)),
    state.noDemo
      ? empty('This server is no demo', 'It knows no demo people. Sign in with a token instead, below.')
      : h('div', { class: 'people' }, PEOPLE.map(([role, title, text, ask]) => h('form', {
        class: 'card person-card', key: role,
        onsubmit: (event) => {
          event.preventDefault();
          if (!state.busy) act(role, () => signInDemo(role, (state.names[role] ?? '').trim()));
        },
      },
      h('h2', null, title),
      h('p', { class: 'muted' }, text),
      ask && h('div', { class: 'field' }, h('label', { for: `demo-${role}` }, ask, h('small', null, ' optional')),
        h('input', { id: `demo-${role}`, value: state.names[role] ?? '', maxlength: '40', autocomplete: 'off', placeholder: 'Ada', oninput: (event) => { state.names[role] = event.target.value; } })),
      h('button', { type: 'submit', class: 'button primary', disabled: state.busy !== null }, state.busy === role ? 'Signing in…' : `Sign in as ${title.toLowerCase()}`)))),
    section('With a token', h('form', {
      class: 'card stack-small',
      onsubmit: (event) => {
        event.preventDefault();
        act('token', async () => signInWith(state.token));
      },
    },
    h('p', null, prose('Whoever runs the server prints one with `tessera token --role fan --subject ada`.')),
    h('div', { class: 'field' }, h('label', { for: 'token' }, 'Token'),
      h('input', { id: 'token', value: state.token, autocomplete: 'off', spellcheck: 'false', oninput: (event) => { state.token = event.target.value; } })),
    h('div', null, h('button', { type: 'submit', class: 'button' }, 'Sign in with this token')))),
  ];
}

/** What a page that needs a role shows to somebody without it; null to those who have it. */
export function signInFirst(role, what) {
  if (hasRole(role)) return null;
  const href = `#/sign-in?back=${encodeURIComponent(location.hash)}`;
  const person = { fan: 'a fan', organiser: 'an organiser', door: 'the door', rider: 'riders', driver: 'drivers', operator: 'operators' }[role];
  return empty(whoami() ? `This page is for ${person}` : 'Sign in first', `${what} ${whoami() ? `You are signed in as ${whoami().roles.join(', ')}.` : ''}`.trim(),
    h('a', { class: 'button primary', href }, whoami() ? 'Switch person' : 'Sign in'));
}
