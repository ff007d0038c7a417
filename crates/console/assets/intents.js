// Writes that happen once. Each intent has one idempotency key for as long as it is unanswered, so pressing again after a
// lost answer does not start a second run, hold or payment.

import { newKey, write } from './api.js';

const unanswered = new Map();

/** Sends one intent; `method` is POST where not given. The key is dropped when the server has answered, whatever it said. */
export async function send(target, body, { method = 'POST', deadlineMs, version } = {}) {
  const intent = `${method} ${target} ${JSON.stringify(body ?? null)} ${version ?? ''}`;
  if (!unanswered.has(intent)) unanswered.set(intent, newKey());
  try {
    const answer = await write(method, target, body, { key: unanswered.get(intent), deadlineMs, version });
    unanswered.delete(intent);
    return answer;
  } catch (problem) {
    if (problem.status !== 0) unanswered.delete(intent);
    throw problem;
  }
}
