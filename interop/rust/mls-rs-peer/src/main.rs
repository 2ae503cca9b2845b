//! The mls-rs peer of interop/README.md.

use std::collections::HashMap;

use mls_rs::{
    client_builder::{MlsConfig, PaddingMode},
    extension::ExtensionType,
    group::{
        proposal::{CustomProposal, ProposalType},
        CommitEffect, ExportedTree, ReceivedMessage, ReinitClient,
    },
    identity::{
        basic::{BasicCredential, BasicIdentityProvider},
        SigningIdentity,
    },
    mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions},
    psk::{ExternalPskId, PreSharedKey},
    storage_provider::in_memory::InMemoryPreSharedKeyStorage,
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, Extension, ExtensionList, Group,
    MlsMessage, ProtocolVersion,
};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;
use wire::{
    text, Bytes, Capabilities, ClientOptions, Committed, Following, GroupInfo, Member, Peer,
    Processed, Proposal, Result, State, APP_DATA_DICTIONARY, OPAQUE_EXTENSION, OPAQUE_PROPOSAL,
};

const OPAQUE: ProposalType = ProposalType::new(OPAQUE_PROPOSAL);

struct Member1<C: MlsConfig> {
    client: Client<C>,
    psks: InMemoryPreSharedKeyStorage,
    options: ClientOptions,
    group: Option<Group<C>>,
    /// A ReInit ended the group.
    ended: bool,
    /// Instead of a group that ended, once the next one is wanted.
    reinit: Option<ReinitClient<C>>,
}

struct MlsRs<C: MlsConfig, F> {
    make: F,
    clients: HashMap<String, Member1<C>>,
}

fn make_client(
    name: &str,
    suite: u16,
    options: ClientOptions,
    psks: InMemoryPreSharedKeyStorage,
) -> Result<Client<impl MlsConfig>> {
    let suite = CipherSuite::from(suite);
    let crypto = AwsLcCryptoProvider::default();
    let provider = crypto
        .cipher_suite_provider(suite)
        .ok_or("unsupported suite")?;
    let (secret, public) = provider.signature_key_generate().map_err(text)?;
    let credential = BasicCredential::new(name.as_bytes().to_vec()).into_credential();
    let rules = DefaultMlsRules::new()
        .with_commit_options(
            CommitOptions::new()
                .with_ratchet_tree_extension(options.tree_extension)
                .with_path_required(options.always_path),
        )
        .with_encryption_options(EncryptionOptions::new(options.private, PaddingMode::None));
    Ok(Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .psk_store(psks)
        .mls_rules(rules)
        .extension_type(ExtensionType::from(OPAQUE_EXTENSION))
        .extension_type(ExtensionType::from(APP_DATA_DICTIONARY))
        .custom_proposal_type(OPAQUE)
        .signing_identity(SigningIdentity::new(credential, public), secret, suite)
        .build())
}

fn message(octets: &[u8]) -> Result<MlsMessage> {
    MlsMessage::from_bytes(octets).map_err(text)
}

fn octets(message: &MlsMessage) -> Result<Vec<u8>> {
    message.to_bytes().map_err(text)
}

fn tree(octets: Option<&[u8]>) -> Result<Option<ExportedTree<'static>>> {
    octets
        .map(ExportedTree::from_bytes)
        .transpose()
        .map_err(text)
}

fn extensions(list: &[wire::Extension]) -> ExtensionList {
    list.iter()
        .map(|e| Extension::new(ExtensionType::from(e.kind), e.data.0.clone()))
        .collect::<Vec<_>>()
        .into()
}

impl<C: MlsConfig> Member1<C> {
    /// A group that a ReInit ended becomes what can make or join the next one.
    fn end_by_reinit(&mut self) -> Result<()> {
        if std::mem::take(&mut self.ended) {
            let group = self.group.take().ok_or("no group")?;
            self.reinit = Some(group.get_reinit_client(None, None).map_err(text)?);
        }
        Ok(())
    }
}

impl<C: MlsConfig, F> MlsRs<C, F> {
    fn client(&mut self, name: &str) -> Result<&mut Member1<C>> {
        self.clients
            .get_mut(name)
            .ok_or_else(|| format!("no client {name}"))
    }

