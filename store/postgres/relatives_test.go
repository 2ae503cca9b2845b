package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/comity-im/comity/internal/pgtest"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/storetest"
)

// What PostgreSQL's distributed relatives do otherwise is played with PostgreSQL
// itself: every transaction is SERIALIZABLE, as CockroachDB's are by default; one
// of three is refused by 40001, at any of its statements or at its commit, as when
// ranges are contended or leases move; there is no LISTEN and no NOTIFY.

// contended is a driver.Connector whose transactions collide.
type contended struct {
	driver.Connector
	on       atomic.Bool
	midway   bool // at any statement; else at the commit, since the suite looks at the errors of statements
	injected atomic.Int64
	began    atomic.Int64
}

type contendedConn struct {
	*stdlib.Conn
	c    *contended
	left int // statements until the transaction is refused; below 0: it is not
}

var errContended = &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "restart transaction: played by the test"}

func (c *contended) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &contendedConn{Conn: conn.(*stdlib.Conn), c: c, left: -1}, nil
}

// statement counts down to the refusal.
func (c *contendedConn) statement() error {
	if c.left < 0 {
		return nil
	}
	if c.left--; c.left < 0 {
		c.c.injected.Add(1)
		return errContended
	}
	return nil
}

func (c *contendedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, o)
	if c.left = -1; c.c.on.Load() {
		c.c.began.Add(1)
		if rand.IntN(3) == 0 {
			c.left = math.MaxInt
			if c.c.midway {
				c.left = rand.IntN(4)
			}
		}
	}
	return &contendedTx{tx, c}, err
}

func (c *contendedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.statement(); err != nil {
		return nil, err
	}
	return c.Conn.ExecContext(ctx, query, args)
}

func (c *contendedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.statement(); err != nil {
		return nil, err
	}
	return c.Conn.QueryContext(ctx, query, args)
}

type contendedTx struct {
	driver.Tx
	c *contendedConn
}

func (t *contendedTx) Commit() error {
	if t.c.left >= 0 {
		t.c.left = -1
		t.c.c.injected.Add(1)
		t.Tx.Rollback()
		return errContended
	}
	return t.Tx.Commit()
}

// deaf is a store.Bus of an engine that has no such thing.
type deaf struct{}

func (deaf) Publish(context.Context, string) error { return nil }
func (deaf) Close()                                {}
func (deaf) Listen(ctx context.Context, _ func(), _ func(string)) error {
	<-ctx.Done()
	return ctx.Err()
}

// relative opens a store on an engine like that.
func relative(t *testing.T, url string, midway bool) (*store.Store, *contended) {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["default_transaction_isolation"] = "serializable"
	c := &contended{Connector: stdlib.GetConnector(*cfg), midway: midway}
	db := sql.OpenDB(c)
	d := dialect
	d.Bus, d.ViewIsolation = deaf{}, sql.LevelSerializable
	s, err := store.Open(t.Context(), &d, db, db)
	if err != nil {
		t.Fatal(err)
	}
	c.on.Store(true)
	return s, c
}

// The whole suite passes on such an engine.
func TestStoreOnRelatives(t *testing.T) {
	server := pgtest.Start(t)
	var all []*contended
	storetest.Run(t, func(t *testing.T) *store.Store {
		s, c := relative(t, server.Database(t), false)
		all = append(all, c)
		return s
	})
	began, injected := int64(0), int64(0)
	for _, c := range all {
		began, injected = began+c.began.Load(), injected+c.injected.Load()
	}
	t.Logf("%d transactions, %d of them refused by 40001", began, injected)
	if injected*10 < began {
		t.Errorf("only %d of %d transactions were refused", injected, began)
	}
}

