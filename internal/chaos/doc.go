// Package chaos breaks Comity on purpose: real providers as processes with TLS,
// on SQLite and on PostgreSQL with two nodes behind a load balancer, and devices
// that write, add, remove and crash, while processes are killed, stopped and
// restarted, networks cut, and disks full. At the end a checker compares what
// every device shows.
//
// It is all tests: go test ./internal/chaos runs for about a minute;
// COMITY_CHAOS_TIME=1h makes it run longer and COMITY_CHAOS_SEED=n repeats a
// schedule of faults and of operations. docs/chaos.md says what is broken and
// what was found.
package chaos
