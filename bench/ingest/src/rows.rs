//! The rows of the API: 12 fields with a nested object, about 350 bytes each, the same in every run.
//!
//! A pool of rows is rendered once. A page is a copy of a stretch of it with the ids written over, so that serving a
//! page costs little more than sending it, and no id comes twice.

/// The id of the first row; all ids have as many digits as this one.
pub const FIRST_ID: u64 = 1_000_000_000;
/// Rows a page at the most, and by default.
pub const MAX_PAGE: u64 = 1_000;
/// Rows rendered in advance: so many that their numbers and times alone overflow Parquet's dictionary page of 1 MiB.
/// With fewer, repeats would make columns smaller and cheaper than they are in life.
const POOL: usize = 200_000;
/// Each row opens with this, and its id follows.
const OPENING: &[u8] = b"{\"id\":";
const ID_DIGITS: usize = 10;

const STATUSES: [&str; 6] = ["placed", "paid", "packed", "shipped", "delivered", "returned"];
const COUNTRIES: [&str; 10] = ["PT", "ES", "FR", "DE", "IT", "NL", "PL", "SE", "GB", "US"];
const GIVEN: [&str; 12] =
    ["Ana", "Bruno", "Chloé", "Dmitri", "Elżbieta", "Fatima", "Günther", "Hana", "Ines", "João", "Katarina", "Luís"];
const FAMILY: [&str; 12] = [
    "Almeida", "Bianchi", "Costa", "Dubois", "Eriksson", "Ferreira", "García", "Hoffmann", "Ivanova", "Jansen",
    "Kowalski", "Lopes",
];
const WORDS: [&str; 20] = [
    "please",
    "leave",
    "the",
    "parcel",
    "with",
    "neighbour",
    "at",
    "number",
    "twelve",
    "ring",
    "twice",
    "\\\"fragile\\\"",
    "gift",
    "wrapped",
    "no",
    "invoice",
    "inside",
    "after",
    "six",
    "café",
];

/// Rows rendered in advance.
#[derive(Debug)]
pub struct Pool {
    /// The rows, each followed by a comma.
    text: Vec<u8>,
    /// Where each row begins, and the end.
    starts: Vec<usize>,
}

impl Pool {
    /// Renders the pool.
    #[must_use]
    pub fn render() -> Self {
        let mut draw = Draw(0x7e55_e4a0);
        let mut text = Vec::with_capacity(POOL * 360);
        let mut starts = Vec::with_capacity(POOL + 1);
        for _ in 0..POOL {
            starts.push(text.len());
            text.extend_from_slice(OPENING);
            text.extend_from_slice(row(&mut draw).as_bytes());
            text.push(b',');
        }
        starts.push(text.len());
        Self { text, starts }
    }

    /// The answer to a request for a page, counted from 1, of an API with `total` rows.
    #[must_use]
    pub fn page(&self, page: u64, per_page: u64, total: u64) -> Vec<u8> {
        let per_page = per_page.clamp(1, MAX_PAGE);
        let first = page.saturating_sub(1).saturating_mul(per_page).min(total);
        let end = first.saturating_add(per_page).min(total);
        let pages = total.div_ceil(per_page);
        let mut body = Vec::with_capacity((end - first) as usize * self.text.len() / POOL * 11 / 10 + 256);
        body.extend_from_slice(b"{\"data\":[");
        let mut next = first;
        while next < end {
            let from = (next % POOL as u64) as usize;
            let count = (POOL - from).min((end - next) as usize);
            let moved = body.len() as isize - self.starts[from] as isize;
            body.extend_from_slice(&self.text[self.starts[from]..self.starts[from + count]]);
            for (start, id) in self.starts[from..from + count].iter().zip(FIRST_ID + next..) {
                let at = start.wrapping_add_signed(moved) + OPENING.len();
                write_id(&mut body[at..at + ID_DIGITS], id);
            }
            next += count as u64;
        }
        if end > first {
            body.pop();
        }
        let tail = format!("],\"total\":{total},\"total_pages\":{pages},\"page\":{page}}}");
        body.extend_from_slice(tail.as_bytes());
        body
    }
}

