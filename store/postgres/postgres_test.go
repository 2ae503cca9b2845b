package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/postgres"
	"github.com/comity-im/comity/store/storetest"
)

func TestStore(t *testing.T) {
	server := pgtest.Start(t)
	storetest.Run(t, func(t *testing.T) *store.Store {
		s, err := postgres.Open(context.Background(), server.Database(t), 16)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// Nodes of one provider may start at the same time on an empty database.
func TestNodesMigrateTogether(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(context.Background(), url, 4)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A PostgreSQL that crashes loses nothing that was acknowledged, and the store
// goes on when it is back.
func TestCrash(t *testing.T) {
	server := pgtest.Start(t)
	s, err := postgres.Open(context.Background(), server.Database(t), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.Update(ctx, func(tx *store.Tx) error { return tx.SetMeta("x", []byte("kept")) }); err != nil {
		t.Fatal(err)
	}
	server.Kill(syscall.SIGKILL)
	// A server process may outlive its parent for a moment: what it acknowledges
	// then must be kept as well.
	second := s.Update(ctx, func(tx *store.Tx) error { return tx.SetMeta("y", nil) }) == nil
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	for range 10 { // connections that died are found out one by one
		if err = s.View(ctx, func(tx *store.Tx) error {
			b, err := tx.Meta("x")
			if err == nil && string(b) != "kept" {
				t.Errorf("Meta = %q", b)
			}
			if _, lost := tx.Meta("y"); second && lost != nil {
				t.Errorf("an acknowledged update is lost: %v", lost)
			}
			return err
		}); err == nil {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestOpenErrorsSayWhatToDo(t *testing.T) {
	_, err := postgres.Open(context.Background(), "postgres://nobody@127.0.0.1:1/none?connect_timeout=1", 1)
	if err == nil || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("error is %v", err)
	}
	_, err = postgres.Open(context.Background(), "postgres://%zz", 1)
	if err == nil || !strings.Contains(err.Error(), "not a valid PostgreSQL URL") {
		t.Errorf("error is %v", err)
	}
	var schema *store.SchemaError
	if errors.As(err, &schema) {
		t.Error("a connection error is no schema error")
	}
}
