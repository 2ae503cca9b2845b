package store

import "embed"

// Those of one engine alone are in a folder of its name.
//
//go:embed migrations
var migrations embed.FS