    fn group(&mut self, name: &str) -> Result<&mut Group<C>> {
        self.client(name)?
            .group
            .as_mut()
            .ok_or_else(|| format!("{name} has no group"))
    }
}

impl<C, F> Peer for MlsRs<C, F>
where
    C: MlsConfig,
    F: Fn(&str, u16, ClientOptions, InMemoryPreSharedKeyStorage) -> Result<Client<C>>,
{
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "mls-rs",
            version: "0.57.0",
            crypto: "aws-lc",
            suites: &[1, 2, 3],
            features: &[
                "update",
                "psk",
                "private",
                "group_context_extensions",
                "free_context",
                "custom",
                "resync",
                "path",
                "removal",
                "psk_order",
                "half_tree",
                "external_senders",
                "empty_context",
                "reinit",
                "reinit_required",
                "branch",
            ],
        }
    }

    fn new_client(&mut self, client: &str, suite: u16, options: ClientOptions) -> Result<()> {
        let psks = InMemoryPreSharedKeyStorage::default();
        let made = (self.make)(client, suite, options, psks.clone())?;
        let member = Member1 {
            client: made,
            psks,
            options,
            group: None,
            ended: false,
            reinit: None,
        };
        self.clients.insert(client.into(), member);
        Ok(())
    }

    fn key_package(&mut self, client: &str) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        c.end_by_reinit()?;
        let message = match &c.reinit {
            Some(r) => r.generate_key_package(None),
            None => {
                c.client
                    .generate_key_package_message(Default::default(), Default::default(), None)
            }
        };
        octets(&message.map_err(text)?)
    }

    fn create_group(&mut self, client: &str, group_id: &[u8]) -> Result<()> {
        let c = self.client(client)?;
        let group = c
            .client
            .create_group_with_id(
                group_id.to_vec(),
                Default::default(),
                Default::default(),
                None,
            )
            .map_err(text)?;
        c.group = Some(group);
        Ok(())
    }

    fn propose(&mut self, client: &str, proposal: &Proposal) -> Result<Vec<u8>> {
        let g = self.group(client)?;
        let out = match proposal {
            Proposal::Add { key_package } => g.propose_add(message(&key_package.0)?, vec![]),
            Proposal::Remove { index } => g.propose_remove(*index, vec![]),
            Proposal::Update => g.propose_update(vec![]),
            Proposal::Psk { psk_id } => {
                g.propose_external_psk(ExternalPskId::new(psk_id.0.clone()), vec![])
            }
            Proposal::GroupContextExtensions { extensions: list } => {
                g.propose_group_context_extensions(extensions(list), vec![])
            }
            Proposal::Custom { data } => {
                g.propose_custom(CustomProposal::new(OPAQUE, data.0.clone()), vec![])
            }
            Proposal::ReInit {
                group_id,
                suite,
                extensions: list,
            } => g.propose_reinit(
                Some(group_id.0.clone()),
                ProtocolVersion::MLS_10,
                CipherSuite::from(*suite),
                extensions(list),
                vec![],
            ),
            other => return Err(format!("unsupported proposal {other:?}")),
        };
        octets(&out.map_err(text)?)
    }

    fn commit(&mut self, client: &str, proposals: &[Proposal]) -> Result<Committed> {
        let mut b = self.group(client)?.commit_builder();
        for proposal in proposals {
            b = match proposal {
                Proposal::Add { key_package } => b.add_member(message(&key_package.0)?),
                Proposal::Remove { index } => b.remove_member(*index),
                Proposal::Psk { psk_id } => {
                    b.add_external_psk(ExternalPskId::new(psk_id.0.clone()))
                }
                Proposal::GroupContextExtensions { extensions: list } => {
                    b.set_group_context_ext(extensions(list))
                }
                Proposal::Custom { data } => {
                    Ok(b.custom_proposal(CustomProposal::new(OPAQUE, data.0.clone())))
                }
                Proposal::ReInit {
                    group_id,
                    suite,
                    extensions: list,
                } => b.reinit(
                    Some(group_id.0.clone()),
                    ProtocolVersion::MLS_10,
                    CipherSuite::from(*suite),
                    extensions(list),
                ),
                other => return Err(format!("unsupported proposal by value {other:?}")),
            }
            .map_err(text)?;
        }
        let out = b.build().map_err(text)?;
        Ok(Committed {
            commit: Bytes(octets(out.commit_message())?),
            welcome: match out.welcome_messages() {
                [] => None,
                [one] => Some(Bytes(octets(one)?)),
                more => return Err(format!("{} Welcomes", more.len())),
            },
            ratchet_tree: match out.ratchet_tree() {
                Some(t) => Some(Bytes(t.to_bytes().map_err(text)?)),
                None => None,
            },
        })
    }

    fn merge(&mut self, client: &str) -> Result<()> {
        let done = self.group(client)?.apply_pending_commit().map_err(text)?;
        self.client(client)?.ended = matches!(done.effect, CommitEffect::ReInit(_));
        Ok(())
    }

    fn discard(&mut self, client: &str) -> Result<()> {
        self.group(client)?.clear_pending_commit();
        Ok(())
    }

    fn join(&mut self, client: &str, welcome: &[u8], ratchet_tree: Option<&[u8]>) -> Result<()> {
        let c = self.client(client)?;
        let (group, _) = c
            .client
            .join_group(tree(ratchet_tree)?, &message(welcome)?, None)
            .map_err(text)?;
        c.group = Some(group);
        Ok(())
    }

    fn follow(&mut self, client: &str, f: &Following) -> Result<Committed> {
        let c = self.client(client)?;
        let packages = f
            .key_packages
            .iter()
            .map(|k| message(&k.0))
            .collect::<Result<Vec<_>>>()?;
        let (group, welcomes) = if f.branch {
            let former = c.group.as_ref().ok_or("no group to branch off from")?;
            former.branch(f.group_id.0.clone(), packages, None)
        } else {
            c.end_by_reinit()?;
            let r = c.reinit.take().ok_or("no group that a ReInit ended")?;
            r.commit(packages, Default::default(), None)
        }
        .map_err(text)?;
        let [welcome] = welcomes.as_slice() else {
            return Err(format!("{} Welcomes", welcomes.len()));
        };
        let committed = Committed {
            commit: Bytes::default(),
            welcome: Some(Bytes(octets(welcome)?)),
            ratchet_tree: match c.options.tree_extension {
                true => None,
                false => Some(Bytes(group.export_tree().to_bytes().map_err(text)?)),
            },
        };
        c.group = Some(group);
        Ok(committed)
    }

    fn join_following(
        &mut self,
        client: &str,
        branch: bool,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
    ) -> Result<()> {
        let c = self.client(client)?;
        let welcome = message(welcome)?;
        let (group, _) = if branch {
            let former = c.group.as_ref().ok_or("no group to branch off from")?;
            former.join_subgroup(&welcome, tree(ratchet_tree)?, None)
        } else {
            c.end_by_reinit()?;
            let r = c.reinit.take().ok_or("no group that a ReInit ended")?;
            r.join(&welcome, tree(ratchet_tree)?, None)
        }
        .map_err(text)?;
        c.group = Some(group);
        Ok(())
    }

    fn group_info(&mut self, client: &str) -> Result<GroupInfo> {
        let in_extension = self.client(client)?.options.tree_extension;
        let g = self.group(client)?;
        let info = g
            .group_info_message_allowing_ext_commit(in_extension)
            .map_err(text)?;
        Ok(GroupInfo {
            group_info: Bytes(octets(&info)?),
            ratchet_tree: match in_extension {
                true => None,
                false => Some(Bytes(g.export_tree().to_bytes().map_err(text)?)),
            },
        })
    }

    fn join_external(
        &mut self,
        client: &str,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        remove: Option<u32>,
    ) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        let mut b = c.client.external_commit_builder().map_err(text)?;
        if let Some(t) = tree(ratchet_tree)? {
            b = b.with_tree_data(t);
        }
        if let Some(index) = remove {
            b = b.with_removal(index);
        }
        let (group, commit) = b.build(message(group_info)?).map_err(text)?;
        c.group = Some(group);
        octets(&commit)
    }

    fn process(&mut self, client: &str, octets: &[u8]) -> Result<Processed> {
        let g = self.group(client)?;
        match g.process_incoming_message(message(octets)?).map_err(text)? {
            ReceivedMessage::ApplicationMessage(m) => Ok(Processed::Application {
                sender: m.sender_index,
                aad: Bytes(m.authenticated_data.clone()),
                data: Bytes(m.data().to_vec()),
            }),
            ReceivedMessage::Commit(c) => {
                self.client(client)?.ended = matches!(c.effect, CommitEffect::ReInit(_));
                Ok(Processed::Commit {
                    removed: matches!(c.effect, CommitEffect::Removed { .. }),
                })
            }
            ReceivedMessage::Proposal(_) => Ok(Processed::Proposal),
            other => Err(format!("unexpected message {other:?}")),
        }
    }

    fn encrypt(&mut self, client: &str, data: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let g = self.group(client)?;
        octets(
            &g.encrypt_application_message(data, aad.to_vec())
                .map_err(text)?,
        )
    }

    fn export(
        &mut self,
        client: &str,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> Result<Vec<u8>> {
        let g = self.group(client)?;
        Ok(g.export_secret(label.as_bytes(), context, length)
            .map_err(text)?
            .as_bytes()
            .to_vec())
    }

    fn state(&mut self, client: &str) -> Result<State> {
        let g = self.group(client)?;
        let mut members = Vec::new();
        for m in g.roster().members_iter() {
            let basic = m
                .signing_identity
                .credential
                .as_basic()
                .ok_or("not a basic credential")?;
            members.push(Member {
                index: m.index,
                identity: Bytes(basic.identifier.clone()),
            });
        }
        Ok(State {
            epoch: g.current_epoch(),
            own_index: g.current_member_index(),
            epoch_authenticator: Bytes(g.epoch_authenticator().map_err(text)?.as_bytes().to_vec()),
            members,
            extensions: g
                .context()
                .extensions
                .iter()
                .map(|e| wire::Extension {
                    kind: e.extension_type.raw_value(),
                    data: Bytes(e.extension_data.clone()),
                })
                .collect(),
        })
    }

    fn psk(&mut self, client: &str, psk_id: &[u8], psk: &[u8]) -> Result<()> {
        let c = self.client(client)?;
        c.psks.insert(
            ExternalPskId::new(psk_id.to_vec()),
            PreSharedKey::new(psk.to_vec()),
        );
        Ok(())
    }

    fn forget(&mut self, client: &str) -> Result<()> {
        let c = self.client(client)?;
        (c.group, c.ended, c.reinit) = (None, false, None);
        Ok(())
    }
}

