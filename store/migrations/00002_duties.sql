-- +goose Up

-- The room that a room depends on, if it is hosted here too; empty: none.
ALTER TABLE rooms {{add column}} parent TEXT NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS rooms_by_parent ON rooms (parent);

-- Users and clients that are gone, and are still to be taken out of rooms that
-- are hosted here. Written in the transaction that made them go.
CREATE TABLE IF NOT EXISTS removals (
    room_uri   TEXT NOT NULL,
    user_uri   TEXT NOT NULL,
    client_uri TEXT NOT NULL, -- empty: the user with all clients
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (room_uri, user_uri, client_uri)
) {{clustered}};

-- What the operator said of a peer while the provider ran, as JSON.
ALTER TABLE peers {{add column}} settings TEXT NOT NULL DEFAULT '';

-- KeyPackages that came with a grant, for the requester.
ALTER TABLE consents {{add column}} key_packages {{bytes}} NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE consents DROP COLUMN key_packages;
ALTER TABLE peers DROP COLUMN settings;
DROP TABLE removals;
DROP INDEX rooms_by_parent;
ALTER TABLE rooms DROP COLUMN parent;
