// Rides in words.

import { path } from '../api.js';
import { NONE } from '../format.js';

/** States in which somebody waits for something. */
export const UNDER_WAY = new Set(['requested', 'offered', 'accepted', 'arrived', 'picked_up_rider']);
/** Of them, those with a driver. */
export const DRIVEN = new Set(['accepted', 'arrived', 'picked_up_rider']);

export const rideLink = (id) => `#${path('rides', 'operator', 'rides', id)}`;

/** "…3f9a1c": enough to tell rides of a day apart. */
export const shortId = (id) => `…${String(id).slice(-6)}`;

/** "4 min"; a car that is nearly there is not counted in seconds. */
export function minutes(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  return seconds < 60 ? '< 1 min' : `${Math.round(seconds / 60)} min`;
}

/** "×1.25", or nothing where prices are as always. */
export const surgeText = (surge) => (surge > 1 ? `×${surge.toFixed(2)}` : null);

export const CANCELLED_BY = { rider: 'the rider', driver: 'the driver', operator: 'the operator' };

/** "Dora, white Dacia, AA-00-AA". */
export function driverText(profile) {
  return profile ? `${profile.name}, ${profile.vehicle}, ${profile.plate}` : NONE;
}
