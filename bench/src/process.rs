//! Processes under measurement: started, read from /proc, ended.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// A server of ours in a process of its own; ended when dropped.
pub struct Server {
    child: Child,
    started: Instant,
}

impl Server {
    /// Starts a program whose output goes to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log)?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{:?} does not start", command.get_program()))?;
        Ok(Self { child, started })
    }

    /// Starts a program and returns the first line that it prints.
    pub fn spawn_speaking(command: &mut Command) -> Result<(Self, String)> {
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let server = Self { child, started };
        anyhow::ensure!(!line.is_empty(), "{:?} ended before it said anything", command.get_program());
        Ok((server, line.trim().to_owned()))
    }

    /// Time since it was told to start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// CPU time that the process has used so far, user and system.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(&self.id().to_string())
    }

    /// Memory that the process holds, bytes.
    pub fn resident(&self) -> Result<u64> {
        status_value(self.id(), "VmRSS:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix_pid(&self.child);
        if let Some(pid) = pid {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::INT).is_err();
        }
        let patience = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !self.has_ended() {
            let _already_ended = self.child.kill().is_err();
            let _unwaitable = self.child.wait().is_err();
        }
    }
}

fn rustix_pid(child: &Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// CPU time of this process so far.
pub fn own_cpu() -> Result<Duration> {
    cpu_of("self")
}

/// Fields 14 and 15 of /proc/PID/stat, counted after the name, which may hold blanks.
fn cpu_of(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>())
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second()))
}

/// The kernel's unit of process times: 100 a second wherever this runs, but asked for once.
fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| rustix::param::clock_ticks_per_second() as f64)
}

fn status_value(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .with_context(|| format!("no {key} in /proc/{pid}/status"))?;
    Ok(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_grows_with_work() {
        let before = own_cpu().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut sum = 0u64;
        while own_cpu().unwrap() < before + Duration::from_millis(50) {
            assert!(Instant::now() < deadline, "50 ms of work take this long: {sum}");
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
        }
    }
}
