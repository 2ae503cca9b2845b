-- +goose Up

-- Events in the order in which they were stored, of all rooms, so that each is
-- written at the end of the table, whatever its size. A position is never given
-- again.
ALTER TABLE room_log RENAME TO room_log_before;
CREATE TABLE room_log (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    kind        BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    digest      {{bytes}} NOT NULL, -- SHA-256 of the MLSMessage
    source      TEXT NOT NULL,
    audience    TEXT NOT NULL, -- provider domains, one a line. Empty: all
    clients     TEXT NOT NULL, -- local clients that it is for, one a line. Empty: all
    body        {{bytes}} NOT NULL -- the FanoutMessage
);
INSERT INTO room_log (room_id, seq, kind, epoch, accepted_ms, digest, source, audience, clients, body)
    SELECT room_id, seq, kind, epoch, accepted_ms, digest, source, audience, clients, body FROM room_log_before ORDER BY room_id, seq;
CREATE UNIQUE INDEX room_log_by_seq ON room_log (room_id, seq);

-- Where in the log the events are whose digests begin with a key, up to the
-- position that is in meta as log-digests. Those after it are gathered in memory.
CREATE TABLE log_digests (
    room_id BIGINT NOT NULL,
    key     {{bytes}} NOT NULL, -- 8 octets
    seq     BIGINT NOT NULL,
    PRIMARY KEY (room_id, key, seq)
) {{clustered}};
INSERT INTO log_digests (room_id, key, seq) SELECT room_id, substr(digest, 1, 8), seq FROM room_log_before ORDER BY room_id, digest;
INSERT INTO meta (name, value) SELECT 'log-digests', CAST(CAST(COALESCE(MAX(position), 0) AS TEXT) AS {{bytes}}) FROM room_log;
DROP TABLE room_log_before;

-- Up to where in its keys digests of trimmed events were removed.
ALTER TABLE rooms ADD COLUMN swept BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE rooms DROP COLUMN swept;
DELETE FROM meta WHERE name = 'log-digests';
DROP TABLE log_digests;
ALTER TABLE room_log RENAME TO room_log_after;
CREATE TABLE room_log (
    room_id     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    kind        BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    digest      {{bytes}} NOT NULL,
    source      TEXT NOT NULL,
    audience    TEXT NOT NULL,
    clients     TEXT NOT NULL,
    body        {{bytes}} NOT NULL,
    PRIMARY KEY (room_id, seq)
) {{clustered}};
INSERT INTO room_log SELECT room_id, seq, kind, epoch, accepted_ms, digest, source, audience, clients, body FROM room_log_after ORDER BY room_id, seq;
DROP TABLE room_log_after;
CREATE UNIQUE INDEX room_log_digest ON room_log (room_id, digest);
