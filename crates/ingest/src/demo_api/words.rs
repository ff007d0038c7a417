//! The words that rows are made of: names, places and texts in several languages, with the characters that break naive
//! readers (quotes, commas, line breaks, emoji, right-to-left text).

/// A country: code, English name, own name, currency, decimals of the currency, standard rate of VAT in percent.
pub(super) type CountryWords = (&'static str, &'static str, &'static str, &'static str, u8, Option<f64>);

/// The countries that the shop sells to.
pub(super) const COUNTRIES: [CountryWords; 24] = [
    ("AT", "Austria", "Österreich", "EUR", 2, Some(20.0)),
    ("BE", "Belgium", "België / Belgique", "EUR", 2, Some(21.0)),
    ("BR", "Brazil", "Brasil", "BRL", 2, Some(17.0)),
    ("CA", "Canada", "Canada", "CAD", 2, Some(5.0)),
    ("CH", "Switzerland", "Schweiz / Suisse / Svizzera", "CHF", 2, Some(8.1)),
    ("CZ", "Czechia", "Česko", "CZK", 2, Some(21.0)),
    ("DE", "Germany", "Deutschland", "EUR", 2, Some(19.0)),
    ("DK", "Denmark", "Danmark", "DKK", 2, Some(25.0)),
    ("ES", "Spain", "España", "EUR", 2, Some(21.0)),
    ("FI", "Finland", "Suomi", "EUR", 2, Some(25.5)),
    ("FR", "France", "France", "EUR", 2, Some(20.0)),
    ("GB", "United Kingdom", "United Kingdom", "GBP", 2, Some(20.0)),
    ("GR", "Greece", "Ελλάδα", "EUR", 2, Some(24.0)),
    ("IE", "Ireland", "Éire", "EUR", 2, Some(23.0)),
    ("IL", "Israel", "ישראל", "ILS", 2, Some(18.0)),
    ("IN", "India", "भारत", "INR", 2, Some(18.0)),
    ("IT", "Italy", "Italia", "EUR", 2, Some(22.0)),
    ("JP", "Japan", "日本", "JPY", 0, Some(10.0)),
    ("KR", "South Korea", "대한민국", "KRW", 0, Some(10.0)),
    ("NL", "Netherlands", "Nederland", "EUR", 2, Some(21.0)),
    ("PL", "Poland", "Polska", "PLN", 2, Some(23.0)),
    ("PT", "Portugal", "Portugal", "EUR", 2, Some(23.0)),
    ("SE", "Sweden", "Sverige", "SEK", 2, Some(25.0)),
    ("US", "United States", "United States", "USD", 2, None),
];

/// Towns: index into the countries, town, a street there, the first digits of its postcodes.
pub(super) const TOWNS: [(usize, &str, &str, &str); 20] = [
    (0, "Wien", "Währinger Straße", "10"),
    (1, "Liège", "Rue de l’Université", "40"),
    (2, "São Paulo", "Rua Augusta", "013"),
    (3, "Montréal", "Rue Saint-Denis", "H2X "),
    (4, "Zürich", "Langstrasse", "80"),
    (5, "Brno", "Údolní", "602 "),
    (6, "München", "Sendlinger Straße", "80"),
    (7, "Århus", "Nørregade", "80"),
    (8, "A Coruña", "Rúa Real", "150"),
    (10, "Besançon", "Rue d’Arènes", "250"),
    (11, "Stoke-on-Trent", "King's Lane", "ST1 "),
    (12, "Θεσσαλονίκη", "Τσιμισκή", "546 "),
    (14, "תל אביב", "דיזנגוף", "64"),
    (16, "Forlì", "Corso della Repubblica", "471"),
    (17, "京都市", "烏丸通", "604-"),
    (18, "서울", "종로", "03"),
    (20, "Łódź", "Piotrkowska", "90-"),
    (21, "Lisboa", "Rua da Conceição", "1100-"),
    (22, "Malmö", "Södra Förstadsgatan", "211 "),
    (23, "Portland, OR", "N \"Mississippi\" Ave", "972"),
];

/// First names.
pub(super) const FIRST_NAMES: [&str; 28] = [
    "Ana",
    "Björn",
    "Chloé",
    "Dmitri",
    "Eirini",
    "Fatima",
    "Giuseppe",
    "Hanna",
    "Íñigo",
    "João",
    "Keiko",
    "Łucja",
    "Márta",
    "Noah",
    "Olu",
    "Priya",
    "Quentin",
    "Renée",
    "Søren",
    "Tomáš",
    "Ulla",
    "Vera",
    "Wei",
    "Ximena",
    "Yael",
    "Zoë",
    "健太",
    "Νίκος",
];

