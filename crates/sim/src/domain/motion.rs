//! A car on its way: where it is after some time.

use std::time::Duration;

use tessera_kernel::Place;

/// No car that drives around is faster, metres a second, whatever the pace: the server would take it for a jump.
const FASTEST: f64 = 60.0;
/// No car that somebody waits for or sits in is faster; it tells its place before it has come so far that it would be a jump, metres.
const FASTEST_BUSY: f64 = 150.0;
const TELLS_WITHIN_M: f64 = 350.0;

/// A way and a speed.
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    start: Place,
    /// The points after the start, with how far they are along the way, metres.
    ahead: Vec<(Place, f64)>,
    speed: f64,
}

impl Motion {
    /// Nowhere.
    pub fn standing(at: Place) -> Self {
        Self { start: at, ahead: Vec::new(), speed: 1.0 }
    }

    /// From a place along a line, at a speed in metres a second.
    pub fn at_speed(start: Place, line: &[Place], speed: f64) -> Self {
        let (mut last, mut far) = (start, 0.0);
        let mut ahead = Vec::with_capacity(line.len());
        for place in line {
            far += last.distance_m(*place);
            last = *place;
            ahead.push((last, far));
        }
        Self { start, ahead, speed: speed.clamp(0.1, FASTEST) }
    }

    /// From a place along a line, in about so many seconds; longer where the car would be too fast.
    pub fn within(start: Place, line: &[Place], seconds: f64) -> Self {
        let way = Self::at_speed(start, line, 1.0);
        let speed = way.length_m() / seconds.max(0.1);
        Self { speed: speed.clamp(0.1, FASTEST_BUSY), ..way }
    }

    /// What is left of it after so long, at a speed that is so many times as high; and how much faster that is in the end.
    pub fn hurried(&self, passed: Duration, times: f64) -> (Self, f64) {
        let far = passed.as_secs_f64() * self.speed;
        let rest = self.ahead.iter().filter(|(_, reached)| *reached > far);
        let ahead = rest.map(|(place, reached)| (*place, reached - far)).collect();
        let speed = (self.speed * times).clamp(self.speed, FASTEST_BUSY.max(self.speed));
        (Self { start: self.after(passed).0, ahead, speed }, speed / self.speed)
    }

    /// Metres from start to end.
    pub fn length_m(&self) -> f64 {
        self.ahead.last().map_or(0.0, |(_, far)| *far)
    }

    /// Where it ends.
    pub fn end(&self) -> Place {
        self.ahead.last().map_or(self.start, |(place, _)| *place)
    }

    /// After how long at the latest the server must be told where the car is.
    pub fn tells_within(&self) -> Duration {
        if self.speed > FASTEST { Duration::from_secs_f64(TELLS_WITHIN_M / self.speed) } else { Duration::MAX }
    }

    /// How long it takes.
    pub fn takes(&self) -> Duration {
        Duration::from_secs_f64(self.length_m() / self.speed)
    }

    /// Where the car is after so long, and where it heads, degrees clockwise from north; standing it heads nowhere.
    pub fn after(&self, passed: Duration) -> (Place, Option<u16>) {
        let far = passed.as_secs_f64() * self.speed;
        let next = self.ahead.partition_point(|(_, reached)| *reached <= far);
        let Some((to, reached)) = self.ahead.get(next).copied() else { return (self.end(), None) };
        let (from, begun) = if next == 0 { (self.start, 0.0) } else { self.ahead[next - 1] };
        let share = ((far - begun) / (reached - begun)).clamp(0.0, 1.0);
        let lat = from.lat() + share * (to.lat() - from.lat());
        let lng = from.lng() + share * (to.lng() - from.lng());
        (Place::from_degrees(lat, lng).unwrap_or(from), Some(heading(from, to)))
    }
}

fn heading(from: Place, to: Place) -> u16 {
    let right = (to.lng() - from.lng()) * from.lat().to_radians().cos();
    let degrees = right.atan2(to.lat() - from.lat()).to_degrees();
    degrees.rem_euclid(360.0).round() as u16 % 360
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: f64, lng: f64) -> Place {
        Place::from_degrees(lat, lng).unwrap()
    }

    #[test]
    fn a_car_goes_around_the_corner_and_stands_at_the_end() {
        // 0.01 degree is 1,112 m: north, then east.
        let line = [place(0.01, 0.0), place(0.01, 0.01)];
        let way = Motion::within(place(0.0, 0.0), &line, 100.0);
        assert!((way.takes().as_secs_f64() - 100.0).abs() < 0.01);
        let (half, north) = way.after(Duration::from_secs(25));
        assert!(half.distance_m(place(0.005, 0.0)) < 1.0 && north == Some(0), "{half} {north:?}");
        let (later, east) = way.after(Duration::from_secs(75));
        assert!(later.distance_m(place(0.01, 0.005)) < 1.0 && east == Some(90), "{later} {east:?}");
        assert_eq!(way.after(Duration::from_secs(101)), (line[1], None));
        assert_eq!(heading(place(0.0, 0.0), place(-0.1, -0.1)), 225);
    }

    #[test]
    fn a_hurried_car_goes_on_from_where_it_is() {
        let way = Motion::within(place(0.0, 0.0), &[place(0.01, 0.0), place(0.01, 0.01)], 100.0);
        let (fast, times) = way.hurried(Duration::from_secs(25), 2.0);
        assert_eq!((fast.after(Duration::ZERO).0, times), (way.after(Duration::from_secs(25)).0, 2.0));
        assert!((fast.takes().as_secs_f64() - 37.5).abs() < 0.01 && fast.end() == way.end());
        let (fastest, times) = fast.hurried(Duration::from_secs(5), 20.0);
        assert!(times < 4.0 && fastest.takes() < fast.takes(), "{times}");
        assert_eq!(fastest.hurried(Duration::from_secs(90), 20.0).0.takes(), Duration::ZERO);
    }

    #[test]
    fn no_car_flies() {
        let way = Motion::within(place(0.0, 0.0), &[place(0.01, 0.0)], 1.0);
        assert!(way.takes().as_secs_f64() > 7.0 && way.tells_within() < Duration::from_secs(3));
        let around = Motion::at_speed(place(0.0, 0.0), &[place(0.01, 0.0)], 900.0);
        assert!(around.takes().as_secs_f64() > 18.0 && around.tells_within() == Duration::MAX);
        let still = Motion::standing(place(1.0, 1.0));
        assert_eq!((still.takes(), still.after(Duration::from_secs(5))), (Duration::ZERO, (place(1.0, 1.0), None)));
        let back = Motion::at_speed(place(0.0, 0.0), &[place(0.0, 0.0)], 5.0);
        assert_eq!(back.after(Duration::ZERO), (place(0.0, 0.0), None));
    }
}
