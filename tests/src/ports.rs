//! Free ports that stay free: a block of them per mesh, below the range from which the kernel takes ports for outgoing
//! connections, so that a mesh finds them again after it was killed.

use std::net::{Ipv4Addr, TcpListener};

/// The documented ports of the mesh; a block holds each of them, shifted by one offset.
const DEFAULTS: [u16; 10] = [1026, 1027, 4041, 4042, 7896, 8000, 8668, 8669, 9191, 9600];
/// Not a port of the mesh: who listens there owns the block.
const LEASE: u16 = 9700;
/// All the above differ modulo this, so that blocks do not overlap.
const STEP: u16 = 31;

/// A block of ports, owned until drop.
pub struct Ports {
    offset: u16,
    _lease: TcpListener,
}

impl Ports {
    /// Takes a free block.
    ///
    /// # Panics
    /// When there is none.
    pub fn lease() -> Self {
        let (first, last) = (11_000 / STEP, 22_900 / STEP);
        let start = rand::random_range(first..last);
        for step in 0..(last - first) {
            let offset = (first + (start - first + step) % (last - first)) * STEP;
            let Some(lease) = bind(LEASE + offset) else { continue };
            // All at once, then let go: each is really free.
            let free: Vec<_> = DEFAULTS.iter().map_while(|port| bind(port + offset)).collect();
            if free.len() == DEFAULTS.len() {
                return Self { offset, _lease: lease };
            }
        }
        panic!("no free block of ports on loopback");
    }

    /// What `--port-offset` wants.
    pub fn offset(&self) -> u16 {
        self.offset
    }

    /// The block's port in place of a documented one.
    pub fn of(&self, default: u16) -> u16 {
        default + self.offset
    }
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_share_no_port() {
        let (one, other) = (Ports::lease(), Ports::lease());
        for port in DEFAULTS.map(|port| one.of(port)) {
            assert!(!DEFAULTS.map(|port| other.of(port)).contains(&port));
        }
    }

    #[test]
    fn ports_of_different_blocks_never_meet() {
        let mut residues: Vec<u16> = DEFAULTS.iter().chain([&LEASE]).map(|port| port % STEP).collect();
        residues.sort_unstable();
        residues.dedup();
        assert_eq!(residues.len(), DEFAULTS.len() + 1);
    }
}
