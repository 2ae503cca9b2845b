// The ts-mls peer: holds clients, each with at most one group. Methods carry the protocol's names.
// Two faults of ts-mls 2.0.0-rc.10 that would end most scripts early are repaired here:
//  1. it writes external_pub as the bare key, where RFC 9420 §12.4.3.2 has an HPKEPublicKey, with its length;
//  2. its processMessage forgets the external PSKs for a PublicMessage.
import {
  acceptAll,
  branchGroup,
  ciphersuites,
  createApplicationMessage,
  createCommit,
  createGroup,
  createProposal,
  decode,
  defaultCredentialTypes,
  defaultExtensionTypes,
  defaultLifetime,
  defaultProposalTypes,
  encode,
  generateKeyPackageWithKey,
  getCiphersuiteImpl,
  greaseCapabilities,
  joinGroup,
  joinGroupExternal,
  joinGroupFromBranch,
  joinGroupFromReinit,
  makeKeyPackageRef,
  mlsExporter,
  mlsMessageDecoder,
  mlsMessageEncoder,
  nodeTypes,
  processPrivateMessage,
  processPublicMessage,
  protocolVersions,
  pskTypes,
  reinitCreateNewGroup,
  unsafeTestingAuthenticationService,
  wireformats,
} from "ts-mls"
// Codecs that ts-mls does not export: of a tree that travels beside a Welcome, of extensions, a signed GroupInfo.
import { ratchetTreeDecoder, ratchetTreeEncoder } from "./node_modules/ts-mls/dist/src/ratchetTree.js"
import { extensionEncoder, groupContextExtensionDecoder } from "./node_modules/ts-mls/dist/src/extension.js"
import { signGroupInfo } from "./node_modules/ts-mls/dist/src/groupInfo.js"

import { APP_DATA_DICTIONARY, OPAQUE_EXTENSION, OPAQUE_PROPOSAL, base64, bytes } from "./wire.mjs"

const suiteNames = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  2: "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
}

const version = protocolVersions.mls10
const grease = { probabilityPerGreaseValue: 0.1 }

// Repair 1, for a joiner: what came in external_pub is a length and a key.
function repaired(cs) {
  const importPublicKey = (key) => cs.hpke.importPublicKey(key.length === 33 && key[0] === 32 ? key.slice(1) : key)
  return { ...cs, hpke: { ...cs.hpke, importPublicKey } }
}

// ts-mls parses the content of the extensions that it knows, and the protocol carries it as octets.
function extensionData(extension) {
  const octets = Buffer.from(encode(extensionEncoder, extension))
  const prefix = 1 << (octets[2] >> 6)
  return octets.subarray(2 + prefix)
}

function makeExtension({ type, data }) {
  const content = bytes(data)
  const head = Buffer.alloc(content.length < 64 ? 3 : 4)
  head.writeUInt16BE(type, 0)
  if (content.length < 64) head.writeUInt8(content.length, 2)
  else head.writeUInt16BE(content.length | 0x4000, 2)
  return decode(groupContextExtensionDecoder, new Uint8Array(Buffer.concat([head, content])))
}

function message(octets, wireformat) {
  const m = decode(mlsMessageDecoder, octets)
  if (m === undefined) throw new Error("undecodable message")
  if (wireformat !== undefined && m.wireformat !== wireformat) throw new Error(`wire format ${m.wireformat}`)
  return m
}

async function suiteOf(id) {
  return repaired(await getCiphersuiteImpl(suiteNames[id]))
}

export class Peer {
  clients = new Map()

