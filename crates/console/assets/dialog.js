// A modal question with a form in it.

import { draw, h } from './dom.js';
import { button, codes, prose, sentence } from './parts.js';

/** A modal question. `check` returns why it cannot be sent yet, or null; `submit` throws a problem to keep it open. */
export function openDialog({ title, confirm, dismiss = 'Close', danger = false, view, check, submit }) {
  const dialog = document.createElement('dialog');
  dialog.className = 'dialog';
  dialog.setAttribute('aria-labelledby', 'dialog-title');
  const state = { sending: false, problem: null, tried: false };
  const redraw = () => draw(dialog, content());
  const onsubmit = async (event) => {
    event.preventDefault();
    state.tried = true;
    if (state.sending || check() !== null) return redraw();
    state.sending = true;
    state.problem = null;
    redraw();
    try {
      await submit();
      dialog.close();
    } catch (problem) {
      state.problem = problem;
      state.sending = false;
      redraw();
    }
  };
  const content = () => h('form', { onsubmit, novalidate: true },
    h('h2', { id: 'dialog-title' }, title),
    view(redraw),
    state.tried && check() && h('p', { class: 'field-error', role: 'alert' }, check()),
    state.problem && h('div', { class: 'field-error', role: 'alert' }, h('p', null, prose(sentence(state.problem.message))), codes(state.problem)),
    h('div', { class: 'dialog-actions' },
      button(dismiss, () => dialog.close()),
      h('button', { type: 'submit', class: `button ${danger ? 'danger' : 'primary'}`, disabled: state.sending }, state.sending ? 'Sending…' : confirm)));
  const close = () => dialog.close();
  window.addEventListener('hashchange', close);
  dialog.addEventListener('close', () => {
    window.removeEventListener('hashchange', close);
    dialog.remove();
  });
  document.body.append(dialog);
  redraw();
  dialog.showModal();
}
