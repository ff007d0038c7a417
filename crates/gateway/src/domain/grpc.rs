//! gRPC over HTTP: which dialect a caller speaks.

/// The dialects of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// gRPC over HTTP/2, with its status in trailers.
    Plain,
    /// gRPC-Web, with its status in the last frame of the body.
    Web,
    /// gRPC-Web in Base64.
    WebText,
}

impl Dialect {
    /// The dialect of a `content-type`.
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.split(|byte| *byte == b';').next()?.trim_ascii();
        let rest = kind.get(..16).filter(|start| start.eq_ignore_ascii_case(b"application/grpc")).map(|_| &kind[16..])?;
        let is = |name: &[u8]| {
            let start = rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            start && matches!(rest.get(name.len()), None | Some(b'+'))
        };
        if is(b"-web-text") {
            Some(Self::WebText)
        } else if is(b"-web") {
            Some(Self::Web)
        } else {
            is(b"").then_some(Self::Plain)
        }
    }

    /// The `content-type` of a refusal.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_told_apart() {
        for (kind, expected) in [
            ("application/grpc", Some(Dialect::Plain)),
            ("Application/gRPC+proto; x=y", Some(Dialect::Plain)),
            ("application/grpc-web", Some(Dialect::Web)),
            ("application/grpc-web+proto", Some(Dialect::Web)),
            ("application/grpc-web-text", Some(Dialect::WebText)),
            ("application/grpc-web-text+proto", Some(Dialect::WebText)),
            ("application/grpc-else", None),
            ("application/grpcx", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Dialect::of(kind.as_bytes()), expected, "{kind}");
        }
    }
}
