//! Answers as endpoints send them, in pieces of every size.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Duration;

use super::*;

/// What became of an answer, and whether its connection could be used again.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    status: u16,
    body: Vec<u8>,
    trailers: usize,
    is_idle: bool,
}

/// Asks an endpoint that answers these bytes, in pieces of `step`, and then closes or stays.
async fn asked(method: Method, answer: &'static [u8], step: usize, closes: bool) -> Result<Came, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = [0; 18];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"GET / HTTP/1.1\r\n\r\n");
        for piece in answer.chunks(step) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        if !closes {
            std::future::pending::<()>().await;
        }
    });
    let mut wire = Wire::new(Stream::Plain(TcpStream::connect(address).await.unwrap()));
    let deadline = Instant::now() + Duration::from_secs(30);
    wire.send(b"GET / HTTP/1.1\r\n\r\n", deadline).await.unwrap();
    let head = wire.answer(&method, &Spare::default(), deadline).await.map_err(|broken| format!("{broken:?}"))?;
    let (mut body, mut trailers) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|cx| wire.poll_frame(cx)).await {
        match frame.map_err(|error| error.to_string())?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.trailers_ref().map_or(0, HeaderMap::len),
        }
    }
    serving.abort();
    Ok(Came { status: head.status().as_u16(), body, trailers, is_idle: wire.is_idle() })
}

#[tokio::test]
async fn answers_are_read_to_their_end_however_they_come() {
    let get = Method::GET;
    for (method, answer, closes, body, trailers, is_idle) in [
        (&get, &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], false, &b"ok"[..], 0, true),
        (&get, b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\nok", false, b"ok", 0, true),
        (&get, b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", false, b"", 0, true),
        (&get, b"HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok", false, b"ok", 0, false),
        (&get, b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, b"ok", 0, false),
        (&get, b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", false, b"ok", 0, true),
        (&get, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, b"ok", 0, true),
        (&get, b"HTTP/1.1 200 OK\r\n\r\nall there is", true, b"all there is", 0, false),
        (&get, b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nall", true, b"all", 0, false),
        (
            &get,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n2\r\nok\r\n0\r\na: b\r\n\r\n",
            false,
            b"ok",
            1,
            true,
        ),
        (&get, b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", false, b"", 0, true),
        (&get, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, b"", 0, true),
        (&Method::HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false, b"", 0, true),
        (&get, b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", false, b"", 0, false),
    ] {
        for step in [1, 2, 7, answer.len()] {
            let came = asked(method.clone(), answer, step, closes).await.unwrap();
            let text = String::from_utf8_lossy(answer);
            assert_eq!((came.body.as_slice(), came.trailers, came.is_idle), (body, trailers, is_idle), "{step} {text}");
        }
    }
    // What comes behind an answer belongs to none.
    let more = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
    assert!(!asked(get, more, more.len(), false).await.unwrap().is_idle);
}

#[tokio::test]
async fn what_is_no_whole_answer_is_an_error() {
    for (answer, expected) in [
        (&b""[..], "Off"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "Off"),
        (b"NOT HTTP AT ALL\r\n\r\n", "Malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nok", "Malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok", "Malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nok", "Malformed"),
        (b"HTTP/1.1 200 OK\r\nbad name: 2\r\n\r\nok", "Malformed"),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "Malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", "within an answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", "within an answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnone\r\n", "chunk"),
    ] {
        for step in [1, 64] {
            let error = asked(Method::GET, answer, step, true).await.unwrap_err();
            assert!(error.contains(expected), "{error}: {}", String::from_utf8_lossy(answer));
        }
    }
    let large: &'static [u8] =
        Box::leak([b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'x'; MOST_HEAD_BYTES]].concat().into_boxed_slice());
    assert!(asked(Method::GET, large, 1 << 16, false).await.unwrap_err().contains("over 262144 bytes"));
}

#[tokio::test]
async fn a_deadline_holds_and_an_idle_connection_that_was_closed_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut wire = Wire::new(Stream::Plain(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()));
    let (far, _) = listener.accept().await.unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    wire.send(b"GET / HTTP/1.1\r\n\r\n", deadline).await.unwrap();
    let answer = wire.answer(&Method::GET, &Spare::default(), deadline).await;
    assert!(matches!(answer, Err(Broken::Late)), "{answer:?}");
    assert!(!wire.is_spent());
    drop(far);
    while !wire.is_spent() {
        tokio::task::yield_now().await;
    }
}
