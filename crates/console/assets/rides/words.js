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

/** What a step of a ride's history is called: icon, tone, and the words with the name of its driver. */
export const HAPPENED = {
  estimated: ['ring', 'idle', () => 'A price was estimated'],
  requested: ['dots', 'busy', () => 'Requested'],
  offered: ['dot', 'busy', ({ offer }, name) => `Offered to ${name}${offer ? `, ${minutes(offer.eta_s)} away` : ''}`],
  denied: ['cross', 'warn', (event, name) => `${name} denied`],
  lapsed: ['clock', 'warn', (event, name) => `${name} did not answer`],
  accepted: ['check', 'good', (event, name) => `${name} accepted`],
  arrived: ['pin', 'good', () => 'At the pickup'],
  wrong_code: ['cross', 'warn', () => 'A code was said that is not the rider’s'],
  picked_up_rider: ['car', 'good', () => 'The rider got in'],
  completed: ['check', 'good', () => 'Completed'],
  expired: ['clock', 'idle', () => 'The price expired'],
  nobody_yet: ['clock', 'warn', () => 'Nobody was found yet, the search goes on'],
  no_driver: ['cross', 'bad', () => 'Nobody was found'],
};
