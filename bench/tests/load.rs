//! The load generator against servers whose behaviour is known.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bench::{
    floor::{Canned, Floor},
    load::{Effort, Load, Requests, Target, call, capacity, drive, request},
};

fn gets() -> Requests {
    Arc::new(|n, out| request(out, "GET", &format!("/thing/{n}"), "", &[]))
}

fn floor(canned: &Canned) -> Floor {
    Floor::start(Path::new(env!("CARGO_BIN_EXE_thingmesh-bench")), canned).unwrap()
}

fn json(body: &str) -> Canned {
    Canned { status: 200, content_type: "application/json".to_owned(), body: body.into() }
}

/// Answers one connection at a time, request by request; stands still once, before request `stalls_at`.
fn stalling_server(stalls_at: u32, pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut answered = 0;
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                if answered == stalls_at {
                    std::thread::sleep(pause);
                }
                answered += 1;
                if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn the_floor_answers_the_bytes_that_it_was_given() {
    let floor = floor(&json(r#"{"a":1}"#));
    let (status, content_type, body) =
        call(floor.address, |out| request(out, "POST", "/x", "content-type: text/plain\r\n", b"hello"))
            .unwrap();
    assert_eq!(
        (status, content_type.as_str(), body.as_slice()),
        (200, "application/json", &br#"{"a":1}"#[..])
    );
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let floor = floor(&json("{}"));
    let target = Target { address: floor.address, connections: 4 };
    let load = Load::Open { rate: 400.0, duration: Duration::from_secs(1) };
    let outcome = drive(target, &gets(), load).unwrap().all_well("open loop").unwrap();
    assert_eq!(outcome.done, 400);
    assert!(outcome.elapsed >= Duration::from_millis(990), "{:?}", outcome.elapsed);
}

#[test]
fn a_stall_counts_for_every_request_that_was_due_meanwhile() {
    let pause = Duration::from_millis(500);
    let target = Target { address: stalling_server(50, pause), connections: 1 };
    let load = Load::Open { rate: 200.0, duration: Duration::from_secs(1) };
    let outcome = drive(target, &gets(), load).unwrap().all_well("stalled").unwrap();
    // About a hundred requests were due while it stood still; half of these had to wait for longer than half of the pause.
    let late = outcome.latency.count_between(250_000_000, u64::MAX);
    assert!(late >= 40, "{late} late requests; a closed loop would see one");
    assert!(outcome.quantile(1.0) >= pause, "{:?}", outcome.quantile(1.0));
}

#[test]
fn requests_that_are_never_answered_are_failures_with_the_time_they_waited() {
    if store::testing::too_long_for_quick() {
        return;
    }
    let target = Target { address: stalling_server(10, Duration::from_secs(60)), connections: 1 };
    let load = Load::Open { rate: 100.0, duration: Duration::from_secs(1) };
    let outcome = drive(target, &gets(), load).unwrap();
    assert_eq!((outcome.done, outcome.failed), (10, 90));
    assert!(outcome.quantile(0.5) > Duration::from_secs(1), "{:?}", outcome.quantile(0.5));
}

#[test]
fn refusals_are_failures_and_the_first_is_told() {
    let floor = floor(&Canned { status: 404, ..json("not here") });
    let target = Target { address: floor.address, connections: 2 };
    let error = drive(target, &gets(), Load::All { total: 10 }).unwrap().all_well("getting").unwrap_err();
    assert!(error.to_string().contains("10 of 10") && error.to_string().contains("404 not here"), "{error}");
}

#[test]
fn a_capacity_holds_its_limit_and_counts_the_servers_cpu() {
    let floor = floor(&json("{}"));
    let target = Target { address: floor.address, connections: 8 };
    let effort = Effort {
        connections: 8,
        warm_up: Duration::from_millis(100),
        step: Duration::from_millis(300),
        steady: Duration::from_millis(500),
        share: 0.7,
        p99_limit: Duration::from_secs(5),
    };
    let found = capacity(target, &gets(), &effort, &floor.server).unwrap();
    assert!(found.kept_limit && found.steady.p99() <= Duration::from_secs(5));
    let wanted = (found.maximum * 0.7 * 0.5).ceil();
    assert!((found.steady.done as f64 - wanted).abs() < 2.0, "{} sent, {wanted} wanted", found.steady.done);
    assert!(found.cpu > Duration::ZERO && found.resident > 0);
}
