//! The work that `make bench-peers` compares: the same steps in every peer, each call timed from
//! octets in to octets out. interop/README.md describes the steps.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Bytes, ClientOptions, Peer, Processed, Proposal, Result};

pub const SIZES: &[usize] = &[2, 10, 100, 500, 1000];

/// Time for one row: at least three rounds, then until this much time went by, at most 100 rounds.
const BUDGET: Duration = Duration::from_millis(1500);

/// What this process has used so far, on all cores.
fn cpu_time() -> Duration {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call only writes to `t`.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

struct Row {
    samples: Vec<Duration>,
    /// Of all samples, on all cores.
    cpu: Duration,
    started: Instant,
}

impl Row {
    fn new() -> Self {
        Row {
            samples: Vec::new(),
            cpu: Duration::ZERO,
            started: Instant::now(),
        }
    }

    fn more(&self) -> bool {
        let n = self.samples.len();
        n < 3 || (n < 100 && self.started.elapsed() < BUDGET)
    }

    fn time<T>(&mut self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let used = cpu_time();
        let start = Instant::now();
        let out = f()?;
        self.samples.push(start.elapsed());
        self.cpu += cpu_time() - used;
        Ok(out)
    }

    fn print(mut self, peer: &impl Peer, suite: u16, op: &str, members: usize) {
        self.samples.sort();
        let c = peer.capabilities();
        println!(
            "{}",
            json!({
                "peer": c.name, "version": c.version, "crypto": c.crypto, "suite": suite, "op": op,
                "members": members, "rounds": self.samples.len(),
                "cpu_ns": (self.cpu / self.samples.len() as u32).as_nanos() as u64,
                "min_ns": self.samples[0].as_nanos() as u64,
                "median_ns": self.samples[self.samples.len() / 2].as_nanos() as u64,
            })
        );
    }
}

/// Measures every operation at one group size.
pub fn run(p: &mut impl Peer, suite: u16, members: usize) -> Result<()> {
    let options = ClientOptions {
        tree_extension: true,
        ..Default::default()
    };
    let name = |i: usize| format!("member-{i}");
    for i in 0..=members {
        p.new_client(&name(i), suite, options)?;
    }
    let founder = name(0);

    // Create a group and add everybody in one commit.
    let mut adds = (1..members)
        .map(|i| {
            Ok(Proposal::Add {
                key_package: Bytes(p.key_package(&name(i))?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut row = Row::new();
    while row.more() {
        p.forget(&founder)?;
        let group_id = format!("group-{}", row.samples.len());
        row.time(|| {
            p.create_group(&founder, group_id.as_bytes())?;
            p.commit(&founder, &adds)?;
            p.merge(&founder)
        })?;
    }
    row.print(p, suite, "create_add", members);

    // Join that group from its Welcome: a tree without parents.
    let mut row = Row::new();
    let second = name(1);
    while row.more() {
        p.forget(&founder)?;
        adds[0] = Proposal::Add {
            key_package: Bytes(p.key_package(&second)?),
        };
        p.create_group(&founder, format!("joined-{}", row.samples.len()).as_bytes())?;
        let welcome = p.commit(&founder, &adds)?.welcome.ok_or("no welcome")?.0;
        p.merge(&founder)?;
        row.time(|| p.join(&second, &welcome, None))?;
        p.forget(&second)?;
    }
    row.print(p, suite, "join_after_add", members);

    // The founder's first path: a seal for each member.
    let mut row = Row::new();
    while row.more() {
        row.time(|| p.commit(&founder, &[]))?;
        p.discard(&founder)?;
    }
    row.print(p, suite, "commit_after_add", members);

    // A full tree: each member joined by its own commit, so each parent has a key.
    p.forget(&founder)?;
    p.create_group(&founder, b"full")?;
    for i in 1..members - 1 {
        enter(p, &founder, &name(i))?;
    }
    let mut row = Row::new();
    let last = name(members - 1);
    while row.more() {
        let add = Proposal::Add {
            key_package: Bytes(p.key_package(&last)?),
        };
        let welcome = p.commit(&founder, &[add])?.welcome.ok_or("no welcome")?.0;
        row.time(|| p.join(&last, &welcome, None))?;
        p.forget(&last)?;
        p.discard(&founder)?;
    }
    row.print(p, suite, "join", members);
    enter(p, &founder, &last)?;

    let (mut commits, mut processes) = (Row::new(), Row::new());
    while commits.more() {
        let out = commits.time(|| {
            let out = p.commit(&founder, &[])?;
            p.merge(&founder)?;
            Ok(out)
        })?;
        processes.time(|| p.process(&last, &out.commit.0))?;
    }
    commits.print(p, suite, "commit_full", members);
    processes.print(p, suite, "process", members);

    let (mut sends, mut receives) = (Row::new(), Row::new());
    while sends.more() {
        let message = sends.time(|| p.encrypt(&founder, &[0x5a; 100], &[]))?;
        match receives.time(|| p.process(&last, &message))? {
            Processed::Application { .. } => {}
            other => return Err(format!("received {other:?}")),
        }
    }
    sends.print(p, suite, "send", members);
    receives.print(p, suite, "receive", members);
    Ok(())
}

/// `joiner` joins by an external commit that `founder` processes.
fn enter(p: &mut impl Peer, founder: &str, joiner: &str) -> Result<()> {
    let info = p.group_info(founder)?;
    let tree = info.ratchet_tree.as_ref().map(|b| b.0.as_slice());
    let commit = p.join_external(joiner, &info.group_info.0, tree, None)?;
    p.process(founder, &commit)?;
    Ok(())
}
