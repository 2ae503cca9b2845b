-- +goose Up

-- Small values that exist once: the provider's keys, its domain.
CREATE TABLE IF NOT EXISTS meta (
    name  TEXT PRIMARY KEY,
    value {{bytes}} NOT NULL
) {{clustered}};

CREATE TABLE IF NOT EXISTS users (
    user_uri   TEXT PRIMARY KEY,
    state      BIGINT NOT NULL, -- 1 active, 2 deleted
    password   {{bytes}} NOT NULL,
    settings   {{bytes}} NOT NULL,
    created_ms BIGINT NOT NULL
) {{clustered}};

CREATE TABLE IF NOT EXISTS clients (
    client_uri TEXT PRIMARY KEY,
    user_uri   TEXT NOT NULL,
    token      {{bytes}} NOT NULL UNIQUE, -- SHA-256 of the bearer token
    state      BIGINT NOT NULL, -- 1 active, 2 lost or removed
    created_ms BIGINT NOT NULL,
    seen_ms    BIGINT NOT NULL
) {{clustered}};
CREATE INDEX IF NOT EXISTS clients_of_user ON clients (user_uri);

-- One row a KeyPackage until it expires; the body is dropped when it is given out.
CREATE TABLE IF NOT EXISTS key_packages (
    ref        {{bytes}} PRIMARY KEY,
    client_uri TEXT NOT NULL,
    suite      BIGINT NOT NULL,
    not_after  BIGINT NOT NULL, -- seconds
    claimed_ms BIGINT NOT NULL, -- 0: still in stock
    room_uri   TEXT NOT NULL,   -- the room it was claimed for
    body       {{bytes}} NOT NULL
) {{clustered}};
CREATE INDEX IF NOT EXISTS key_packages_of_client ON key_packages (client_uri, claimed_ms, not_after);
CREATE INDEX IF NOT EXISTS key_packages_expiry ON key_packages (not_after);

-- What the hub remembers of KeyPackages that went through it.
CREATE TABLE IF NOT EXISTS claims (
    ref       {{bytes}} PRIMARY KEY,
    provider  TEXT NOT NULL,
    claimant  TEXT NOT NULL,
    room_uri  TEXT NOT NULL,
    not_after BIGINT NOT NULL -- seconds
) {{clustered}};
CREATE INDEX IF NOT EXISTS claims_expiry ON claims (not_after);

-- Answers that a repeated request gets again, by SHA-256 of the request.
CREATE TABLE IF NOT EXISTS answers (
    digest     {{bytes}} PRIMARY KEY,
    answer     {{bytes}} NOT NULL,
    created_ms BIGINT NOT NULL
) {{clustered}};
CREATE INDEX IF NOT EXISTS answers_age ON answers (created_ms);

CREATE TABLE IF NOT EXISTS rooms (
    room_id    {{id}},
    room_uri   TEXT NOT NULL UNIQUE,
    hub        TEXT NOT NULL,   -- the hub's domain
    version    BIGINT NOT NULL, -- counts changes of head and records
    head       {{bytes}} NOT NULL,
    first_seq  BIGINT NOT NULL, -- the oldest event still in the log
    last_seq   BIGINT NOT NULL,
    last_ms    BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS rooms_by_hub ON rooms (hub);

-- A room's larger state in pieces, so that a change writes what changed.
CREATE TABLE IF NOT EXISTS room_records (
    room_id BIGINT NOT NULL,
    name    {{bytes}} NOT NULL,
    value   {{bytes}} NOT NULL,
    PRIMARY KEY (room_id, name)
) {{clustered}};

CREATE TABLE IF NOT EXISTS room_log (
    room_id     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    kind        BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    digest      {{bytes}} NOT NULL, -- SHA-256 of the MLSMessage
    source      TEXT NOT NULL,
    audience    TEXT NOT NULL, -- provider domains, one a line; empty: all
    clients     TEXT NOT NULL, -- local clients that it is for, one a line; empty: all
    body        {{bytes}} NOT NULL, -- the FanoutMessage
    PRIMARY KEY (room_id, seq)
) {{clustered}};
CREATE UNIQUE INDEX IF NOT EXISTS room_log_digest ON room_log (room_id, digest);

-- Cursors of followers into the logs of rooms hosted here.
CREATE TABLE IF NOT EXISTS followers (
    room_id   BIGINT NOT NULL,
    domain    TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    until_seq BIGINT NOT NULL, -- the last event for it; 0: still following
    acked_seq BIGINT NOT NULL,
    PRIMARY KEY (room_id, domain, first_seq)
) {{clustered}};
CREATE INDEX IF NOT EXISTS followers_by_domain ON followers (domain);

-- Cursors of this provider's clients into the logs.
CREATE TABLE IF NOT EXISTS memberships (
    client_uri TEXT NOT NULL,
    room_id    BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    cursor_seq BIGINT NOT NULL, -- everything up to here was read and stored by the client
    PRIMARY KEY (client_uri, room_id)
) {{clustered}};
CREATE INDEX IF NOT EXISTS memberships_of_room ON memberships (room_id);

-- Users who are listed in a room that none of their clients has joined yet.
CREATE TABLE IF NOT EXISTS invitations (
    user_uri TEXT NOT NULL,
    room_uri TEXT NOT NULL,
    added_ms BIGINT NOT NULL,
    PRIMARY KEY (user_uri, room_uri)
) {{clustered}};

-- GroupInfos given out: what the external commit that follows must present.
CREATE TABLE IF NOT EXISTS joins (
    room_id    BIGINT NOT NULL,
    public_key {{bytes}} NOT NULL, -- groupInfoPublicKey, never used twice
    user_uri   TEXT NOT NULL,
    signer     {{bytes}} NOT NULL, -- signature key of the credential
    code       {{bytes}} NOT NULL, -- joining code, if one was used
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, public_key)
) {{clustered}};
CREATE INDEX IF NOT EXISTS joins_expiry ON joins (expires_ms);

