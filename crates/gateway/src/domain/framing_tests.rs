//! The machine alone: every malformed case, and that it does not matter how the bytes are cut up.

use proptest::prelude::*;

use super::*;

fn judge(bytes: &[u8], piece: usize) -> Result<usize, Malformed> {
    let mut framing = Framing::new(HeadLimits::default());
    let (mut from, mut to) = (0, 0);
    while to < bytes.len() {
        to = (to + piece).min(bytes.len());
        while from < to {
            match framing.advance(&bytes[from..to])? {
                0 => break,
                good => from += good,
            }
        }
    }
    Ok(from)
}

#[test]
fn good_requests_pass_whole() {
    let head = "host: a.example\r\n";
    for request in [
        format!("GET / HTTP/1.1\r\n{head}\r\n"),
        format!("\r\nGET /a?b=c HTTP/1.1\r\n{head}\r\n"),
        format!("GET http://a.example/x HTTP/1.1\r\n{head}\r\n"),
        format!("GET http://A.example:80 HTTP/1.1\r\n{head}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\n{head}\r\n"),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nGET / HTTP/1.1\r\n{head}\r\n"),
        "GET / HTTP/1.1\r\nHost: [::1]:8080\r\nx:\r\ny: \t a\u{e9} \r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\n{head}content-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n{head}\r\n"),
        format!(
            "POST / HTTP/1.1\r\n{head}Transfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\n{head}connection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    ] {
        for piece in [1, 2, 3, 7, request.len()] {
            assert_eq!(judge(request.as_bytes(), piece), Ok(request.len()), "{request:?} in pieces of {piece}");
        }
    }
}

#[test]
fn what_is_malformed_is_refused_however_it_is_cut() {
    let of_head = |head: &str| format!("GET / HTTP/1.1\r\n{head}\r\n");
    let of_chunks = |body: &str| format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    for (request, expected) in [
        (of_head(""), Malformed::NoHost),
        (of_head("host: a\r\nhost: a\r\n"), Malformed::TwoHosts),
        (of_head("host: a/b\r\n"), Malformed::BadHost),
        (of_head("host: u@a\r\n"), Malformed::BadHost),
        (of_head("host:\r\n"), Malformed::BadHost),
        ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n".into(), Malformed::OtherHost),
        ("GET / HTTP/1.1\nhost: a\n\n".into(), Malformed::LineEnd),
        (of_head("host: a\r\nx: 1\r\n 2\r\n"), Malformed::Folded),
        (of_head("host : a\r\n"), Malformed::HeaderName),
        (of_head("host: a\r\nx: 1\u{0}2\r\n"), Malformed::HeaderValue),
        (of_head("host: a\r\nx: 1\r2\r\n"), Malformed::LineEnd),
        (of_head("host: a\r\ncontent-length: -1\r\n"), Malformed::ContentLength),
        (of_head("host: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n"), Malformed::ContentLength),
        (of_head("host: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n"), Malformed::TwoLengths),
        (of_head("host: a\r\ntransfer-encoding: gzip, chunked\r\n"), Malformed::TransferEncoding),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".into(), Malformed::TransferEncoding),
        (of_chunks("0x5\r\nhello\r\n0\r\n\r\n"), Malformed::Chunk),
        (of_chunks("5\nhello\r\n0\r\n\r\n"), Malformed::Chunk),
        (of_chunks("5\r\nhelloX\n0\r\n\r\n"), Malformed::Chunk),
        (of_chunks("0\r\nhost: b\r\n\r\n"), Malformed::Trailer),
    ] {
        for piece in [1, 3, request.len()] {
            // In pieces a wrong byte may be met before its line is whole, so only the refusal is the same.
            let said = judge(request.as_bytes(), piece);
            assert!(said.is_err(), "{request:?} in pieces of {piece}: {said:?}");
        }
        assert_eq!(judge(request.as_bytes(), request.len()), Err(expected), "{request:?}");
    }
}

#[test]
fn nothing_passes_behind_a_request_for_another_protocol() {
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let more = [head.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(judge(&more, more.len()), Err(Malformed::BytesBeforeUpgrade));
    let mut framing = Framing::new(HeadLimits::default());
    assert_eq!(framing.advance(head), Ok(head.len()));
    assert!(framing.is_before_upgrade());
    assert_eq!(framing.advance(b"GET / HTTP/1.1\r\n"), Err(Malformed::BytesBeforeUpgrade), "nothing waits");
    framing.pass_through();
    assert_eq!(framing.advance(b"\0\n"), Ok(2));
}

#[test]
fn limits_are_kept() {
    let limits = HeadLimits { head_bytes: 200, target_bytes: 50, lines: 3 };
    let said = |text: &str| Framing::new(limits).advance(text.as_bytes());
    assert_eq!(said(&format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(60))), Err(Malformed::TargetTooLong));
    assert_eq!(
        said(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(200))),
        Err(Malformed::HeadTooLarge)
    );
    assert_eq!(said("GET / HTTP/1.1\r\nhost: a\r\nb: 1\r\nc: 1\r\nd: 1\r\n\r\n"), Err(Malformed::HeadTooLarge));
    // Before their end is seen, too.
    assert_eq!(said(&"G".repeat(201)), Err(Malformed::TargetTooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_the_same_in_any_pieces(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..200),
        piece in 1_usize..20,
    ) {
        let mut request = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        request.extend(bytes);
        prop_assert_eq!(judge(&request, request.len()).is_err(), judge(&request, piece).is_err());
    }
}