fn write_id(place: &mut [u8], mut id: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (id % 10) as u8;
        id /= 10;
    }
}

/// A row from its id's value on; the id is written into each copy.
fn row(draw: &mut Draw) -> String {
    let status = draw.one_of(&STATUSES);
    let country = draw.one_of(&COUNTRIES);
    let (given, family) = (draw.one_of(&GIVEN), draw.one_of(&FAMILY));
    let discount = if draw.below(5) == 0 { "null".to_owned() } else { format!("0.{:02}", draw.below(60)) };
    let shipped = if draw.below(3) == 0 { "null".to_owned() } else { format!("\"{}\"", draw.time()) };
    let note = if draw.below(4) == 0 { "null".to_owned() } else { format!("\"{}\"", draw.words()) };
    format!(
        "0000000000,\"ref\":\"ord-{:08x}\",\"status\":\"{status}\",\"country\":\"{country}\",\"quantity\":{},\"price\":{}.{:02},\
         \"discount\":{discount},\"gift\":{},\"created_at\":\"{}\",\"shipped_at\":{shipped},\"note\":{note},\
         \"customer\":{{\"name\":\"{given} {family}\",\"email\":\"{}.{}@example.com\",\"lat\":{}.{:06},\"lon\":-{}.{:06}}}}}",
        draw.next() as u32,
        1 + draw.below(40),
        1 + draw.below(2_000),
        draw.below(100),
        draw.below(10) == 0,
        draw.time(),
        draw.below(100_000),
        family.chars().filter(char::is_ascii).collect::<String>().to_lowercase(),
        35 + draw.below(25),
        draw.below(1_000_000),
        draw.below(10),
        draw.below(1_000_000),
    )
}

/// Numbers that follow from a seed alone (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    fn words(&mut self) -> String {
        let count = 1 + self.below(14);
        (0..count).map(|_| self.one_of(&WORDS)).collect::<Vec<_>>().join(" ")
    }

    fn time(&mut self) -> String {
        let (month, day) = (1 + self.below(12), 1 + self.below(28));
        let (hour, minute, second) = (self.below(24), self.below(60), self.below(60));
        format!("2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", self.below(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &[u8]) -> Vec<serde_json::Value> {
        let page: serde_json::Value = serde_json::from_slice(body).unwrap();
        page["data"].as_array().unwrap().clone()
    }

    #[test]
    fn pages_have_twelve_fields_and_about_350_bytes_a_row() {
        let body = Pool::render().page(7, 1_000, 1_000_000);
        assert!((330_000..370_000).contains(&body.len()), "{} bytes", body.len());
        let rows = data(&body);
        assert_eq!(rows.len(), 1_000);
        assert!(rows.iter().all(|row| row.as_object().unwrap().len() == 12 && row["customer"].is_object()));
        for field in ["discount", "shipped_at", "note"] {
            let nulls = rows.iter().filter(|row| row[field].is_null()).count();
            assert!(nulls > 50 && nulls < 950, "{field}: {nulls} nulls");
        }
    }

    #[test]
    fn ids_run_through_all_pages_without_gaps_or_repeats() {
        let pool = Pool::render();
        let total = POOL as u64 * 2 + 345;
        let last = total.div_ceil(997);
        // The first pages, those where the pool begins again, and the last.
        let wrap = POOL as u64 / 997;
        for page in [1, 2, wrap, wrap + 1, wrap + 2, last] {
            let ids: Vec<u64> =
                data(&pool.page(page, 997, total)).iter().filter_map(|row| row["id"].as_u64()).collect();
            let first = (page - 1) * 997;
            let expected = FIRST_ID + first..FIRST_ID + (first + 997).min(total);
            assert_eq!(ids, expected.collect::<Vec<_>>(), "page {page}");
        }
        assert!(data(&pool.page(1_000, 997, total)).is_empty());
        assert!(data(&pool.page(1, 1_000, 0)).is_empty());
    }
}