CREATE TABLE IF NOT EXISTS join_codes (
    room_id    BIGINT NOT NULL,
    code       {{bytes}} NOT NULL,
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL, -- 0: never
    uses_left  BIGINT NOT NULL, -- -1: without limit
    PRIMARY KEY (room_id, code)
) {{clustered}};

-- Consent, in both directions: one of requester and target is a user of ours.
CREATE TABLE IF NOT EXISTS consents (
    requester  TEXT NOT NULL,
    target     TEXT NOT NULL,
    room_uri   TEXT NOT NULL, -- empty: any room
    asked      BIGINT NOT NULL, -- 1: the requester asks
    decided    BIGINT NOT NULL, -- 0 not yet, 1 granted, 2 revoked
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (requester, target, room_uri)
) {{clustered}};
CREATE INDEX IF NOT EXISTS consents_by_target ON consents (target);

-- How a user may be found, one row a field that the user filled in.
CREATE TABLE IF NOT EXISTS profile_fields (
    user_uri   TEXT NOT NULL,
    source     BIGINT NOT NULL, -- the search type it answers
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    search     TEXT NOT NULL,   -- value, folded for comparison
    findable   BIGINT NOT NULL, -- 1: the user lets others find them by it
    shown      BIGINT NOT NULL, -- 1: it is shown to those who found them
    PRIMARY KEY (user_uri, source, name)
) {{clustered}};
CREATE INDEX IF NOT EXISTS profile_search ON profile_fields (source, name, search);

CREATE TABLE IF NOT EXISTS reports (
    report_id   {{id}},
    room_uri    TEXT NOT NULL,
    reporter    TEXT NOT NULL,
    provider    TEXT NOT NULL,
    abuser      TEXT NOT NULL,
    verdict     TEXT NOT NULL,
    received_ms BIGINT NOT NULL,
    body        {{bytes}} NOT NULL
);

CREATE TABLE IF NOT EXISTS assets (
    asset_id   TEXT PRIMARY KEY,
    user_uri   TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
) {{clustered}};

CREATE TABLE IF NOT EXISTS peers (
    domain      TEXT PRIMARY KEY,
    mode        TEXT NOT NULL, -- "", "allow", "deny", "pause"
    contact_ms  BIGINT NOT NULL, -- when it last answered well, or called us
    failure_ms  BIGINT NOT NULL,
    failure     TEXT NOT NULL
) {{clustered}};

-- Who delivers to a peer at present.
CREATE TABLE IF NOT EXISTS leases (
    name       TEXT PRIMARY KEY,
    node       TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
) {{clustered}};

-- +goose Down
DROP TABLE leases;
DROP TABLE peers;
DROP TABLE assets;
DROP TABLE reports;
DROP TABLE profile_fields;
DROP TABLE consents;
DROP TABLE join_codes;
DROP TABLE joins;
DROP TABLE invitations;
DROP TABLE memberships;
DROP TABLE followers;
DROP TABLE room_log;
DROP TABLE room_records;
DROP TABLE rooms;
DROP TABLE answers;
DROP TABLE claims;
DROP TABLE key_packages;
DROP TABLE clients;
DROP TABLE users;
DROP TABLE meta;
