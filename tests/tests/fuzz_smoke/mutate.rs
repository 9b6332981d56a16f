//! Inputs made from seeds: bytes changed, cut out, doubled, or taken from another seed.

use std::path::Path;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const LONGEST: usize = 4_096;
/// Bytes that mean something to one of the parsers, and the ends of ranges.
const TELLING: &[u8] = b"|#@\"\\{}[]():;,.=!<>~'/%-+eE019aZ \n\0\x7f\x80\xc3\xff";

/// Gives `entry` all seeds of the fuzz target `name`, then `count` inputs made from them. The seed of the random numbers is
/// printed; `TEST_SEED` takes it again.
pub(crate) fn smoke(name: &str, count: usize, entry: fn(&[u8])) {
    let seeds = seeds(name);
    for seed in &seeds {
        give(seed, entry);
    }
    let random = &mut seeded();
    for _ in 0..count {
        let mut input = seeds.choose(random).expect("there are seeds").clone();
        for _ in 0..random.random_range(1..=6) {
            mutate(&mut input, &seeds, random);
        }
        input.truncate(LONGEST);
        give(&input, entry);
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("a folder of seeds")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("readable")).collect()
}

#[allow(clippy::disallowed_methods, reason = "the seed of an earlier run comes through the environment")]
fn seeded() -> StdRng {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Names the input of a panic: it is to become a seed.
struct Given<'a>(&'a [u8]);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn give(input: &[u8], entry: fn(&[u8])) {
    let _given = Given(input);
    entry(input);
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut impl Rng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 32));
    match random.random_range(0..6) {
        0 => input.insert(at, *TELLING.choose(random).expect("not empty")),
        1 if at < input.len() => input[at] = *TELLING.choose(random).expect("not empty"),
        2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        3 => drop(input.drain(at..end)),
        4 => {
            let doubled = input[at..end].repeat(random.random_range(1..20));
            input.splice(at..at, doubled);
        }
        _ => {
            let other = seeds.choose(random).expect("there are seeds");
            let from = random.random_range(0..=other.len());
            let to = random.random_range(from..=other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
    }
}
