// What the pages to sign up and in share: labelled fields, refusals, and the way back.

import { h } from '../dom.js';
import { codes, prose, sentence } from '../parts.js';
import { whoami } from '../session.js';

/** Where each begins who came from nowhere; the others at the events. What an operator looks after is at home. */
const FIRST = { rider: '#/rides', driver: '#/rides/driver', operator: '#/', admin: '#/' };

/** A field with its label; `hint` says what fits. */
export function field({ id, label, type = 'text', value, autocomplete, hint, maxlength = '2000', oninput }) {
  return h('div', { class: 'field' }, h('label', { for: id }, label, hint && h('small', null, ` ${hint}`)),
    h('input', {
      id, name: id, type, value, autocomplete, maxlength, spellcheck: 'false', autocapitalize: 'none', required: true,
      oninput: (event) => oninput(event.target.value),
    }));
}

/** Why the server refused, where the person looks. */
export function refusal(problem) {
  if (!problem) return null;
  return h('div', { class: 'field-error', role: 'alert' }, h('p', null, prose(sentence(problem.message))), codes(problem));
}

/** To where the person came from. */
export function goBack(back) {
  const to = back ?? '';
  location.hash = to.startsWith('#/') && !to.startsWith('#/sign-') ? to : FIRST[whoami()?.roles[0]] ?? '#/tickets';
}

/** The way back, for the next page of these. */
export function onward(page) {
  const to = page.query.get('back');
  return to ? `?back=${encodeURIComponent(to)}` : '';
}
