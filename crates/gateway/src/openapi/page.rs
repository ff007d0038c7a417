//! The page that shows the merged document: one file with its style and script in it, so that nothing is fetched from
//! elsewhere.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use ring::digest::{SHA256, digest};

const STYLE: &str = include_str!("../../assets/docs.css");
const SCRIPT: &str = include_str!("../../assets/docs.js");

/// The page, and the policy it is shown under.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTML.
    pub body: Bytes,
    /// `content-security-policy`: this style and this script and no other.
    pub policy: HeaderValue,
}

/// The page of a document that is served at this path.
pub fn page(title: &str, document: &str) -> Page {
    let (title, document) = (escape(title), escape(document));
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body data-document=\"{document}\">\n\
         <noscript>This page needs JavaScript; the document for tools is at <a href=\"{document}\">{document}</a>.</noscript>\n\
         <script type=\"module\">{SCRIPT}</script>\n</body>\n</html>\n"
    );
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let policy = HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
    Page { body: body.into(), policy }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_config_becomes_html() {
        let page = page("<script>\"x\"&", "/a\"b");
        let body = std::str::from_utf8(&page.body).unwrap();
        assert!(body.contains("<title>&lt;script&gt;&quot;x&quot;&amp;</title>") && body.contains("\"/a&quot;b\""));
        // The script must not end its own element, nor begin a comment.
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--") && !STYLE.contains("</style"));
    }
}
