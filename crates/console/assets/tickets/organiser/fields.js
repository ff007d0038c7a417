// Fields of the organiser's forms.

import { h } from '../../dom.js';
import { codes, prose, sentence } from '../../parts.js';

let numbers = 0;
const ids = new WeakMap();

/** A stable id for the field `name` of a form. */
function idOf(form, name) {
  if (!ids.has(form)) ids.set(form, `form-${(numbers += 1)}`);
  return `${ids.get(form)}-${name}`;
}

/** A labelled text field that keeps its text in `form[name]`. */
export function text(page, form, name, label, { note, ...props } = {}) {
  const id = idOf(form, name);
  return h('div', { class: 'field', key: name }, h('label', { for: id }, label, note && h('small', null, ` ${note}`)),
    h('input', { id, value: form[name] ?? '', autocomplete: 'off', oninput: (event) => { form[name] = event.target.value; page.render(); }, ...props }));
}

export function area(page, form, name, label) {
  const id = idOf(form, name);
  return h('div', { class: 'field wide-field', key: name }, h('label', { for: id }, label), h('textarea', { id, value: form[name] ?? '', rows: '3', oninput: (event) => { form[name] = event.target.value; } }));
}

/** Options: [value, text]. */
export function select(page, form, name, label, options, changed = () => {}) {
  const id = idOf(form, name);
  return h('div', { class: 'field', key: name }, h('label', { for: id }, label),
    h('select', { id, onchange: (event) => { form[name] = event.target.value; changed(event.target.value); page.render(); } },
      options.map(([value, words]) => h('option', { key: value, value, selected: String(form[name] ?? '') === String(value) }, words))));
}

export function tick(page, form, name, label) {
  return h('label', { class: 'check', key: name }, h('input', { type: 'checkbox', checked: Boolean(form[name]), onchange: (event) => { form[name] = event.target.checked; page.render(); } }), h('span', null, label));
}

/** Why the server did not take it, or why it was not sent. */
export function refusal(problem) {
  return problem && h('div', { class: 'field-error', role: 'alert' }, h('p', null, prose(sentence(problem.message))), problem.code && codes(problem));
}
