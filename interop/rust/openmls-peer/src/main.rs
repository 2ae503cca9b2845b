//! The OpenMLS peer of interop/README.md.

use std::collections::HashMap;

use openmls::group::Propose;
use openmls::{
    component::ComponentData,
    group::{
        MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig, StagedWelcome,
        MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY,
    },
    messages::proposals::{
        AppDataUpdateOperation, AppDataUpdateProposal, CustomProposal, PreSharedKeyProposal,
        Proposal as MlsProposal, ProposalOrRefType, ProposalType,
    },
    prelude::{
        tls_codec::{Deserialize, Serialize, VLBytes},
        BasicCredential, Capabilities as LeafCapabilities, Ciphersuite, CredentialWithKey,
        Extension, ExtensionType, Extensions, GroupContext, GroupId, KeyPackage, LeafNodeIndex,
        LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, OpenMlsProvider,
        ProcessedMessageContent, ProtocolVersion, RatchetTreeIn, Sender,
    },
    schedule::{ExternalPsk, PreSharedKeyId, Psk},
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use wire::{
    text, Bytes, Capabilities, ClientOptions, Committed, GroupInfo, Member, Peer, Processed,
    Proposal, Result, State, OPAQUE_EXTENSION, OPAQUE_PROPOSAL,
};

struct Client {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    suite: Ciphersuite,
    options: ClientOptions,
    group: Option<MlsGroup>,
}

#[derive(Default)]
struct OpenMls {
    clients: HashMap<String, Client>,
}

fn leaf_capabilities() -> LeafCapabilities {
    LeafCapabilities::builder()
        .extensions(vec![
            ExtensionType::AppDataDictionary,
            ExtensionType::Unknown(OPAQUE_EXTENSION),
        ])
        .proposals(vec![
            ProposalType::AppDataUpdate,
            ProposalType::SelfRemove,
            ProposalType::Custom(OPAQUE_PROPOSAL),
        ])
        .build()
}

fn decode(octets: &[u8]) -> Result<MlsMessageBodyIn> {
    Ok(MlsMessageIn::tls_deserialize_exact(octets)
        .map_err(text)?
        .extract())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    value.tls_serialize_detached().map_err(text)
}

fn tree(octets: Option<&[u8]>) -> Result<Option<RatchetTreeIn>> {
    octets
        .map(RatchetTreeIn::tls_deserialize_exact)
        .transpose()
        .map_err(text)
}

fn extensions(list: &[wire::Extension]) -> Result<Extensions<GroupContext>> {
    let mut out = Vec::new();
    for e in list {
        let mut octets = e.kind.to_be_bytes().to_vec();
        octets.extend(encode(&VLBytes::from(e.data.0.clone()))?);
        out.push(Extension::tls_deserialize_exact(octets).map_err(text)?);
    }
    Extensions::from_vec(out).map_err(text)
}

impl Client {
    fn group(&mut self) -> Result<&mut MlsGroup> {
        self.group.as_mut().ok_or_else(|| "no group".into())
    }

    fn join_config(&self) -> MlsGroupJoinConfig {
        MlsGroupJoinConfig::builder()
            .wire_format_policy(match self.options.private {
                true => MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY,
                false => MIXED_PLAINTEXT_WIRE_FORMAT_POLICY,
            })
            .use_ratchet_tree_extension(self.options.tree_extension)
            .build()
    }

    fn parse_key_package(&self, octets: &[u8]) -> Result<KeyPackage> {
        match decode(octets)? {
            MlsMessageBodyIn::KeyPackage(kp) => kp
                .validate(self.provider.crypto(), ProtocolVersion::Mls10)
                .map_err(text),
            _ => Err("not a KeyPackage".into()),
        }
    }

    fn psk_id(&self, id: &[u8]) -> Result<PreSharedKeyId> {
        let psk = Psk::External(ExternalPsk::new(id.to_vec()));
        PreSharedKeyId::new(self.suite, self.provider.rand(), psk).map_err(text)
    }

    fn by_value(&self, proposal: &Proposal) -> Result<MlsProposal> {
        Ok(match proposal {
            Proposal::Psk { psk_id } => MlsProposal::PreSharedKey(Box::new(
                PreSharedKeyProposal::new(self.psk_id(&psk_id.0)?),
            )),
            Proposal::Custom { data } => MlsProposal::Custom(Box::new(CustomProposal::new(
                OPAQUE_PROPOSAL,
                data.0.clone(),
            ))),
            Proposal::AppDataUpdate { component, update } => {
                MlsProposal::AppDataUpdate(Box::new(match update {
                    Some(data) => AppDataUpdateProposal::update(*component, data.0.clone()),
                    None => AppDataUpdateProposal::remove(*component),
                }))
            }
            other => return Err(format!("unsupported proposal by value {other:?}")),
        })
    }
}

/// The application's meaning of AppDataUpdate here: the update replaces the component's data.
macro_rules! app_data_changes {
    ($source:expr, $proposals:expr) => {{
        let mut updater = $source.app_data_dictionary_updater();
        for p in $proposals {
            match p.operation() {
                AppDataUpdateOperation::Update(data) => {
                    updater.set(ComponentData::from_parts(p.component_id(), data.clone()))
                }
                AppDataUpdateOperation::Remove => updater.remove(&p.component_id()),
            }
        }
        updater.changes()
    }};
}

impl OpenMls {
    fn client(&mut self, name: &str) -> Result<&mut Client> {
        self.clients
            .get_mut(name)
            .ok_or_else(|| format!("no client {name}"))
    }
}

impl Peer for OpenMls {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "openmls",
            version: "0.9.2",
            crypto: "RustCrypto",
            suites: &[1, 2, 3],
            features: &[
                "update",
                "psk",
                "private",
                "group_context_extensions",
                "custom",
                "resync",
                "path",
                "removal",
                "half_tree",
                "external_senders",
                "empty_context",
                "app_data_update",
                "self_remove",
            ],
        }
    }

    fn new_client(&mut self, client: &str, suite: u16, options: ClientOptions) -> Result<()> {
        let suite = Ciphersuite::try_from(suite).map_err(text)?;
        let provider = OpenMlsRustCrypto::default();
        let signer = SignatureKeyPair::new(suite.signature_algorithm()).map_err(text)?;
        signer.store(provider.storage()).map_err(text)?;
        let credential = CredentialWithKey {
            credential: BasicCredential::new(client.as_bytes().to_vec()).into(),
            signature_key: signer.public().into(),
        };
        let made = Client {
            provider,
            signer,
            credential,
            suite,
            options,
            group: None,
        };
        self.clients.insert(client.into(), made);
        Ok(())
    }

    fn key_package(&mut self, client: &str) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(leaf_capabilities())
            .build(c.suite, &c.provider, &c.signer, c.credential.clone())
            .map_err(text)?;
        encode(&openmls::prelude::MlsMessageOut::from(
            bundle.key_package().clone(),
        ))
    }

    fn create_group(&mut self, client: &str, group_id: &[u8]) -> Result<()> {
        let c = self.client(client)?;
        let join = c.join_config();
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(c.suite)
            .capabilities(leaf_capabilities())
            .wire_format_policy(join.wire_format_policy())
            .use_ratchet_tree_extension(c.options.tree_extension)
            .build();
        let group = MlsGroup::new_with_group_id(
            &c.provider,
            &c.signer,
            &config,
            GroupId::from_slice(group_id),
            c.credential.clone(),
        )
        .map_err(text)?;
        c.group = Some(group);
        Ok(())
    }

    fn propose(&mut self, client: &str, proposal: &Proposal) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        let propose = match proposal {
            Proposal::SelfRemove => {
                let g = c.group.as_mut().ok_or("no group")?;
                let m = g
                    .leave_group_via_self_remove(&c.provider, &c.signer)
                    .map_err(text)?;
                return encode(&m);
            }
            Proposal::Add { key_package } => Propose::Add(c.parse_key_package(&key_package.0)?),
            Proposal::Remove { index } => Propose::Remove(*index),
            Proposal::Update => Propose::Update(LeafNodeParameters::default()),
            Proposal::Psk { psk_id } => Propose::PreSharedKey(c.psk_id(&psk_id.0)?),
            Proposal::GroupContextExtensions { extensions: list } => {
                Propose::GroupContextExtensions(extensions(list)?)
            }
            Proposal::Custom { data } => {
                Propose::Custom(CustomProposal::new(OPAQUE_PROPOSAL, data.0.clone()))
            }
            Proposal::AppDataUpdate {
                component,
                update: Some(data),
            } => Propose::UpdateAppDataComponent {
                component_id: *component,
                update: data.0.clone(),
            },
            Proposal::AppDataUpdate {
                component,
                update: None,
            } => Propose::RemoveAppDataComponent {
                component_id: *component,
            },
            Proposal::ReInit { .. } => return Err("unsupported: ReInit".into()),
        };
        let g = c.group.as_mut().ok_or("no group")?;
        let (m, _) = g
            .propose(
                &c.provider,
                &c.signer,
                propose,
                ProposalOrRefType::Reference,
            )
            .map_err(text)?;
        encode(&m)
    }

    fn commit(&mut self, client: &str, proposals: &[Proposal]) -> Result<Committed> {
        let c = self.client(client)?;
        let (mut adds, mut removes, mut others, mut context) = (vec![], vec![], vec![], None);
        for p in proposals {
            match p {
                Proposal::Add { key_package } => adds.push(c.parse_key_package(&key_package.0)?),
                Proposal::Remove { index } => removes.push(LeafNodeIndex::new(*index)),
                Proposal::GroupContextExtensions { extensions: list } => {
                    context = Some(extensions(list)?)
                }
                other => others.push(c.by_value(other)?),
            }
        }
        let g = c.group.as_mut().ok_or("no group")?;
        let empty = proposals.is_empty() && !g.has_pending_proposals();
        let ClientOptions {
            tree_extension,
            always_path,
            ..
        } = c.options;
        let old_tree = (!tree_extension).then(|| g.export_ratchet_tree());

        let mut b = g
            .commit_builder()
            .force_self_update(empty || always_path)
            .propose_adds(adds)
            .propose_removals(removes)
            .add_proposals(others);
        if let Some(context) = context {
            b = b.propose_group_context_extensions(context).map_err(text)?;
        }
        let mut b = b.load_psks(c.provider.storage()).map_err(text)?;
        let changes = app_data_changes!(b, b.app_data_update_proposals());
        b.with_app_data_dictionary_updates(changes);
        let out = b
            .build(c.provider.rand(), c.provider.crypto(), &c.signer, |_| true)
            .map_err(text)?
            .stage_commit(&c.provider)
            .map_err(text)?;
        let ratchet_tree = match (old_tree, g.pending_commit()) {
            (Some(old), Some(pending)) => {
                let t = pending
                    .export_ratchet_tree(c.provider.crypto(), old)
                    .map_err(text)?;
                Some(Bytes(encode(&t.ok_or("no tree")?)?))
            }
            _ => None,
        };
        let (commit, welcome, _) = out.into_messages();
        Ok(Committed {
            commit: Bytes(encode(&commit)?),
            welcome: match welcome {
                Some(w) => Some(Bytes(encode(&w)?)),
                None => None,
            },
            ratchet_tree,
        })
    }

    fn merge(&mut self, client: &str) -> Result<()> {
        let c = self.client(client)?;
        let g = c.group.as_mut().ok_or("no group")?;
        g.merge_pending_commit(&c.provider).map_err(text)
    }

    fn discard(&mut self, client: &str) -> Result<()> {
        let c = self.client(client)?;
        let g = c.group.as_mut().ok_or("no group")?;
        g.clear_pending_commit(c.provider.storage()).map_err(text)
    }

    fn join(&mut self, client: &str, welcome: &[u8], ratchet_tree: Option<&[u8]>) -> Result<()> {
        let c = self.client(client)?;
        let MlsMessageBodyIn::Welcome(welcome) = decode(welcome)? else {
            return Err("not a Welcome".into());
        };
        let staged = StagedWelcome::new_from_welcome(
            &c.provider,
            &c.join_config(),
            welcome,
            tree(ratchet_tree)?,
        )
        .map_err(text)?;
        c.group = Some(staged.into_group(&c.provider).map_err(text)?);
        Ok(())
    }

    fn group_info(&mut self, client: &str) -> Result<GroupInfo> {
        let c = self.client(client)?;
        let in_extension = c.options.tree_extension;
        let g = c.group.as_mut().ok_or("no group")?;
        let info = g
            .export_group_info(c.provider.crypto(), &c.signer, in_extension)
            .map_err(text)?;
        Ok(GroupInfo {
            group_info: Bytes(encode(&info)?),
            ratchet_tree: match in_extension {
                true => None,
                false => Some(Bytes(encode(&g.export_ratchet_tree())?)),
            },
        })
    }

    fn join_external(
        &mut self,
        client: &str,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        _remove: Option<u32>, // OpenMLS removes the leaf with the client's own signature key
    ) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        let MlsMessageBodyIn::GroupInfo(info) = decode(group_info)? else {
            return Err("not a GroupInfo".into());
        };
        let mut b = MlsGroup::external_commit_builder().with_config(c.join_config());
        if let Some(t) = tree(ratchet_tree)? {
            b = b.with_ratchet_tree(t);
        }
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(leaf_capabilities())
            .build();
        let (group, bundle) = b
            .build_group(&c.provider, info, c.credential.clone())
            .map_err(text)?
            .leaf_node_parameters(leaf)
            .load_psks(c.provider.storage())
            .map_err(text)?
            .build(c.provider.rand(), c.provider.crypto(), &c.signer, |_| true)
            .map_err(text)?
            .finalize(&c.provider)
            .map_err(text)?;
        c.group = Some(group);
        encode(bundle.commit())
    }

    fn process(&mut self, client: &str, octets: &[u8]) -> Result<Processed> {
        let c = self.client(client)?;
        let message = MlsMessageIn::tls_deserialize_exact(octets)
            .map_err(text)?
            .try_into_protocol_message()
            .map_err(text)?;
        let g = c.group.as_mut().ok_or("no group")?;
        let processed = g.process_message(&c.provider, message).map_err(text)?;
        let sender = match processed.sender() {
            Sender::Member(index) => index.u32(),
            _ => u32::MAX,
        };
        let aad = processed.aad().to_vec();
        let staged = match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(m) => {
                let data = Bytes(m.into_bytes());
                return Ok(Processed::Application {
                    sender,
                    data,
                    aad: Bytes(aad),
                });
            }
            ProcessedMessageContent::ProposalMessage(p)
            | ProcessedMessageContent::ExternalJoinProposalMessage(p) => {
                g.store_pending_proposal(c.provider.storage(), *p)
                    .map_err(text)?;
                return Ok(Processed::Proposal);
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => *staged,
            ProcessedMessageContent::UnresolvedAppDataCommit(unresolved) => {
                let changes = app_data_changes!(g, unresolved.app_data_update_proposals());
                g.stage_app_data_commit(&c.provider, *unresolved, changes)
                    .map_err(text)?
            }
            other => return Err(format!("unexpected content {other:?}")),
        };
        let removed = staged.self_removed();
        g.merge_staged_commit(&c.provider, staged).map_err(text)?;
        Ok(Processed::Commit { removed })
    }

    fn encrypt(&mut self, client: &str, data: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let c = self.client(client)?;
        let g = c.group.as_mut().ok_or("no group")?;
        g.set_aad(aad.to_vec());
        encode(
            &g.create_message(&c.provider, &c.signer, data)
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
        let c = self.client(client)?;
        let g = c.group.as_mut().ok_or("no group")?;
        g.export_secret(c.provider.crypto(), label, context, length)
            .map_err(text)
    }

    fn state(&mut self, client: &str) -> Result<State> {
        let g = self.client(client)?.group()?;
        let mut members = Vec::new();
        for m in g.members() {
            let basic = BasicCredential::try_from(m.credential).map_err(text)?;
            members.push(Member {
                index: m.index.u32(),
                identity: Bytes(basic.identity().to_vec()),
            });
        }
        let mut extensions = Vec::new();
        for e in g.extensions().iter() {
            let octets = encode(e)?;
            let data = VLBytes::tls_deserialize_exact(&octets[2..]).map_err(text)?;
            extensions.push(wire::Extension {
                kind: u16::from_be_bytes([octets[0], octets[1]]),
                data: Bytes(data.as_slice().to_vec()),
            });
        }
        Ok(State {
            epoch: g.epoch().as_u64(),
            own_index: g.own_leaf_index().u32(),
            epoch_authenticator: Bytes(g.epoch_authenticator().as_slice().to_vec()),
            members,
            extensions,
        })
    }

    fn psk(&mut self, client: &str, psk_id: &[u8], psk: &[u8]) -> Result<()> {
        let c = self.client(client)?;
        c.psk_id(psk_id)?.store(&c.provider, psk).map_err(text)
    }

    fn forget(&mut self, client: &str) -> Result<()> {
        let c = self.client(client)?;
        if let Some(mut group) = c.group.take() {
            group.delete(c.provider.storage()).map_err(text)?;
        }
        Ok(())
    }
}

fn main() {
    wire::main(OpenMls::default);
}