/// Last names.
pub(super) const LAST_NAMES: [&str; 24] = [
    "Almeida",
    "Brown",
    "Czerny",
    "D'Angelo",
    "Eriksson",
    "Fernández",
    "Götz",
    "Haddad",
    "Ivanov",
    "Jørgensen",
    "Kowalska",
    "Lefèvre",
    "Müller",
    "Nakamura",
    "O'Brien",
    "Papadopoulos",
    "Quiroga",
    "Rossi",
    "Šimek",
    "Tanaka",
    "van der Berg",
    "Weiß",
    "Yılmaz",
    "佐藤",
];

/// What is sold.
pub(super) const THINGS: [(&str, &str); 16] = [
    ("Kettle", "kitchen"),
    ("Théière en fonte", "kitchen"),
    ("Brotmesser", "kitchen"),
    ("Bicycle bell", "outdoor"),
    ("Mochila 30 l", "outdoor"),
    ("Tent, 2 persons", "outdoor"),
    ("Desk lamp", "office"),
    ("Cahier à spirale", "office"),
    ("万年筆", "office"),
    ("Wool blanket", "home"),
    ("Świeca zapachowa", "home"),
    ("Tapete \"Azulejo\"", "home"),
    ("Puzzle 🧩 1000", "toys"),
    ("Holzeisenbahn", "toys"),
    ("목도리", "clothes"),
    ("Regenjacke", "clothes"),
];

/// What products are like.
pub(super) const KINDS: [&str; 10] =
    ["classic", "mini", "XL", "n° 5", "“deluxe”", "éco", "grün", "2-pack", "👍 favourite", "limited"];

/// Colours.
pub(super) const COLOURS: [&str; 6] = ["black", "white", "red", "sea blue", "vert d’eau", "うぐいす色"];

/// Notes on orders.
pub(super) const NOTES: [&str; 10] = [
    "Please ring twice 🔔",
    "Bitte beim Nachbarn abgeben",
    "She said \"leave it at the door\", so do",
    "À livrer avant midi, s’il vous plaît",
    "Deixar na portaria; obrigado!",
    "不在の場合は宅配ボックスへ",
    "Line one\nLine two, with a comma",
    "C:\\temp\\label.pdf",
    "להשאיר אצל השכן",
    "50 % off? <b>no</b> & thanks",
];

/// What is written on gifts.
pub(super) const GIFT_NOTES: [&str; 6] = [
    "Happy birthday! 🎂🎉",
    "Alles Gute, Oma!",
    "Bon anniversaire, \"ma puce\" ❤️",
    "お誕生日おめでとう",
    "Parabéns, João!",
    "Wszystkiego najlepszego",
];

/// Reviews: language, stars, title, text.
pub(super) const REVIEWS: [(&str, u8, &str, &str); 12] = [
    ("en", 5, "Does what it says", "Bought two. \"Best kettle ever\", says my aunt 👵🏽."),
    ("en", 2, "Meh", "Arrived late; the lid doesn't fit.\nSupport was kind, though."),
    ("de", 4, "Schön", "Größe stimmt, Farbe etwas dunkler als im Bild."),
    ("de", 1, "Enttäuscht", "Nach zwei Wochen kaputt 😡"),
    ("fr", 5, "Parfait", "Livraison rapide, l’emballage était soigné."),
    ("fr", 3, "Bof", "Correct, mais un peu cher…"),
    ("es", 5, "¡Genial!", "A mi hijo le encanta; ¿cuándo vuelve el azul?"),
    ("pt", 4, "Muito bom", "Chegou antes do prazo, recomendo."),
    ("ja", 5, "満足です", "軽くて使いやすいです。😊"),
    ("pl", 3, "W porządku", "Działa, ale instrukcja tylko po angielsku."),
    ("el", 4, "Πολύ καλό", "Ακριβώς όπως στη φωτογραφία."),
    ("he", 5, "מעולה", "הגיע מהר, תודה רבה!"),
];

/// Who carries parcels.
pub(super) const CARRIERS: [&str; 5] =
    ["Blue Parcel", "Correio Rápido", "Paketdienst Nord", "Swift & Sons", "ヤマネコ便"];

/// Where orders come from.
pub(super) const CHANNELS: [&str; 4] = ["web", "app", "phone", "store"];

/// What orders are tagged with.
pub(super) const TAGS: [&str; 7] = ["vip", "gift", "first-order", "b2b", "fragile", "promo:été", "🚀 express"];

/// Where stock lies.
pub(super) const WAREHOUSES: [&str; 3] = ["Porto", "Łódź", "Reno, NV"];
