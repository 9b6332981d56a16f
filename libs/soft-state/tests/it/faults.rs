use std::time::{Duration, Instant};

use scope::Tenant;
use soft_state::{ANSWER_WITHIN, RedisConfig, RedisSoftState, SoftState};
use store::testing::server;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

async fn went_silent(mut state: watch::Receiver<bool>) {
    state.wait_for(|silent| *silent).await.unwrap();
}

/// Stands between the client and the server and can go silent.
struct Wire {
    url: String,
    silent: watch::Sender<bool>,
}

impl Wire {
    async fn to(server: &str) -> Self {
        let target = server.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let silent = watch::Sender::new(false);
        let state = silent.clone();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (target, mut state) = (target.clone(), state.subscribe());
                tokio::spawn(async move {
                    state.wait_for(|silent| !silent).await.unwrap();
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        // From now on nothing passes, and the connection stays open for ever.
                        _ = went_silent(state) => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, silent }
    }
}

async fn answers(state: &RedisSoftState) {
    let answered = async {
        while state.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), answered).await.expect("Redis answers again");
}

#[tokio::test]
async fn a_server_that_hangs_never_holds_up_a_request_and_is_found_again() {
    let Some(server) = server("TEST_REDIS_URL") else { return };
    let wire = Wire::to(&server).await;
    let state = RedisSoftState::new(&RedisConfig::new(&wire.url)).unwrap();
    answers(&state).await;
    wire.silent.send_replace(true);
    for _ in 0..10 {
        let started = Instant::now();
        assert!(state.get(&Tenant::default(), "k").await.is_err());
        let took = started.elapsed();
        assert!(took < ANSWER_WITHIN + Duration::from_millis(50), "{took:?}");
    }
    wire.silent.send_replace(false);
    answers(&state).await;
}

#[tokio::test]
async fn a_server_that_is_away_gives_an_error_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let state = RedisSoftState::new(&RedisConfig::new(format!("redis://127.0.0.1:{port}/"))).unwrap();
    let started = Instant::now();
    assert!(state.check().await.is_err());
    assert!(started.elapsed() < ANSWER_WITHIN + Duration::from_millis(50));
}

#[tokio::test]
async fn a_bad_url_is_refused_without_being_quoted() {
    let error = RedisSoftState::new(&RedisConfig::new("http://:secret@h/")).err().unwrap().to_string();
    assert!(error.contains("URL") && !error.contains("secret"), "{error}");
}