// Nodes that write to one room at the same time, and collide in earnest too, make
// one log without a gap, and nobody's event is lost or there twice.
func TestNodesOnRelatives(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	const nodes, each = 4, 40
	var stores []*store.Store
	for range nodes {
		s, _ := relative(t, url, true)
		defer s.Close()
		stores = append(stores, s)
	}
	var room int64
	err := stores[0].Update(t.Context(), func(tx *store.Tx) (err error) {
		room, err = tx.CreateRoom(store.Room{URI: "mimi://a.example/r/clubhouse", Hub: "a.example", Head: []byte{0, 1}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n, s := range stores {
		wg.Go(func() {
			for i := range each {
				event := store.Event{Kind: 1, Digest: sha256.Sum256(fmt.Append(nil, n, i)), Source: "a.example", Body: []byte{byte(n), byte(i)}}
				for {
					err := s.Update(t.Context(), func(tx *store.Tx) error {
						r, err := tx.RoomByID(room)
						if err != nil {
							return err
						}
						event.AcceptedMillis = r.LastMillis + 1
						return tx.AppendEvents(room, r.Version, []store.Event{event})
					})
					if err == nil {
						break
					}
					// What collides ten times in a row is tried again by whoever asked.
					if !dialect.Retry(err) && err != store.ErrConflict {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	err = stores[0].View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.Events(room, 0, 10*nodes*each)
		if len(list) != nodes*each {
			t.Errorf("%d events, not %d", len(list), nodes*each)
		}
		for i, e := range list {
			if e.Seq != int64(i)+1 {
				t.Errorf("event %d has position %d", i, e.Seq)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// missing are features that CockroachDB or YugabyteDB lack, have as experimental,
// do otherwise, or that are harmful there, by how they look in a statement. The
// pages that say so are named in docs/storage.md.
var missing = map[string]string{
	`(?i)pg_(try_)?advisory`:                                     "advisory locks (CockroachDB accepts and ignores them; YugabyteDB before 2025.1 has none)",
	`(?i)\bcreate\s+(or\s+replace\s+)?(constraint\s+)?trigger\b`: "triggers",
	`(?i)\bcreate\s+(or\s+replace\s+)?(function|procedure)\b`:    "stored functions",
	`(?i)\bdo\s+\$\$`:                  "anonymous code blocks",
	`(?i)\b(temp|temporary)\s+table\b`: "temporary tables (experimental in CockroachDB)",
	`(?i)\bunlogged\b`:                 "unlogged tables",
	`(?i)\b(big|small)?serial\b`:       "serial columns, whose numbers differ",
	`(?i)\b(nextval|currval|setval|lastval)\b|\bcreate\s+sequence\b`: "sequences by name, or numbers without gaps",
	`(?i)\block\s+table\b`:                                          "LOCK TABLE",
	`(?i)\bexclude\s+using\b`:                                       "exclusion constraints",
	`(?i)\bdeferrable\b`:                                            "deferrable constraints",
	`(?i)\binherits\b`:                                              "inheritance of tables",
	`(?i)\bpartition\s+(by|of)\b`:                                   "declarative partitions",
	`(?i)\bdeclare\s+\w+.*\bcursor\b`:                               "cursors that are held or scroll",
	`(?i)\b(xmin|xmax|ctid|tableoid)\b`:                             "system columns",
	`(?i)\bcopy\s+\w+\s+(from|to)\b`:                                "COPY",
	`(?i)\bcreate\s+extension\b`:                                    "extensions",
	`(?i)\bprepare\s+transaction\b`:                                 "two-phase commits",
	`(?i)\bsavepoint\b`:                                             "savepoints",
	`(?i)\bmaterialized\s+view\b`:                                   "materialized views",
	`(?i)\b(cluster|vacuum)\b(?!ed)`:                                "CLUSTER and VACUUM",
	`(?i)\bcreate\s+rule\b`:                                         "rules",
	`(?i)\bcreate\s+domain\b`:                                       "domains",
	`(?i)\bxml\w*\(`:                                                "XML",
	`(?i)\bto_tsvector|\btsquery\b`:                                 "text search",
	`(?i)\b(merge\s+into)\b`:                                        "MERGE",
	`(?i)\bgenerated\s+always\s+as\s*\(`:                            "stored generated columns (YugabyteDB)",
	`(?i)\busing\s+(gist|gin|brin|spgist|hash)\b`:                   "indexes of other kinds than the default",
	`(?i)\b(create|alter)\s+type\b`:                                 "types of our own, ALTER TYPE (YugabyteDB)",
	`(?i)\bcreate\s+(conversion|access\s+method|schema|database)\b`: "conversions, access methods, schemas with elements, databases from templates",
	`(?i)\bforeign\s+(table|data)\b|\bcreate\s+server\b`:            "foreign tables",
	`(?i)\b(citext|abstime|inet|jsonb?)\b|\[\]`:                     "types that can't be indexed everywhere: citext, inet, JSON, arrays",
	`(?i)\b(txid|pg_current_xact|pg_snapshot)\w*|\bxid8?\b`:         "identifiers of transactions (YugabyteDB has none)",
	`(?i)\bwith\s*\(\s*\w+\s*=`:                                     "storage parameters of tables and indexes",
	`(?i)\b(drop|alter)\s+(constraint|primary|column)\b|\brename\s+(to|column)\b`: "changes that lose data if another of the same transaction fails (CockroachDB), or rewrite a table",
	`(?i)\b(foreign\s+key|references)\b`:                                          "foreign keys: the new table can't be named again in its transaction (CockroachDB)",
	`\s/\s`:                                                                       "division of integers, which gives decimals (CockroachDB)",
	`<<|>>|[~#&]|[^|]\|[^|]`:                                                      "bitwise operators, whose precedence differs (CockroachDB)",
	`(?i)\bgrant\b.*\(|\breindex\b`:                                               "privileges of columns, REINDEX",
	`(?i)\bfor\s+(no\s+key\s+update|key\s+share)\b|\bskip\s+locked\b`:             "row locks other than FOR UPDATE",
	`(?i)\b(listen|notify)\s+\w`:                                                  "LISTEN and NOTIFY outside of the bus, which does without",
	`(?i)\bpg_notify\b`:                                                           "LISTEN and NOTIFY outside of the bus, which does without",
}

// functions are those that statements may call: all engines have them.
var functions = []string{"CAST", "COALESCE", "COUNT", "EXTRACT", "LENGTH", "LOWER", "MAX", "MIN", "SUM", "VALUES", "PG_DATABASE_SIZE", "CURRENT_DATABASE"}

var (
	statement = regexp.MustCompile(`(?s)^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|SET|LOCK|TRUNCATE)\b|\bFROM\b.*\bWHERE\b|\bORDER BY\b|\bON CONFLICT\b`)
	call      = regexp.MustCompile(`\b([A-Za-z_]+)\(`)
	quoted    = regexp.MustCompile(`'[^']*'`)
)

// statements are the SQL texts of the store, by where they are.
func statements(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	here, _ := filepath.Glob("*.go")
	set := token.NewFileSet()
	for _, name := range append(files, here...) {
		if strings.HasSuffix(name, "_test.go") || name == "bus.go" {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && statement.MatchString(text) {
				out[set.Position(lit.Pos()).String()] = text
			}
			return true
		})
	}
	migrations, err := filepath.Glob("../migrations/*.sql")
	if err != nil || len(migrations) == 0 {
		t.Fatal("there are no migrations", err)
	}
	for _, name := range migrations {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down") // which no program runs
		for i, s := range strings.Split(regexp.MustCompile(`--[^\n]*`).ReplaceAllString(dialect.Types.Replace(up), ""), ";") {
			out[fmt.Sprintf("%s, statement %d", name, i+1)] = s
		}
	}
	return out
}

// TestRelativesHaveIt: no statement of the store uses what PostgreSQL's
// distributed relatives lack.
func TestRelativesHaveIt(t *testing.T) {
	list := statements(t)
	if len(list) < 150 {
		t.Fatalf("only %d statements were found", len(list))
	}
	for look, what := range missing {
		re := regexp.MustCompile(strings.ReplaceAll(look, `(?!ed)`, ``))
		for where, text := range list {
			if m := re.FindString(quoted.ReplaceAllString(text, "''")); m != "" {
				t.Errorf("%s uses %q: %s", where, m, what)
			}
		}
	}
	used := map[string]bool{}
	for where, text := range list {
		if strings.HasPrefix(where, "../migrations") {
			continue // tables and indexes look like calls
		}
		for _, m := range call.FindAllStringSubmatch(quoted.ReplaceAllString(text, "''"), -1) {
			name := strings.ToUpper(m[1])
			if slices.Contains([]string{"IN", "AND", "OR", "NOT", "EXISTS", "CONFLICT", "WHERE", "FROM", "SELECT", "THEN", "AS", "ON", "USING"}, name) || m[1] == strings.ToLower(m[1]) && !strings.HasPrefix(m[1], "pg_") {
				continue // a keyword, or a table's columns
			}
			used[name] = true
			if !slices.Contains(functions, name) {
				t.Errorf("%s calls %s, which is not among those that all engines have", where, name)
			}
		}
	}
	if !used["COALESCE"] {
		t.Error("no calls were found: the test looks in the wrong place")
	}
	t.Logf("%d statements, functions %v", len(list), used)
}

// An engine that can't say how large a database is is no failure.
func TestSizeIsOptional(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*cfg)
	d := dialect
	d.Bus, d.SizeQuery = deaf{}, "SELECT no_such_function()"
	s, err := store.Open(t.Context(), &d, db, db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Size(t.Context()); err != nil || n != 0 {
		t.Errorf("Size = %d, %v", n, err)
	}
}
