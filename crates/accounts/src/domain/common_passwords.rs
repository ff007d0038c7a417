//! The words that most passwords are made of, as lists of leaked ones show again and again; with digits and signs at their ends they are tried first.

/// Rows of keys, the alphabet, the digits.
pub(super) const ROWS: [&str; 9] = [
    "abcdefghijklmnopqrstuvwxyz",
    "1234567890",
    "0123456789",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl;",
    "asdfghjkl",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// In order, for a search by halves. Without digits and signs, in lower case.
#[rustfmt::skip]
pub(super) const COMMON: &[&str] = &[
    "aaaaaa", "abcabc", "abcdef", "abcdefg", "abcdefgh", "abracadabra", "access", "admin", "adminadmin",
    "administrator", "amanda", "andrew", "android", "angel", "angels", "anthony", "apple", "arsenal", "asdasd",
    "asdasdasd", "asdf", "asdfasdf", "asdfgh", "asdfghjkl", "ashley", "asshole", "autumn", "azerty", "babyboy",
    "babygirl", "banana", "barcelona", "baseball", "basketball", "batman", "bayern", "bienvenue", "bitch", "biteme",
    "blackjack", "blessed", "blink", "bonjour", "business", "butterfly", "casino", "changeit", "changeme",
    "changemenow", "charlie", "cheese", "chelsea", "chocolate", "christ", "company", "computer", "contrasena",
    "cookie", "cookies", "correcthorse", "correcthorsebatterystaple", "corvette", "cowboys", "crystal", "daniel",
    "darthvader", "december", "default", "defaultpassword", "diamond", "dollars", "dolphin", "dragon", "dragonball",
    "dragonfly", "eagles", "elephant", "eminem", "enterprise", "facebook", "february", "ferrari", "flower", "football",
    "fortnite", "freedom", "friday", "frodo", "fuckoff", "fuckyou", "fussball", "futbol", "gandalf", "ginger",
    "golden", "goodbye", "google", "guest", "guestguest", "hallo", "hannah", "harley", "haslo", "heaven", "hello",
    "hellohello", "helloworld", "helpdesk", "hobbit", "hockey", "hola", "hunter", "ilikeyou", "iloveme", "iloveyou",
    "iloveyousomuch", "instagram", "internet", "iphone", "january", "jennifer", "jessica", "jesus", "jesuschrist",
    "jetaime", "jordan", "joshua", "juventus", "killer", "knight", "lakers", "legolas", "letmein", "letmeinnow",
    "letmeinplease", "linkedin", "linkinpark", "lionking", "liverpool", "login", "loginlogin", "lovely", "loveyou",
    "lozinka", "manchester", "master", "matrix", "matthew", "mercedes", "metallica", "michael", "michelle",
    "microsoft", "midnight", "million", "minecraft", "monday", "money", "monkey", "moonlight", "motdepasse", "mustang",
    "mypassword", "mysecret", "naked", "ncc", "newpassword", "nicole", "ninja", "nirvana", "november", "october",
    "office", "oldpassword", "onetwothree", "onetwothreefour", "opensesame", "orange", "parola", "pass", "passpass",
    "passphrase", "passw", "passwd", "password", "passwort", "penguin", "pepper", "phoenix", "pikachu", "playboy",
    "pokemon", "porsche", "princess", "purple", "qazwsx", "qazwsxedc", "qwe", "qweasd", "qweasdzxc", "qweqwe",
    "qwerasdf", "qwerty", "qwertyui", "qwertyuiop", "qwertz", "rainbow", "realmadrid", "robert", "roblox", "root",
    "rootroot", "samantha", "samsung", "secret", "secretpassword", "senha", "september", "service", "sesame", "sexy",
    "sexybabe", "shadow", "silver", "skywalker", "slipknot", "soccer", "sommer", "spiderman", "spring", "stargate",
    "starlight", "startrek", "starwars", "steelers", "summer", "sunshine", "superman", "supersecret", "support",
    "teamo", "temp", "tempo", "temporary", "temppass", "tequiero", "tessera", "test", "tester", "testing", "testtest",
    "thomas", "tiger", "tigger", "toor", "trustme", "trustno", "trustnoone", "unicorn", "user", "username", "useruser",
    "wachtwoord", "warrior", "welcome", "whatever", "william", "willkommen", "windows", "winter", "word", "xsw",
    "yamaha", "yankees", "yoda", "yourpassword", "youtube", "zaqwsx", "zaqxsw", "zxcvbn", "zxcvbnm", "zxczxc",
];
