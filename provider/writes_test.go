package provider_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/comity-im/comity/mimi/policy"
)

// A message is one row at its hub, however many clients the room has.
func TestWritesPerMessage(t *testing.T) {
	p := newPlay(t)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(t.TempDir()), "*", "provider.db"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?mode=ro") // a.example's
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows := func() map[string]int {
		tables, err := db.Query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
		if err != nil {
			t.Fatal(err)
		}
		defer tables.Close()
		counts := map[string]int{}
		for tables.Next() {
			var name string
			var n int
			if err := tables.Scan(&name); err != nil {
				t.Fatal(err)
			}
			if err := db.QueryRow("SELECT COUNT(*) FROM " + name).Scan(&n); err != nil {
				t.Fatal(err)
			}
			counts[name] = n
		}
		return counts
	}
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	const messages = 5
	for _, more := range []int{0, 10} {
		for i := range more {
			who := p.As(fmt.Sprintf("guest%d@%s", i, []string{"a.example", "b.example"}[i%2]))
			alice.Adds(clubhouse, who)
			who.Enters(clubhouse)
		}
		before := rows()
		for i := range messages {
			alice.Says(clubhouse, fmt.Sprintf("message %d to %d", i, more))
		}
		bob.Reads(clubhouse, fmt.Sprintf("message %d to %d", messages-1, more))
		for table, n := range rows() {
			want := 0
			if table == "room_log" {
				want = messages
			}
			if n-before[table] != want {
				t.Errorf("%d messages to %d clients: %d more rows in %s, not %d", messages, 2+more, n-before[table], table, want)
			}
		}
	}
}
