// Places on the earth, and lines of them. A city is small enough for a plane: metres east and south of its middle.

const EARTH_M = 6_371_008.8;
const METRES = (EARTH_M * Math.PI) / 180;

/** A plane that touches the earth at a place. */
export class Plane {
  constructor({ lat, lng }) {
    this.lat = lat;
    this.lng = lng;
    this.narrow = Math.max(0.01, Math.cos((lat * Math.PI) / 180));
  }

  /** Metres east and south. */
  flat({ lat, lng }) {
    return [(lng - this.lng) * this.narrow * METRES, (this.lat - lat) * METRES];
  }

  /** The reverse, to a centimetre. */
  place(x, y) {
    const round = (value) => Math.round(value * 1e7) / 1e7;
    return { lat: round(this.lat - y / METRES), lng: round(this.lng + x / (this.narrow * METRES)) };
  }
}

/** Metres between two places (haversine). */
export function metresBetween(one, other) {
  const radians = Math.PI / 180;
  const [lat1, lat2] = [one.lat * radians, other.lat * radians];
  const across = Math.sin(((other.lng - one.lng) * radians) / 2) ** 2;
  const half = Math.sin((lat2 - lat1) / 2) ** 2 + Math.cos(lat1) * Math.cos(lat2) * across;
  return 2 * EARTH_M * Math.asin(Math.min(1, Math.sqrt(half)));
}

/** Degrees clockwise from north, 0 to 359, from one place to another. */
export function headingTo(from, to) {
  const east = (to.lng - from.lng) * Math.cos((from.lat * Math.PI) / 180);
  return (Math.round((Math.atan2(east, to.lat - from.lat) * 180) / Math.PI) + 360) % 360;
}

/** The places of an encoded polyline, precision 5. What is no such line gives what could be read. */
export function decodeLine(text) {
  const places = [];
  let at = 0;
  let lat = 0;
  let lng = 0;
  const number = () => {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      bits = text.charCodeAt(at) - 63;
      at += 1;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits >= 32);
    return value & 1 ? ~(value >> 1) : value >> 1;
  };
  while (at < (text?.length ?? 0)) {
    lat += number();
    lng += number();
    // A number that its text breaks off.
    if (at > text.length) break;
    places.push({ lat: lat / 1e5, lng: lng / 1e5 });
  }
  return places;
}

/** A way along a line of places, a step at a time. */
export class Walk {
  constructor(places) {
    this.places = places;
    this.at = 0;
    this.place = places[0] ?? null;
    this.heading = null;
  }

  get done() {
    return this.at >= this.places.length - 1;
  }

  /** So many metres on. */
  step(metres) {
    let left = metres;
    while (!this.done && left > 0) {
      const next = this.places[this.at + 1];
      const far = metresBetween(this.place, next);
      if (far > 0.01) this.heading = headingTo(this.place, next);
      if (far > left) {
        const share = left / far;
        this.place = { lat: this.place.lat + (next.lat - this.place.lat) * share, lng: this.place.lng + (next.lng - this.place.lng) * share };
        return this.place;
      }
      left -= far;
      this.place = next;
      this.at += 1;
    }
    return this.place;
  }
}

/** "41.1496, -8.6110" as a person reads and writes it; null where it is no place. */
export function parsePlace(text) {
  const found = /^\s*(-?\d{1,2}(?:\.\d+)?)\s*[,; ]\s*(-?\d{1,3}(?:\.\d+)?)\s*$/.exec(text);
  if (!found) return null;
  const [lat, lng] = [Number(found[1]), Number(found[2])];
  return Math.abs(lat) <= 90 && Math.abs(lng) <= 180 ? { lat, lng } : null;
}

export function placeText(place) {
  return place ? `${place.lat.toFixed(5)}, ${place.lng.toFixed(5)}` : '';
}

/** "420 m", "3.4 km". */
export function distance(metres) {
  if (metres === null || metres === undefined) return '–';
  return metres < 950 ? `${Math.round(metres / 10) * 10} m` : `${(metres / 1000).toFixed(1)} km`;
}