  #client(name) {
    const c = this.clients.get(name)
    if (c === undefined) throw new Error(`no client ${name}`)
    return c
  }

  #member(name) {
    const c = this.#client(name)
    if (c.state === undefined) throw new Error(`${name} has no group`)
    return c
  }

  capabilities() {
    return {
      name: "ts-mls",
      version: "2.0.0-rc.10",
      crypto: "WebCrypto",
      suites: [1, 3],
      features: [
        "psk",
        "private",
        "group_context_extensions",
        "free_context",
        "custom",
        "resync",
        "psk_order",
        "reinit",
        "ends",
        "reinit_blank",
        "branch",
      ],
    }
  }

  async new_client({ client, suite, tree_extension, private: isPrivate }) {
    const cs = await suiteOf(suite)
    this.clients.set(client, {
      name: client,
      treeExtension: tree_extension ?? false,
      private: isPrivate ?? false,
      keys: await cs.signature.keygen(),
      packages: new Map(),
      context: { cipherSuite: cs, authService: unsafeTestingAuthenticationService, externalPsks: {} },
    })
  }

  async #package(c, cipherSuite = c.context.cipherSuite) {
    return generateKeyPackageWithKey({
      credential: { credentialType: defaultCredentialTypes.basic, identity: new TextEncoder().encode(c.name) },
      capabilities: greaseCapabilities(grease, {
        versions: [version],
        ciphersuites: [1, 2, 3],
        extensions: [APP_DATA_DICTIONARY, OPAQUE_EXTENSION],
        proposals: [OPAQUE_PROPOSAL],
        credentials: [defaultCredentialTypes.basic],
      }),
      lifetime: defaultLifetime(),
      extensions: [], // unless given, ts-mls adds GREASE extensions that its capabilities don't list
      signatureKeyPair: { signKey: c.keys.signKey, publicKey: c.keys.publicKey },
      cipherSuite,
    })
  }

  // What a ReInit says of the next group, if one ended the client's.
  #reinit(c) {
    const active = c.state?.groupActiveState
    return active?.kind === "suspendedPendingReinit" ? active.reinit : undefined
  }

  async key_package({ client }) {
    const c = this.#client(client)
    const next = this.#reinit(c)
    const cs = next ? await suiteOf(next.cipherSuite) : c.context.cipherSuite
    const made = await this.#package(c, cs)
    c.packages.set(base64(await makeKeyPackageRef(made.publicPackage, cs.hash)), made)
    const octets = encode(mlsMessageEncoder, {
      version,
      wireformat: wireformats.mls_key_package,
      keyPackage: made.publicPackage,
    })
    return { message: base64(octets) }
  }

  async create_group({ client, group_id }) {
    const c = this.#client(client)
    const made = await this.#package(c)
    c.state = await createGroup({
      context: c.context,
      groupId: bytes(group_id),
      keyPackage: made.publicPackage,
      privateKeyPackage: made.privatePackage,
    })
  }

  #proposal(c, p) {
    switch (p.kind) {
      case "add": {
        const { keyPackage } = message(bytes(p.key_package), wireformats.mls_key_package)
        return { proposalType: defaultProposalTypes.add, add: { keyPackage } }
      }
      case "remove":
        return { proposalType: defaultProposalTypes.remove, remove: { removed: p.index } }
      case "psk": {
        const pskNonce = c.context.cipherSuite.rng.randomBytes(c.context.cipherSuite.kdf.size)
        const preSharedKeyId = { psktype: pskTypes.external, pskId: bytes(p.psk_id), pskNonce }
        return { proposalType: defaultProposalTypes.psk, psk: { preSharedKeyId } }
      }
      case "group_context_extensions": {
        const extensions = p.extensions.map(makeExtension)
        const proposalType = defaultProposalTypes.group_context_extensions
        return { proposalType, groupContextExtensions: { extensions } }
      }
      case "reinit": {
        const reinit = {
          groupId: bytes(p.group_id),
          version,
          cipherSuite: ciphersuites[suiteNames[p.suite]],
          extensions: p.extensions.map(makeExtension),
        }
        return { proposalType: defaultProposalTypes.reinit, reinit }
      }
      case "custom":
        return { proposalType: OPAQUE_PROPOSAL, proposalData: bytes(p.data) }
      default:
        throw new Error(`unsupported proposal ${p.kind}`)
    }
  }

  async propose({ client, proposal }) {
    const c = this.#member(client)
    const out = await createProposal({
      context: c.context,
      state: c.state,
      wireAsPublicMessage: !c.private,
      proposal: this.#proposal(c, proposal),
    })
    c.state = out.newState
    return { message: base64(encode(mlsMessageEncoder, out.message)) }
  }

  async commit({ client, proposals }) {
    const c = this.#member(client)
    const out = await createCommit({
      context: c.context,
      state: c.state,
      wireAsPublicMessage: !c.private,
      ratchetTreeExtension: c.treeExtension,
      extraProposals: (proposals ?? []).map((p) => this.#proposal(c, p)),
    })
    c.pending = out.newState
    return {
      commit: base64(encode(mlsMessageEncoder, out.commit)),
      welcome: out.welcome && base64(encode(mlsMessageEncoder, out.welcome)),
      ratchet_tree: c.treeExtension ? undefined : base64(encode(ratchetTreeEncoder, out.newState.ratchetTree)),
    }
  }

  merge({ client }) {
    const c = this.#member(client)
    if (c.pending === undefined) throw new Error("nothing to merge")
    c.state = c.pending
    c.pending = undefined
  }

  discard({ client }) {
    this.#member(client).pending = undefined
  }

  #tree(octets) {
    return octets === undefined ? undefined : decode(ratchetTreeDecoder, bytes(octets))
  }

  async join({ client, message: octets, ratchet_tree }) {
    const c = this.#client(client)
    const { welcome } = message(bytes(octets), wireformats.mls_welcome)
    const made = welcome.secrets.map((s) => c.packages.get(base64(s.newMember))).find((p) => p !== undefined)
    if (made === undefined) throw new Error("no key package of this client in the Welcome")
    c.state = await joinGroup({
      context: c.context,
      welcome,
      keyPackage: made.publicPackage,
      privateKeys: made.privatePackage,
      ratchetTree: this.#tree(ratchet_tree),
    })
  }

  async follow({ client, following }) {
    const c = this.#member(client)
    const next = following.branch ? undefined : this.#reinit(c)
    if (!following.branch && next === undefined) throw new Error("no ReInit ended the group")
    const cs = next ? await suiteOf(next.cipherSuite) : c.context.cipherSuite
    const own = await this.#package(c, cs)
    const given = {
      context: c.context,
      state: c.state,
      keyPackage: own.publicPackage,
      privateKeyPackage: own.privatePackage,
      memberKeyPackages: following.key_packages.map(
        (k) => message(bytes(k), wireformats.mls_key_package).keyPackage,
      ),
    }
    const out = next
      ? await reinitCreateNewGroup({
          ...given,
          groupId: next.groupId,
          cipherSuite: suiteNames[next.cipherSuite],
          extensions: next.extensions,
        })
      : await branchGroup({ ...given, newGroupId: bytes(following.group_id) })
    c.state = out.newState
    c.context = { ...c.context, cipherSuite: cs }
    return {
      commit: "",
      welcome: base64(encode(mlsMessageEncoder, out.welcome)),
      ratchet_tree: base64(encode(ratchetTreeEncoder, out.newState.ratchetTree)), // it has no choice here
    }
  }

  async join_following({ client, following, message: octets, ratchet_tree }) {
    const c = this.#member(client)
    const { welcome } = message(bytes(octets), wireformats.mls_welcome)
    const made = welcome.secrets.map((s) => c.packages.get(base64(s.newMember))).find((p) => p !== undefined)
    if (made === undefined) throw new Error("no key package of this client in the Welcome")
    const given = {
      context: c.context,
      welcome,
      keyPackage: made.publicPackage,
      privateKeyPackage: made.privatePackage,
      ratchetTree: this.#tree(ratchet_tree),
    }
    if (following.branch) {
      c.state = await joinGroupFromBranch({ ...given, oldState: c.state })
      return
    }
    const cipherSuite = await suiteOf(this.#reinit(c)?.cipherSuite)
    c.state = await joinGroupFromReinit({ ...given, suspendedState: c.state })
    c.context = { ...c.context, cipherSuite }
  }

  async group_info({ client }) {
    const c = this.#member(client)
    const { cipherSuite } = c.context
    const { groupContext, confirmationTag, signaturePrivateKey, keySchedule, ratchetTree, privatePath } = c.state
    const external = await cipherSuite.hpke.deriveKeyPair(keySchedule.externalSecret)
    const key = Buffer.from(await cipherSuite.hpke.exportPublicKey(external.publicKey))
    const externalPub = new Uint8Array([key.length, ...key]) // repair 1
    const extensions = [{ extensionType: defaultExtensionTypes.external_pub, extensionData: externalPub }]
    if (c.treeExtension) {
      const extensionData = encode(ratchetTreeEncoder, ratchetTree)
      extensions.push({ extensionType: defaultExtensionTypes.ratchet_tree, extensionData })
    }
    const tbs = { groupContext, extensions, confirmationTag, signer: privatePath.leafIndex }
    const groupInfo = await signGroupInfo(tbs, signaturePrivateKey, cipherSuite.signature)
    return {
      group_info: base64(encode(mlsMessageEncoder, { version, wireformat: wireformats.mls_group_info, groupInfo })),
      ratchet_tree: c.treeExtension ? undefined : base64(encode(ratchetTreeEncoder, c.state.ratchetTree)),
    }
  }

  async join_external({ client, message: octets, ratchet_tree, remove }) {
    const c = this.#client(client)
    const { groupInfo } = message(bytes(octets), wireformats.mls_group_info)
    const made = await this.#package(c)
    const out = await joinGroupExternal({
      context: c.context,
      groupInfo,
      keyPackage: made.publicPackage,
      privateKeys: made.privatePackage,
      tree: this.#tree(ratchet_tree),
      resync: remove !== undefined,
    })
    c.state = out.newState
    const framed = { version, wireformat: wireformats.mls_public_message, publicMessage: out.publicMessage }
    return { message: base64(encode(mlsMessageEncoder, framed)) }
  }

  async process({ client, message: octets }) {
    const c = this.#member(client)
    const m = message(bytes(octets))
    let kind
    const callback = (incoming) => {
      kind = incoming.kind
      return acceptAll(incoming)
    }
    const given = { context: c.context, state: c.state, callback }
    const out = // repair 2
      m.wireformat === wireformats.mls_public_message
        ? await processPublicMessage({ ...given, publicMessage: m.publicMessage })
        : await processPrivateMessage({ ...given, privateMessage: m.privateMessage })
    c.state = out.newState
    c.pending = undefined
    if (out.kind === "applicationMessage") {
      return { kind: "application", data: base64(out.message), aad: base64(out.aad) }
    }
    if (kind === "proposal") return { kind }
    return { kind: "commit", removed: c.state.groupActiveState.kind === "removedFromGroup" }
  }

  async encrypt({ client, data, aad }) {
    const c = this.#member(client)
    const out = await createApplicationMessage({
      context: c.context,
      state: c.state,
      message: bytes(data),
      authenticatedData: bytes(aad),
    })
    c.state = out.newState
    return { message: base64(encode(mlsMessageEncoder, out.message)) }
  }

  async export({ client, label, context, length }) {
    const c = this.#member(client)
    const { exporterSecret } = c.state.keySchedule
    const secret = await mlsExporter(exporterSecret, label, bytes(context), length, c.context.cipherSuite)
    return { secret: base64(secret) }
  }

  state({ client }) {
    const { state } = this.#member(client)
    const members = []
    state.ratchetTree.forEach((node, i) => {
      if (node?.nodeType === nodeTypes.leaf) {
        members.push({ index: i / 2, identity: base64(node.leaf.credential.identity) })
      }
    })
    return {
      epoch: Number(state.groupContext.epoch),
      own_index: state.privatePath.leafIndex,
      epoch_authenticator: base64(state.keySchedule.epochAuthenticator),
      members,
      extensions: state.groupContext.extensions.map((e) => ({ type: e.extensionType, data: base64(extensionData(e)) })),
    }
  }

  psk({ client, psk_id, psk }) {
    this.#client(client).context.externalPsks[base64(bytes(psk_id))] = bytes(psk)
  }

  forget({ client }) {
    const c = this.#client(client)
    c.state = undefined
    c.pending = undefined
  }
}
