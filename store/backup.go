package store

import (
	"context"
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
// that they have.
const restoredGap = 1_000_000_000

// Restored makes a database that was restored from a backup safe to go on from:
// the next event of each room gets a number that no client has seen, and the
// stock of KeyPackages, some of which were given out since, is dropped. Clients
// upload new ones when they connect.
func (tx *Tx) Restored() error {
	for _, q := range []string{
		// Who had read everything has read everything.
		"UPDATE followers SET acked_seq = acked_seq + ? WHERE acked_seq = (SELECT r.last_seq FROM rooms r WHERE r.room_id = followers.room_id)",
		"UPDATE memberships SET cursor_seq = cursor_seq + ? WHERE cursor_seq = (SELECT r.last_seq FROM rooms r WHERE r.room_id = memberships.room_id)",
		"UPDATE rooms SET last_seq = last_seq + ?",
	} {
		if _, err := tx.exec(q, int64(restoredGap)); err != nil {
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
func (s *Store) WasRestored(ctx context.Context) (bool, error) {
	was := false
	err := s.Update(ctx, func(tx *Tx) error {
		_, err := tx.Meta(backupMark)
		if was, err = found(err); err != nil || !was {
			return err
		}
		if err := tx.Restored(); err != nil {
			return err
		}
		_, err = tx.exec("DELETE FROM meta WHERE name = ?", backupMark)
		return err
	})
	return was, err
}
