//! A Mosquitto of the test's own, where one is installed.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, Publish, QoS};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Mosquitto {
    program: &'static str,
    child: Child,
    pub(crate) port: u16,
    /// The same server over TLS, as `localhost`.
    pub(crate) tls_port: u16,
    /// Its certificate, which is its own authority, PEM.
    pub(crate) ca_file: PathBuf,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// None where it is not installed.
    pub(crate) async fn start(passwords: Option<(&str, &str)>) -> Option<Self> {
        let program =
            ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"].iter().find(|path| Path::new(path).exists());
        let Some(&program) = program else {
            store::testing::skip("needs mosquitto");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let (port, tls_port) = (free_port().await, free_port().await);
        let (ca_file, key_file) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&ca_file, cert.pem()).unwrap();
        std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
        let mut config = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence false\nlistener {tls_port} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
            ca_file.display(),
            key_file.display()
        );
        match passwords {
            None => config.push_str("allow_anonymous true\n"),
            Some((user, password)) => {
                let file = dir.path().join("passwords");
                let mut made = Command::new("mosquitto_passwd");
                made.args(["-b", "-c"]).arg(&file).args([user, password]);
                assert!(made.status().unwrap().success());
                config.push_str(&format!("allow_anonymous false\npassword_file {}\n", file.display()));
            }
        }
        let file = dir.path().join("mosquitto.conf");
        std::fs::write(&file, config).unwrap();
        let child = spawn(program, &file);
        let own = Self { program, child, port, tls_port, ca_file, dir };
        own.until_it_listens().await;
        Some(own)
    }

    async fn until_it_listens(&self) {
        let up = async {
            for port in [self.port, self.tls_port] {
                while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        tokio::time::timeout(DEADLINE, up).await.expect("mosquitto listens");
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.program, &self.dir.path().join("mosquitto.conf"));
        self.until_it_listens().await;
    }

    /// Everything that is published under `topic` from now on.
    pub(crate) async fn listen(&self, topic: &str, login: Option<(&str, &str)>) -> mpsc::Receiver<Publish> {
        let mut options = MqttOptions::new("listener", "127.0.0.1", self.port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut events) = AsyncClient::new(options, 10);
        client.subscribe(topic, QoS::ExactlyOnce).await.unwrap();
        let (sender, received) = mpsc::channel(1000);
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(async move {
            let _client = client;
            let mut ready = Some(ready);
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(ready.take().map(|ready| ready.send(()))),
                    Event::Incoming(Packet::Publish(publish)) => sender.send(publish).await.unwrap(),
                    _ => {}
                }
            }
        });
        is_ready.await.unwrap();
        received
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(program: &str, config: &Path) -> Child {
    Command::new(program).arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
