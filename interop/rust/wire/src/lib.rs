//! The pipe protocol of interop/README.md: one JSON object a line in, one out. A peer implements
//! [`Peer`]; [`serve`] speaks the protocol for it, and [`bench`] measures it without the protocol.

pub mod bench;
mod serve;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use serve::{main, serve};

/// Any failure, as text for the driver.
pub type Result<T> = std::result::Result<T, String>;

/// Turns a library's error into text.
pub fn text<E: std::fmt::Debug>(err: E) -> String {
    format!("{err:?}")
}

/// Octets, in base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        use base64::Engine;
        s.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(d)?;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(Bytes)
            .map_err(serde::de::Error::custom)
    }
}

/// The extension type that every peer's leaves support, its content opaque to MLS.
pub const OPAQUE_EXTENSION: u16 = 0xf0a1;
/// The proposal type that every peer's leaves support, its content opaque to MLS.
pub const OPAQUE_PROPOSAL: u16 = 0xf0a2;
/// `app_data_dictionary` of the extensions draft, carried opaquely by the peers that don't know it.
pub const APP_DATA_DICTIONARY: u16 = 0x0006;
/// `app_data_update` of the extensions draft.
pub const APP_DATA_UPDATE: u16 = 0x0008;
/// `self_remove` of the extensions draft.
pub const SELF_REMOVE: u16 = 0x000a;

/// An entry of a GroupContextExtensions proposal.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Extension {
    #[serde(rename = "type")]
    pub kind: u16,
    pub data: Bytes,
}

/// A proposal to make, by value in a commit or as a message of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proposal {
    Add {
        key_package: Bytes,
    },
    Remove {
        index: u32,
    },
    Update,
    Psk {
        psk_id: Bytes,
    },
    GroupContextExtensions {
        extensions: Vec<Extension>,
    },
    Custom {
        data: Bytes,
    },
    AppDataUpdate {
        component: u16,
        update: Option<Bytes>,
    },
    SelfRemove,
    #[serde(rename = "reinit")]
    ReInit {
        group_id: Bytes,
        suite: u16,
        extensions: Vec<Extension>,
    },
}

/// How a group follows another: by the ReInit that ended it, or as a branch of it.
#[derive(Debug, Default, Deserialize)]
pub struct Following {
    pub branch: bool,
    #[serde(default)]
    pub group_id: Bytes,
    #[serde(default)]
    pub key_packages: Vec<Bytes>,
}

/// How a new client behaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientOptions {
    /// Put the ratchet tree into Welcome and GroupInfo (else it travels beside them).
    pub tree_extension: bool,
    /// Send handshakes as PrivateMessage.
    pub private: bool,
    /// Put a path into every commit, also where none is needed.
    pub always_path: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Committed {
    pub commit: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub welcome: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratchet_tree: Option<Bytes>,
}

#[derive(Debug, Default, Serialize)]
pub struct GroupInfo {
    pub group_info: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratchet_tree: Option<Bytes>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Processed {
    Proposal,
    /// `removed`: the commit took this client out of the group.
    Commit {
        removed: bool,
    },
    Application {
        sender: u32,
        data: Bytes,
        aad: Bytes,
    },
}

#[derive(Debug, Serialize)]
pub struct Member {
    pub index: u32,
    pub identity: Bytes,
}

#[derive(Debug, Serialize)]
pub struct State {
    pub epoch: u64,
    pub own_index: u32,
    pub epoch_authenticator: Bytes,
    pub members: Vec<Member>,
    pub extensions: Vec<Extension>,
}

#[derive(Debug, Serialize)]
pub struct Capabilities {
    pub name: &'static str,
    pub version: &'static str,
    pub crypto: &'static str,
    pub suites: &'static [u16],
    /// The optional parts of the protocol that this peer has.
    pub features: &'static [&'static str],
}

/// One process's clients, each with at most one group. Every method names the client it is about.
pub trait Peer {
    fn capabilities(&self) -> Capabilities;
    fn new_client(&mut self, client: &str, suite: u16, options: ClientOptions) -> Result<()>;
    /// Gives an MLSMessage with a KeyPackage.
    fn key_package(&mut self, client: &str) -> Result<Vec<u8>>;
    fn create_group(&mut self, client: &str, group_id: &[u8]) -> Result<()>;
    fn propose(&mut self, client: &str, proposal: &Proposal) -> Result<Vec<u8>>;
    /// Commits the given proposals and every pending one; pends until merge or discard.
    fn commit(&mut self, client: &str, proposals: &[Proposal]) -> Result<Committed>;
    fn merge(&mut self, client: &str) -> Result<()>;
    fn discard(&mut self, client: &str) -> Result<()>;
    fn join(&mut self, client: &str, welcome: &[u8], tree: Option<&[u8]>) -> Result<()>;
    /// Makes a group that follows the client's; its commit counts as accepted.
    fn follow(&mut self, _client: &str, _following: &Following) -> Result<Committed> {
        Err("unsupported: following a group".into())
    }
    fn join_following(
        &mut self,
        _client: &str,
        _branch: bool,
        _welcome: &[u8],
        _tree: Option<&[u8]>,
    ) -> Result<()> {
        Err("unsupported: following a group".into())
    }
    fn group_info(&mut self, client: &str) -> Result<GroupInfo>;
    /// Joins alone; the commit counts as accepted. `remove` is the own old leaf (resync).
    fn join_external(
        &mut self,
        client: &str,
        group_info: &[u8],
        tree: Option<&[u8]>,
        remove: Option<u32>,
    ) -> Result<Vec<u8>>;
    fn process(&mut self, client: &str, message: &[u8]) -> Result<Processed>;
    fn encrypt(&mut self, client: &str, data: &[u8], aad: &[u8]) -> Result<Vec<u8>>;
    fn export(
        &mut self,
        client: &str,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> Result<Vec<u8>>;
    fn state(&mut self, client: &str) -> Result<State>;
    fn psk(&mut self, client: &str, psk_id: &[u8], psk: &[u8]) -> Result<()>;
    /// Drops the client's group; the client stays and can join again.
    fn forget(&mut self, client: &str) -> Result<()>;
}
