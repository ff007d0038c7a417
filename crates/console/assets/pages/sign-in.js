// Sign in: as a named person of the demo, with an account, at another issuer, or with a token from the command line.

import { get } from '../api.js';
import { h } from '../dom.js';
import { button, empty, heading, loading, prose, section } from '../parts.js';
import { beginAtIssuer, endAtIssuer, hasRole, signInAccount, signInDemo, signInWith, whoami } from '../session.js';
import { field, goBack, onward, refusal } from './forms.js';

const PEOPLE = [
  ['fan', 'A fan', 'Looks for events, takes seats, pays with a test card and gets tickets.', 'Buyer’s name'],
  ['organiser', 'An organiser', 'Makes venues and events, sets prices, watches the sale, runs the waiting room.', null],
  ['door', 'The door', 'Scans tickets and lets people in.', null],
  ['rider', 'A rider', 'Sees what a ride costs, requests it, watches the car come and rides.', 'Rider’s name'],
  ['driver', 'A driver', 'Goes on duty, answers offers, drives riders to where they want to be.', 'Driver’s name'],
  ['operator', 'An operator', 'Sees rides on the map, approves drivers, watches pipelines and runs them.', null],
];

/** The page goes back to where the person came from. */
export function signIn(page) {
  page.title('Sign in');
  const state = { busy: null, problem: null, about: null, token: '', names: {}, login: '', password: '', runs: null, issuer: null };
  const act = async (name, sign) => {
    if (state.busy) return;
    Object.assign(state, { busy: name, problem: null, about: name });
    page.render();
    try {
      await sign();
      goBack(page.query.get('back'));
    } catch (problem) {
      state.problem = problem;
    }
    state.busy = null;
    page.render();
  };
  get('/components').then(async ({ components }) => {
    const runs = new Set(components.map(({ name }) => name));
    if (runs.has('issuer')) state.issuer = (await get('/console/sign-in/issuer')).issuer;
    state.runs = runs;
  }).catch(() => {
    state.runs = new Set(['accounts', 'demo']);
  }).finally(() => page.render());
  const refused = (name) => state.about === name && refusal(state.problem);
  const people = () => section('As a person of the demo', [refused('demo'), h('div', { class: 'people' }, PEOPLE.map(([role, title, text, ask]) => h('form', {
    class: 'card person-card', key: role,
    onsubmit: (event) => {
      event.preventDefault();
      act('demo', () => signInDemo(role, (state.names[role] ?? '').trim()));
    },
  },
  h('h2', null, title),
  h('p', { class: 'muted' }, text),
  ask && h('div', { class: 'field' }, h('label', { for: `demo-${role}` }, ask, h('small', null, ' optional')),
    h('input', { id: `demo-${role}`, value: state.names[role] ?? '', maxlength: '40', autocomplete: 'off', placeholder: 'Ada', oninput: (event) => { state.names[role] = event.target.value; } })),
  h('button', { type: 'submit', class: 'button primary', disabled: state.busy !== null }, `Sign in as ${title.toLowerCase()}`))))]);
  const account = () => section('With an account', h('form', {
    class: 'card stack-small account-form',
    onsubmit: (event) => {
      event.preventDefault();
      act('account', () => signInAccount(state.login.trim(), state.password));
    },
  },
  refused('account'),
  field({ id: 'login', label: 'Email or name', value: state.login, autocomplete: 'username', oninput: (value) => { state.login = value; } }),
  field({ id: 'password', label: 'Password', type: 'password', value: state.password, autocomplete: 'current-password', oninput: (value) => { state.password = value; } }),
  h('div', { class: 'account-actions' },
    h('button', { type: 'submit', class: 'button primary', disabled: state.busy !== null }, state.busy === 'account' ? 'Signing in…' : 'Sign in'),
    h('a', { href: `#/sign-up${onward(page)}` }, 'No account yet? Sign up'))));
  const leave = async () => {
    if (state.busy) return;
    Object.assign(state, { busy: 'issuer', problem: null, about: 'issuer' });
    page.render();
    try {
      await beginAtIssuer(page.query.get('back'));
    } catch (problem) {
      Object.assign(state, { busy: null, problem });
      page.render();
    }
  };
  const elsewhere = () => section(`At ${new URL(state.issuer).host}`, h('div', { class: 'card stack-small account-form' },
    refused('issuer'),
    h('p', null, 'You sign in there and come back.'),
    h('div', null, button(`Sign in at ${new URL(state.issuer).host}`, leave, { kind: 'primary', disabled: state.busy !== null }))));
  const token = () => section('With a token', h('form', {
    class: 'card stack-small',
    onsubmit: (event) => {
      event.preventDefault();
      act('token', async () => signInWith(state.token));
    },
  },
  refused('token'),
  h('p', null, prose(`Whoever runs the server prints one with \`tessera token --role ${state.runs.has('tickets-api') ? 'fan' : 'operator'} --subject ada\`.`)),
  field({ id: 'token', label: 'Token', value: state.token, autocomplete: 'off', oninput: (value) => { state.token = value; } }),
  h('div', null, h('button', { type: 'submit', class: 'button', disabled: state.busy !== null }, 'Sign in with this token'))));
  page.view = () => [
    heading({ title: whoami() ? 'Switch person' : 'Sign in', under: whoami() ? `Now ${whoami().name} (${whoami().roles.join(', ')})` : undefined }),
    !state.runs && loading(3),
    state.runs?.has('demo') && people(),
    state.runs && state.issuer && elsewhere(),
    state.runs?.has('accounts') && account(),
    state.runs && token(),
  ];
}

/** Where an issuer sends people back to, with a code or a refusal. */
export function signInEnd(page) {
  page.title('Sign in');
  const state = { problem: null };
  page.view = () => [heading({ title: 'Sign in' }), state.problem
    ? h('div', { class: 'card stack-small account-form' }, refusal(state.problem), h('a', { class: 'button primary', href: '#/sign-in' }, 'Sign in again'))
    : loading(2)];
  endAtIssuer(page.query).then((back) => {
    // The way back of the browser does not lead here: a code is good once.
    history.replaceState(null, '', '#/sign-in');
    goBack(back);
  }, (problem) => {
    state.problem = problem;
    page.render();
  });
}

/** What a page that needs a role shows to somebody without it; null to those who have it. */
export function signInFirst(role, what) {
  if (hasRole(role)) return null;
  const href = `#/sign-in?back=${encodeURIComponent(location.hash)}`;
  const person = { fan: 'a fan', organiser: 'an organiser', door: 'the door', rider: 'riders', driver: 'drivers', operator: 'operators' }[role];
  return empty(whoami() ? `This page is for ${person}` : 'Sign in first', `${what} ${whoami() ? `You are signed in as ${whoami().roles.join(', ')}.` : ''}`.trim(),
    h('a', { class: 'button primary', href }, whoami() ? 'Switch person' : 'Sign in'));
}
