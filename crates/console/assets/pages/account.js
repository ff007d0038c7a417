// One's own account: signing up, the password, signing out; and signing in for another program.

import { get, withQuery, write } from '../api.js';
import { h } from '../dom.js';
import { banner, button, empty, facts, heading, loading, section, sentence, toast } from '../parts.js';
import { changePassword, signOut, signUp, whoami } from '../session.js';
import { field, goBack, onward, refusal } from './forms.js';

export function signUpPage(page) {
  page.title('Sign up');
  const state = { login: '', name: '', password: '', busy: false, problem: null };
  const submit = async (event) => {
    event.preventDefault();
    if (state.busy) return;
    Object.assign(state, { busy: true, problem: null });
    page.render();
    try {
      await signUp(state.login.trim(), state.password, state.name.trim());
      goBack(page.query.get('back'));
    } catch (problem) {
      state.problem = problem;
    }
    state.busy = false;
    page.render();
  };
  page.view = () => [
    heading({ title: 'Sign up' }),
    h('form', { class: 'card stack-small account-form', onsubmit: submit },
      refusal(state.problem),
      // The name may be somebody else's, which the server does not tell.
      state.problem?.code === 'accounts.bad_credentials' && h('p', null, 'There may be an account of this name already. ', h('a', { href: `#/sign-in${onward(page)}` }, 'Sign in'), ' if it is yours, or choose another name.'),
      field({ id: 'login', label: 'Email or name', value: state.login, autocomplete: 'username', oninput: (value) => { state.login = value; } }),
      h('div', { class: 'field' }, h('label', { for: 'name' }, 'What to call you', h('small', null, ' optional')),
        h('input', { id: 'name', name: 'name', value: state.name, autocomplete: 'name', maxlength: '80', oninput: (event) => { state.name = event.target.value; } })),
      field({ id: 'password', label: 'Password', hint: '10 characters at least; four words do well', type: 'password', value: state.password, autocomplete: 'new-password', oninput: (value) => { state.password = value; } }),
      h('div', { class: 'account-actions' },
        h('button', { type: 'submit', class: 'button primary', disabled: state.busy }, state.busy ? 'Signing up…' : 'Sign up'),
        h('a', { href: `#/sign-in${onward(page)}` }, 'I have an account'))),
  ];
}

export function account(page) {
  page.title('Account');
  const state = { current: '', next: '', busy: false, problem: null, changed: false, stays: null };
  const submit = async (event) => {
    event.preventDefault();
    if (state.busy) return;
    Object.assign(state, { busy: true, problem: null, changed: false });
    page.render();
    try {
      await changePassword(state.current, state.next);
      Object.assign(state, { current: '', next: '', changed: true });
    } catch (problem) {
      state.problem = problem;
    }
    state.busy = false;
    page.render();
  };
  const leave = async (everywhere) => {
    state.stays = null;
    try {
      await signOut({ everywhere });
    } catch (problem) {
      state.stays = problem;
      page.render();
      return;
    }
    toast(everywhere ? 'Signed out on all devices.' : 'Signed out.');
    location.hash = '#/sign-in';
  };
  page.view = () => {
    const session = whoami();
    if (!session) return [heading({ title: 'Account' }), empty('Nobody is signed in', '', h('a', { class: 'button primary', href: '#/sign-in?back=%23%2Faccount' }, 'Sign in'))];
    return [
      heading({ title: session.name, under: wayIn(session) }),
      facts([['Roles', session.roles.join(', ') || 'none'], ['Subject', h('code', { class: 'break' }, session.subject)]]),
      state.stays && banner({ title: 'You are still signed in', text: sentence(state.stays.message), tone: 'bad' }),
      h('div', { class: 'account-actions' }, button('Sign out', () => leave(false)), session.account && button('Sign out on all devices', () => leave(true))),
      session.account && section('Another password', h('form', { class: 'card stack-small account-form', onsubmit: submit },
        state.changed && banner({ title: 'Your password is changed', text: 'All other devices are signed out.', tone: 'good' }),
        refusal(state.problem),
        h('input', { type: 'text', name: 'username', autocomplete: 'username', value: session.name, hidden: true }),
        field({ id: 'current', label: 'Present password', type: 'password', value: state.current, autocomplete: 'current-password', oninput: (value) => { state.current = value; } }),
        field({ id: 'next', label: 'New password', hint: '10 characters at least', type: 'password', value: state.next, autocomplete: 'new-password', oninput: (value) => { state.next = value; } }),
        h('div', null, h('button', { type: 'submit', class: 'button primary', disabled: state.busy }, state.busy ? 'Changing…' : 'Change password')))),
    ];
  };
}

function wayIn({ account: isOurs, issuer }) {
  if (isOurs) return 'Your account';
  return issuer ? `Signed in at ${new URL(issuer).host}, where your account is` : 'Signed in with a token, without an account';
}

/** Another program asks who this is; the answer goes to an address that the server knows as its. */
export function authorize(page) {
  page.title('Sign in for a program');
  const wish = Object.fromEntries(page.query);
  const { signed_in_since } = wish;
  const state = { asks: null, again: false, problem: null, busy: false };
  // Where the program wants a new sign-in, only the server knows when this one was.
  const agrees = signed_in_since ? get(withQuery('/accounts/authorize', { signed_in_since })) : { sign_in_again: false };
  Promise.all([get(withQuery('/oauth/asks', wish)), agrees]).then(([asks, { sign_in_again: again }]) => { Object.assign(state, { asks, again }); })
    .catch((problem) => { state.problem = problem; }).finally(() => page.render());
  const agree = async () => {
    Object.assign(state, { busy: true, problem: null });
    page.render();
    try {
      const { redirect_to: to } = await write('POST', '/accounts/authorize', wish);
      location.assign(to);
    } catch (problem) {
      Object.assign(state, { busy: false, problem, again: problem.code === 'accounts.sign_in_again' });
      page.render();
    }
  };
  const refuse = () => {
    const to = new URL(state.asks.redirect_uri);
    to.searchParams.set('error', 'access_denied');
    to.searchParams.set('iss', state.asks.issuer);
    if (wish.state) to.searchParams.set('state', wish.state);
    location.assign(to);
  };
  page.view = () => {
    const session = whoami();
    const back = `?back=${encodeURIComponent(location.hash)}`;
    if (!state.asks) return [heading({ title: 'Sign in for a program' }), state.problem ? refusal(state.problem) : loading(2)];
    return [
      heading({ title: `${state.asks.client_name} asks who you are`, under: `You go back to ${new URL(state.asks.redirect_uri).host}.` }),
      refusal(state.problem),
      session?.account && !state.again
        ? h('div', { class: 'card stack-small account-form' },
          h('p', null, `It is told your name, and may act as you with your roles: ${session.roles.join(', ') || 'none'}.`),
          h('div', { class: 'account-actions' },
            button(`Go on as ${session.name}`, agree, { kind: 'primary', disabled: state.busy }),
            button('No', refuse, { disabled: state.busy }),
            h('a', { href: `#/sign-in${back}` }, 'Somebody else')))
        : empty(session?.account ? 'Sign in again' : 'Sign in first',
          session?.account ? 'This program wants to know that it is you at this moment.' : 'With an account of this server.',
          h('div', { class: 'account-actions' },
            h('a', { class: 'button primary', href: `#/sign-in${back}` }, 'Sign in'),
            button('No', refuse))),
    ];
  };
}
