use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// How much of a refused body is read and thrown away, and for how long.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The declared or the received size is above the limit; holds what is known of it.
    #[error("payload of at least {0} bytes")]
    TooLarge(u64),
    /// Nothing came for too long.
    #[error("request body not received in time")]
    Stalled,
    #[error("request body broken off")]
    Aborted,
}

/// Reads a whole body of at most `limit` bytes, waiting at most `idle` for each part.
pub async fn read_body<B>(mut body: B, limit: u64, idle: Duration) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    let declared = body.size_hint().lower();
    if declared > limit {
        linger(body);
        return Err(BodyError::TooLarge(declared));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| BodyError::Stalled)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| BodyError::Aborted)?.into_data() else { continue };
        let length = (first.len() + all.len() + data.len()) as u64;
        if length > limit {
            linger(body);
            return Err(BodyError::TooLarge(length));
        }
        // Most bodies come in one part: keep it without a copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
                first.clear();
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads on for a while and throws away what comes, when a request is answered whose body nobody wants. A connection that is
/// closed while its client still sends is reset, and the client then never sees the answer that says why.
#[allow(clippy::disallowed_methods, reason = "bounded in bytes and time, and without effect")]
pub fn linger<B>(mut body: B)
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Send,
{
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let mut left = LINGER_BYTES;
        let drain = async {
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(LINGER_TIME, drain).await
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[&'static str]) -> axum::body::Body {
        let parts: Vec<Result<Bytes, std::io::Error>> =
            parts.iter().map(|part| Ok(Bytes::from(*part))).collect();
        axum::body::Body::from_stream(futures::stream::iter(parts))
    }

    #[tokio::test]
    async fn parts_are_joined_up_to_the_limit() {
        let idle = Duration::from_secs(1);
        assert_eq!(read_body(parts(&["ab", "cd", "e"]), 5, idle).await.unwrap(), "abcde");
        assert_eq!(read_body(parts(&["ab", "cd"]), 3, idle).await, Err(BodyError::TooLarge(4)));
        assert_eq!(read_body(parts(&[]), 3, idle).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_declared_size_is_refused_unread() {
        let body = http_body_util::Full::new(Bytes::from_static(b"123456"));
        assert_eq!(read_body(body, 5, Duration::from_secs(1)).await, Err(BodyError::TooLarge(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_is_given_up() {
        let body = axum::body::Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(read_body(body, 5, Duration::from_secs(1)).await, Err(BodyError::Stalled));
    }
}