/// Prints how long the primitives of cipher suite 1 take with AWS-LC, in nanoseconds: the least of many rounds.
fn primitives() -> Result<()> {
    let crypto = AwsLcCryptoProvider::default();
    let suite = crypto
        .cipher_suite_provider(CipherSuite::CURVE25519_AES128)
        .ok_or("unsupported suite")?;
    let (secret, public) = suite.signature_key_generate().map_err(text)?;
    let message = [0u8; 300];
    let signature = suite.sign(&secret, &message).map_err(text)?;
    let (hpke_secret, hpke_public) = suite.kem_generate().map_err(text)?;
    let sealed = suite
        .hpke_seal(&hpke_public, &message, None, &message[..32])
        .map_err(text)?;
    let least = |name: &str, f: &dyn Fn() -> Result<()>| -> Result<()> {
        let mut least = std::time::Duration::MAX;
        for _ in 0..2000 {
            let start = std::time::Instant::now();
            f()?;
            least = least.min(start.elapsed());
        }
        println!("{name} {}", least.as_nanos());
        Ok(())
    };
    least("sign", &|| {
        suite.sign(&secret, &message).map(|_| ()).map_err(text)
    })?;
    least("verify", &|| {
        suite.verify(&public, &signature, &message).map_err(text)
    })?;
    least("seal", &|| {
        suite
            .hpke_seal(&hpke_public, &message, None, &message[..32])
            .map(|_| ())
            .map_err(text)
    })?;
    least("open", &|| {
        suite
            .hpke_open(&sealed, &hpke_secret, &hpke_public, &message, None)
            .map(|_| ())
            .map_err(text)
    })?;
    least("derive", &|| {
        suite.kem_derive(&message[..32]).map(|_| ()).map_err(text)
    })
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("primitives") {
        if let Err(e) = primitives() {
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    wire::main(|| MlsRs {
        make: make_client,
        clients: HashMap::new(),
    });
}
