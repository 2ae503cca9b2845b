use std::io::{BufRead, Write};

use serde::Deserialize;
use serde_json::{json, Value};

use crate::{text, Bytes, ClientOptions, Following, Peer, Proposal, Result};

#[derive(Deserialize)]
struct Request {
    id: u64,
    op: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    suite: u16,
    #[serde(default)]
    tree_extension: bool,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    always_path: bool,
    #[serde(default)]
    group_id: Bytes,
    proposal: Option<Proposal>,
    #[serde(default)]
    proposals: Vec<Proposal>,
    /// A Welcome, GroupInfo or framed message, as MLSMessage.
    #[serde(default)]
    message: Bytes,
    ratchet_tree: Option<Bytes>,
    remove: Option<u32>,
    following: Option<Following>,
    #[serde(default)]
    data: Bytes,
    #[serde(default)]
    aad: Bytes,
    #[serde(default)]
    label: String,
    #[serde(default)]
    context: Bytes,
    #[serde(default)]
    length: usize,
    #[serde(default)]
    psk_id: Bytes,
    #[serde(default)]
    psk: Bytes,
}

fn value<T: serde::Serialize>(v: T) -> Result<Value> {
    serde_json::to_value(v).map_err(text)
}

fn handle(peer: &mut impl Peer, r: &Request) -> Result<Value> {
    let tree = r.ratchet_tree.as_ref().map(|b| b.0.as_slice());
    let message = |m: Vec<u8>| value(json!({ "message": Bytes(m) }));
    let done = |()| Ok(json!({}));
    match r.op.as_str() {
        "capabilities" => value(peer.capabilities()),
        "new_client" => {
            let options = ClientOptions {
                tree_extension: r.tree_extension,
                private: r.private,
                always_path: r.always_path,
            };
            peer.new_client(&r.client, r.suite, options).and_then(done)
        }
        "key_package" => peer.key_package(&r.client).and_then(message),
        "create_group" => peer.create_group(&r.client, &r.group_id.0).and_then(done),
        "propose" => {
            let proposal = r.proposal.as_ref().ok_or("propose without proposal")?;
            peer.propose(&r.client, proposal).and_then(message)
        }
        "commit" => value(peer.commit(&r.client, &r.proposals)?),
        "merge" => peer.merge(&r.client).and_then(done),
        "discard" => peer.discard(&r.client).and_then(done),
        "join" => peer.join(&r.client, &r.message.0, tree).and_then(done),
        "follow" => {
            let following = r.following.as_ref().ok_or("follow without following")?;
            value(peer.follow(&r.client, following)?)
        }
        "join_following" => {
            let following = r
                .following
                .as_ref()
                .ok_or("join_following without following")?;
            peer.join_following(&r.client, following.branch, &r.message.0, tree)
                .and_then(done)
        }
        "group_info" => value(peer.group_info(&r.client)?),
        "join_external" => peer
            .join_external(&r.client, &r.message.0, tree, r.remove)
            .and_then(message),
        "process" => value(peer.process(&r.client, &r.message.0)?),
        "encrypt" => peer
            .encrypt(&r.client, &r.data.0, &r.aad.0)
            .and_then(message),
        "export" => {
            let secret = peer.export(&r.client, &r.label, &r.context.0, r.length)?;
            value(json!({ "secret": Bytes(secret) }))
        }
        "state" => value(peer.state(&r.client)?),
        "psk" => peer.psk(&r.client, &r.psk_id.0, &r.psk.0).and_then(done),
        "forget" => peer.forget(&r.client).and_then(done),
        other => Err(format!("unknown op {other}")),
    }
}

/// Answers requests from stdin until it closes.
pub fn serve(mut peer: impl Peer) {
    let stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    for line in stdin.lines() {
        let Ok(line) = line else { return };
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => match handle(&mut peer, &request) {
                Ok(result) => json!({ "id": request.id, "result": result }),
                Err(error) => json!({ "id": request.id, "error": error }),
            },
            Err(error) => json!({ "id": 0, "error": format!("bad request: {error}") }),
        };
        if writeln!(stdout, "{answer}")
            .and_then(|()| stdout.flush())
            .is_err()
        {
            return;
        }
    }
}

/// The whole of a peer's main: `bench [suite [size…]]` measures, nothing serves.
pub fn main<P: Peer>(new: impl Fn() -> P) {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        None => serve(new()),
        Some("bench") => {
            let numbers: Vec<usize> = args.map(|a| a.parse().expect("a number")).collect();
            let (suite, sizes) = match numbers.split_first() {
                Some((suite, sizes)) if !sizes.is_empty() => (*suite as u16, sizes.to_vec()),
                Some((suite, _)) => (*suite as u16, crate::bench::SIZES.to_vec()),
                None => (1, crate::bench::SIZES.to_vec()),
            };
            for size in sizes {
                if let Err(error) = crate::bench::run(&mut new(), suite, size) {
                    eprintln!("members={size}: {error}");
                    std::process::exit(1);
                }
            }
        }
        Some(other) => {
            eprintln!("unknown command {other}: want nothing, or bench [suite [size…]]");
            std::process::exit(2);
        }
    }
}
