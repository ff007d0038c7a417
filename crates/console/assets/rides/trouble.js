// What went wrong with a step of a ride, as a banner that can be put away.

import { banner, button } from '../parts.js';
import { shortId } from './words.js';

const TITLES = {
  'rides.wrong_code': 'Wrong code',
  'rides.not_now': 'Not possible now',
  'rides.offer_over': 'The offer is over',
  'rides.no_road': 'No road there',
  'rides.no_way': 'No way by car',
  'rides.not_ready': 'Not yet',
  'rides.routes': 'No routes at the moment',
  'rides.bad_request': 'That cannot be a ride',
};

/** The banner of `state.problem`, if there is one. */
export function trouble(page, state) {
  const { problem } = state;
  if (!problem) return null;
  return banner({
    title: TITLES[problem.code] ?? problem.title ?? 'That did not work',
    // Nobody reads a whole id.
    text: problem.message === problem.title ? null : problem.message.replaceAll(/(ride|driver|offer)_[0-9a-f]{32}/g, (id) => shortId(id)),
    code: problem,
    action: button('Dismiss', () => { state.problem = null; page.render(); }, { kind: 'small' }),
  });
}
