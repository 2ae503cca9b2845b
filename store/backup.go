package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
)

// backupMark is the Meta of a copy that Backup made, and of no other database.
const backupMark = "backup"

// ErrNoBackup means that the engine makes its backups itself.
var ErrNoBackup = errors.New("store: this engine has its own tools for backups; for PostgreSQL: pg_dump --format=custom")

// Backup writes a consistent copy of the database to a new file while it is in
// use. The file is readable by its owner only: the provider's keys are in it.
func (s *Store) Backup(ctx context.Context, file string) error {
	if s.d.Backup == nil {
		return ErrNoBackup
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("store: the backup can't be written: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := s.d.Backup(ctx, file, backupMark); err != nil {
		return errors.Join(fmt.Errorf("store: the backup failed: %w", err), os.Remove(file))
	}
	return nil
}

// restoredGap is how far the numbers of events jump in a database that was
// restored: further than events can have been given numbers since the backup.
// Clients hold cursors, and would take a number that comes again for an event
// that they have. How many events lie between two numbers is what is left when
// gaps are taken away.
const (
	restoredGap = 1_000_000_000
	lessGaps    = " % 1000000000"
)

// Restored makes a database that was restored from a backup safe to go on from:
// the next event of each room gets a number that no client has seen, and the
// stock of KeyPackages, some of which were given out since, is dropped. Clients
// upload new ones when they connect.
//
// An event without a body, which is for nobody, bridges the gap: so cursors need
// not be moved past what their owners may not have read, and yet come to the end.
func (tx *Tx) Restored(nowMillis int64) error {
	if _, err := tx.exec("UPDATE rooms SET last_seq = last_seq + ?", int64(restoredGap-1)); err != nil {
		return err
	}
	rooms, err := collect(tx, func(r scanner, id *int64) error { return r.Scan(id) }, "SELECT room_id FROM rooms ORDER BY room_id")
	if err != nil {
		return err
	}
	for _, id := range rooms {
		bridge := Event{AcceptedMillis: nowMillis}
		rand.Read(bridge.Digest[:])
		if err := tx.AppendFollowed(id, []Event{bridge}); err != nil {
			return err
		}
	}
	for _, q := range []string{"DELETE FROM key_packages WHERE claimed_ms = 0", "DELETE FROM leases"} {
		if _, err := tx.exec(q); err != nil {
			return err
		}
	}
	return nil
}

// WasRestored reports whether the database is a copy that Backup made and that
// was not used yet; Restored has been called then.
func (s *Store) WasRestored(ctx context.Context, nowMillis int64) (bool, error) {
	was := false
	err := s.Update(ctx, func(tx *Tx) error {
		_, err := tx.Meta(backupMark)
		if was, err = found(err); err != nil || !was {
			return err
		}
		if err := tx.Restored(nowMillis); err != nil {
			return err
		}
		_, err = tx.exec("DELETE FROM meta WHERE name = ?", backupMark)
		return err
	})
	return was, err
}
