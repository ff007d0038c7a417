// What riders see of a driver, as the driver writes it.

import { h } from '../dom.js';
import { send } from '../intents.js';
import { button, codes, prose, sentence } from '../parts.js';

const FIELDS = [
  ['name', 'Your name', 'Dora', 80],
  ['vehicle', 'Car, as a rider recognises it', 'white Dacia Logan', 80],
  ['plate', 'Plate', 'AA-00-AA', 16],
];

/** The form of a profile; `state` is the driver's page, whose `me` gets what the server answers. */
export function profileForm(page, state) {
  const form = (state.form ??= { name: '', vehicle: '', plate: '', seats: '4', ...state.me.profile, problem: null, busy: false });
  const submit = async (event) => {
    event.preventDefault();
    if (form.busy) return;
    Object.assign(form, { busy: true, problem: null });
    page.render();
    try {
      const profile = { name: form.name.trim(), vehicle: form.vehicle.trim(), plate: form.plate.trim(), seats: Number(form.seats) };
      state.learn(await send('/drivers/profile', profile, { method: 'PUT' }));
      Object.assign(state, { editing: false, form: null });
    } catch (problem) {
      Object.assign(form, { problem, busy: false });
    }
    page.render();
  };
  return h('form', { class: 'card stack-small', onsubmit: submit },
    h('h2', null, state.me.profile ? 'Your profile' : 'First, your profile'),
    h('p', { class: 'muted' }, 'Riders see it when you accept. An operator approves it before your first shift, and again after each change.'),
    FIELDS.map(([name, text, example, most]) => h('label', { class: 'field', key: name }, h('span', null, text),
      h('input', { name, value: form[name], placeholder: example, maxlength: String(most), required: true, autocomplete: 'off', oninput: (event) => { form[name] = event.target.value; } }))),
    h('label', { class: 'field field-short' }, h('span', null, 'Seats for riders'),
      h('input', { name: 'seats', type: 'number', min: '1', max: '8', value: form.seats, oninput: (event) => { form.seats = event.target.value; } })),
    form.problem && h('div', { class: 'field-error', role: 'alert' }, h('p', null, prose(sentence(form.problem.message))), codes(form.problem)),
    h('div', { class: 'actions' },
      h('button', { type: 'submit', class: 'button primary', disabled: form.busy }, form.busy ? 'Sending…' : 'Send for approval'),
      state.editing && button('Back', () => { Object.assign(state, { editing: false, form: null }); page.render(); })));
}
